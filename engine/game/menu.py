"""The menu behind Esc: which rows there are and which is selected. It draws nothing itself."""

from __future__ import annotations

from typing import NamedTuple


class Item(NamedTuple):
    """One row: what it is called in the program and on the screen, its value if any, and a key for it."""

    name: str
    label: str
    value: str = ""
    key: str = ""


class Menu:
    """A list of rows of which one is selected; open or closed."""

    def __init__(self) -> None:
        self.is_open = False
        self.selected = 0

    def open(self) -> None:
        """Show the menu, with its first row selected."""
        self.is_open, self.selected = True, 0

    def close(self) -> None:
        """Hide the menu."""
        self.is_open = False

    def move(self, way: int, count: int) -> None:
        """Select the row below (1) or above (-1); after the last comes the first."""
        self.selected = (self.selected + way) % count


def items(*, ready: bool, mode: str, steps: int | str, full_screen: bool, recording: bool) -> list[Item]:
    """The rows, with the values as they stand. Before the game is ready there is less to choose."""
    game = [
        Item("restart", "Restart here", key="Shift+R"),
        Item("next", "Next start", key="R"),
        Item("mode", "Memory", f"< {mode} >"),
        Item("steps", "Steps a frame", f"< {steps} >"),
        Item("record", "Stop recording" if recording else "Record", key="F9"),
    ]
    return [
        Item("resume", "Resume", key="Esc"),
        *(game if ready else []),
        Item("keys", "Keys", key="F1"),
        Item("full_screen", "Full screen", "< on >" if full_screen else "< off >"),
        Item("quit", "Quit"),
    ]
