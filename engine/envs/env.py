"""A generated world as a Gymnasium environment: ``gymnasium.make("engine:Loci/Doom-v0")``."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from engine.config import WorldConfig
from engine.envs.spaces import check_render_mode
from engine.envs.worlds import Moment, Worlds


@dataclass(frozen=True)
class EnvSnapshot:
    """What `LociEnv.restore` goes back to: the world, the steps taken, the random generator."""

    moment: Moment
    random: dict[str, Any]


class LociEnv(gym.Env[np.ndarray, Any]):
    """Walk through a world that a model draws.

    Observations are uint8 (height, width, 3). Reward and termination are what the checkpoint's heads read off each
    new frame; one without heads gives reward 0.0 and never terminates, see `has_heads`. Where the heads read events,
    too, ``info["events"]``, uint8 (E,), says which of them happened in the step, in the order of the simulator's
    `events`, and the reward has 1 for a step in which one happens for the first time in the episode. The same seed,
    options and actions give the same frames on the same machine and number of threads.

    ``reset(options=...)`` takes ``start`` (a name, or several to draw from), ``image`` (a path, or uint8 (H, W, 3)),
    ``frames`` (uint8 (n, H, W, 3), the history to begin with, and with it ``actions`` (n, A), 0 or 1: what led to each
    frame), and ``seed``, that of the noise, which is drawn from `np_random` otherwise. Its info says which start frame
    and seed it was.

    Args:
        world: name of a world, path of its TOML file, or the world itself.
        checkpoint: folder of weights; the world's own by default.
        memory: ``window``, ``full``, ``mag``, or ``auto``: mag where the checkpoint has a memory model or
            remembers places, else window.
        memory_budget: tokens of folded history that a frame sees in mode mag.
        recall: which folds those are: ``relevance``, ``recent`` or ``random``.
        steps: passes a frame.
        device, dtype, threads: where and how it is computed.
        actions: ``multi_binary``, ``discrete``, or a list of combinations of buttons; see `engine.envs.spaces.Actions`.
            In a world with `exclusive` only the last of the held buttons counts, as in its simulator.
        size: (height, width) of the observations in pixels; the world's own by default.
        start: name of a start frame, or several, one of which each reset draws; any by default.
        image: begin from this picture instead: a path, or uint8 (H, W, 3) in the world's own size.
        horizon: steps after which an episode is truncated; None for never.
        render_mode: ``rgb_array``, in the world's own size, or None.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 12}  # noqa: RUF012  (Gymnasium's way)

    def __init__(
        self,
        world: str | Path | WorldConfig = "doom",
        *,
        render_mode: str | None = None,
        **options: Any,
    ) -> None:
        self._worlds: Worlds | None = None
        check_render_mode(render_mode)
        worlds = Worlds(world, 1, **options)
        self._worlds, self.render_mode = worlds, render_mode
        self.buttons, self.exclusive = worlds.config.buttons, worlds.config.exclusive
        self.metadata = {**type(self).metadata, "render_fps": worlds.config.frame_rate}
        self.observation_space, self.action_space = worlds.sight.space, worlds.actions.space

    @property
    def has_heads(self) -> bool:
        """Whether the checkpoint gives reward and termination."""
        return self._open().world.heads is not None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin anew; see the class for `options`."""
        super().reset(seed=seed)
        worlds = self._open()
        infos = worlds.reset([self.np_random], options)
        return worlds.seen[0], infos[0]

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Draw the next frame. ValueError for an action outside the space, ResetNeeded after the end."""
        worlds = self._open()
        held = worlds.actions.held(action)
        if worlds.over[0]:
            raise gym.error.ResetNeeded("the episode is over or was not begun; call reset() before step()")
        rewards, terminated, truncated = worlds.step(held[None])
        return worlds.seen[0], float(rewards[0]), bool(terminated[0]), bool(truncated[0]), worlds.told(0)

    def render(self) -> np.ndarray | None:
        """The last frame, uint8 (H, W, 3) in the world's own size, in render mode ``rgb_array``."""
        return self._open().frames[0] if self.render_mode == "rgb_array" else None

    def close(self) -> None:
        """Let the world go; may be called twice."""
        self._worlds = None

    def get_keys_to_action(self) -> dict[tuple[int, ...], Any]:
        """For `gymnasium.utils.play`: pygame's codes of the keys held, sorted, -> action; up to three keys."""
        worlds = self._open()
        return worlds.actions.keys(worlds.config.keys)

    def snapshot(self) -> EnvSnapshot:
        """The present moment, for planners: cheap to take, and unchanged by what follows.

        It knows nothing of wrappers around this environment, such as a TimeLimit's count.
        """
        return EnvSnapshot(self._open().snapshot(), deepcopy(dict(self.np_random.bit_generator.state)))

    def restore(self, snapshot: EnvSnapshot) -> np.ndarray:
        """Go back to a snapshot of this environment; returns its observation. The same actions give the same again."""
        worlds = self._open()
        worlds.restore(snapshot.moment)
        self.np_random.bit_generator.state = deepcopy(snapshot.random)
        return worlds.seen[0]

    def _open(self) -> Worlds:
        if self._worlds is None:
            raise gym.error.ClosedEnvironmentError("this environment is closed; make a new one")
        return self._worlds
