"""What a player by pictures plays: a batch of drawn worlds, or as many simulators, behind one face."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from engine.sources.crafter.source import CrafterEnv
from engine.world import World


class Playable(Protocol):
    """B worlds that go on under actions. frame: what they show now, uint8 (B, H, W, 3)."""

    frame: np.ndarray

    def step(self, actions: np.ndarray) -> np.ndarray:
        """Go on by actions (B, A); returns the new `frame`."""


def start_frames(env: CrafterEnv, maps: Sequence[int] | np.ndarray) -> np.ndarray:
    """First frames of maps, uint8 (B, H, W, 3)."""
    return np.stack([env.reset(options={"map_seed": int(map_seed)})[0] for map_seed in maps])


class Dreams:
    """A world that begins with one real frame for each of its worlds."""

    def __init__(self, world: World, starts: np.ndarray, seeds: Sequence[int]) -> None:
        self.world = world
        self.frame = world.reset(list(seeds), starts[:, None])

    def step(self, actions: np.ndarray) -> np.ndarray:
        """Draw the next frames."""
        self.frame = self.world.step(actions)
        return self.frame


class Simulators:
    """Simulators on maps, one each. over: which have ended, bool (B,); these go on showing their last frame."""

    def __init__(self, envs: Sequence[Any], maps: Sequence[int] | np.ndarray) -> None:
        self.envs = envs
        self.frame = np.stack(
            [env.reset(options={"map_seed": int(map_seed)})[0] for env, map_seed in zip(envs, maps, strict=True)]
        )
        self.over = np.zeros(len(envs), bool)

    def step(self, actions: np.ndarray) -> np.ndarray:
        """Go on by one step."""
        self.frame = self.frame.copy()
        for b, env in enumerate(self.envs):
            if not self.over[b]:
                self.frame[b], _, terminated, truncated, _ = env.step(actions[b])
                self.over[b] = terminated or truncated
        return self.frame
