"""Generated worlds as a Stable-Baselines3 ``VecEnv``, one batch for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.vec_env.base_vec_env import VecEnv, VecEnvIndices

from engine.config import WorldConfig
from engine.envs.vector import LociVectorEnv


class LociVecEnv(VecEnv):
    """`LociVectorEnv` by the conventions of Stable-Baselines3: ``PPO("CnnPolicy", LociVecEnv("doom-plain", 16))``.

    A world that ends begins anew in the same step; its last observation is then in ``info["terminal_observation"]``,
    and ``info["TimeLimit.truncated"]`` says whether only the horizon ended it. `set_options` takes the same options
    for all worlds. The worlds of a batch have no attributes of their own: `get_attr` and `set_attr` reach the batch's.

    Args:
        world: as that of `engine.envs.env.LociEnv`.
        num_envs: worlds.
        options: as those of `LociVectorEnv`, without ``autoreset_mode``.
    """

    def __init__(self, world: str | Path | WorldConfig = "doom", num_envs: int = 1, **options: Any) -> None:
        self.env = LociVectorEnv(num_envs, world, autoreset_mode="SameStep", **options)
        super().__init__(num_envs, self.env.single_observation_space, self.env.single_action_space)
        self._actions: np.ndarray | None = None

    def reset(self) -> np.ndarray:
        """Begin anew in all worlds, with the seeds and options set for this reset."""
        options = self._options[0]
        if any(other != options for other in self._options):
            raise ValueError("set_options: expected the same options for all worlds")
        seen, infos = self.env.reset(seed=self._seeds, options=options or None)
        self.reset_infos = [_info(infos, b) for b in range(self.num_envs)]
        self._reset_seeds()
        self._reset_options()
        return seen

    def step_async(self, actions: np.ndarray) -> None:
        """Keep the actions for `step_wait`."""
        self._actions = actions

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """Step: observations, rewards float32 (B,), dones bool (B,), and an info for each world."""
        assert self._actions is not None, "step_async comes first"
        seen, rewards, terminated, truncated, infos = self.env.step(self._actions)
        self._actions = None
        found: list[dict[str, Any]] = []
        for b in range(self.num_envs):
            found.append({"TimeLimit.truncated": bool(truncated[b] and not terminated[b])})
            if not (terminated[b] or truncated[b]):
                found[b] |= _info(infos, b)
            else:
                found[b] |= _info(infos.get("final_info", {}), b)
                found[b]["terminal_observation"] = infos["final_obs"][b]
                self.reset_infos[b] = _info(infos, b)
        return seen, rewards.astype(np.float32), terminated | truncated, found

    def close(self) -> None:
        """Let the worlds go; may be called twice."""
        self.env.close()

    def get_images(self) -> Sequence[np.ndarray | None]:
        """The last frame of each world."""
        return self.env.render() or [None] * self.num_envs

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """The batch's attribute, once for each world asked about."""
        return [getattr(self.env, attr_name)] * len(self._chosen(indices))

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Set the batch's attribute; ValueError for some of the worlds alone."""
        if len(self._chosen(indices)) != self.num_envs:
            raise ValueError(f"set_attr: {attr_name} belongs to the whole batch; leave indices out")
        setattr(self.env, attr_name, value)

    def env_method(
        self, method_name: str, *method_args: Any, indices: VecEnvIndices = None, **method_kwargs: Any
    ) -> list[Any]:
        """Refuse: the worlds of a batch have no methods of their own."""
        raise NotImplementedError(f"the worlds of a batch have no methods of their own; call env.{method_name} instead")

    def env_is_wrapped(self, wrapper_class: type[gym.Wrapper], indices: VecEnvIndices = None) -> list[bool]:
        """No world is wrapped."""
        return [False] * len(self._chosen(indices))

    def _chosen(self, indices: VecEnvIndices) -> list[int]:
        return list(self._get_indices(indices))


def _info(infos: dict[str, Any], b: int) -> dict[str, Any]:
    """World b's own part of what a reset or a step says."""
    return {
        name: infos[name][b] for name in ("start", "world_seed", "events") if name in infos and infos[f"_{name}"][b]
    }
