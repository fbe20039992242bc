"""``python -m engine``: see `engine.cli`."""

import sys

from engine.cli import guarded, main

if __name__ == "__main__":
    sys.exit(guarded(main))
