"""A simulator as a world that can be played: what `engine.game` asks of a world, with the simulator's own frames."""

from typing import Any

import gymnasium as gym
import numpy as np

from engine.errors import UserError
from engine.sources.contract import is_exclusive


class SourceWorld:
    """Frames uint8 (1, H, W, 3) of a source (see `engine.sources.make_source`), drawn by the simulator itself.

    An episode that ended is followed by the next one, whose first frame the next key shows. There is no past to go
    back to, and no memory.
    """

    batch, device, dtype, steps = 1, "cpu", "uint8", 0

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        self.env = env
        self.buttons: tuple[str, ...] = env.get_wrapper_attr("buttons")
        self.exclusive = is_exclusive(env)
        self.rewards: list[float] = []
        """Sum of the rewards of each episode, the present one's last."""
        self._seed, self._frames, self._over = 0, 0, False

    def warm_up(self) -> float:
        """Nothing has to be."""
        return 0.0

    def reset(self, seed: int, frames: np.ndarray | None = None, actions: np.ndarray | None = None) -> np.ndarray:
        """Begin an episode on the map `seed`; the simulator's own first frame is shown, not `frames`."""
        self._seed, self._frames, self._over = seed, 0, False
        self.rewards.append(0.0)
        frame, _ = self.env.reset(seed=seed % 2**31, options={"map_seed": seed % 2**31})
        return frame[None]

    def render(self, action: np.ndarray) -> np.ndarray:
        """Step the simulator by buttons (1, A), or begin the next episode."""
        if self._over:
            return self.reset(self._seed + 1)
        frame, reward, terminated, truncated, _ = self.env.step(action[0])
        self.rewards[-1] += float(reward)
        self._frames, self._over = self._frames + 1, bool(terminated or truncated)
        return frame[None]

    def commit(self) -> None:
        """The simulator knows what it drew."""

    def snapshot(self) -> Any:
        """UserError: a simulator cannot be copied."""
        raise UserError("a simulator cannot be saved or loaded; play the world itself for that")

    def restore(self, snapshot: Any) -> Any:
        """UserError: a simulator cannot be copied."""
        self.snapshot()

    def set_mode(self, mode: str) -> None:
        """There is only one."""

    def set_steps(self, steps: int) -> None:
        """A simulator has no passes."""

    def stats(self) -> dict[str, Any]:
        """As those of a world; no bytes of memory, so that there is nothing to go back to."""
        return {
            "memory_bytes": 0,
            "frames": self._frames,
            "mode": "simulator",
            "modes": ("simulator",),
            "steps": self.steps,
        }
