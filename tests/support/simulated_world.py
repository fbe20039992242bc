"""A World that draws the simulator's own frames: what a bench must find perfect; or it draws them wrong on purpose."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from engine.bench.revisit.errands import WELL
from engine.bench.tiles.patches import cut, joined
from engine.model.codec import Codec, CodecConfig
from engine.sources.crafter.source import BUTTONS, CrafterEnv


@cache
def sand() -> np.ndarray:
    """The picture of sand, (16, 16, 3)."""
    env = CrafterEnv(area=24)
    env.reset(options={"map_seed": 0})
    x, y = env.player.pos
    env.world[x + 2, y] = "sand"
    return cut(env.redraw())[3, 6]


class SimulatedWorld:
    """B simulators behind the face of `engine.world.World`; the seed of `reset` is that of the map.

    What it is told is checked: the real frames must be those of the same map and actions. area: of the maps. well: the
    player never hungers, as in errands. wrong: share of the tiles, drawn anew in each frame, that show sand. shown:
    with a function of a frame and its world, that frame is drawn instead. lost: how many tiles east of the truth the
    world believes to be. others: options of the source; starts: of its reset.
    """

    posed = True

    def __init__(
        self,
        batch: int = 1,
        area: int = 24,
        *,
        well: bool = False,
        wrong: float = 0.0,
        lost: float = 0.0,
        starts: dict[str, Any] | None = None,
        **others: Any,
    ) -> None:
        self.batch, self.buttons, self.height, self.width = batch, BUTTONS, 144, 144
        self.envs = [CrafterEnv(area=area, length=0, **others) for _ in range(batch)]
        self.well, self.wrong, self.lost, self.starts = well, wrong, lost, starts or {}
        self.device, self.steps, self.mode = torch.device("cpu"), 1, "full"
        self.codec = Codec(CodecConfig(144, 144, 16, 48, deblock=0))
        self.history = SimpleNamespace(pose=np.zeros((batch, 3)))
        self.random = np.random.default_rng(0)
        self.frame = np.zeros((batch, 144, 144, 3), np.uint8)
        self.poses_told: list[np.ndarray] = []

    def snapshot(self) -> str:
        return "fresh"

    def restore(self, fresh: Any) -> None:
        assert fresh == "fresh"

    def set_mode(self, mode: str) -> None:
        self.mode = mode

    def stats(self) -> dict[str, Any]:
        return {"memory_bytes": 1.0, "pose": tuple(self.history.pose[0]), "mode": self.mode}

    def reset(
        self,
        seed: int | Sequence[int],
        frames: np.ndarray,
        actions: np.ndarray | None = None,
        poses: np.ndarray | None = None,
    ) -> np.ndarray:
        seeds = [seed + b for b in range(self.batch)] if isinstance(seed, int) else list(seed)
        told = []
        for b, env in enumerate(self.envs):
            self.frame[b], info = env.reset(options={"map_seed": int(seeds[b]), **self.starts})
            told.append(info["pose"][:2].astype(float))
        self.origin = np.stack(told)
        self.history.pose = np.zeros((self.batch, 3))
        self.history.pose[:, 0] += self.lost
        assert np.array_equal(self.frame, frames[:, 0]), "another map than that of the real frames"
        if frames.shape[1] > 1:
            assert actions is not None
            self.observe(frames[:, 1:], actions[:, 1:])
        if poses is not None:
            self.poses_told.append(poses)
        return self.frame.copy()

    def observe(self, frames: np.ndarray, actions: np.ndarray, poses: np.ndarray | None = None) -> np.ndarray:
        for t in range(frames.shape[1]):
            self._step(actions[:, t])
            assert np.array_equal(self.frame, frames[:, t]), "the real frames are not those of the actions"
        if poses is not None:
            self.poses_told.append(poses)
        return self.frame.copy()

    def step(self, action: np.ndarray) -> np.ndarray:
        self._step(action)
        tiles = cut(self.frame.copy())
        bad = self.random.random(tiles.shape[:3]) < self.wrong
        tiles[bad] = sand()
        return joined(tiles)

    def render(self, action: np.ndarray) -> np.ndarray:
        return self.step(action)

    def commit(self) -> None:
        """All is done by `render`."""

    def _step(self, action: np.ndarray) -> None:
        for b, (env, pressed) in enumerate(zip(self.envs, np.broadcast_to(action, (self.batch, 16)), strict=True)):
            if self.well:
                env.player.inventory.update(WELL)
            env._over = False  # a dream does not end
            self.frame[b], *_, info = env.step(pressed)
            self.history.pose[b, :2] = info["pose"][:2] - self.origin[b]
            self.history.pose[b, 0] += self.lost
