"""What the simulator shows: episodes on test maps, and which steps moved as their buttons said."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from tqdm import tqdm

from engine.config import WorldConfig
from engine.data.shards import collect_episode
from engine.data.walks import CONTRARY
from engine.errors import UserError
from engine.sources import make_source
from engine.sources.splits import SPLITS

COMPONENTS = {"forward": 0, "strafe_left": 1, "turn_left": 2}
"""Columns of `motion` that an axis, named by its positive button, moves along."""
TOLERANCE = 0.25
"""A step is free where it misses what its buttons ask for by less than this share of a full step."""


@dataclass(frozen=True)
class Axis:
    """Two contrary buttons, or a single one: +1 where `positive` is held, -1 where `negative` is."""

    positive: str
    negative: str | None = None

    @property
    def name(self) -> str:
        """Such as ``forward/back``."""
        return f"{self.positive}/{self.negative}" if self.negative else self.positive


def axes_of(buttons: Sequence[str]) -> tuple[Axis, ...]:
    """Return the axes that the buttons make, each button in one of them."""
    found, taken = [], set()
    for positive, negative in CONTRARY.items():
        if positive in buttons and negative in buttons:
            found.append(Axis(positive, negative))
            taken |= {positive, negative}
    return (*found, *(Axis(button) for button in buttons if button not in taken))


def directions(axes: Sequence[Axis], buttons: Sequence[str], actions: np.ndarray) -> np.ndarray:
    """Actions (..., A) of 0 and 1 -> int8 (..., K): -1, 0 or 1 for each axis; contrary buttons cancel."""
    names = list(buttons)
    held = np.asarray(actions).astype(np.int8)
    columns = []
    for axis in axes:
        value = held[..., names.index(axis.positive)]
        columns.append(value - held[..., names.index(axis.negative)] if axis.negative else value)
    return np.stack(columns, -1)


def pressed(axes: Sequence[Axis], buttons: Sequence[str], chosen: Sequence[int]) -> np.ndarray:
    """Return the action uint8 (A,) for a direction, -1, 0 or 1, along each axis: the inverse of `directions`."""
    action = np.zeros(len(buttons), np.uint8)
    for axis, value in zip(axes, chosen, strict=True):
        button = axis.positive if value > 0 else axis.negative
        if value and button:
            action[list(buttons).index(button)] = 1
    return action


def motion(poses: np.ndarray) -> np.ndarray:
    """Poses (..., T, 4) -> float64 (..., T - 1, 3): map units forward and to the left, degrees to the left.

    Forward is the mean heading of a step, because a step turns while it moves.
    """
    poses = np.asarray(poses, np.float64)
    turned = (np.diff(poses[..., 3], axis=-1) + 180.0) % 360.0 - 180.0
    heading = np.radians(poses[..., :-1, 3] + turned / 2)
    x, y = np.diff(poses[..., 0], axis=-1), np.diff(poses[..., 1], axis=-1)
    along, aside = x * np.cos(heading) + y * np.sin(heading), y * np.cos(heading) - x * np.sin(heading)
    return np.stack((along, aside, turned), -1)


def free_steps(axes: Sequence[Axis], wanted: np.ndarray, poses: np.ndarray) -> np.ndarray:
    """Which steps moved as their buttons said, and not into or along a wall: bool, like `wanted` without its last.

    wanted int8 (..., T, K): the direction along each axis in steps 1..T; poses (..., T + 1, 4). Full steps are
    estimated from the data. Without poses (a source that has none gives zeros) every step counts as free.
    """
    free = np.ones(wanted.shape[:-1], bool)
    if not np.any(poses):
        return free
    moved = motion(poses)
    expected = np.zeros_like(moved)
    size = np.ones(3)
    for k, axis in enumerate(axes):
        column = COMPONENTS.get(axis.positive)
        if column is None:
            continue
        lengths = np.abs(moved[..., column])[(wanted[..., k] != 0)]
        lengths = lengths[lengths > 1e-3]
        size[column] = np.median(lengths) if len(lengths) else 1.0
        expected[..., column] = wanted[..., k] * size[column]
    return (np.abs(moved - expected) < TOLERANCE * size).all(-1)


def held_directions(rng: np.random.Generator, axes: Sequence[Axis]) -> list[int]:
    """Draw what to hold: nothing, one axis, or two or three together, each direction as often as the other."""
    count = min(int(rng.choice(4, p=(0.15, 0.45, 0.25, 0.15))), len(axes))
    chosen = [0] * len(axes)
    for k in rng.choice(len(axes), count, replace=False):
        chosen[k] = int(rng.choice((-1, 1))) if axes[k].negative else 1
    return chosen


def held_episode(env: gym.Env[Any, Any], map_seed: int, length: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Hold random directions for 2 to 8 frames each, others as soon as a wall stops them.

    Returns what `collect_episode` returns; shorter where the source ends the episode.
    """
    buttons = env.get_wrapper_attr("buttons")
    axes = axes_of(buttons)
    frame, info = env.reset(seed=map_seed, options={"map_seed": map_seed})
    frames, actions, poses = [frame], [np.zeros(len(buttons), np.uint8)], [info.get("pose", np.zeros(4, np.float32))]
    left, stride, chosen = 0, 0.0, [0] * len(axes)
    while len(frames) < length:
        if left <= 0:
            chosen, left = held_directions(rng, axes), int(rng.integers(2, 9))
        actions.append(pressed(axes, buttons, chosen))
        frame, _, terminated, truncated, info = env.step(actions[-1])
        frames.append(frame)
        poses.append(info.get("pose", poses[-1]))
        walking = any(value and COMPONENTS.get(axis.positive, 2) < 2 for axis, value in zip(axes, chosen, strict=True))
        moved = float(np.hypot(*(poses[-1][:2] - poses[-2][:2])))
        stride = max(stride, moved)
        left = 0 if walking and moved < 0.6 * stride else left - 1
        if terminated or truncated:
            break
    return {"frames": np.stack(frames), "actions": np.stack(actions), "poses": np.stack(poses).astype(np.float32)}


@dataclass(frozen=True)
class Episodes:
    """E episodes of T frames: frames uint8 (E, T, H, W, 3), actions uint8 (E, T, A), poses float32 (E, T, 4).

    lengths (E,): real frames; one that its source ended earlier is filled up with its last frame.
    """

    frames: np.ndarray
    actions: np.ndarray
    poses: np.ndarray
    lengths: np.ndarray

    @property
    def there(self) -> np.ndarray:
        """Which frames are real, bool (E, T)."""
        return np.arange(self.frames.shape[1]) < self.lengths[:, None]

    def part(self, first: int, count: int) -> "Episodes":
        """Return frames first .. first + count - 1 of each episode."""
        cut = slice(first, first + count)
        lengths = np.clip(self.lengths - first, 0, count)
        return Episodes(self.frames[:, cut], self.actions[:, cut], self.poses[:, cut], lengths)


def pick_maps(split: str, count: int, seed: int) -> np.ndarray:
    """Draw `count` different map seeds of a split."""
    span = SPLITS[split]
    if not 1 <= count <= len(span):
        raise UserError(f"expected from 1 to {len(span)} maps of the {split} split, got {count}")
    return span.start + np.random.default_rng([seed, list(SPLITS).index(split)]).choice(len(span), count, replace=False)


def play_episodes(
    config: WorldConfig, size: tuple[int, int], map_seeds: Sequence[int] | np.ndarray, length: int, seed: int, how: str
) -> Episodes:
    """Play the simulator at `size` (height, width) on each map for `length` frames, as a function of the arguments.

    how: ``walk`` for the walks that worlds are trained on, ``held`` for `held_episode`.
    """
    play = {"walk": collect_episode, "held": held_episode}[how]
    played = []
    with closing(make_source(config, height=size[0], width=size[1])) as env:
        for map_seed in tqdm(map_seeds, desc=f"simulator, {how}", unit="map", leave=False):
            rng = np.random.default_rng([seed, int(map_seed), length])
            played.append(play(env, int(map_seed), length, rng))
    lengths = np.array([len(episode["actions"]) for episode in played])
    filled = {
        name: np.stack([_fill(episode[name], length, zero=name == "actions") for episode in played])
        for name in ("frames", "actions", "poses")
    }
    return Episodes(**filled, lengths=lengths)


def _fill(values: np.ndarray, length: int, zero: bool) -> np.ndarray:
    last = np.zeros_like(values[-1:]) if zero else values[-1:]
    return np.concatenate((values, np.repeat(last, length - len(values), 0)))
