"""Generated worlds in one batch as a Gymnasium vector environment: ``make_vec("engine:Loci/Doom-v0", num_envs=B)``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from engine.config import WorldConfig
from engine.envs.spaces import HORIZON, check_horizon, check_render_mode
from engine.envs.worlds import Moment, Worlds
from engine.errors import UserError

MOST_WORLDS = 65536


class LociVectorEnv(gym.vector.VectorEnv[np.ndarray, Any, np.ndarray]):
    """Worlds that share weights and passes, each with its own seed, start, memory and end.

    World i with seed s shows what `engine.envs.env.LociEnv` with seed s shows: exactly with one world, up to rounding
    in a batch, for sums are then taken in another order. What a world shows does not depend on when its neighbours are
    reset (in mode ``full`` up to rounding).

    ``reset`` takes a seed for all (world i gets seed + i), or a list with one for each, and in its options beside
    those of `LociEnv` ``reset_mask``, bool (B,): the worlds to reset, while the others go on.

    Args:
        num_envs: worlds, B.
        world: as that of `LociEnv`.
        autoreset_mode: ``NextStep``: the step after an episode's end resets that world and ignores its action;
            ``SameStep``: the step that ends an episode gives the next one's first observation, and the last one in
            ``info["final_obs"]``; ``Disabled``: reset with a mask.
        max_episode_steps: Gymnasium's name for a horizon, -1 for none; the smaller of the two counts.
        render_mode: ``rgb_array`` or None.
        options: as those of `LociEnv`.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012  (Gymnasium's way)
        "render_modes": ["rgb_array"],
        "render_fps": 12,
        "autoreset_mode": AutoresetMode.NEXT_STEP,
    }

    def __init__(
        self,
        num_envs: int = 1,
        world: str | Path | WorldConfig = "doom",
        *,
        autoreset_mode: str | AutoresetMode = AutoresetMode.NEXT_STEP,
        max_episode_steps: int | None = None,
        render_mode: str | None = None,
        **options: Any,
    ) -> None:
        self._worlds: Worlds | None = None
        if isinstance(num_envs, bool) or not isinstance(num_envs, int) or not 1 <= num_envs <= MOST_WORLDS:
            raise UserError(f"num_envs must be from 1 to {MOST_WORLDS}, not {num_envs!r}")
        check_render_mode(render_mode)
        try:
            self.autoreset_mode = AutoresetMode(autoreset_mode)
        except ValueError:
            known = ", ".join(repr(mode.value) for mode in AutoresetMode)
            raise UserError(f"autoreset_mode must be one of {known}, not {autoreset_mode!r}") from None
        if max_episode_steps is not None and max_episode_steps != -1:
            given = options.get("horizon", HORIZON)
            options["horizon"] = min(check_horizon(given), check_horizon(max_episode_steps))
        worlds = Worlds(world, num_envs, **options)
        self._worlds, self.num_envs, self.render_mode = worlds, num_envs, render_mode
        self.buttons, self.exclusive = worlds.config.buttons, worlds.config.exclusive
        self.metadata = {
            **type(self).metadata,
            "render_fps": worlds.config.frame_rate,
            "autoreset_mode": self.autoreset_mode,
        }
        self.single_observation_space, self.single_action_space = worlds.sight.space, worlds.actions.space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._random: list[np.random.Generator | None] = [None] * num_envs
        self._seeds: list[int | None] = [None] * num_envs
        self._begun = False

    @property
    def has_heads(self) -> bool:
        """Whether the checkpoint gives reward and termination."""
        return self._open().world.heads is not None

    @property  # type: ignore[misc]
    def np_random(self) -> tuple[np.random.Generator, ...]:  # type: ignore[override]
        """The random generator of each world."""
        return tuple(self._generators())

    @property
    def np_random_seed(self) -> tuple[int | None, ...]:  # type: ignore[override]
        """The seed that each world's generator began with."""
        self._generators()
        return tuple(self._seeds)

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin anew in all worlds, or in those of ``options["reset_mask"]``; see the class.

        ValueError where seeds or mask do not fit, ResetNeeded for a mask before the first whole reset.
        """
        worlds, options = self._open(), dict(options or {})
        mask = self._mask(options.pop("reset_mask", None))
        seeds = self._seed_list(seed)
        if mask is not None and not self._begun:
            raise gym.error.ResetNeeded("reset all worlds before resetting some of them")
        # What can be refused is refused before anything changes.
        before = list(self._random), list(self._seeds)
        for b in range(self.num_envs):
            if seeds[b] is not None and (mask is None or mask[b]):
                self._random[b], self._seeds[b] = seeding.np_random(seeds[b])
        try:
            found = worlds.reset(self._generators(), options, mask)
        except ValueError:
            self._random, self._seeds = before
            raise
        self._begun = True
        return worlds.seen, self._gathered(found)

    def step(self, actions: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Draw the next frame of each world.

        Returns observations, rewards float64 (B,), terminations and truncations bool (B,), and infos. ValueError for
        actions outside the space; ResetNeeded before the first reset, and with ``Disabled`` after an end.
        """
        worlds = self._open()
        held = worlds.actions.held_by_all(actions, self.num_envs)
        if not self._begun:
            raise gym.error.ResetNeeded("call reset() before step()")
        over = worlds.over.copy()
        if over.any() and self.autoreset_mode == AutoresetMode.DISABLED:
            which = ", ".join(map(str, np.flatnonzero(over)[:8]))
            raise gym.error.ResetNeeded(f"episodes are over in worlds {which}; reset them with options['reset_mask']")
        rewards, terminated = np.zeros(self.num_envs), np.zeros(self.num_envs, bool)
        truncated = terminated.copy()
        if not over.all():
            rewards, terminated, truncated = worlds.step(np.where(over[:, None], np.uint8(0), held))
        told = [{} if over[b] else worlds.told(b) for b in range(self.num_envs)]
        if over.any():  # those begin anew, and what the step did to them does not count
            fresh = worlds.reset(self._generators(), None, over)
            told = [new if begun else old for new, old, begun in zip(fresh, told, over, strict=True)]
            rewards, terminated, truncated = np.where(over, 0.0, rewards), terminated & ~over, truncated & ~over
        ended = terminated | truncated
        if self.autoreset_mode == AutoresetMode.SAME_STEP and ended.any():
            last = worlds.seen
            fresh = worlds.reset(self._generators(), None, ended)
            for b in np.flatnonzero(ended).tolist():
                told[b] = fresh[b] | {"final_obs": last[b], "final_info": told[b]}
        return worlds.seen, rewards, terminated, truncated, self._gathered(told)

    def render(self) -> tuple[np.ndarray, ...] | None:
        """The last frames, each uint8 (H, W, 3) in the worlds' own size, in render mode ``rgb_array``."""
        return tuple(self._open().frames) if self.render_mode == "rgb_array" else None

    def close_extras(self, **kwargs: Any) -> None:
        """Let the worlds go."""
        self._worlds = None

    def snapshot(self) -> Moment:
        """The present moment of all worlds, for planners. It leaves the random generators out."""
        return self._open().snapshot()

    def restore(self, moment: Moment) -> np.ndarray:
        """Go back to a snapshot of this environment; returns its observations."""
        self._open().restore(moment)
        self._begun = True
        return self._open().seen

    def _open(self) -> Worlds:
        if self._worlds is None:
            raise gym.error.ClosedEnvironmentError("this environment is closed; make a new one")
        return self._worlds

    def _generators(self) -> list[np.random.Generator]:
        found: list[np.random.Generator] = []
        for b, random in enumerate(self._random):
            if random is None:
                random, self._seeds[b] = seeding.np_random()
                self._random[b] = random
            found.append(random)
        return found

    def _gathered(self, infos: list[dict[str, Any]]) -> dict[str, Any]:
        gathered: dict[str, Any] = {}
        for b, info in enumerate(infos):
            gathered = self._add_info(gathered, info, b)
        return gathered

    def _seed_list(self, seed: int | Sequence[int | None] | None) -> list[int | None]:
        if seed is None or isinstance(seed, int | np.integer):
            return [None if seed is None else int(seed) + b for b in range(self.num_envs)]
        seeds = [None if s is None else int(s) for s in seed]
        if len(seeds) != self.num_envs:
            raise ValueError(f"expected a seed, or a list of {self.num_envs}, one for each world; got {len(seeds)}")
        return seeds

    def _mask(self, mask: Any) -> np.ndarray | None:
        if mask is None:
            return None
        if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_ or mask.shape != (self.num_envs,):
            came = f"{mask.dtype} {mask.shape}" if isinstance(mask, np.ndarray) else type(mask).__name__
            raise ValueError(f"options['reset_mask'] must be a numpy array of bool ({self.num_envs},), got {came}")
        if not mask.any():
            raise ValueError("options['reset_mask'] must be true for one world at least")
        return mask.copy()
