"""A frame as a history takes it in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor


@dataclass(frozen=True)
class Frame:
    """A frame of B worlds: latents float32 (B, N, C), action (B, A), and pose float64 (B, 3), where it is seen from.

    sights: float32 (B, N, C + 2), what was known of what it shows; None where the generator takes no sights.
    """

    latents: Tensor
    action: Tensor
    pose: np.ndarray
    sights: Tensor | None = None


def looks_of(latents: Tensor, rows: int, columns: int) -> np.ndarray:
    """What frames with latents (B, N, C) look like: the mean of each column of tokens, float32 (B, columns * C)."""
    return latents.unflatten(1, (rows, columns)).mean(1).flatten(1).float().cpu().numpy()
