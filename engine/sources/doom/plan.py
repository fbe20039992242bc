"""What a generated Doom map is: its options, and the plan that the builder makes and the others read."""

from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from engine.errors import UserError, unknown

TILE = 32
"""Side of a tile in map units; the player is 32 units wide."""
DIRECTIONS = ((0, 1), (1, 0), (0, -1), (-1, 0))
"""Tile steps towards north, east, south and west; the order of `Sector.walls`."""
STYLES = ("plain", "rich")


@dataclass(frozen=True)
class MapOptions:
    """How rich the maps are; a pair is (least, most), both included, drawn for each map or room."""

    map_size: tuple[int, int] = (3, 7)
    """Rooms on a side of the grid, 1 to 12."""
    room_size: tuple[int, int] = (7, 11)
    """Side of a room in tiles of 32 units, 6 to 24."""
    textures: str = "rich"
    """Set of textures: 'plain' or 'rich'."""
    loops: float = 0.35
    """Chance of a corridor beside those that just connect all rooms, 0 to 1."""
    missing: float = 0.15
    """Share of the grid's places that stay without a room, 0 to 0.9."""
    heights: int = 24
    """Greatest floor difference of neighbouring rooms in map units, 0 (all flat) to 48."""
    ceilings: tuple[int, int] = (128, 224)
    """Height of a room from floor to ceiling in map units, 96 to 512."""
    lights: tuple[int, int] = (144, 255)
    """Brightness of a room, 0 to 255."""
    props: float = 3.0
    """Mean number of props in a room, 0 to 20."""
    features: float = 0.6
    """Chance of pillars, platforms, lamps, sky, tints and accent walls, each where it applies, 0 to 1."""
    panels: float = 1.0
    """Chance that a room has a picture on one wall, 0 to 1."""

    def __post_init__(self) -> None:
        """Raise UserError where a value is out of its range."""
        for name, low, high in (
            ("map_size", 1, 12),
            ("room_size", 6, 24),
            ("ceilings", 96, 512),
            ("lights", 0, 255),
        ):
            pair = getattr(self, name)
            if len(pair) != 2 or not low <= pair[0] <= pair[1] <= high:
                raise UserError(f"{name} must be (least, most) between {low} and {high}, not {list(pair)}")
        tops = {"loops": 1.0, "missing": 0.9, "heights": 48, "props": 20.0, "features": 1.0, "panels": 1.0}
        for name, top in tops.items():
            if not 0 <= getattr(self, name) <= top:
                raise UserError(f"{name} must be between 0 and {top}, not {getattr(self, name)}")
        if self.textures not in STYLES:
            raise UserError(unknown("textures", self.textures, STYLES))
        if self.ceilings[0] < self.heights + 72:
            raise UserError(
                f"ceilings must be at least heights + 72 = {self.heights + 72}, so that the player fits,"
                f" not {self.ceilings[0]}"
            )

    @classmethod
    def from_table(cls, table: dict[str, Any]) -> "MapOptions":
        """Build from a TOML table; one number may stand for a pair. Raises UserError on an unknown name."""
        known: dict[str, Any] = {entry.name: entry.default for entry in fields(cls)}
        values: dict[str, Any] = {}
        for name, value in table.items():
            if name not in known:
                raise UserError(unknown("source option", name, known))
            default = known[name]
            try:
                if isinstance(default, tuple):
                    pair = value if isinstance(value, (list, tuple)) else (value, value)
                    values[name] = tuple(int(entry) for entry in pair)
                else:
                    values[name] = type(default)(value)
            except (TypeError, ValueError) as error:
                raise UserError(f"source option {name}: expected something like {default!r}, got {value!r}") from error
        return cls(**values)


@dataclass(frozen=True)
class Sector:
    """One kind of tile: heights in map units, light 0..255, wall textures north, east, south, west."""

    floor: int
    ceiling: int
    floor_flat: str
    ceiling_flat: str
    light: int
    walls: tuple[str, str, str, str]
    color: int = 0xFFFFFF
    """Colour of the light, 0xRRGGBB."""


@dataclass
class Room:
    """A rectangle of tiles, ``x0 <= x < x1`` and ``y0 <= y < y1``, and the rooms that corridors lead to."""

    x0: int
    y0: int
    x1: int
    y1: int
    sector: int = -1
    doors: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    """Neighbour's index -> tiles of the corridor that leads there."""

    @property
    def center(self) -> tuple[int, int]:
        """The tile corner nearest to the middle."""
        return (self.x0 + self.x1) // 2, (self.y0 + self.y1) // 2


@dataclass
class MapPlan:
    """A map: `tiles[y, x]` is an index into `sectors`, or -1 for rock."""

    tiles: np.ndarray
    sectors: list[Sector]
    rooms: list[Room]
    panels: dict[tuple[int, int, int], str]
    """(x, y, direction) of a wall seen from tile (x, y) -> the texture that replaces its usual one."""
    props: list[tuple[int, int, int]]
    """(x, y, DoomEd number); x and y are tiles, the prop stands in the middle."""
    start: tuple[int, int, int] = (0, 0, 0)
    """Tile corner x, y, and angle in degrees, a multiple of 15."""

    def walkable(self) -> np.ndarray:
        """Return bool (height + 1, width + 1): the tile corners where the player stands free."""
        free = self.tiles >= 0
        for x, y, _ in self.props:
            free[y, x] = False
        padded = np.pad(free, 1)
        return padded[1:, 1:] & padded[:-1, 1:] & padded[1:, :-1] & padded[:-1, :-1]
