"""The next frame of a world of tiles by what it shows: tiles that stand still, the inventory, and all of it."""

from __future__ import annotations

from typing import Any

import numpy as np
from tqdm import tqdm

from engine.bench.rollout import groups, next_frames, reconstructed
from engine.bench.tiles.atlas import tiles_of
from engine.bench.tiles.patches import PLAYER_COLUMN, PLAYER_ROW, cut
from engine.bench.truth import play_episodes
from engine.config import WorldConfig
from engine.measures import BEST_PSNR, interval
from engine.sources.crafter.source import ROWS, TILES
from engine.world import World

REGIONS = ("still", "inventory", "all")


def still_tiles(frames: np.ndarray, poses: np.ndarray) -> np.ndarray:
    """Which tiles of each frame were in view in the frame before it, and looked the same, bool (T, 9, 9).

    frames (T, H, W, 3) and poses (T, 4) of an episode of the simulator. The player's own tile and the inventory are
    none of them, nor is anything of the first frame.
    """
    tiles, places = cut(frames), tiles_of(poses)
    found = np.zeros((len(frames), TILES, TILES), bool)
    rows, columns = np.mgrid[:ROWS, :TILES]
    for t in range(1, len(frames)):
        east, north = places[t][0] - places[t - 1][0], places[t][1] - places[t - 1][1]
        row, column = rows - north, columns + east
        seen = (row >= 0) & (row < ROWS) & (column >= 0) & (column < TILES)
        seen &= (row != PLAYER_ROW) | (column != PLAYER_COLUMN)
        before = tiles[t - 1, np.clip(row, 0, ROWS - 1), np.clip(column, 0, TILES - 1)]
        found[t, :ROWS] = seen & (before == tiles[t, :ROWS]).all((2, 3, 4))
        found[t, PLAYER_ROW, PLAYER_COLUMN] = False
    return found


def by_region(wanted: np.ndarray, drawn: np.ndarray, still: np.ndarray) -> dict[str, float]:
    """PSNR of the frames (T, H, W, 3) of an episode, over all pixels of a region, in dB; NaN where it is empty."""
    squares = np.square(cut(wanted).astype(np.float32) - cut(drawn).astype(np.float32)).mean((-3, -2, -1))
    inventory = np.zeros_like(still)
    inventory[:, ROWS:] = True
    chosen = {"still": still, "inventory": inventory, "all": np.ones_like(still)}
    return {name: _psnr(squares[chosen[name]]) for name in REGIONS}


def _psnr(squares: np.ndarray) -> float:
    if not squares.size:
        return np.nan
    return min(BEST_PSNR, float(10 * np.log10(255.0**2 / max(float(squares.mean()), 1e-12))))


def measure(world: World, config: WorldConfig, maps: np.ndarray, start: int, frames: int, seed: int) -> dict[str, Any]:
    """Score `frames` next frames after `start` real ones on each map, against the codec's picture of the real ones.

    Returns next_still_psnr, next_inventory_psnr and next_all_psnr, each over the episode's pixels together, with its
    interval over episodes.
    """
    found: dict[str, list[float]] = {name: [] for name in REGIONS}
    total = -(-len(maps) // world.batch) * frames
    with tqdm(total=total, desc="next frames by region", unit="frame", leave=False) as bar:
        for index, count in groups(len(maps), world.batch):
            played = play_episodes(config, (world.height, world.width), maps[index], start + frames, seed, "walk")
            drawn = next_frames(world, played, start, [seed + int(i) for i in index], bar)
            for e in range(count):
                last = int(played.lengths[e])
                if last <= start:
                    continue
                real = played.frames[e, start:last]
                still = still_tiles(played.frames[e, :last], played.poses[e, :last])[start:]
                codec = reconstructed(world.codec, real, world.device)
                for name, value in by_region(codec, drawn[e, : last - start], still).items():
                    found[name].append(value)
    return {f"next_{name}_psnr": interval(np.array(values)) for name, values in found.items()}
