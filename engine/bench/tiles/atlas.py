"""A map of what a player saw, by where he stood: for finding ways in a world of tiles, real or drawn."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Mapping
from typing import TypeAlias

import numpy as np

from engine.bench.tiles.patches import EDGE, MATERIALS, NOTHING, PLAYER_COLUMN, PLAYER_ROW, THINGS, WALKABLE, pick
from engine.bench.tiles.reader import Reading
from engine.sources.crafter.source import ROWS, TILES

Tile: TypeAlias = tuple[int, int]
"""East and north of where the player began."""
STEPS: dict[Tile, str] = {(-1, 0): "left", (1, 0): "right", (0, 1): "up", (0, -1): "down"}
"""Buttons by where they lead."""
FOES = ("zombie", "skeleton")
_WALKABLE, _BARE = pick(WALKABLE, MATERIALS), pick([NOTHING], THINGS)
_FOES = pick(FOES, THINGS)
_SOLID = ~pick([*WALKABLE, "lava", EDGE], MATERIALS)
"""What may be walked against for nothing: it stops the player, and does no harm."""


def view_tiles(tile: Tile) -> tuple[np.ndarray, np.ndarray]:
    """East and north, each (7, 9), of the tiles in view from a tile."""
    rows, columns = np.mgrid[:ROWS, :TILES]
    return tile[0] + columns - PLAYER_COLUMN, tile[1] - (rows - PLAYER_ROW)


def tiles_of(poses: np.ndarray) -> list[Tile]:
    """Poses (T, 4) of a walk in the simulator -> its tiles, from where it began."""
    return [(round(x), round(y)) for x, y in (poses[:, :2] - poses[0, :2]).tolist()]


def overlap(one: Tile, other: Tile) -> bool:
    """Whether views from two tiles have a tile in common."""
    return abs(one[0] - other[0]) < TILES and abs(one[1] - other[1]) < ROWS


class Atlas:
    """What a player knows: where he can walk, what stops him, and what stands in the way just now."""

    def __init__(self) -> None:
        self.free: dict[Tile, bool] = {}
        self.solid: set[Tile] = set()
        self.things: set[Tile] = set()
        self.foes: set[Tile] = set()

    def see(self, seen: Reading, tile: Tile) -> None:
        """Take in a view, that of one frame, from a tile."""
        east, north = view_tiles(tile)
        places = list(zip(east.ravel().tolist(), north.ravel().tolist(), strict=True))
        self.free.update(zip(places, _WALKABLE[seen.materials].ravel().tolist(), strict=True))
        self.free[tile] = True  # he stands there, whatever it looks like
        things = ~_BARE[seen.things]
        things[PLAYER_ROW, PLAYER_COLUMN] = False
        solid = _SOLID[seen.materials] & ~things
        solid[PLAYER_ROW, PLAYER_COLUMN] = False
        self.solid.difference_update(places)
        self.solid.update(_where(places, solid))
        self.things = set(_where(places, things))
        self.foes = set(_where(places, things & _FOES[seen.things]))

    def open(self, tile: Tile) -> bool:
        """Whether a tile is known and can be stepped on now."""
        return self.free.get(tile, False) and tile not in self.things

    def frontier(self, tile: Tile) -> bool:
        """Whether a tile has a neighbour that was never seen."""
        return any((tile[0] + x, tile[1] + y) not in self.free for x, y in STEPS)

    def ways(
        self, start: Tile, most: float = np.inf, cost: Callable[[Tile], float] = lambda tile: 1.0
    ) -> tuple[dict[Tile, float], dict[Tile, Tile]]:
        """Cheapest ways from a tile to all that can be walked to: their costs, and the tile before each.

        most: what a way may cost. cost: of stepping onto a tile, above 0.
        """
        costs, before = {start: 0.0}, {start: start}
        heap = [(0.0, start)]
        while heap:
            paid, here = heapq.heappop(heap)
            if paid > costs[here]:
                continue
            for x, y in STEPS:
                there = (here[0] + x, here[1] + y)
                if not self.open(there):
                    continue
                price = paid + cost(there)
                if price <= most and price < costs.get(there, np.inf):
                    costs[there], before[there] = price, here
                    heapq.heappush(heap, (price, there))
        return costs, before


def way_to(before: Mapping[Tile, Tile], goal: Tile) -> list[Tile]:
    """The tiles of a way from its start, without it, to the goal."""
    found = []
    while before[goal] != goal:
        found.append(goal)
        goal = before[goal]
    return found[::-1]


def beside(tile: Tile, those: Collection[Tile]) -> list[Tile]:
    """Those of some tiles that are next to a tile."""
    return [there for x, y in STEPS if (there := (tile[0] + x, tile[1] + y)) in those]


def button_to(here: Tile, there: Tile) -> str:
    """The button that leads to a neighbour."""
    return STEPS[there[0] - here[0], there[1] - here[1]]


def _where(places: list[Tile], chosen: np.ndarray) -> list[Tile]:
    return [place for place, yes in zip(places, chosen.ravel().tolist(), strict=True) if yes]
