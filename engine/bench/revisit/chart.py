"""What a world of tiles must get right when a place is seen again: the materials of its tiles, and where he stands."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from engine.bench.revisit.errand import ErrandTime, fault
from engine.bench.revisit.play import Played
from engine.bench.revisit.truth import Visits
from engine.bench.tiles.atlas import Tile, tiles_of, view_tiles
from engine.bench.tiles.patches import PLAYER_COLUMN, PLAYER_ROW
from engine.bench.tiles.reader import TileReader

NAMES = ("map_consistency", "pose_exact", "pose_exact_back", "finished")
NEAR = 0.01
"""Tiles by which an exact pose may differ."""


def scores(
    reader: TileReader, visits: Visits, played: Played, walked: Sequence[Sequence[Tile]] | None
) -> dict[str, np.ndarray]:
    """Scores of errands by episode, each (E, 1).

    map_consistency: of the tiles in the last frame that were seen before the return and never changed, the share that
    is drawn as the same material, the player's own left out. With real history, what was seen is the simulator's; the
    last frame is taken to be seen from the true tile at the end of the real frames, moved as the world has moved since:
    so a pose that was lost among real frames counts against it, and a drawn cow in the way does not. With generated
    history, it is the world's own frame at the place, before the player left it; NaN where he did not come back.
    pose_exact: whether the world's pose after the real frames is the simulator's, NaN where there is none;
    pose_exact_back: the same at the end. finished: whether the errand came off (in the simulator it always has).

    walked: the tiles of each walk through generated history; None where the history is real.
    """
    found = (
        _against_truth(reader, visits, played) if walked is None else _against_itself(reader, visits, played, walked)
    )
    return {
        name: np.asarray(values, np.float64)[:, None]
        for name, values in zip(NAMES, zip(*found, strict=True), strict=True)
    }


def without_lost(found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Scores (E, S) of walks through a generated history: none but `finished` where the player did not come back.

    Nothing is said of `psnr_truth`: the walk is another one than the simulator's.
    """
    home = found["finished"] > 0  # (E, 1)
    kept = {name: np.where(home | (name == "finished"), values, np.nan) for name, values in found.items()}
    return kept | {"psnr_truth": np.full_like(kept["psnr_truth"], np.nan)}


def _against_truth(reader: TileReader, visits: Visits, played: Played) -> list[tuple[float, ...]]:
    time = visits.time
    begin, last = time.begin - 1, time.length - 1
    truth, drawn = reader.read(visits.frames), reader.read(played.frames[last])
    found: list[tuple[float, ...]] = []
    for e in range(len(visits.map_seeds)):
        tiles = tiles_of(visits.poses[e])
        here, exact, back = tiles[last], np.nan, np.nan
        if played.poses:
            before, after = played.poses[begin][e, :2], played.poses[last][e, :2]
            east, north = np.round(after - before).astype(int).tolist()
            here = (tiles[begin][0] + east, tiles[begin][1] + north)
            exact = float(np.abs(before - tiles[begin]).max() < NEAR)
            back = float(np.abs(after - tiles[last]).max() < NEAR)
        chart = Chart.of(truth.materials[e], tiles, time.begin)
        right = drawn.materials[e] == chart.at(here)
        found.append((share(right, chart.known(here)), exact, back, 1.0))
    return found


def _against_itself(
    reader: TileReader, visits: Visits, played: Played, walked: Sequence[Sequence[Tile]]
) -> list[tuple[float, ...]]:
    time = visits.time
    assert isinstance(time, ErrandTime)
    first, last = (reader.read(played.frames[int(t)]).materials for t in (time.seen[-1], time.length - 1))
    found: list[tuple[float, ...]] = []
    for e, tiles in enumerate(walked):
        came_off = fault(time, tiles) is None
        same = share(last[e] == first[e], np.ones(last[e].shape, bool)) if came_off else np.nan
        found.append((same, np.nan, np.nan, float(came_off)))
    return found


def share(right: np.ndarray, counted: np.ndarray) -> float:
    """Share of the counted tiles of a view (7, 9) that are right, the player's left out; NaN where none is."""
    counted = counted.copy()
    counted[PLAYER_ROW, PLAYER_COLUMN] = False
    return float((right & counted).sum() / counted.sum()) if counted.any() else np.nan


class Chart:
    """What a walk saw, on a grid: the material of each tile, whether before the return, and whether it ever changed."""

    def __init__(self, low: Tile, size: Tile) -> None:
        self.low = low
        self.material = np.full(size, -1, np.int64)
        self.before = np.zeros(size, bool)
        self.changed = np.zeros(size, bool)

    @classmethod
    def of(cls, materials: np.ndarray, tiles: list[Tile], begin: int) -> Chart:
        """Of materials (T, 7, 9) seen from tiles (T,); the return begins with frame `begin`."""
        places = np.array(tiles)
        margin = np.array(materials.shape[:0:-1])
        low, high = places.min(0) - margin, places.max(0) + margin
        chart = cls((int(low[0]), int(low[1])), tuple((high - low + 1).tolist()))
        for t, tile in enumerate(tiles):
            at = chart._index(tile)
            chart.changed[at] |= (chart.material[at] >= 0) & (chart.material[at] != materials[t])
            chart.material[at] = materials[t]
            if t < begin:
                chart.before[at] = True
        return chart

    def at(self, tile: Tile) -> np.ndarray:
        """Materials of the view from a tile, (7, 9), -1 where nothing was seen."""
        index, inside = self._clipped(tile)
        return np.where(inside, self.material[index], -1)

    def known(self, tile: Tile) -> np.ndarray:
        """Which tiles of the view from a tile were seen before the return and never changed, bool (7, 9)."""
        index, inside = self._clipped(tile)
        return np.asarray(inside & self.before[index] & ~self.changed[index])

    def _index(self, tile: Tile) -> tuple[np.ndarray, np.ndarray]:
        east, north = view_tiles(tile)
        return east - self.low[0], north - self.low[1]

    def _clipped(self, tile: Tile) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
        east, north = self._index(tile)
        wide, high = self.material.shape
        inside = (east >= 0) & (east < wide) & (north >= 0) & (north < high)
        return (np.clip(east, 0, wide - 1), np.clip(north, 0, high - 1)), inside
