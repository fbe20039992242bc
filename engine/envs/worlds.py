"""What the single and the vector environment share: B generated worlds, each with a random generator of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from engine.config import WorldConfig, load_world
from engine.envs.spaces import HORIZON, Actions, Sight, check_horizon
from engine.errors import UserError, unknown
from engine.loading import fitted, load_starts, open_world
from engine.model.heads import HAPPENED
from engine.pictures import read_image
from engine.world import Snapshot

OPTIONS = ("start", "image", "frames", "actions", "seed")
"""What ``reset(options=...)`` understands."""


@dataclass(frozen=True)
class Moment:
    """What `Worlds.restore` goes back to. It holds what the frames to come depend on, and is never changed."""

    world: Snapshot
    age: np.ndarray
    over: np.ndarray
    achieved: np.ndarray


class Worlds:
    """B worlds on one device behind reset and step, without Gymnasium's conventions on when a reset happens.

    The parameters are those of `engine.envs.env.LociEnv`. Raises UserError where one of them cannot work.
    """

    def __init__(
        self,
        world: str | Path | WorldConfig,
        batch: int,
        *,
        checkpoint: str | Path | None = None,
        memory: str = "auto",
        memory_budget: int | None = None,
        recall: str = "relevance",
        steps: int | None = None,
        device: str = "auto",
        dtype: str = "auto",
        threads: int | None = None,
        actions: str | Sequence[Any] = "multi_binary",
        size: Sequence[int] | None = None,
        start: str | Sequence[str] | None = None,
        image: str | Path | np.ndarray | None = None,
        horizon: int | None = HORIZON,
    ) -> None:
        config = world if isinstance(world, WorldConfig) else load_world(world)
        self.config = fitted(config, checkpoint)
        self.actions = Actions(self.config.buttons, actions)
        self.sight = Sight(self.config.shape.height, self.config.shape.width, size)
        self.horizon = check_horizon(horizon)
        if start is not None and image is not None:
            raise UserError("give either start or image, not both")
        self._image = None if image is None else self._picture(image)
        self._starts: dict[str, np.ndarray] | None = None
        self._names: list[str] = []
        if start is not None or (image is None and self.config.starts):
            self._names = self._chosen(start)
        self.world = open_world(
            self.config,
            checkpoint=checkpoint,
            device=device,
            memory=memory,
            memory_budget=memory_budget,
            recall=recall,
            batch=batch,
            steps=steps,
            threads=threads,
            dtype=dtype,
        )
        self.batch = batch
        self.age = np.zeros(batch, np.int64)  # steps since the reset
        self.over = np.ones(batch, bool)  # ended, or not begun yet
        kinds = self.world.heads.config.events if self.world.heads is not None else 0
        self.events = np.zeros((batch, kinds), np.uint8)
        """Which of the E events happened in the last step of each world, uint8 (B, E); E may be 0."""
        self.achieved = np.zeros((batch, kinds), bool)  # those that happened in the episode

    @property
    def frames(self) -> np.ndarray:
        """The frames that are shown now, in the worlds' own size, uint8 (B, H, W, 3)."""
        return self.world.frame.copy()

    @property
    def seen(self) -> np.ndarray:
        """The same as the agent sees them, a new array."""
        return self.sight(self.world.frame)

    def reset(
        self, random: Sequence[np.random.Generator], options: dict[str, Any] | None, mask: np.ndarray | None = None
    ) -> list[dict[str, Any]]:
        """Begin all worlds anew, or those of `mask` (B,) bool, each with numbers from its own generator.

        Returns an info for each world, an empty one where it goes on. ValueError for options that do not fit.
        """
        options = dict(options or {})
        for name in options:
            if name not in OPTIONS:
                raise ValueError(unknown("reset option", name, OPTIONS))
        chosen = np.ones(self.batch, bool) if mask is None else mask
        shape = self.config.shape
        fixed, acted = self._given(options)
        count = 1 if fixed is None else len(fixed)
        frames = np.zeros((self.batch, count, shape.height, shape.width, 3), np.uint8)
        seeds, infos = [0] * self.batch, [dict[str, Any]() for _ in range(self.batch)]
        names = self._chosen(options["start"]) if options.get("start") is not None else self._names
        for b in np.flatnonzero(chosen).tolist():
            # Both are drawn in any case: what is chosen must not shift the noise.
            drawn, pick = int(random[b].integers(2**63 - 1)), float(random[b].random())
            seeds[b] = drawn if options.get("seed") is None else _seed(options["seed"]) + b
            if fixed is not None:
                frames[b] = fixed
                infos[b]["start"] = "given"
            elif not names:
                raise UserError(f"{self.config.name} has no start frames; give image, or frames in the reset options")
            else:
                name = names[int(pick * len(names))]
                frames[b, 0] = self._all_starts()[name]
                infos[b]["start"] = name
            infos[b]["world_seed"] = seeds[b]
        actions = None if acted is None else np.broadcast_to(acted, (self.batch, *acted.shape))
        self.world.reset(seeds, frames, actions, None if chosen.all() else chosen)
        self.age[chosen], self.over[chosen] = 0, False
        self.events[chosen], self.achieved[chosen] = 0, False
        for b in np.flatnonzero(chosen).tolist():
            infos[b] |= self.told(b)
        return infos

    def step(self, held: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Hold buttons (B, A) for a frame. Returns rewards float64 (B,), terminated and truncated bool (B,).

        As in a simulator that tells events, 1 is for a step in which one of them happens for the first time.
        """
        self.world.step(held)
        self.age += 1
        truncated = self.age >= self.horizon
        world, rewards, terminated = self.world, np.zeros(self.batch), np.zeros(self.batch, bool)
        if world.reward is not None:
            rewards, terminated = world.reward.astype(np.float64), world.ended
        if world.events is not None:
            happened = world.events > HAPPENED
            rewards = rewards + (happened & ~self.achieved).any(1)
            self.events, self.achieved = happened.astype(np.uint8), self.achieved | happened
        self.over = terminated | truncated
        return rewards, terminated, truncated

    def told(self, b: int) -> dict[str, Any]:
        """What an info says of the last step of world b."""
        return {"events": self.events[b].copy()} if self.events.shape[1] else {}

    def snapshot(self) -> Moment:
        """The present moment."""
        return Moment(self.world.snapshot(), self.age.copy(), self.over.copy(), self.achieved.copy())

    def restore(self, moment: Moment) -> None:
        """Go back to a moment of these worlds."""
        self.world.restore(moment.world)
        self.age, self.over, self.achieved = moment.age.copy(), moment.over.copy(), moment.achieved.copy()
        self.events = np.zeros_like(self.events)  # of the step that led there, which nobody is told again

    def _all_starts(self) -> dict[str, np.ndarray]:
        if self._starts is None:
            self._starts = load_starts(self.config)
        return self._starts

    def _chosen(self, start: Any) -> list[str]:
        """Names of start frames: all by default. UserError for an unknown one."""
        known = self._all_starts()
        names = list(known) if start is None else [start] if isinstance(start, str) else list(start)
        for name in names:
            if name not in known:
                raise UserError(unknown("start frame", str(name), known))
        if not names:
            raise UserError("start: expected the name of a start frame, or several, not an empty list")
        return names

    def _picture(self, image: Any) -> np.ndarray:
        """A picture file, or a frame, as uint8 (1, H, W, 3)."""
        shape = self.config.shape
        if not isinstance(image, np.ndarray):
            return read_image(image, shape.height, shape.width)[None]
        if image.dtype != np.uint8 or image.shape != (shape.height, shape.width, 3):
            expected = f"uint8 {(shape.height, shape.width, 3)}"
            raise UserError(f"image: expected the path of a picture or {expected}, got {image.dtype} {image.shape}")
        return image[None].copy()

    def _given(self, options: dict[str, Any]) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Start frames (n, H, W, 3) that are not drawn, if any, and the actions (n, A) that led to them."""
        given = [name for name in ("start", "image", "frames") if options.get(name) is not None]
        if len(given) > 1:
            raise ValueError(f"reset options: give either {given[0]} or {given[1]}, not both")
        if options.get("actions") is not None and options.get("frames") is None:
            raise ValueError("reset options: actions are those that led to frames; give frames, too")
        if options.get("image") is not None:
            return self._picture(options["image"]), None
        if options.get("frames") is None:
            return (None, None) if given else (self._image, None)
        shape, buttons = self.config.shape, len(self.config.buttons)
        frames = np.asarray(options["frames"])
        expected = (len(frames) if frames.ndim == 4 else "n", shape.height, shape.width, 3)
        if frames.dtype != np.uint8 or frames.shape != expected or not len(frames):
            raise ValueError(
                f"reset options: expected frames uint8 {expected} with n of 1 or more, got {frames.dtype} "
                f"{frames.shape}"
            )
        acted = options.get("actions")
        if acted is None:
            return frames, None
        acted = np.asarray(acted)
        if acted.shape != (len(frames), buttons) or not np.isin(acted, (0, 1)).all():
            raise ValueError(
                f"reset options: expected actions of 0 and 1, shape {(len(frames), buttons)}, got shape {acted.shape}"
            )
        return frames, acted.astype(np.uint8)


def _seed(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or not 0 <= value < 2**62:
        raise ValueError(f"reset options: seed must be a whole number from 0 to 2^62 - 1, not {value!r}")
    return int(value)
