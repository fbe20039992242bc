"""Dead reckoning: actions integrate to an approximate pose, by which attention finds the right old frame.

A pose is (x, y, heading): steps to the east and north of where the session began, in the unit of `motion`, and
radians anticlockwise. It is what the keys asked for, not what happened: a wall that stops the player makes it
wrong by that step. Relative poses enter attention as rotations of queries, keys and values, as in GTA (Miyato et
al., arXiv 2310.10375), here of the plane's parts alone: the bearing of what a token shows, x and y.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

Motion = tuple[tuple[float, float, float], ...]
"""What each button does in a step: forward, to the left (both in steps), turned to the left (degrees)."""

HARMONICS = (1, 2, 4, 8, 3, 6)
WAVELENGTHS = (24.0, 8.0, 96.0)
"""Wavelengths of x and y, in steps."""


def advance(pose: np.ndarray, action: np.ndarray, motion: Motion) -> np.ndarray:
    """Pose (..., 3) after one step with these buttons (..., A); contrary ones cancel."""
    return moved_by(pose, np.asarray(action, np.float64) @ np.asarray(motion, np.float64))


def moved_by(pose: np.ndarray, moved: np.ndarray) -> np.ndarray:
    """Pose (..., 3) after a step (..., 3): forward, left, turned left in degrees. The step turns as it moves."""
    turned = np.radians(moved[..., 2])
    middle = pose[..., 2] + turned / 2
    cos, sin = np.cos(middle), np.sin(middle)
    x = pose[..., 0] + moved[..., 0] * cos - moved[..., 1] * sin
    y = pose[..., 1] + moved[..., 0] * sin + moved[..., 1] * cos
    return np.stack((x, y, pose[..., 2] + turned), -1)


def step_between(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """The step (..., 3) that leads from one pose (..., 3) to another; `moved_by` the other way round.

    Turned is from -180 to below 180 degrees.
    """
    turned = (np.degrees(after[..., 2] - before[..., 2]) + 180.0) % 360.0 - 180.0
    middle = before[..., 2] + np.radians(turned) / 2
    dx, dy = after[..., 0] - before[..., 0], after[..., 1] - before[..., 1]
    cos, sin = np.cos(middle), np.sin(middle)
    return np.stack((dx * cos + dy * sin, dy * cos - dx * sin, turned), -1)


def integrate(actions: np.ndarray, start: Sequence[int] | np.ndarray, motion: Motion) -> np.ndarray:
    """Poses float64 (T, 3) of episodes that follow each other: actions (T, A), `start` their first frames.

    An episode begins at (0, 0, 0); action t led to frame t, so its first action does not count.
    """
    moved = np.asarray(actions, np.float64) @ np.asarray(motion, np.float64)
    moved[np.asarray(start)[np.asarray(start) < len(moved)]] = 0.0
    turned = np.radians(moved[:, 2])
    heading = np.cumsum(turned)
    middle = heading - turned / 2
    x = np.cumsum(moved[:, 0] * np.cos(middle) - moved[:, 1] * np.sin(middle))
    y = np.cumsum(moved[:, 0] * np.sin(middle) + moved[:, 1] * np.cos(middle))
    poses = np.stack((x, y, heading), -1)
    begin = np.zeros(len(moved), np.int64)
    begin[np.asarray(start)[np.asarray(start) < len(moved)]] = 1
    first = np.flatnonzero(begin)[np.cumsum(begin) - 1]
    # An episode starts with heading 0: turn what followed back by the heading that it began with.
    offset = poses - poses[first]
    turn = -poses[first, 2]
    cos, sin = np.cos(turn), np.sin(turn)
    return np.stack(
        (offset[:, 0] * cos - offset[:, 1] * sin, offset[:, 0] * sin + offset[:, 1] * cos, offset[:, 2]), -1
    )


def cost(one: np.ndarray, other: np.ndarray, reach: float = 8.0, angle: float = math.pi / 4) -> np.ndarray:
    """How unlike two views are, broadcast over poses (..., 3): distance in `reach` steps plus turn in `angle`."""
    dx, dy, turn = (one[..., i] - other[..., i] for i in range(3))
    turn = np.abs(turn - 2 * math.pi * np.rint(turn / (2 * math.pi)))  # ten times as fast as np.mod
    return np.sqrt(dx * dx + dy * dy) / reach + turn / angle


def pairs(head_dim: int) -> tuple[int, int]:
    """Pairs of a head's dimensions that carry the bearing, and x (y has as many)."""
    return min(len(HARMONICS), head_dim * 3 // 32), min(len(WAVELENGTHS), max(1, head_dim * 3 // 64))


def pose_angles(pose: Tensor, columns: Tensor, head_dim: int, fov: float) -> Tensor:
    """Angles (B, F, N, pairs) of poses (B, F, 3), float64, for tokens in `columns` (N,), -1 (left) to 1 (right).

    fov: horizontal field of view in degrees; 0 gives all tokens of a frame the heading's own bearing.
    """
    bearings, lengths = pairs(head_dim)
    aside = torch.atan(columns.double() * math.tan(math.radians(fov) / 2))
    bearing = pose[..., 2, None] - aside  # (B, F, N)
    harmonic = torch.tensor(HARMONICS[:bearings], dtype=torch.float64, device=pose.device)
    wave = 2 * math.pi / torch.tensor(WAVELENGTHS[:lengths], dtype=torch.float64, device=pose.device)
    place = (pose[..., :2, None] * wave).flatten(-2)  # (B, F, 2 * lengths)
    angles = torch.cat((bearing[..., None] * harmonic, place[..., None, :].expand(*bearing.shape, -1)), -1)
    return (angles % (2 * math.pi)).float()


def seen_from(origin: np.ndarray, poses: np.ndarray) -> np.ndarray:
    """Poses (..., 3) as they are from others (..., 3), which become the origin and heading 0."""
    dx, dy = poses[..., 0] - origin[..., 0], poses[..., 1] - origin[..., 1]
    cos, sin = np.cos(origin[..., 2]), np.sin(origin[..., 2])
    return np.stack((dx * cos + dy * sin, dy * cos - dx * sin, poses[..., 2] - origin[..., 2]), -1)
