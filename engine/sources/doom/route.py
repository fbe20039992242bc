"""Ways through a generated map: short walkable paths, for walks that visit several rooms."""

from itertools import pairwise

import numpy as np

from engine.sources.doom.plan import TILE, MapPlan, Room

FAR = 1 << 20
BODY = 17.0
"""Half the player's width in map units, and one unit more."""


def clear(plan: MapPlan, points: np.ndarray) -> np.ndarray:
    """Say at which points (n, 2), in map units, the player touches neither rock nor a prop: bool (n,)."""
    free = plan.tiles >= 0
    for x, y, _ in plan.props:
        free[y, x] = False
    free = np.pad(free, 1)  # tile (x, y) is free[y + 1, x + 1]; what lies outside is rock
    low = np.floor((np.asarray(points, np.float64) - BODY) / TILE).astype(int) + 1
    high = np.floor((np.asarray(points, np.float64) + BODY) / TILE).astype(int) + 1
    top = free.shape[1] - 1, free.shape[0] - 1
    low, high = np.clip(low, 0, top), np.clip(high, 0, top)
    corners = (free[y, x] for x in (low[:, 0], high[:, 0]) for y in (low[:, 1], high[:, 1]))
    return np.logical_and.reduce(list(corners))


def distances(free: np.ndarray, goal: tuple[int, int]) -> np.ndarray:
    """Return int32 like `free` (bool, rows x columns): steps to `goal` (x, y), FAR where cut off."""
    field = np.full(free.shape, FAR, np.int32)
    wave = np.zeros_like(free)
    wave[goal[1], goal[0]] = free[goal[1], goal[0]]
    step = 0
    while wave.any():
        field[wave] = step
        spread = wave.copy()
        spread[1:] |= wave[:-1]
        spread[:-1] |= wave[1:]
        spread[:, 1:] |= wave[:, :-1]
        spread[:, :-1] |= wave[:, 1:]
        wave = spread & free & (field == FAR)
        step += 1
    return field


def path(free: np.ndarray, start: tuple[int, int], goal: tuple[int, int]) -> list[tuple[int, int]]:
    """Return the corners of a short way over free places from `start` (left out) to `goal`, or []."""
    field = distances(free, goal)
    here = nearest(field < FAR, start)
    if here is None:
        return []
    places = [here]
    while here != goal:
        x, y = here
        around = [(x + 1, y), (x - 1, y), (x, y + 1), (x, y - 1)]
        here = min(around, key=lambda place: int(field[place[1], place[0]]))
        places.append(here)
    corners, anchor = [], places[0]
    for before, after in pairwise(places):
        if not _clear(free, anchor, after):
            corners.append(before)
            anchor = before
    return [*corners, goal]


def nearest(free: np.ndarray, place: tuple[int, int]) -> tuple[int, int] | None:
    """Return the free place nearest to `place` (x, y), or None where there is none."""
    ys, xs = np.nonzero(free)
    if not len(xs):
        return None
    best = int(np.argmin((xs - place[0]) ** 2 + (ys - place[1]) ** 2))
    return int(xs[best]), int(ys[best])


def _clear(free: np.ndarray, start: tuple[int, int], end: tuple[int, int]) -> bool:
    """Say whether the straight way is free, with the free places around each point of it."""
    count = 3 * max(abs(end[0] - start[0]), abs(end[1] - start[1])) + 1
    xs, ys = np.linspace(start[0], end[0], count), np.linspace(start[1], end[1], count)
    low_x, low_y = np.floor(xs + 1e-6).astype(int), np.floor(ys + 1e-6).astype(int)
    high_x, high_y = np.ceil(xs - 1e-6).astype(int), np.ceil(ys - 1e-6).astype(int)
    return bool((free[low_y, low_x] & free[low_y, high_x] & free[high_y, low_x] & free[high_y, high_x]).all())


def tour(plan: MapPlan, position: tuple[float, float], rng: np.random.Generator) -> list[tuple[float, float]]:
    """Return way points (map units) from `position` through one to four rooms, often back home."""
    free = plan.walkable()
    here = round(position[0] / TILE), round(position[1] / TILE)
    first = min(range(len(plan.rooms)), key=lambda index: _gap(plan.rooms[index], here))
    rooms = [first]
    for _ in range(int(rng.integers(1, 4))):
        doors = list(plan.rooms[rooms[-1]].doors)
        fresh = [door for door in doors if door not in rooms] or doors
        if not fresh:
            break
        rooms.append(fresh[int(rng.integers(len(fresh)))])
    if rng.random() < 0.5 and len(rooms) > 1:
        rooms.append(first)
    points, at, closed = [], here, None
    for before, index in zip([first, *rooms], rooms, strict=False):
        open_places = free
        if closed is not None and index == first:  # come home another way than the last one, if there is one
            open_places = free.copy()
            for x, y in closed:
                open_places[y : y + 2, x : x + 2] = False
        goal = _spot(plan.rooms[index], free, rng)
        leg = path(open_places, at, goal) or path(free, at, goal)
        points += leg
        at = goal
        if index != before:
            closed = plan.rooms[before].doors.get(index, closed)
    return [(x * float(TILE), y * float(TILE)) for x, y in points]


def _gap(room: Room, place: tuple[int, int]) -> int:
    return abs(room.center[0] - place[0]) + abs(room.center[1] - place[1])


def _spot(room: Room, free: np.ndarray, rng: np.random.Generator) -> tuple[int, int]:
    """Choose a free place in the room; its middle, which always is free, if luck fails."""
    for _ in range(8):
        x, y = int(rng.integers(room.x0 + 1, room.x1)), int(rng.integers(room.y0 + 1, room.y1))
        if free[y, x]:
            return x, y
    return room.center
