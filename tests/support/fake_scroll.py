"""A tiny source that scrolls a picture as its buttons say, and a tiny random world over it."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from tests.support.weights import write_weights

NAME = "LociTest/Scroll-v0"
BUTTONS = ("forward", "back", "turn_left", "turn_right")
WALL = 60.0
TOML = """
title = "Scroll"
preset = "nano"
source = "{source}"
checkpoint = "{checkpoint}"
buttons = {buttons}
[source_options]
ends = {ends}
"""


class Scroll(gym.Env[Any, Any]):
    """A picture of coarse noise, drawn by the seed: turning scrolls it across, walking along, a wall stops at 60."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012
    action_space = gym.spaces.MultiBinary(len(BUTTONS))
    observation_space = gym.spaces.Discrete(1)

    def __init__(self, render_mode: str | None = "rgb_array", ends: int = 100_000) -> None:
        self.render_mode, self.ends = render_mode, ends

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        noise = self.np_random.integers(0, 256, (24, 48, 3), np.uint8)
        self.picture = noise.repeat(4, 0).repeat(4, 1)
        self.place, self.angle, self.age = 0.0, 0, 0
        return 0, self.info()

    def info(self) -> dict[str, Any]:
        return {"pose": np.array([self.place, 0.0, 0.0, self.angle % 360], np.float32)}

    def step(self, action: np.ndarray) -> Any:
        forward, back, left, right = (int(value) for value in action)
        self.place = float(np.clip(self.place + 12 * (forward - back), -WALL, WALL))
        self.angle += 15 * (left - right)
        self.age += 1
        return 0, 0.0, self.age >= self.ends, False, self.info()

    def render(self) -> Any:
        return np.roll(self.picture, (int(self.place) // 3, self.angle // 15 * 4), (0, 1))[:48, :64]


def register() -> None:
    """Let Gymnasium know of `Scroll`."""
    if NAME not in gym.registry:
        gym.register(NAME, entry_point=f"{__name__}:Scroll", disable_env_checker=True, order_enforce=False)


def write_world(folder: Path, ends: int = 100_000, source: str = NAME, buttons: tuple[str, ...] = BUTTONS) -> Path:
    """Write scroll.toml and a checkpoint of random weights; returns the TOML's path."""
    register()
    write_weights(folder / "weights", buttons)
    path = folder / "scroll.toml"
    path.write_text(TOML.format(source=source, checkpoint=folder / "weights", buttons=list(buttons), ends=ends))
    return path
