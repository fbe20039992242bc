"""The simulator's side of `bench revisit`: walks that are played, checked by their true poses, and kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

import gymnasium as gym
import numpy as np

from engine.actions import encode
from engine.bench.options import TASKS, TILE_TASKS
from engine.bench.revisit.errand import ErrandTime
from engine.bench.revisit.path import TURN, Ground, Path
from engine.bench.revisit.tasks import NEEDED, PLANNERS, Timetable, fault
from engine.bench.tiles.patches import Film
from engine.bench.tiles.reader import has_tiles
from engine.bench.truth import pick_maps
from engine.config import WorldConfig
from engine.errors import UserError
from engine.sources.splits import SPLITS

TRIES = 80
"""Walks planned on a map before it is left out; each is another one, or one that avoids the wall just touched."""
SLIP = 0.05
"""A step that misses its target by more than this share of a stride has touched a wall."""


Frames: TypeAlias = np.ndarray | Film
"""Frames of walks: an array, or where tiles make a small film of it, that."""


@dataclass(frozen=True)
class Visits:
    """E walks of one task and timetable: frames uint8 (E, T, H, W, 3), actions uint8 (E, T, A), poses (E, T, 4).

    map_seeds (E,): one map each. All views of `time.back` are those of `time.matches(task)`.
    """

    task: str
    time: Timetable | ErrandTime
    frames: Frames
    actions: np.ndarray
    poses: np.ndarray
    map_seeds: np.ndarray

    def part(self, index: np.ndarray) -> Visits:
        """Return the walks of these indices."""
        return Visits(
            self.task, self.time, self.frames[index], self.actions[index], self.poses[index], self.map_seeds[index]
        )

    def steps(self) -> np.ndarray:
        """Poses in steps from where each walk began, (E, T, 4), of a source whose step is one unit."""
        return self.poses - self.poses[:, :1]


def check_source(config: WorldConfig, tasks: Sequence[str]) -> None:
    """Raise UserError where the world lacks a button that a task presses, or tiles where a task needs them."""
    for task in tasks:
        if task in TILE_TASKS:
            if not has_tiles(config):
                raise UserError(
                    f"{config.name} is no world of tiles, which the task {task} needs; leave it out of --tasks"
                )
            continue
        for button in NEEDED[task]:
            if button not in config.buttons:
                raise UserError(
                    f"{config.name} has no button {button!r}, which the task {task} needs; leave it out of --tasks"
                )


def stride(env: gym.Env[Any, Any], map_seed: int) -> float:
    """Map units of a step here, 0 where walls are too near to tell; UserError where the source can't be used."""
    buttons = env.get_wrapper_attr("buttons")
    _, info = env.reset(options={"map_seed": map_seed})
    if "pose" not in info:
        raise UserError("the world's source tells no poses (info['pose']), which the revisit walks need")
    before = np.asarray(info["pose"], np.float64)
    after = np.asarray(env.step(encode(buttons, ["turn_left"]))[-1]["pose"], np.float64)
    turned = (after[3] - before[3] + 180.0) % 360.0 - 180.0
    if abs(turned - TURN) > 0.5:
        raise UserError(f"a step of turn_left turns by {turned:.1f} degrees; the revisit walks need {TURN:.0f}")
    longest, here = 0.0, after
    for button in ("forward", "back"):
        if button in buttons:
            there = np.asarray(env.step(encode(buttons, [button]))[-1]["pose"], np.float64)
            longest, here = max(longest, float(np.hypot(*(there[:2] - here[:2])))), there
    return longest


def visit(env: gym.Env[Any, Any], task: str, time: Timetable, map_seed: int, seed: int) -> dict[str, np.ndarray] | None:
    """Play a task on a map: frames (T, H, W, 3), actions (T, A), poses (T, 4); None where it can't be played there.

    A function of the arguments: what is random is drawn from (seed, map, task, gap).
    """
    step = stride(env, map_seed)
    if step <= 0 and task != "spin":
        return None
    buttons = env.get_wrapper_attr("buttons")
    inner: Any = env.unwrapped
    ground = Ground(getattr(inner, "clear", None), step)
    other = 0
    for _ in range(TRIES):
        frame, info = env.reset(options={"map_seed": map_seed})
        rng = np.random.default_rng([seed, map_seed, TASKS.index(task), time.gap, other])
        path = Path(np.asarray(info["pose"]), ground, buttons, rng)
        PLANNERS[task](path, time)
        assert len(path.places) == time.length, (task, len(path.places), time.length)
        frames, poses = [frame], [np.asarray(info["pose"], np.float64)]
        actions = [np.zeros(len(buttons), np.uint8)]
        hit, ended = None, False
        for t, pressed in enumerate(path.pressed, 1):
            actions.append(encode(buttons, pressed))
            frame, _, terminated, truncated, info = env.step(actions[-1])
            frames.append(frame)
            poses.append(np.asarray(info["pose"], np.float64))
            ended = (terminated or truncated) and t < len(path.pressed)
            wanted = np.subtract(path.places[t], path.places[t - 1])
            if np.hypot(*(poses[-1][:2] - poses[-2][:2] - wanted)) > SLIP * step:
                hit = path.places[t]
            if hit is not None or ended:
                break
        if ended:
            return None
        if hit is not None:
            ground.blocked.append(hit)
        elif fault(task, time, np.stack(poses)) is None:
            return {"frames": np.stack(frames), "actions": np.stack(actions), "poses": np.stack(poses)}
        else:
            other += 1
    return None


Walk = TypeVar("Walk")


def on_maps(
    walk: Callable[[int], Walk | None], what: str, seed: int, episodes: int, group: int
) -> Iterator[tuple[list[Walk], np.ndarray]]:
    """Yield `episodes` walks on test maps, one a map, and the seeds of their maps, in groups of up to `group`.

    walk: plays on a map, None where that can't be done. Raises UserError where too few maps allow `what`.
    """
    maps = iter(pick_maps("test", len(SPLITS["test"]), seed))
    found = 0
    while found < episodes:
        kept: list[Walk] = []
        chosen = []
        while len(kept) < min(group, episodes - found):
            map_seed = next(maps, None)
            if map_seed is None:
                raise UserError(
                    f"only {found + len(kept)} test maps allow {what}; ask for fewer --episodes than {episodes}"
                )
            episode = walk(int(map_seed))
            if episode is not None:
                kept.append(episode)
                chosen.append(int(map_seed))
        found += len(kept)
        yield kept, np.array(chosen)


def visits(
    env: gym.Env[Any, Any], task: str, time: Timetable, seed: int, episodes: int, group: int
) -> Iterator[Visits]:
    """Yield `episodes` walks on test maps, one a map, in groups of up to `group`; UserError where too few allow it."""

    def walk(map_seed: int) -> dict[str, np.ndarray] | None:
        return visit(env, task, time, map_seed, seed)

    for kept, chosen in on_maps(walk, f"the task {task} at gap {time.gap}", seed, episodes, group):
        stacked = {name: np.stack([episode[name] for episode in kept]) for name in ("frames", "actions", "poses")}
        yield Visits(task, time, **stacked, map_seeds=chosen)
