"""What a source promises; ``tests/sources/test_contract.py`` holds every source to it."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import gymnasium as gym
import numpy as np


@runtime_checkable
class Source(Protocol):
    """A simulator that worlds are learned from: a Gymnasium environment that promises a little more.

    `engine.sources.make_source` opens one. Frames are uint8 (H, W, 3), of one size; each is a new array, which the
    caller may keep and write to. Actions are uint8 (A,): 1 for each of `buttons` that is held, in their order; any
    number of them may be held, and what that means is the source's affair; one that has ``exclusive = True`` heeds only
    the one that stands last.

    `reset` comes first, and after each end of an episode. What cannot be used raises UserError, with one line that
    says what to do: an option, an environment whose pictures or actions do not fit (here, or on the first `reset`),
    a package that is missing.

    ``info`` may hold, and then does so after every `reset` and `step`:
        pose: float32 (4,): x, y, z in the simulator's units, and the angle in degrees, from 0 to below 360,
            anticlockwise from east. Without it a world goes by keys, or by looks.
        events: uint8 (E,): 1 for each of the source's `events`, a tuple of E names, that happened in this step, again
            or for the first time. Of such a source the reward is 1 in a step in which one of them happens for the first
            time in the episode, and in any step whatever else there is.

    A source may have more methods, which walks use where they are there:
        clear(points): points (n, 2) in the pose's units -> bool (n,): whether the player can stand there.
        route(rng): way points of a walk from here, as a list of (x, y).
        own_player(rng): who plays in place of the usual walks, as `engine.data.policies.Act`, for an episode that has
            just begun.
    """

    @property
    def buttons(self) -> tuple[str, ...]:
        """Names of the A buttons; each once."""

    @property
    def height(self) -> int:
        """Of a frame, in pixels."""

    @property
    def width(self) -> int:
        """Of a frame, in pixels."""

    @property
    def observation_space(self) -> gym.Space[Any]:
        """Box of uint8 (H, W, 3), from 0 to 255."""

    @property
    def action_space(self) -> gym.Space[Any]:
        """MultiBinary of A."""

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin an episode; returns its first frame and ``info``.

        Args:
            seed: of everything that is left to chance; without it the source goes on drawing.
            options: ``{"map_seed": n}`` with n from 0 names the map, or whatever makes one episode another. The same
                n and the same actions give the same frames to the byte, whatever was played before.
        """

    def step(self, action: np.ndarray) -> tuple[np.ndarray, Any, bool, bool, dict[str, Any]]:
        """Hold the buttons for one step; returns frame, reward, terminated, truncated, ``info``, as Gymnasium does."""

    def close(self) -> None:
        """Leave no process and no file; may be called twice. A source that nobody closes does so when it is gone."""


def events_in(env: gym.Env[Any, Any], info: dict[str, Any]) -> np.ndarray | None:
    """What a source's ``info`` tells of its events, uint8 (E,), or None where it tells none in the way of `Source`."""
    names = env.get_wrapper_attr("events") if env.has_wrapper_attr("events") else None
    told = info.get("events")
    if not isinstance(names, tuple) or not isinstance(told, np.ndarray) or told.dtype != np.uint8:
        return None
    return told if names and told.shape == (len(names),) else None


def is_exclusive(env: gym.Env[Any, Any]) -> bool:
    """Whether of several buttons that are held only the last one counts, in any environment."""
    return bool(env.has_wrapper_attr("exclusive") and env.get_wrapper_attr("exclusive"))
