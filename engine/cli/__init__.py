"""``python -m engine COMMAND``: the dispatcher, and those commands that belong to no other part.

`dispatch` has the table of commands: where the options of each lie, and the function that takes them. Only the options
are imported for ``--help``; torch and all else waits until they have been read.
"""

from engine.cli.dispatch import guarded, main

__all__ = ["guarded", "main"]
