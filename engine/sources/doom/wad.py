"""Map plans in Doom's format: UDMF text, inside a WAD file of fixed layout that is rewritten in place.

The running engine opens the WAD anew for each map that it loads, so a new map costs no restart of the engine
(about 10 ms against 150 ms). Written by hand and not with `omgifol`, because a lump's place in the file has
to be known and kept, and the whole format is one header and one table.
"""

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from engine.sources.doom.plan import DIRECTIONS, TILE, MapPlan

MAP_NAME = "MAP01"
PLAYER = b"""
Actor LociPlayer : DoomPlayer
{
    Player.ForwardMove 7.68, 7.68
    Player.SideMove 8, 8
    +NODAMAGE
    States
    {
    Spawn:
        PLAY A 1 A_ChangeVelocity(0, 0, velz, CVF_REPLACE)
        Loop
    See:
        Stop
    }
}
"""
"""A player without momentum: what is left of its speed is taken away in every tic, so that a button held for
the 4 tics of a step moves it by exactly 24 units, and the opposite button brings it back to the same
place."""
RULES = f"""
gameinfo {{ playerclasses = "LociPlayer" }}
map {MAP_NAME} "Loci" {{ sky1 = "SKY1" }}
""".encode()


class WadFile:
    """A WAD with one map, whose text can be replaced while the engine runs. `capacity` is in bytes."""

    def __init__(self, path: Path, capacity: int) -> None:
        self.path, self.capacity = path, capacity
        lumps = [
            ("DECORATE", PLAYER),
            ("MAPINFO", RULES),
            (MAP_NAME, b""),
            ("TEXTMAP", b" " * capacity),
            ("ENDMAP", b""),
        ]
        offset, table, content = 12, b"", b""
        for name, data in lumps:
            table += struct.pack("<II8s", offset, len(data), name.encode())
            if name == "TEXTMAP":
                self._offset = offset
            offset += len(data)
            content += data
        path.write_bytes(b"PWAD" + struct.pack("<II", len(lumps), offset) + content + table)

    def fits(self, text: bytes) -> bool:
        """Say whether `write` has room for this text."""
        return len(text) <= self.capacity

    def write(self, text: bytes) -> None:
        """Replace the map's text."""
        assert self.fits(text), f"map of {len(text)} bytes in a file for {self.capacity}"
        with open(self.path, "r+b") as file:
            file.seek(self._offset)
            file.write(text.ljust(self.capacity))


def to_udmf(plan: MapPlan) -> bytes:
    """Write the plan as a TEXTMAP lump, ZDoom's dialect; the engine builds the nodes itself."""
    vertices: dict[tuple[int, int], int] = {}
    lines: list[str] = []
    sides: list[str] = []
    for start, end, front, back in _lines(plan):
        ends = [vertices.setdefault(place, len(vertices)) for place in (start, end)]
        refs = [("sidefront", front, start, end)]
        if back is not None:
            refs.append(("sideback", back, end, start))
        text = f"linedef{{v1={ends[0]};v2={ends[1]};"
        for name, (sector, wall, pinned), begin, finish in refs:
            step = 1 if finish > begin else -1
            along = begin[0] if begin[1] == finish[1] else begin[1]
            shift = 0 if pinned else step * along * TILE % 1024
            parts = "middle" if back is None else "top bottom"
            textures = "".join(f'texture{part}="{wall}";' for part in parts.split())
            text += f"{name}={len(sides)};"
            sides.append(f"sidedef{{sector={sector};offsetx={shift};{textures}}}")
        lines.append(text + ("blocking=true;dontpegbottom=true;}" if back is None else "twosided=true;}"))
    sectors = [
        f'sector{{heightfloor={s.floor};heightceiling={s.ceiling};texturefloor="{s.floor_flat}";'
        f'textureceiling="{s.ceiling_flat}";lightlevel={s.light};lightcolor={s.color};}}'
        for s in plan.sectors
    ]
    x, y, _ = plan.start
    things = [_thing(1, x * TILE, y * TILE)]  # facing east; the source turns to the start's angle exactly
    things += [_thing(kind, x * TILE + TILE // 2, y * TILE + TILE // 2) for x, y, kind in plan.props]
    corners = [f"vertex{{x={x * TILE}.0;y={y * TILE}.0;}}" for x, y in vertices]
    return "\n".join(['namespace="ZDoom";', *corners, *lines, *sides, *sectors, *things, ""]).encode()


def _thing(kind: int, x: int, y: int) -> str:
    skills = "".join(f"skill{level}=true;" for level in range(1, 6))
    return f"thing{{x={x}.0;y={y}.0;angle=0;type={kind};single=true;{skills}}}"


Place = tuple[int, int]
Side = tuple[int, str, bool]


def _lines(plan: MapPlan) -> Iterator[tuple[Place, Place, Side, Side | None]]:
    """Yield (start, end, front, back) in tile corners; the front is on the right hand, and never rock.

    A side is (sector, texture, whether the texture starts with the line). Straight runs of equal edges are
    one line.
    """
    tiles = plan.tiles
    height, width = tiles.shape
    upright = np.zeros((height + 1, width + 1), bool)  # an edge from corner (x, y) to (x, y + 1)
    upright[:height, 1:width] = tiles[:, 1:] != tiles[:, :-1]
    level = np.zeros_like(upright)  # an edge from corner (x, y) to (x + 1, y)
    level[1:height, :width] = tiles[1:] != tiles[:-1]

    def side(x: int, y: int, direction: int) -> Side:
        sector = int(tiles[y, x])
        picture = plan.panels.get((x, y, direction))
        return sector, picture or plan.sectors[sector].walls[direction], picture is not None

    def both(x: int, y: int, vertical: bool) -> tuple[Side | None, Side | None]:
        """Sides of one edge: west and east of an upright edge, south and north of a level one."""
        low, high = ((x - 1, y), (x, y)) if vertical else ((x, y - 1), (x, y))
        facing = (1, 3) if vertical else (0, 2)  # indices into DIRECTIONS: from the low tile, from the high tile
        first = side(*low, facing[0]) if tiles[low[1], low[0]] >= 0 else None
        second = side(*high, facing[1]) if tiles[high[1], high[0]] >= 0 else None
        return first, second

    assert DIRECTIONS[1] == (1, 0) and DIRECTIONS[0] == (0, 1)
    for vertical, edges, crossing in ((True, upright, level), (False, level, upright)):
        step = (0, 1) if vertical else (1, 0)
        done: set[Place] = set()
        for y, x in np.argwhere(edges).tolist():
            if (x, y) in done:
                continue
            first, second = both(x, y, vertical)
            end = x + step[0], y + step[1]
            while edges[end[1], end[0]] and both(*end, vertical) == (first, second):
                before = (end[0] - 1, end[1]) if vertical else (end[0], end[1] - 1)
                if crossing[end[1], end[0]] or crossing[before[1], before[0]]:
                    break
                done.add(end)
                end = end[0] + step[0], end[1] + step[1]
            # Seen along an upright line the right hand is east (high); along a level one it is south (low).
            right, left = (second, first) if vertical else (first, second)
            if right is not None:
                yield (x, y), end, right, left
            else:
                assert left is not None
                yield end, (x, y), left, None
