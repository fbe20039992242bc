"""Walk through a world that a model draws: ``python play.py [WORLD]``; ``--help`` tells the options."""

import sys

from engine.errors import exit_on_interrupt

if __name__ == "__main__":
    exit_on_interrupt()  # also while the rest is imported

from engine.play.main import main

if __name__ == "__main__":
    sys.exit(main())
