"""The command line of ``play.py``."""

from __future__ import annotations

from collections.abc import Sequence

from engine.cli.dispatch import Command, carry_out, guarded

PLAY = Command("engine.play.options:PlayOptions", "engine.play.running:play", "walk through a world that a model draws")


def main(words: Sequence[str] | None = None) -> int:
    """Play as `words`, by default the process's own command line, say; returns the exit status."""
    return guarded(lambda: carry_out(PLAY, words))
