"""A tiny Gymnasium environment and a world over it, quick enough to collect from in a test."""

from typing import Any

import gymnasium as gym
import numpy as np

from engine.config import WorldConfig

NAME = "LociTest/Square-v0"


class Square(gym.Env[Any, Any]):
    """A picture of one colour: red is the seed, blue the place; it ends after 70 steps."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012
    action_space = gym.spaces.Discrete(3)
    observation_space = gym.spaces.Discrete(256)

    def __init__(self, render_mode: str | None = "rgb_array") -> None:
        self.render_mode = render_mode

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.color, self.place, self.age = (seed or 0) % 256, 128, 0
        return self.place, {}

    def step(self, action: int) -> Any:
        self.place += {0: 0, 1: -1, 2: 1}[int(action)]
        self.age += 1
        return self.place, 0.0, self.age >= 70, False, {}

    def render(self) -> Any:
        return np.full((48, 64, 3), (self.color, 0, self.place % 256), np.uint8)


def world(source: str = NAME) -> WorldConfig:
    """Return a world of two buttons over `source`."""
    if NAME not in gym.registry:
        gym.register(NAME, entry_point="tests.support.fake_source:Square")
    return WorldConfig(
        name="square",
        title="Square",
        preset="nano",
        source=source,
        checkpoint="checkpoints/square",
        buttons=("left", "right"),
    )
