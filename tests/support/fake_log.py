"""A log that keeps nothing but a list, and holds the game to its side of the contract."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from engine.game.game import Game


class FakeLog:
    """Behaves as engine.game.log.SessionLog does; wants a snapshot of every `every`-th frame, allows 3 switches."""

    def __init__(self, every: int = 5) -> None:
        self.say: Callable[[str], None] = lambda message: None
        self.every = every
        self.told: list[tuple[str, Any]] = []
        self.frames: list[np.ndarray] = []
        self.on = False
        self._asked = False
        self._switches = 0

    def restarted(self, game: Game) -> None:
        assert game.frame.dtype == np.uint8 and game.frame.ndim == 3
        self.on, self._switches = True, 0
        self.told.append(("restarted", game.index))

    def wants_state(self) -> bool:
        assert self.on, "asked before the game began"
        self._asked = True
        return (len(self.frames) + 1) % self.every == 0

    def drawn(self, game: Game, action: np.ndarray, state: Any) -> None:
        assert self._asked, "a frame came without asking whether its state is wanted"
        assert (state is not None) == self.wants_state()
        assert action.dtype == np.uint8 and action.shape == (len(game.world.buttons),)
        self.frames.append(game.frame)
        self._asked, self._switches = False, 0
        self.told.append(("drawn", game.index))

    def may_switch(self) -> bool:
        return self._switches < 3

    def switched(self, mode: str) -> None:
        assert self.may_switch(), "switched without asking"
        self._switches += 1
        self.told.append(("switched", mode))

    def mark(self) -> Any:
        assert self.on
        return "mark", len(self.told)

    def went_back(self, mark: Any, snapshot: Any) -> None:
        assert mark[0] == "mark" and mark[1] <= len(self.told) and snapshot is not None
        self._switches = 0
        self.told.append(("went back", mark[1]))

    def finish(self, timeout: float | None = 8.0) -> None:
        self.told.append(("finish", timeout))
