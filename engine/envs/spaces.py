"""What an agent does and sees: an action space over a world's buttons, and frames in the size asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import gymnasium as gym
import numpy as np

from engine import actions as buttons_of
from engine.errors import UserError
from engine.pictures import resize

MOST_KEYS = 3
"""Keys held together, in `Actions.keys`."""
HORIZON = 1000
"""Steps of an episode, by default."""
LARGEST = 4096
"""Pixels of an observation's side."""


class Actions:
    """How an agent's action becomes held buttons, uint8 (A,).

    choice: ``multi_binary``, one 0 or 1 for each button; ``discrete``, n + 1 numbers: 0 is no button, 1 the first
    one, and so on; or a list of combinations, each a text such as ``forward+turn_left`` or ``none``, or a list of
    buttons: numbers in their order.
    """

    def __init__(self, buttons: Sequence[str], choice: str | Sequence[Any] = "multi_binary") -> None:
        self.buttons = tuple(buttons)
        self.table: np.ndarray | None = None  # (numbers, A), for a Discrete space
        if isinstance(choice, str):
            if choice not in ("multi_binary", "discrete"):
                raise UserError(f"actions must be 'multi_binary', 'discrete' or a list of buttons, not {choice!r}")
            if choice == "discrete":
                self.table = np.vstack((np.zeros((1, len(buttons))), np.eye(len(buttons)))).astype(np.uint8)
        else:
            rows = [buttons_of.encode(self.buttons, _names(entry)) for entry in choice]
            if len(rows) < 2:
                raise UserError(f"actions: expected a list of two combinations of buttons or more, not {choice!r}")
            self.table = np.stack(rows)
        self.space: gym.Space[Any] = (
            gym.spaces.MultiBinary(len(buttons)) if self.table is None else gym.spaces.Discrete(len(self.table))
        )

    def held(self, action: Any) -> np.ndarray:
        """Buttons uint8 (A,) of one action. ValueError where it is not in the space."""
        return self._held(action, (), f"an action in {self.space}")

    def held_by_all(self, actions: Any, count: int) -> np.ndarray:
        """Buttons uint8 (count, A) of as many actions. ValueError where they are not in the space."""
        return self._held(actions, (count,), f"{count} actions, each in {self.space}")

    def _held(self, action: Any, lead: tuple[int, ...], expected: str) -> np.ndarray:
        try:
            given = np.asarray(action)
        except ValueError:  # a list of lists of unequal length
            raise ValueError(f"expected {expected}, got {action!r}") from None
        most = 1 if self.table is None else len(self.table) - 1
        shape = (*lead, len(self.buttons)) if self.table is None else lead
        numeric = given.dtype.kind in "biu" or (given.dtype.kind == "f" and bool((given % 1 == 0).all()))
        if given.shape != shape or not numeric or bool(((given < 0) | (given > most)).any()):
            came = f"shape {given.shape}, {given.dtype}" if given.size > 16 else repr(action)
            raise ValueError(f"expected {expected}, got {came}")
        return given.astype(np.uint8) if self.table is None else self.table[given.astype(np.int64)]

    def keys(self, keys: Mapping[str, str]) -> dict[tuple[int, ...], Any]:
        """For `gymnasium.utils.play`: held keys, sorted pygame codes, -> action. keys: name -> button."""
        import pygame

        codes = {pygame.key.name(v): v for name, v in vars(pygame).items() if name.startswith("K_")}
        known = [(codes[name.lower()], button) for name, button in keys.items() if name.lower() in codes]
        found: dict[tuple[int, ...], Any] = {}
        for count in range(MOST_KEYS + 1):
            for chosen in combinations(known, count):
                held = buttons_of.encode(self.buttons, [button for _, button in chosen])
                action = self._action(held)
                if action is not None:
                    found[tuple(sorted(code for code, _ in chosen))] = action
        return found

    def _action(self, held: np.ndarray) -> Any:
        """The action that holds exactly these buttons; None where there is none."""
        if self.table is None:
            return held.astype(np.int8)
        rows = np.flatnonzero((self.table == held).all(1))
        return int(rows[0]) if len(rows) else None


def _names(entry: Any) -> list[str]:
    names = entry.split("+") if isinstance(entry, str) else list(entry)
    stripped = [str(name).strip() for name in names]
    return [name for name in stripped if name and name != buttons_of.NONE]


class Sight:
    """Frames uint8 (height, width, 3), brought to `size` (rows, columns) pixels where it is given."""

    def __init__(self, height: int, width: int, size: Sequence[int] | None = None) -> None:
        own = (height, width)
        if size is not None:
            whole = isinstance(size, Sequence) and not isinstance(size, str) and len(size) == 2
            if not whole or not all(isinstance(n, int | np.integer) and 1 <= n <= LARGEST for n in size):
                raise UserError(f"size must be (height, width) in pixels, each from 1 to {LARGEST}, not {size!r}")
            own = (int(size[0]), int(size[1]))
        self.size, self.same = own, own == (height, width)
        self.space = gym.spaces.Box(0, 255, (*own, 3), np.uint8)

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        """Frames (..., H, W, 3) -> a new array (..., height, width, 3); the mean of what falls on a pixel."""
        if self.same:
            return frames.copy()
        flat = [resize(frame, *self.size) for frame in frames.reshape(-1, *frames.shape[-3:])]
        return np.stack(flat).reshape(*frames.shape[:-3], *self.size, 3)


def check_horizon(horizon: int | None) -> int:
    """The horizon as a number, a very large one for None. UserError where it makes no sense."""
    if horizon is None:
        return 2**62
    if isinstance(horizon, bool) or not isinstance(horizon, int | np.integer) or horizon < 1:
        raise UserError(f"horizon must be 1 or more steps, or None, not {horizon!r}")
    return int(horizon)


def check_render_mode(mode: str | None) -> None:
    """UserError for a mode that is neither None nor ``rgb_array``."""
    if mode not in (None, "rgb_array"):
        raise UserError(f"render_mode must be 'rgb_array' or None, not {mode!r} ('human' works through gymnasium.make)")
