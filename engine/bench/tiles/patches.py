"""Pictures of single tiles, and whole films as numbers of such pictures: a world of tiles has a few hundred."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.sources.crafter.source import ROWS, TILES, CrafterEnv

EDGE = ""
"""The material where the map has ended."""
NOTHING = ""
"""The thing on a tile where there is none."""
MATERIALS = (
    EDGE,
    "water",
    "grass",
    "stone",
    "path",
    "sand",
    "tree",
    "lava",
    "coal",
    "iron",
    "diamond",
    "table",
    "furnace",
)
WALKABLE = ("grass", "path", "sand")
FACING = {"player-left": (-1, 0), "player-right": (1, 0), "player-up": (0, -1), "player-down": (0, 1)}
"""The player as he is drawn, and the tile before him: to the right and down."""
ASLEEP = "player-sleep"
THINGS = (
    NOTHING,
    *FACING,
    ASLEEP,
    "cow",
    "zombie",
    "skeleton",
    "arrow-left",
    "arrow-right",
    "arrow-up",
    "arrow-down",
    "plant",
    "plant-ripe",
)
PLAYER_ROW, PLAYER_COLUMN = ROWS // 2, TILES // 2
NIGHTS = 12
"""Levels of light that a world with nights is read in; one between two of them is read as the nearer one."""
MOST_HELD = 9
"""Of any item."""


def cut(frames: np.ndarray) -> np.ndarray:
    """Frames (..., H, W, 3) -> their tiles (..., 9, 9, H / 9, W / 9, 3)."""
    *lead, height, width, colours = frames.shape
    h, w = height // TILES, width // TILES
    return np.moveaxis(frames.reshape(*lead, TILES, h, TILES, w, colours), -4, -3)


def joined(tiles: np.ndarray) -> np.ndarray:
    """Tiles (..., 9, 9, h, w, 3) -> the frames (..., 9 h, 9 w, 3) that they make."""
    *lead, rows, columns, h, w, colours = tiles.shape
    return np.moveaxis(tiles, -3, -4).reshape(*lead, rows * h, columns * w, colours)


class Palette:
    """Different patches, numbered in the order in which they came."""

    def __init__(self) -> None:
        self._numbers: dict[bytes, int] = {}
        self._patches: list[np.ndarray] = []

    def __len__(self) -> int:
        return len(self._patches)

    def add(self, frame: np.ndarray) -> np.ndarray:
        """Numbers (9, 9) of the tiles of a frame (H, W, 3), uint32; new ones are taken up."""
        return self.take(cut(frame))

    def take(self, tiles: np.ndarray) -> np.ndarray:
        """Numbers (rows, columns) of tiles (rows, columns, h, w, 3), uint32; new ones are taken up."""
        tiles = np.ascontiguousarray(tiles)
        numbers = np.empty(tiles.shape[:2], np.uint32)
        for place in np.ndindex(numbers.shape):
            tile = tiles[place]
            number = self._numbers.setdefault(tile.tobytes(), len(self._patches))
            if number == len(self._patches):
                self._patches.append(tile.copy())
            numbers[place] = number
        return numbers

    @property
    def patches(self) -> np.ndarray:
        """All of them, uint8 (K, h, w, 3)."""
        return np.stack(self._patches)


@dataclass(frozen=True)
class Film:
    """Frames kept as numbers of patches, without loss: long walks of many worlds at a hundredth of the bytes.

    numbers: (..., 9, 9); patches: (K, h, w, 3). Indexed as the array (..., H, W, 3) of the frames would be: by
    several numbers or slices it gives frames, by a single list of numbers the film of these.
    """

    numbers: np.ndarray
    patches: np.ndarray

    def __getitem__(self, key: Any) -> Any:
        found = self.numbers[key]
        return joined(self.patches[found]) if isinstance(key, tuple) else Film(found, self.patches)

    def __len__(self) -> int:
        return len(self.numbers)

    def __iter__(self) -> Iterator[Film]:
        return (Film(numbers, self.patches) for numbers in self.numbers)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the array of the frames."""
        h, w, colours = self.patches.shape[1:]
        return (*self.numbers.shape[:-2], TILES * h, TILES * w, colours)


@dataclass(frozen=True)
class Named:
    """Pictures of tiles of the view with what they show, and of those of the inventory.

    patches: uint8 (K, h, w, 3); materials, things: (K,), places in `MATERIALS` and `THINGS`. items: uint8
    (I, 10, h, w, 3), each item held 0 to 9 times, in the place that it has.
    """

    patches: np.ndarray
    materials: np.ndarray
    things: np.ndarray
    items: np.ndarray


def named_patches(height: int, width: int, night: bool = False) -> Named:
    """Let the simulator draw each material, what may stand on it, and each count of each item.

    night: also in the dark, at several levels of light.
    """
    env = CrafterEnv(height=height, width=width, area=24)
    env.reset(options={"map_seed": 0})
    for thing in env.world.objects:
        if thing is not env.player:
            env.world.remove(thing)
    lights = np.linspace(0.0, 1.0, NIGHTS) if night else np.ones(1)
    patches, materials, things = [], [], []
    for light in lights:
        env.world.daylight = float(light)
        for asleep in (False, True):
            for patch, material, thing in _drawn(env, asleep):
                patches.append(patch)
                materials.append(MATERIALS.index(material))
                things.append(THINGS.index(thing))
    env.world.daylight = 1.0
    return Named(np.stack(patches), np.array(materials), np.array(things), _items(env))


def _drawn(env: CrafterEnv, asleep: bool) -> list[tuple[np.ndarray, str, str]]:
    """Each tile as it is drawn while the player is awake or asleep, with its material and what stands on it."""
    tiles = [(material, NOTHING) for material in MATERIALS[1:]]
    tiles += [(material, creature) for material in WALKABLE for creature in ("cow", "zombie", "skeleton")]
    arrows = [thing for thing in THINGS if thing.startswith("arrow")]
    tiles += [(material, arrow) for material in (*WALKABLE, "water", "lava") for arrow in arrows]
    tiles += [("grass", plant) for plant in ("plant", "plant-ripe")]
    player = env.player
    player.sleeping = asleep
    x, y = (int(value) for value in player.pos)
    places = [
        (row, column) for row in range(ROWS) for column in range(TILES) if (row, column) != (PLAYER_ROW, PLAYER_COLUMN)
    ]
    found = []
    shown = []
    for (row, column), (material, thing) in zip(places, tiles, strict=False):
        tile = (x + column - PLAYER_COLUMN, y + row - PLAYER_ROW)
        env.world[tile] = material
        if thing != NOTHING:
            shown.append(_Drawn(tile, thing))
            env.world.add(shown[-1])
    view = cut(env.redraw())
    for place, (material, thing) in zip(places, tiles, strict=False):
        found.append((view[place].copy(), material, thing))
    for drawn in shown:
        env.world.remove(drawn)
    for material in (*WALKABLE, "lava"):
        env.world[x, y] = material
        for name, facing in FACING.items():
            player.facing = facing
            tile = cut(env.redraw())[PLAYER_ROW, PLAYER_COLUMN].copy()
            found.append((tile, material, ASLEEP if asleep else name))
            if asleep:
                break
    found.append((_edge(env), EDGE, NOTHING))
    return found


class _Drawn:
    """A thing on the map that is there to be drawn."""

    def __init__(self, pos: tuple[int, int], texture: str) -> None:
        self.pos: Any = pos
        self.texture, self.removed = texture, False


def _edge(env: CrafterEnv) -> np.ndarray:
    """What is drawn beyond the map's end."""
    player = env.player
    back = tuple(int(value) for value in player.pos)
    corner = (0, 0)
    env.world[corner] = "grass"
    env.world.move(player, corner)
    tile = cut(env.redraw())[0, 0].copy()
    env.world.move(player, back)
    return tile


def _items(env: CrafterEnv) -> np.ndarray:
    """Each item held 0 to 9 times, uint8 (I, 10, h, w, 3)."""
    by_count = []
    for count in range(MOST_HELD + 1):
        env.player.inventory.update(dict.fromkeys(env.items, count))
        by_count.append(item_tiles(cut(env.redraw()), len(env.items)))
    return np.stack(by_count, 1)


def item_tiles(tiles: np.ndarray, count: int) -> np.ndarray:
    """Tiles (..., 9, 9, h, w, 3) of frames -> the first `count` of their inventories (..., count, h, w, 3)."""
    lower = tiles[..., ROWS:, :, :, :, :]
    return lower.reshape(*lower.shape[:-5], -1, *lower.shape[-3:])[..., :count, :, :, :]


def pick(names: Sequence[str], known: Sequence[str]) -> np.ndarray:
    """Which of the known are among the names, bool (len(known),)."""
    return np.array([name in names for name in known])
