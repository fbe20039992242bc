"""What the keys do, in words, for the help that the window shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

ARROWS = ("up", "left", "down", "right")
LETTERS = ("w", "a", "s", "d")
"""The keys that stand for the arrows, in their order."""


def key_label(key: str) -> str:
    """A key's name as it stands on a keyboard."""
    return key.upper() if len(key) == 1 else key.title()


def help_of(keys: Mapping[str, str], buttons: Sequence[str]) -> list[tuple[str, str]]:
    """What the keys do: for each button that has one a key and what it does, such as ``("1", "place stone")``.

    keys: names of keys -> button. Of several keys for a button the first is named. Four buttons with the names of the
    arrow keys that press them are one: ``("Arrows or WASD", "move")``.
    """
    found, rest = [], list(buttons)
    if all(keys.get(arrow) == arrow for arrow in ARROWS):
        letters = all(keys.get(letter) == arrow for letter, arrow in zip(LETTERS, ARROWS, strict=True))
        found.append(("Arrows or WASD" if letters else "Arrows", "move"))
        rest = [button for button in buttons if button not in ARROWS]
    first: dict[str, str] = {}
    for key, button in keys.items():
        first.setdefault(button, key)
    return found + [(key_label(first[button]), button.replace("_", " ")) for button in rest if button in first]
