"""The one error that a user can cause, and help with misspelled names."""

import os
import signal
from collections.abc import Iterable
from difflib import get_close_matches


class UserError(ValueError):
    """What the user gave cannot work; the message is one line: what was expected, what came, what to do.

    The commands print it without a traceback and exit with status 2. A mistake in the program itself is an
    ``AssertionError`` or another exception, and keeps its traceback.
    """


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the entry of `known` that looks most like `name`, or None where nothing comes close.

    Upper and lower case count as the same letter. A single-letter name is also near a name that it begins
    or that begins it, because the plain similarity of such short words says little.
    """
    by_folded: dict[str, str] = {}
    for entry in known:
        by_folded.setdefault(entry.casefold(), entry)
    folded = name.casefold()
    close = get_close_matches(folded, by_folded, n=1, cutoff=0.5)
    if not close and folded:
        close = [entry for entry in by_folded if entry and (entry.startswith(folded) or folded.startswith(entry))]
    return by_folded[close[0]] if close else None


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """Return ``unknown KIND 'NAME'; known: A, B; nearest: 'A'``, the common form of such messages."""
    names = list(known)
    message = f"unknown {kind} {name!r}; known: {', '.join(names) if names else 'none'}"
    guess = nearest(name, names)
    return f"{message}; nearest: {guess!r}" if guess is not None else message


def exit_on_interrupt() -> None:
    """End the process in one line on Ctrl-C while it still imports, which can take seconds; see `cli.guarded`."""

    def leave(number: int, frame: object) -> None:
        os.write(2, b"interrupted\n")
        os._exit(130)

    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, leave)
