"""Reads frames of a world of tiles: materials, what stands on them, where the player faces, what he has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.bench.tiles.patches import (
    ASLEEP,
    FACING,
    PLAYER_COLUMN,
    PLAYER_ROW,
    THINGS,
    Film,
    cut,
    item_tiles,
    named_patches,
)
from engine.config import WorldConfig
from engine.sources.crafter.source import ROWS, TILES

PART = 64
"""Frames that are compared at once."""


def has_tiles(config: WorldConfig) -> bool:
    """Whether the frames of a world are tiles that can be read."""
    return config.source == "crafter"


@dataclass(frozen=True)
class Reading:
    """What frames (...) show: materials, things (..., 7, 9) and items (..., I), places in the lists of names.

    Of the player's own tile the material is what he stands on, and the thing is himself.
    """

    materials: np.ndarray
    things: np.ndarray
    items: np.ndarray

    def __getitem__(self, key: Any) -> Reading:
        return Reading(self.materials[key], self.things[key], self.items[key])

    @property
    def player(self) -> np.ndarray:
        """How the player is drawn, (...), a place in `THINGS`."""
        return self.things[..., PLAYER_ROW, PLAYER_COLUMN]

    @property
    def asleep(self) -> np.ndarray:
        """Whether the player sleeps, bool (...)."""
        return self.player == THINGS.index(ASLEEP)

    def ahead(self) -> tuple[np.ndarray, np.ndarray]:
        """Row and column of the tile that the player faces, each (...); his own where he faces none."""
        steps = np.array([FACING.get(name, (0, 0)) for name in THINGS])[self.player]
        return PLAYER_ROW + steps[..., 1], PLAYER_COLUMN + steps[..., 0]


class TileReader:
    """Names the tiles of frames, each by the patch of the simulator that is nearest to it.

    height, width: of the frames, in pixels. night: whether they may be dark.
    """

    def __init__(self, height: int = 144, width: int = 144, night: bool = False) -> None:
        self.height, self.width = height, width
        self.named = named_patches(height, width, night)
        self._patches = Nearest(self.named.patches)
        self._items = [Nearest(counts) for counts in self.named.items]

    @classmethod
    def of(cls, config: WorldConfig, height: int, width: int) -> TileReader:
        """For the frames of a world."""
        return cls(height, width, bool(config.source_options.get("night", False)))

    def read(self, frames: np.ndarray | Film) -> Reading:
        """Read frames (..., H, W, 3)."""
        if isinstance(frames, Film):
            return self._read_film(frames)
        lead = frames.shape[:-3]
        tiles = cut(frames.reshape(-1, *frames.shape[-3:]))
        found = self._patches.of(tiles[:, :ROWS]).reshape(*lead, ROWS, TILES)
        shown = item_tiles(tiles, len(self._items))
        items = np.stack([nearest.of(shown[:, i]) for i, nearest in enumerate(self._items)], -1)
        return self._named(found, items.reshape(*lead, -1))

    def _read_film(self, film: Film) -> Reading:
        """Each patch once, wherever it is."""
        numbers = film.numbers
        found = self._patches.of(film.patches)[numbers[..., :ROWS, :]]
        lower = numbers[..., ROWS:, :].reshape(*numbers.shape[:-2], -1)
        items = [nearest.of(film.patches)[lower[..., i]] for i, nearest in enumerate(self._items)]
        return self._named(found, np.stack(items, -1))

    def _named(self, found: np.ndarray, items: np.ndarray) -> Reading:
        return Reading(self.named.materials[found], self.named.things[found], items)


class Nearest:
    """Finds the nearest of some patches (K, h, w, 3)."""

    def __init__(self, patches: np.ndarray) -> None:
        self.size = int(np.prod(patches.shape[1:]))
        self._flat = patches.reshape(len(patches), -1).astype(np.float32)
        self._squares = np.square(self._flat).sum(1)

    def of(self, tiles: np.ndarray) -> np.ndarray:
        """Number of the nearest patch to each of the tiles (..., h, w, 3), (...)."""
        return self._search(tiles)[0]

    def psnr(self, tiles: np.ndarray) -> np.ndarray:
        """How near the nearest patch is to each of the tiles (..., h, w, 3), in dB, (...); at most 100."""
        _, squares = self._search(tiles)
        return 10 * np.log10(255.0**2 / np.maximum(squares / self.size, 255.0**2 / 1e10))

    def _search(self, tiles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        lead = tiles.shape[:-3]
        flat = tiles.reshape(-1, self.size)
        found = np.zeros(len(flat), np.int64)
        least = np.zeros(len(flat))
        step = PART * TILES * TILES
        for first in range(0, len(flat), step):
            part = flat[first : first + step].astype(np.float32)
            far = self._squares - 2.0 * (part @ self._flat.T)
            best = far.argmin(1)
            found[first : first + step] = best
            least[first : first + step] = np.square(part - self._flat[best]).sum(1)
        return found.reshape(lead), least.reshape(lead)
