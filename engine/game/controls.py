"""Keys and gamepad to a world's buttons. No pygame display is needed here: keys are names."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from engine.errors import UserError, nearest, unknown

# What the window itself listens to: a world cannot use these names in its [keys].
RESERVED: dict[str, str] = {
    "escape": "menu",
    "tab": "hud",
    "f1": "keys",
    ".": "pause",
    ",": "single step",
    "r": "restart",
    "m": "memory mode",
    "f5": "save",
    "f8": "load",
    "backspace": "rewind",
    "f9": "record",
    "f11": "full screen",
    "f12": "screenshot",
}


def key_names() -> frozenset[str]:
    """The key names that pygame knows, in lower case, such as "w", "left", "left shift"."""
    import pygame

    codes = {value for name, value in vars(pygame).items() if name.startswith("K_")}
    return frozenset(name.lower() for name in map(pygame.key.name, codes) if name)


def check_keys(keys: Mapping[str, str], buttons: Sequence[str], where: str = "[keys]") -> dict[str, str]:
    """A world's key table, names in lower case; `UserError` for a key or button that does not exist."""
    known = key_names()
    checked = {}
    for key, button in keys.items():
        name = key.lower()
        if name in RESERVED:
            raise UserError(f"{where}: the key {key!r} belongs to the window ({RESERVED[name]}); use another")
        if name not in known:
            guess = nearest(name, sorted(known))
            hint = f"; nearest: {guess!r}" if guess is not None else ""
            raise UserError(f"{where}: unknown key {key!r}, expected a name as pygame gives it{hint}")
        if button not in buttons:
            raise UserError(f"{where}: {key} = {button!r}: {unknown('button', button, buttons)}")
        checked[name] = button
    return checked


MOST_TAPS = 3
"""Presses that wait for frames of their own where a frame takes one button: more would feel like a delay."""


@dataclass(frozen=True)
class Taken:
    """What the player asks for at the moment a frame begins."""

    keys: tuple[str, ...]  # key names, sorted
    buttons: tuple[str, ...]  # in the world's order
    pressed_at: float | None  # time.perf_counter() of the oldest press not drawn so far; None: nothing new


class Controls:
    """Which keys are down. Written by the window's thread, read by the one that draws.

    A press counts for at least one frame, however short it was. exclusive: a frame takes one button, so it gets one
    key: the oldest press that no frame has had yet, else of the keys that are down the one pressed last.
    """

    def __init__(self, keys: Mapping[str, str], buttons: Sequence[str], exclusive: bool = False) -> None:
        self.keys = dict(keys)
        self.buttons, self.exclusive = tuple(buttons), exclusive
        self._lock = threading.Lock()
        self._held: dict[str, None] = {}  # in the order in which they went down
        self._taps: list[tuple[str, float]] = []  # presses that no frame has had yet, and when they came

    def press(self, key: str, at: float | None = None) -> bool:
        """A key went down at `at` (time.perf_counter()). Returns whether the world uses it."""
        if key not in self.keys:
            return False
        with self._lock:
            if key not in self._held:
                self._held[key] = None
                self._taps.append((key, time.perf_counter() if at is None else at))
                if self.exclusive:
                    del self._taps[MOST_TAPS:]
        return True

    def release(self, key: str) -> None:
        """A key went up."""
        with self._lock:
            self._held.pop(key, None)

    def release_all(self) -> None:
        """Forget all keys: the window lost the keyboard, or a menu opened."""
        with self._lock:
            self._held.clear()
            self._taps.clear()

    def forget_taps(self) -> None:
        """No frame will have the presses that wait for one: the game stood still. Keys that are down stay down."""
        with self._lock:
            self._taps.clear()

    def held(self) -> tuple[str, ...]:
        """The keys that are down now, sorted; for display."""
        with self._lock:
            return tuple(sorted(self._held))

    def take(self) -> Taken:
        """The keys for the frame that begins now: those down, and those tapped since the last one; see the class."""
        with self._lock:
            count = 1 if self.exclusive else len(self._taps)
            taken, self._taps = self._taps[:count], self._taps[count:]
            down = {key for key, _ in taken}
            if not self.exclusive:
                down |= self._held.keys()
            elif not taken:
                down = set(list(self._held)[-1:])
            pressed_at = taken[0][1] if taken else None
        wanted = {self.keys[key] for key in down}
        return Taken(tuple(sorted(down)), tuple(b for b in self.buttons if b in wanted), pressed_at)
