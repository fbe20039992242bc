"""A tiny source with poses: a square room that is seen as a picture of where the player stands and looks."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from tests.support.fake_scroll import write_world

NAME = "LociTest/Room-v0"
BUTTONS = ("forward", "back", "turn_left", "turn_right", "strafe_left", "strafe_right")
STRIDE = 24.0


class Room(gym.Env[Any, Any]):
    """A room of 2 * `half` units; a step that would leave it slides along its walls. Its picture tells the pose."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012
    action_space = gym.spaces.MultiBinary(len(BUTTONS))
    observation_space = gym.spaces.Discrete(1)

    def __init__(
        self,
        render_mode: str | None = "rgb_array",
        half: float = 100.0,
        turn: float = 15.0,
        poses: bool = True,
        ends: int = 10**6,
        told: bool = False,
    ) -> None:
        self.render_mode, self.half, self.turn, self.poses, self.ends = render_mode, half, turn, poses, ends
        if told:
            self.clear = lambda points: (np.abs(points) <= half).all(1)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        random = self.np_random
        self.picture = random.integers(0, 256, (12, 24, 3), np.uint8).repeat(8, 0).repeat(8, 1)
        self.place, self.angle, self.age = random.uniform(-self.half / 2, self.half / 2, 2), 15.0 * (seed or 0), 0
        return 0, self.info()

    def info(self) -> dict[str, Any]:
        pose = np.array([*self.place, 0.0, self.angle % 360], np.float32)
        return {"pose": pose} if self.poses else {}

    def step(self, action: np.ndarray) -> Any:
        forward, back, left, right, strafe_left, strafe_right = (int(value) for value in action)
        self.angle += self.turn * (left - right)
        radians = np.radians(self.angle)
        ahead, aside = np.array([np.cos(radians), np.sin(radians)]), np.array([-np.sin(radians), np.cos(radians)])
        self.place = self.place + STRIDE * (ahead * (forward - back) + aside * (strafe_left - strafe_right))
        self.place = np.clip(self.place, -self.half, self.half)
        self.age += 1
        return 0, 0.0, self.age >= self.ends, False, self.info()

    def render(self) -> Any:
        shift = round(self.angle / 15.0) * 8, round(self.place[0] + self.place[1])
        return np.roll(self.picture, shift, (1, 0))[:48, :64]


def register() -> None:
    """Let Gymnasium know of `Room`."""
    if NAME not in gym.registry:
        gym.register(NAME, entry_point=f"{__name__}:Room", disable_env_checker=True, order_enforce=False)


def write_room(folder: Path, buttons: tuple[str, ...] = BUTTONS, options: str = "half = 100.0") -> Path:
    """Write room.toml and a checkpoint of random weights; returns the TOML's path."""
    register()
    folder.mkdir(exist_ok=True)
    path = write_world(folder, source=NAME, buttons=buttons).with_name("room.toml")
    path.write_text(path.with_name("scroll.toml").read_text().replace("ends = 100000", options))
    return path
