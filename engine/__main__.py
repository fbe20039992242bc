"""``python -m engine``: see `engine.cli.dispatch`."""

import sys

from engine.errors import exit_on_interrupt

if __name__ == "__main__":
    exit_on_interrupt()

from engine.cli.dispatch import guarded, main

if __name__ == "__main__":
    sys.exit(guarded(main))
