"""Sights: what is remembered of the tiles that a frame is about to show, as input of the generator.

In a world seen from above a token is a tile, so what was seen of it before needs no warping: it is looked up. Shapes:
a sight of a frame is (..., N, C + 2): the latent that was seen, whether there is one, and a number for its age.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from engine.model.generator import GeneratorConfig

OLDEST = 1000
"""Frames beyond which a sight grows no older: training sees few that are."""
CHANGED = 0.35
"""Root of the mean square over a token's numbers from which a tile is another one than it was (LOG.md)."""
FEWEST = 8
"""Tiles in view that must be known before a view as a whole can be said to have changed."""


@dataclass(frozen=True)
class Layout:
    """Which tokens of a frame show tiles of the world, and where these lie.

    moving: tokens that scroll, int64 (S,): all but those of the last rows that stand still, and the player's own.
    east, north: where their tiles lie from the player, int64 (S,). still: all other tokens, int64 (N - S,), whose sight
    is the same token of the frame before.
    """

    moving: np.ndarray
    east: np.ndarray
    north: np.ndarray
    still: np.ndarray

    @classmethod
    def of(cls, config: GeneratorConfig) -> Layout:
        """The layout of a generator's frames, by its `player` and `still_rows`."""
        tokens = np.arange(config.tokens)
        scrolls = (tokens < (config.rows - config.still_rows) * config.columns) & (tokens != config.player)
        row, column = config.player // config.columns, config.player % config.columns
        moving = tokens[scrolls]
        return cls(moving, moving % config.columns - column, row - moving // config.columns, tokens[~scrolls])


def age_feature(age: Tensor) -> Tensor:
    """Ages in frames, at least 1, as a number near 1, float32; what is older than `OLDEST` counts as that old."""
    return torch.log1p(age.clamp(max=OLDEST).float()) / 3


def sights_of(latents: Tensor, age: Tensor) -> Tensor:
    """Latents (..., N, C) that were seen `age` (..., N) frames ago, 0 for never -> sights (..., N, C + 2) float32."""
    there = (age > 0)[..., None]
    found = torch.where(there, latents.float(), 0.0)
    return torch.cat((found, there.float(), age_feature(age)[..., None]), -1)


def apart(new: np.ndarray, known: np.ndarray) -> np.ndarray:
    """How far tokens (..., C) are from others: the root of the mean square of the difference, (...)."""
    difference = new.astype(np.float32) - known.astype(np.float32)
    return np.sqrt(np.einsum("...c,...c->...", difference, difference) / new.shape[-1])


def view_changed(new: np.ndarray, known: np.ndarray) -> bool:
    """Whether it is the view as a whole that has changed, not what is seen: the player sleeps, or night falls.

    new, known: the tokens (K, C) of a frame that were seen before, and what was seen of them. Then what is known is
    kept: it is what will be seen again. (Decided by more than half of them, each far from any rounding.)
    """
    return len(new) >= FEWEST and int((apart(new, known) > CHANGED).sum()) * 2 > len(new)
