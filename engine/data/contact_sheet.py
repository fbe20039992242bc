"""One picture of a shard: some episodes as rows, some moments of each as columns, with captions."""

from pathlib import Path

import numpy as np
from safetensors import safe_open

from engine.pictures import grid, magnify, resize, scale_for

CELL = 128
"""Pixels that a frame on the sheet is wide, at least; one of more than twice as many is made smaller."""


def contact_sheet(path: Path, episodes: int = 8, moments: int = 8) -> np.ndarray:
    """A sheet, uint8 (H, W, 3), of the first `episodes` of the shard at `path`, each at `moments` frames of it."""
    with safe_open(path, framework="numpy") as shard:
        number, map_seeds = shard.get_tensor("episode"), shard.get_tensor("map_seed")
        frames = shard.get_slice("frames")
        rows, captions = [], []
        for row in range(min(episodes, len(map_seeds))):
            places = np.flatnonzero(number == row)
            spread = [round(column * (len(places) - 1) / max(1, moments - 1)) for column in range(moments)]
            rows.append([_cell(frames[int(places[i]) : int(places[i]) + 1][0]) for i in spread])
            captions.append([f"map {map_seeds[row]}  frame {i}" for i in spread])
    return grid(rows, captions=captions, scale=1, gap=0)


def _cell(frame: np.ndarray) -> np.ndarray:
    height, width, _ = frame.shape
    if width > 2 * CELL:
        return resize(frame, round(CELL * height / width), CELL)
    return magnify(frame, scale_for(width, CELL))
