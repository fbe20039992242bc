"""Where frames were really seen from: true poses of collected frames, and the steps between them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from engine.config import Geometry
from engine.data.clips import read_shard, shard_paths
from engine.errors import UserError
from engine.model import odometry


def load_poses(data: Path, split: str, geometry: Geometry) -> np.ndarray:
    """True poses of a split in the order of `load_latents`, float64 (T, 3): x, y in steps, heading in radians.

    They are relative to where each episode began, as poses are in play. Raises UserError where the source told none.
    """
    found = []
    for path in shard_paths(data, split):
        shard = read_shard(path, ("poses", "episode"))
        poses, episode = shard["poses"].double().numpy(), shard["episode"].numpy()
        if not np.isfinite(poses).all():
            raise UserError(f"{path} holds a pose that is no finite number; collect again into another folder")
        placed = in_steps(poses, geometry)
        begins = np.diff(episode, prepend=episode[:1] - 1) != 0
        first = np.flatnonzero(begins)[np.cumsum(begins) - 1]  # of each frame, its episode's first
        found.append(odometry.seen_from(placed[first], placed))
    poses = np.concatenate(found)
    if not poses.any():
        raise UserError(f"{data}: the source told no poses; [geometry] needs a source that does")
    return poses


def in_steps(poses: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Poses (..., 4) as sources tell them -> (..., 3): x, y in steps, heading in radians."""
    return np.stack((poses[..., 0] / geometry.step, poses[..., 1] / geometry.step, np.radians(poses[..., 3])), -1)


def load_steps(data: Path, split: str, geometry: Geometry) -> np.ndarray:
    """The step that led to each frame of a split, float64 (T, 3): forward, left, turned in degrees; 0 at a start."""
    poses = load_poses(data, split, geometry)
    steps = np.zeros_like(poses)
    steps[1:] = odometry.step_between(poses[:-1], poses[1:])
    return steps
