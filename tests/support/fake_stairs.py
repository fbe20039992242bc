"""A tiny environment with rewards, ends and truncations, and a world over it."""

from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np

from engine.config import WorldConfig
from tests.support.fake_source import world

NAME = "LociTest/Stairs-v0"
TOP = 130
LONGEST = 20


class Stairs(gym.Env[Any, Any]):
    """Blue is the place, from 128: a step up gives 2.5, any other -1; TOP ends it, LONGEST steps cut it off."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012
    action_space = gym.spaces.Discrete(3)
    observation_space = gym.spaces.Discrete(256)

    def __init__(self, render_mode: str | None = "rgb_array") -> None:
        self.render_mode = render_mode
        self.started = False

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.place, self.age, self.started = 120 + (seed or 0) % 8, 0, True
        return self.place, {}

    def step(self, action: int) -> Any:
        assert self.started, "stepped after the end"
        self.place += {0: 0, 1: -1, 2: 1}[int(action)]
        self.age += 1
        over, cut = self.place >= TOP, self.age >= LONGEST
        self.started = not (over or cut)
        return self.place, 2.5 if int(action) == 2 else -1.0, over, cut and not over, {}

    def render(self) -> Any:
        return np.full((48, 64, 3), (0, 0, self.place % 256), np.uint8)


def stairs() -> WorldConfig:
    """Return a world of two buttons, down and up, over `Stairs`."""
    if NAME not in gym.registry:
        gym.register(NAME, entry_point="tests.support.fake_stairs:Stairs")
    return replace(world(), name="stairs", source=NAME, buttons=("down", "up"))
