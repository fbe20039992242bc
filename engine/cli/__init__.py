"""``python -m engine COMMAND``: the dispatcher and those commands that belong to no other part."""

from engine.cli.dispatch import guarded, main

__all__ = ["guarded", "main"]
