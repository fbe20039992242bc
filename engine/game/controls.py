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


@dataclass(frozen=True)
class Taken:
    """What the player asks for at the moment a frame begins."""

    keys: tuple[str, ...]  # key names, sorted
    buttons: tuple[str, ...]  # in the world's order
    pressed_at: float | None  # time.perf_counter() of the oldest press not drawn so far; None: nothing new


class Controls:
    """Which keys are down. Written by the window's thread, read by the one that draws; newest keys win.

    A press counts for at least one frame, however short it was.
    """

    def __init__(self, keys: Mapping[str, str], buttons: Sequence[str]) -> None:
        self.keys = dict(keys)
        self.buttons = tuple(buttons)
        self._lock = threading.Lock()
        self._held: set[str] = set()
        self._tapped: set[str] = set()
        self._pressed_at: float | None = None

    def press(self, key: str, at: float | None = None) -> bool:
        """A key went down at `at` (time.perf_counter()). Returns whether the world uses it."""
        if key not in self.keys:
            return False
        with self._lock:
            if key not in self._held:
                self._held.add(key)
                self._tapped.add(key)
                if self._pressed_at is None:
                    self._pressed_at = time.perf_counter() if at is None else at
        return True

    def release(self, key: str) -> None:
        """A key went up."""
        with self._lock:
            self._held.discard(key)

    def release_all(self) -> None:
        """Forget all keys: the window lost the keyboard, or a menu opened."""
        with self._lock:
            self._held.clear()
            self._tapped.clear()
            self._pressed_at = None

    def held(self) -> tuple[str, ...]:
        """The keys that are down now, sorted; for display."""
        with self._lock:
            return tuple(sorted(self._held))

    def take(self) -> Taken:
        """The keys for the frame that begins now: those down, and those tapped since the last one."""
        with self._lock:
            down, pressed_at = self._held | self._tapped, self._pressed_at
            self._tapped.clear()
            self._pressed_at = None
        wanted = {self.keys[key] for key in down}
        return Taken(tuple(sorted(down)), tuple(b for b in self.buttons if b in wanted), pressed_at)
