"""A world's simulator under the same spaces as the generated world: ``gymnasium.make("engine:Loci/DoomSource-v0")``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from engine.config import WorldConfig, load_world
from engine.envs.spaces import HORIZON, Actions, Sight, check_horizon, check_render_mode
from engine.sources import make_source
from engine.sources.contract import is_exclusive


class SourceEnv(gym.Env[np.ndarray, Any]):
    """The simulator that a world was learned from: a policy for the one acts in the other unchanged.

    Reward, termination and info are the simulator's own. ``reset(options={"map_seed": n})`` asks it for a map; other
    options are passed on.

    Args:
        world, actions, size, horizon, render_mode: as those of `engine.envs.env.LociEnv`.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 12}  # noqa: RUF012  (Gymnasium's way)

    def __init__(
        self,
        world: str | Path | WorldConfig = "doom",
        *,
        actions: str | Sequence[Any] = "multi_binary",
        size: Sequence[int] | None = None,
        horizon: int | None = HORIZON,
        render_mode: str | None = None,
    ) -> None:
        self._source: gym.Env[Any, Any] | None = None
        check_render_mode(render_mode)
        self.config = world if isinstance(world, WorldConfig) else load_world(world)
        self._actions = Actions(self.config.buttons, actions)
        self._sight = Sight(self.config.shape.height, self.config.shape.width, size)
        self._horizon = check_horizon(horizon)
        self._source, self.render_mode = make_source(self.config), render_mode
        self.buttons, self.exclusive = self.config.buttons, is_exclusive(self._source)
        self.metadata = {**type(self).metadata, "render_fps": self.config.frame_rate}
        self.observation_space, self.action_space = self._sight.space, self._actions.space
        self._frame = np.zeros((self.config.shape.height, self.config.shape.width, 3), np.uint8)
        self._age, self._over = 0, True

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin anew, on a map of the simulator's training split unless the options name one."""
        super().reset(seed=seed)
        source = self._open()
        drawn = int(self.np_random.integers(2**31 - 1))
        self._frame, info = source.reset(seed=drawn, options=options or None)
        self._age, self._over = 0, False
        return self._sight(self._frame), dict(info)

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Act. ValueError for an action outside the space, ResetNeeded after the end."""
        source, held = self._open(), self._actions.held(action)
        if self._over:
            raise gym.error.ResetNeeded("the episode is over or was not begun; call reset() before step()")
        self._frame, reward, terminated, truncated, info = source.step(held)
        self._age += 1
        truncated = bool(truncated) or self._age >= self._horizon
        self._over = bool(terminated) or truncated
        return self._sight(self._frame), float(reward), bool(terminated), truncated, dict(info)

    def render(self) -> np.ndarray | None:
        """The last frame, uint8 (H, W, 3) in the world's own size, in render mode ``rgb_array``."""
        return self._frame.copy() if self.render_mode == "rgb_array" else None

    def close(self) -> None:
        """Stop the simulator; may be called twice."""
        source, self._source = self._source, None
        if source is not None:
            source.close()

    def get_keys_to_action(self) -> dict[tuple[int, ...], Any]:
        """For `gymnasium.utils.play`: pygame's codes of the keys held, sorted, -> action; up to three keys."""
        return self._actions.keys(self.config.keys)

    def _open(self) -> gym.Env[Any, Any]:
        if self._source is None:
            raise gym.error.ClosedEnvironmentError("this environment is closed; make a new one")
        return self._source
