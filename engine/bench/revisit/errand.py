"""The revisit task `errand`, for worlds of tiles: leave a place by a real way, do something else, come back by another.

    0 .. SETTLE - 1     the player explores, away from where he began
    seen                the place: `scored` frames in which he stands there. Nothing of it was in view in the first
                        `REAL` frames
    leave               he walks out of its sight
    away                from here on at least `gap` frames in which no tile of the place's view is in view
    begin               the return: from here on tiles of it may come into sight again
    back                the scored frames: he stands at the place

All the while some steps go against things, which stop them. The walker knows only what it has seen and where it is
told that it stands: so it walks in the simulator and in a dream alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from engine.bench.revisit.tasks import REAL
from engine.bench.tiles.atlas import Atlas, Tile, beside, button_to, overlap, way_to
from engine.bench.tiles.reader import Reading

SETTLE = 64
LEAVE = 32
"""Frames for leaving, standing at the place until the way out just takes the rest."""
RETURN = 32
"""Frames for coming back into sight and to the place."""
SHOWN = 6
"""Frames before the return that a film shows."""
SLACK = 4
"""Frames by which he is early when he leaves, for what may come in the way."""
BUMP = 0.12
"""Share of the steps that go against something."""
RANGE = 36
"""Tiles from the place that he may go."""
FAR = 160
"""Frames before the return from which on each walk is measured against the way home."""
GOAL = 24
"""Steps to a goal of his wanderings, at most."""
TAKEN = 2.0
"""What a tile of the way out costs more on the way back: so that it is another one where there is one."""


@dataclass(frozen=True)
class ErrandTime:
    """When what happens in an errand, in frames; the same names as those of `Timetable`."""

    gap: int
    scored: int

    @property
    def seen(self) -> np.ndarray:
        """Frames at the place for the first time, (scored,)."""
        return SETTLE + np.arange(self.scored)

    @property
    def away(self) -> int:
        """First frame from which on the place must be out of sight."""
        return SETTLE + self.scored + LEAVE

    @property
    def begin(self) -> int:
        """First frame in which it may be in sight again."""
        return self.away + self.gap

    @property
    def back(self) -> np.ndarray:
        """Scored frames, (scored,)."""
        return self.begin + RETURN + np.arange(self.scored)

    @property
    def length(self) -> int:
        """Frames of the whole walk."""
        return self.begin + RETURN + self.scored

    @property
    def kept(self) -> list[int]:
        """Frames that are scored, compared with or shown; what a world draws at other times is forgotten at once."""
        return [*range(SETTLE, self.away), *range(self.begin - SHOWN, self.length)]

    def first_sight(self, task: str) -> range:
        """Frames in which he stands at the place for the first time."""
        return range(SETTLE, SETTLE + self.scored)

    def matches(self, task: str) -> np.ndarray:
        """For each scored frame the earlier frame at the same place, (scored,)."""
        return self.seen


class ErrandWalker:
    """Walks one errand: call `act` with each frame's reading and tile, in turn."""

    def __init__(self, time: ErrandTime, random: np.random.Generator) -> None:
        self.time, self.random = time, random
        self.atlas = Atlas()
        self.tiles: list[Tile] = []
        self.home: Tile | None = None
        self._way: list[Tile] = []
        self._bumps: list[str] = []

    def act(self, seen: Reading, tile: Tile) -> str:
        """The button to press after a frame, "" for none."""
        if not self.tiles or tile != self.tiles[-1]:
            self._bumps = []
        self.tiles.append(tile)
        self.atlas.see(seen, tile)
        if self._way and self._way[0] == tile:
            self._way.pop(0)
        elif self._way and tile not in beside(self._way[0], {tile}):
            self._way = []  # pushed off it, or never there
        t = len(self.tiles) - 1
        if t == SETTLE:
            self.home, self._way = tile, []
        if t >= SETTLE and t < SETTLE + self.time.scored - 1:
            return ""
        foes = beside(tile, self.atlas.foes)
        if foes and self.random.random() < 0.8:
            return self._fight(seen, tile, foes[0])
        if t < SETTLE:
            return self._walk(tile, self._explore)
        if self.home is not None and not self._left():
            return self._leave(tile, t)
        return self._return(tile, t) if self._time_to_go(tile, t) else self._walk(tile, self._wander)

    def _left(self) -> bool:
        """Whether the place was out of sight since he was there."""
        home = self.home
        return home is not None and any(not overlap(home, tile) for tile in self.tiles[SETTLE:])

    def _inside(self, tile: Tile) -> bool:
        return self.home is not None and overlap(self.home, tile)

    def _fight(self, seen: Reading, tile: Tile, foe: Tile) -> str:
        row, column = (int(value) for value in seen.ahead())
        ahead = (tile[0] + column - 4, tile[1] - (row - 3))
        return "do" if ahead == foe else button_to(tile, foe)

    def _bump(self, tile: Tile) -> str:
        """At times a button against something solid here, one to three times; "" else."""
        if not self._bumps and self.random.random() < BUMP:
            walls = beside(tile, self.atlas.solid)
            if walls:
                wall = walls[int(self.random.integers(len(walls)))]
                self._bumps = [button_to(tile, wall)] * int(self.random.integers(1, 4))
        return self._bumps.pop() if self._bumps else ""

    def _walk(self, tile: Tile, choose: Callable[[Tile], list[Tile]]) -> str:
        """The next step of the present way, or of a new one."""
        bump = self._bump(tile)
        if bump:
            return bump
        if not self._way or not self.atlas.open(self._way[0]):
            self._way = choose(tile)
        return button_to(tile, self._way[0]) if self._way else ""

    def _explore(self, tile: Tile) -> list[Tile]:
        """A way to the edge of what is known, rather away from the beginning."""
        start = self.tiles[0]
        costs, before = self.atlas.ways(tile, GOAL)
        worth = {
            goal: abs(goal[0] - start[0]) + abs(goal[1] - start[1]) - 0.5 * cost + 4.0 * self.random.random()
            for goal, cost in costs.items()
            if goal != tile and self.atlas.frontier(goal)
        }
        return (
            way_to(before, max(worth, key=lambda goal: worth[goal])) if worth else self._anywhere(costs, before, tile)
        )

    def _anywhere(self, costs: dict[Tile, float], before: dict[Tile, Tile], tile: Tile) -> list[Tile]:
        goals = [goal for goal in costs if goal != tile]
        return way_to(before, goals[int(self.random.integers(len(goals)))]) if goals else []

    def _leave(self, tile: Tile, t: int) -> str:
        """Go out of sight on the way that leads there soonest, but no sooner than is asked for."""
        if not self._way or not self.atlas.open(self._way[0]):
            costs, before = self.atlas.ways(tile)
            out = {goal: cost + 3.0 * self.random.random() for goal, cost in costs.items() if not self._inside(goal)}
            if not out:
                return self._walk(tile, self._explore)
            self._way = way_to(before, min(out, key=lambda goal: out[goal]))
        if t + len(self._way) < self.time.away - SLACK:
            return self._bump(tile)
        return button_to(tile, self._way[0])

    def _wander(self, tile: Tile) -> list[Tile]:
        """A way to somewhere out of the place's sight, from where he can be back in time."""
        t, home = len(self.tiles) - 1, self.home
        assert home is not None
        left = self.time.begin - t
        costs, before = self.atlas.ways(tile, min(GOAL, left), lambda there: 1000.0 if self._inside(there) else 1.0)
        near = left < FAR
        outside = self._home_costs()[0] if near else {}
        goals = [
            goal
            for goal, cost in costs.items()
            if goal != tile
            and abs(goal[0] - home[0]) + abs(goal[1] - home[1]) <= RANGE
            and (not near or cost + outside.get(goal, np.inf) + SLACK <= left)
        ]
        if not goals:
            return []
        edge = [goal for goal in goals if self.atlas.frontier(goal)]
        chosen = edge if edge and self.random.random() < 0.5 else goals
        return way_to(before, chosen[int(self.random.integers(len(chosen)))])

    def _home_costs(self) -> tuple[dict[Tile, float], dict[Tile, Tile]]:
        """Of each tile: steps that a way home takes before it comes into sight, and the next tile of that way."""
        assert self.home is not None
        taken = set(self.tiles[SETTLE : self.time.away])
        _, towards = self.atlas.ways(self.home, cost=lambda tile: 1.0 + TAKEN * (tile in taken))
        outside: dict[Tile, float] = {}
        for tile in towards:  # each after the one that it leads to, or soon after it
            trail = []
            while tile not in outside and towards[tile] != tile:
                trail.append(tile)
                tile = towards[tile]
            count = outside.get(tile, 0.0)
            for there in reversed(trail):
                count += not self._inside(there)
                outside[there] = count
            outside.setdefault(tile, 0.0)
        return outside, towards

    def _time_to_go(self, tile: Tile, t: int) -> bool:
        left = self.time.begin - t
        if left <= 0:
            return True
        if self._way or left >= FAR:
            return False
        outside, _ = self._home_costs()
        return outside.get(tile, np.inf) + 2 * SLACK + 1 >= left

    def _return(self, tile: Tile, t: int) -> str:
        """One step home, but not into sight before the return begins; at home he stands."""
        self._way = []
        if tile == self.home:
            return ""
        bump = self._bump(tile)
        if bump:
            return bump
        _, towards = self._home_costs()
        there = towards.get(tile)
        if there is None:  # something stands in the only way
            return ""
        if self._inside(there) and t + 1 < self.time.begin:
            return ""
        return button_to(tile, there)


def fault(time: ErrandTime, tiles: Sequence[Tile]) -> str | None:
    """Say what is wrong with the tiles of a walk, or None: the contract of the module's text."""
    if len(tiles) != time.length:
        return f"{len(tiles)} frames instead of {time.length}"
    home = tiles[SETTLE]
    if any(overlap(home, tile) for tile in tiles[:REAL]):
        return "the place was in sight in the first frames"
    if any(tiles[int(t)] != home for t in (*time.seen, *time.back)):
        return "the player does not stand at the place"
    if any(overlap(home, tile) for tile in tiles[time.away : time.begin]):
        return "the place is in sight while it should be away"
    return None
