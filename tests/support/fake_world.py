"""A world without a model: a dot that the buttons move, on a pattern that the seed shifts."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

BUTTONS = ("forward", "back", "turn_left", "turn_right")
KEYS = {"w": "forward", "up": "forward", "s": "back", "left": "turn_left", "right": "turn_right"}
STARTS = {name: np.full((48, 64, 3), shade, np.uint8) for name, shade in (("cave", 40), ("hall", 90))}


class FakeWorld:
    """Behaves as engine.world.World does for a batch of one; its state is the dot's place and the time."""

    device = "cpu"
    batch = 1

    def __init__(
        self,
        *,
        height: int = 48,
        width: int = 64,
        seconds: float = 0.0,
        buttons: tuple[str, ...] = BUTTONS,
        fail_at: int | None = None,
        error: BaseException | None = None,
        ends_at: Collection[int] = (),
    ) -> None:
        self.height, self.width, self.buttons = height, width, buttons
        self.seconds, self.fail_at, self.error = seconds, fail_at, error
        self.ends_at, self.ended = ends_at, np.zeros(1, bool)
        self.mode, self.steps = "window", 2
        self.calls: list[str] = []
        self.actions: list[tuple[str, ...]] = []
        self.place, self.time, self.seed = np.zeros(2, int), 0, 0
        self.pending: tuple[np.ndarray, int] | None = None
        self.start = np.zeros((height, width, 3), np.uint8)

    def warm_up(self) -> float:
        return 0.25

    def reset(self, seed: int | Sequence[int], frames: np.ndarray, actions: np.ndarray | None = None) -> np.ndarray:
        assert frames.shape[2:] == (self.height, self.width, 3) and frames.dtype == np.uint8
        assert isinstance(seed, int)
        self.place, self.time, self.seed, self.pending = np.zeros(2, int), 0, seed, None
        self.start, self.ended = frames[0, -1], np.zeros(1, bool)
        self.calls.append("reset")
        return frames[:, -1].copy()

    def render(self, action: np.ndarray) -> np.ndarray:
        assert action.shape == (1, len(self.buttons)) and action.dtype == np.uint8
        assert self.pending is None, "render twice without commit"
        if self.time == self.fail_at and self.error is not None:
            raise self.error
        time.sleep(self.seconds)
        held = tuple(b for b, on in zip(self.buttons, action[0], strict=True) if on)
        self.actions.append(held)
        step = np.array(
            [
                ("back" in held) - ("forward" in held),
                ("turn_right" in held) - ("turn_left" in held),
            ]
        )
        self.pending = (self.place + step, self.time + 1)
        self.calls.append("render")
        return self._draw(*self.pending)[None]

    def commit(self) -> None:
        assert self.pending is not None, "commit without render"
        (self.place, self.time), self.pending = self.pending, None
        self.ended = np.array([self.time in self.ends_at])
        self.calls.append("commit")

    def snapshot(self) -> Any:
        assert self.pending is None
        return self.place.copy(), self.time, self.seed, self.start, self.mode

    def restore(self, snapshot: Any) -> None:
        self.place, self.time, self.seed, self.start, self.mode = snapshot
        self.ended = np.zeros(1, bool)  # as a model, which reads it off a frame that it commits
        self.calls.append("restore")

    def set_mode(self, mode: str) -> None:
        self.mode = mode

    def set_steps(self, steps: int) -> None:
        self.steps = steps

    def stats(self) -> dict[str, Any]:
        return {
            "memory_bytes": 1_500_000 + 1000 * self.time,
            "frames": self.time,
            "hot": min(14, self.time + 1),
            "cold": 0,
            "gone": max(0, self.time - 13),
            "mode": self.mode,
            "modes": ("window", "full"),
            "steps": self.steps,
        }

    def _draw(self, place: np.ndarray, at: int) -> np.ndarray:
        y, x = np.mgrid[: self.height, : self.width]
        frame = np.stack([(x * 3 + at) % 256, (y * 4 + self.seed) % 256, (x + y) % 256], -1).astype(np.uint8)
        frame = frame // 2 + self.start // 2
        size = np.array([self.height, self.width])
        top, left = (place + size // 2) % size
        frame[max(0, top - 2) : top + 3, max(0, left - 2) : left + 3] = (255, 230, 60)
        return frame
