"""Doom maps from a seed: rooms on a grid, corridors, loops, heights, lights and props, on a raster of tiles.

A map's content depends on its seed and options alone. `engine.sources.doom.wad` writes it in Doom's format.
"""

from collections import deque
from typing import Any

import numpy as np

from engine.errors import UserError
from engine.sources.doom import palette
from engine.sources.doom.plan import DIRECTIONS, MapOptions, MapPlan, Room, Sector


def generate(map_seed: int, options: MapOptions) -> MapPlan:
    """Build the map of `map_seed` (>= 0). Every room can be walked to from every other."""
    if map_seed < 0:
        raise UserError(f"map_seed must be 0 or more, not {map_seed}")
    rng = np.random.default_rng([0x10C1, map_seed])
    plan = _Builder(rng, options).build()
    if not _connected(plan):  # props closed a way: rather an emptier map than a broken one
        plan.props.clear()
    assert _connected(plan), f"map {map_seed} is not connected"
    return plan


def _connected(plan: MapPlan) -> bool:
    free = plan.walkable()
    reached = np.zeros_like(free)
    start = plan.start[1], plan.start[0]
    if not free[start]:
        return False
    reached[start] = True
    queue = deque([start])
    while queue:
        y, x = queue.popleft()
        for dx, dy in DIRECTIONS:
            place = y + dy, x + dx
            if free[place] and not reached[place]:
                reached[place] = True
                queue.append(place)
    return all(reached[room.center[1], room.center[0]] for room in plan.rooms)


class _Builder:
    def __init__(self, rng: np.random.Generator, options: MapOptions) -> None:
        self.rng, self.options = rng, options
        self.rich = options.textures == "rich"
        self.walls = list(palette.RICH_WALLS if self.rich else palette.PLAIN_WALLS)
        rng.shuffle(self.walls)
        self.corridor_wall = self.pick(palette.CORRIDOR_WALLS) if self.rich else palette.PLAIN_CORRIDOR
        self.floor = self.pick(palette.PLAIN_FLOORS)
        self.ceiling = self.pick(palette.PLAIN_CEILINGS)

    def pick(self, names: Any) -> Any:
        return names[int(self.rng.integers(len(names)))]

    def between(self, pair: tuple[int, int]) -> int:
        return int(self.rng.integers(pair[0], pair[1] + 1))

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def build(self) -> MapPlan:
        columns, rows = self.between(self.options.map_size), self.between(self.options.map_size)
        widths = [self.between(self.options.room_size) for _ in range(columns)]
        depths = [self.between(self.options.room_size) for _ in range(rows)]
        lefts, bottoms = [1], [1]
        for width in widths:
            lefts.append(lefts[-1] + width + int(self.rng.integers(2, 5)))
        for depth in depths:
            bottoms.append(bottoms[-1] + depth + int(self.rng.integers(2, 5)))
        places, links = self.layout(columns, rows)
        self.plan = MapPlan(np.full((bottoms[-1] + 1, lefts[-1] + 1), -1, np.int32), [], [], {}, [])
        for place in places:
            x0, x1 = self.span(lefts[place[0]], widths[place[0]])
            y0, y1 = self.span(bottoms[place[1]], depths[place[1]])
            self.plan.rooms.append(Room(x0, y0, x1, y1))
        for index, height in enumerate(self.heights(len(places), links)):
            self.paint_room(index, height)
        for one, two in links:
            self.dig(one, two)
        for room in self.plan.rooms:
            self.furnish(room)
        room = self.pick(self.plan.rooms)
        self.plan.start = (*room.center, 15 * int(self.rng.integers(24)))
        return self.plan

    def layout(self, columns: int, rows: int) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        """Choose which places of the grid hold a room, and which pairs of neighbours (indices) are linked."""
        wanted = max(1, round(columns * rows * (1 - self.options.missing * self.rng.random())))
        places = [(int(self.rng.integers(columns)), int(self.rng.integers(rows)))]
        links: list[tuple[int, int]] = []
        while len(places) < wanted:
            index = int(self.rng.integers(len(places)))
            step = self.pick(DIRECTIONS)
            place = places[index][0] + step[0], places[index][1] + step[1]
            if 0 <= place[0] < columns and 0 <= place[1] < rows and place not in places:
                links.append((index, len(places)))
                places.append(place)
        for one, place in enumerate(places):
            for step in DIRECTIONS[:2]:
                near = place[0] + step[0], place[1] + step[1]
                if near in places:
                    two = places.index(near)
                    if (one, two) not in links and (two, one) not in links and self.chance(self.options.loops):
                        links.append((one, two))
        return places, links

    def span(self, start: int, length: int) -> tuple[int, int]:
        """Choose a room's extent in its place; it holds the middle four tiles, so that neighbours overlap."""
        middle = start + length // 2
        low = int(self.rng.integers(start, max(start + 1, middle - 2)))
        high = int(self.rng.integers(min(start + length, middle + 3), start + length + 1))
        return low, max(high, middle + 2)

    def heights(self, rooms: int, links: list[tuple[int, int]]) -> list[int]:
        """Choose each room's floor, in steps of 8 units, so that linked rooms differ by `heights` at most."""
        floors = [0] * rooms
        if self.options.heights < 8:
            return floors
        for _ in range(3 * rooms):
            index = int(self.rng.integers(rooms))
            near = [floors[a if b == index else b] for a, b in links if index in (a, b)] or [0]
            low, high = max(near) - self.options.heights, min(near) + self.options.heights
            floors[index] = 8 * int(self.rng.integers(-(-low // 8), high // 8 + 1))
        return floors

    def add(self, sector: Sector) -> int:
        self.plan.sectors.append(sector)
        return len(self.plan.sectors) - 1

    def paint_room(self, index: int, floor: int) -> None:
        """Fill the room's rectangle with a sector of its own wall texture."""
        room, chosen = self.plan.rooms[index], self.walls[index % len(self.walls)]
        walls = [chosen] * 4
        fancy = self.options.features if self.rich else 0.0
        if self.chance(fancy * 0.5):
            walls[int(self.rng.integers(4))] = self.pick(palette.RICH_WALLS)
        ceiling = self.pick(palette.RICH_CEILINGS) if self.rich else self.ceiling
        height, light = 8 * (self.between(self.options.ceilings) // 8), self.between(self.options.lights)
        if self.chance(fancy * 0.15):
            ceiling, light = palette.SKY, 255
        color = self.pick(palette.TINTS) if self.chance(fancy * 0.35) else 0xFFFFFF
        flat = self.pick(palette.RICH_FLOORS) if self.rich else self.floor
        north, east, south, west = walls
        room.sector = self.add(Sector(floor, floor + height, flat, ceiling, light, (north, east, south, west), color))
        self.plan.tiles[room.y0 : room.y1, room.x0 : room.x1] = room.sector

    def dig(self, one: int, two: int) -> None:
        """Connect two neighbouring rooms by a straight corridor, in steps where their floors differ."""
        first, second = self.plan.rooms[one], self.plan.rooms[two]
        if second.x1 <= first.x0 or second.y1 <= first.y0:
            first, second = second, first
        across = second.x0 >= first.x1
        low = max(first.y0, second.y0) if across else max(first.x0, second.x0)
        high = min(first.y1, second.y1) if across else min(first.x1, second.x1)
        width = min(int(self.rng.integers(2 if self.rich else 3, 5)), high - low)
        side = int(self.rng.integers(low, high - width + 1))
        line = range(first.x1, second.x0) if across else range(first.y1, second.y0)
        a, b = self.plan.sectors[first.sector], self.plan.sectors[second.sector]
        flat = self.pick(palette.RICH_FLOORS) if self.rich else self.floor
        roof = self.pick(palette.RICH_CEILINGS) if self.rich else self.ceiling
        top = max(a.floor, b.floor) + (104 if self.rich else a.ceiling - a.floor)
        walls = (self.corridor_wall,) * 4
        corridor = [
            (along, side + offset) if across else (side + offset, along) for along in line for offset in range(width)
        ]
        floors: dict[int, int] = {}
        for number, along in enumerate(line):
            floor = a.floor + 8 * round((b.floor - a.floor) * (number + 1) / (len(line) + 1) / 8)
            if floor not in floors:
                floors[floor] = self.add(Sector(floor, top, flat, roof, (a.light + b.light) // 2, walls))
            for offset in range(width):
                x, y = (along, side + offset) if across else (side + offset, along)
                self.plan.tiles[y, x] = floors[floor]
        self.plan.rooms[one].doors[two] = corridor
        self.plan.rooms[two].doors[one] = corridor

    def furnish(self, room: Room) -> None:
        """Put pillars, a platform, a lamp, a picture and props into a room, away from its doors."""
        keep = {
            (x + i, y + j) for door in room.doors.values() for x, y in door for i in range(-2, 3) for j in range(-2, 3)
        }
        mid_x, mid_y = room.center
        keep |= {(mid_x + i, mid_y + j) for i in (-1, 0) for j in (-1, 0)}
        base, tiles = self.plan.sectors[room.sector], self.plan.tiles
        fancy = self.options.features if self.rich else 0.0
        if self.chance(self.options.panels):
            self.hang(room)
        if min(room.x1 - room.x0, room.y1 - room.y0) >= 7 and self.chance(fancy * 0.5):
            inset = int(self.rng.integers(1, 3))
            rise, lamp = int(self.rng.integers(3)) * 8, self.chance(0.5) and base.ceiling_flat != palette.SKY
            flat = self.pick(palette.RICH_FLOORS) if rise or not lamp else base.floor_flat
            inner = self.add(
                Sector(
                    base.floor + rise,
                    base.ceiling - (8 if lamp else 0),
                    flat,
                    self.pick(palette.RICH_LAMPS) if lamp else base.ceiling_flat,
                    min(255, base.light + (48 if lamp else 0)),
                    base.walls,
                    base.color,
                )
            )
            tiles[mid_y - inset : mid_y + inset, mid_x - inset : mid_x + inset] = inner
        if self.chance(fancy * 0.5):
            for x, y in (
                (room.x0 + 1, room.y0 + 1),
                (room.x0 + 1, room.y1 - 2),
                (room.x1 - 2, room.y0 + 1),
                (room.x1 - 2, room.y1 - 2),
            ):
                if (x, y) not in keep:
                    tiles[y, x] = -1
        for _ in range(self.rng.poisson(self.options.props)):
            x, y = self.between((room.x0, room.x1 - 1)), self.between((room.y0, room.y1 - 1))
            if (x, y) not in keep and tiles[y, x] >= 0:
                kind = self.pick(palette.STATIC_PROPS if self.chance(0.75) else palette.MOVING_PROPS)
                self.plan.props.append((x, y, int(kind)))
                keep |= {(x + i, y + j) for i in (-1, 0, 1) for j in (-1, 0, 1)}

    def hang(self, room: Room) -> None:
        """Hang a picture, two to four tiles wide, on a stretch of one wall that has no door."""
        picture = self.pick(palette.RICH_PANELS if self.rich else palette.PLAIN_PANELS)
        side, width = int(self.rng.integers(4)), 4 if self.rich else int(self.rng.integers(2, 5))
        dx, dy = DIRECTIONS[side]
        if dy:
            row = room.y1 - 1 if dy > 0 else room.y0
            wall = [(x, row) for x in range(room.x0, room.x1)]
        else:
            column = room.x1 - 1 if dx > 0 else room.x0
            wall = [(column, y) for y in range(room.y0, room.y1)]
        begin = int(self.rng.integers(max(1, len(wall) - width + 1)))
        chosen = wall[begin : begin + width]
        if all(self.plan.tiles[y + dy, x + dx] < 0 for x, y in chosen):
            for x, y in chosen:
                self.plan.panels[x, y, side] = picture
