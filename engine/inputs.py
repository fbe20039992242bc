"""What a world is given, checked at its door."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def counted(held: np.ndarray, exclusive: bool) -> np.ndarray:
    """Of held buttons (..., A), 0 or 1 each, those that count: all, or where `exclusive` the one that stands last."""
    if not exclusive:
        return held
    held_from_here_on = np.cumsum(held[..., ::-1], -1)[..., ::-1]
    return held * (held_from_here_on == 1)


def checked_action(action: np.ndarray, batch: int, buttons: int, exclusive: bool = False) -> np.ndarray:
    """What counts of an action (B, A) of 0 and 1, or of one for all worlds (A,), as uint8 (B, A).

    Raises ValueError where it is no action.
    """
    action = np.asarray(action)
    expected = (batch, buttons)
    if action.shape == expected[1:]:
        action = np.broadcast_to(action, expected)
    if action.shape != expected or not np.isin(action, (0, 1)).all():
        raise ValueError(f"world: expected actions of 0 and 1, shape {expected}, got shape {action.shape}")
    return counted(np.array(action, np.uint8), exclusive)


def checked_seeds(seed: int | Sequence[int], batch: int) -> list[int]:
    """A seed for each world: as given, or seed + index from one number. Raises ValueError for others."""
    seeds = [seed + b for b in range(batch)] if isinstance(seed, int) else list(seed)
    if len(seeds) != batch or any(s < 0 for s in seeds):
        raise ValueError(f"world: expected {batch} seeds of 0 or more, got {seeds[:4]}...")
    return seeds


def checked_mask(only: np.ndarray | None, batch: int) -> np.ndarray | None:
    """A mask (B,) of worlds, None where it names all of them. Raises ValueError for another shape."""
    if only is not None and np.shape(only) != (batch,):
        raise ValueError(f"world: expected a mask ({batch},), got {np.shape(only)}")
    return None if only is None or np.all(only) else only


def checked_frames(
    frames: np.ndarray,
    actions: np.ndarray | None,
    batch: int,
    height: int,
    width: int,
    buttons: int,
    exclusive: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Real frames uint8 (B, n, H, W, 3), n >= 1, and what counts of the actions (B, n, A) that produced them, as uint8.

    Without actions nothing was held. Raises ValueError for other shapes or types.
    """
    frames = np.asarray(frames)
    shape = (batch, frames.shape[1] if frames.ndim == 5 else 1, height, width, 3)
    if frames.dtype != np.uint8 or frames.shape != shape or not frames.shape[1]:
        raise ValueError(f"world: expected uint8 frames (B, n, H, W, 3) = {shape}, got {frames.dtype} {frames.shape}")
    expected = (batch, frames.shape[1], buttons)
    acted = np.zeros(expected, np.uint8) if actions is None else np.asarray(actions)
    if acted.shape != expected:
        raise ValueError(f"world: expected actions of shape {expected}, got {acted.shape}")
    return frames, counted(np.array(acted, np.uint8), exclusive)


FARTHEST_STEPS = 1e9
"""Steps from anywhere, beyond which no pose is believed."""


def checked_poses(poses: np.ndarray, batch: int, frames: int, only: np.ndarray | None = None) -> np.ndarray:
    """True poses (B, n, 3) or, with height and heading in degrees, (B, n, 4), as float64 (B, n, 3): x, y, radians.

    Those of worlds that are not in `only` (B,) bool are not looked at, and become 0. Raises ValueError for other
    shapes, and for numbers that are not finite or are too large.
    """
    found = np.asarray(poses, np.float64)
    if found.ndim != 3 or found.shape[:2] != (batch, frames) or found.shape[2] not in (3, 4):
        raise ValueError(f"world: expected poses {(batch, frames)} of 3 or 4 numbers, got shape {found.shape}")
    if only is not None:
        found = np.where(np.asarray(only, bool)[:, None, None], found, 0.0)
    if not (np.isfinite(found).all() and np.abs(found).max() <= FARTHEST_STEPS):
        raise ValueError("world: a pose is not finite, or too far away")
    if found.shape[2] == 4:
        return np.stack((found[..., 0], found[..., 1], np.radians(found[..., 3])), -1)
    return found.copy()
