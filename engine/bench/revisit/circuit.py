"""Closed ways on a grid of strides, for the revisit task `loop`."""

from __future__ import annotations

import numpy as np

from engine.bench.revisit.path import MOVES, VIEW, Path
from engine.sources.doom.route import distances

REACH = 40
"""Strides around the player that a circuit may use."""
BLIND_REACH = 5
"""The same in a source that can't say where its walls are."""


class Circuit:
    """The moves of a circuit: from the player's place over the points of a grid, and home in `budget` moves.

    The grid lies along the player's heading; a place is (x, y), steps ahead of and to the left of home. Any move
    is made looking any way, by the button that leads there.
    """

    def __init__(self, path: Path, budget: int) -> None:
        self.path, self.budget = path, budget
        reach = min(budget // 2 + 1, BLIND_REACH if path.ground.clear is None else REACH)
        ahead, left = path.direction(path.heading), path.direction(path.heading + VIEW)
        steps = np.arange(-reach, reach + 1)
        x, y = np.meshgrid(steps, steps)
        offsets = x.reshape(-1, 1) * ahead + y.reshape(-1, 1) * left
        points = np.array(path.places[-1]) + path.ground.stride * offsets
        self.free: np.ndarray = path.ground.free(points).reshape(x.shape)
        self.facing = path.heading
        self.home: tuple[int, int] = (reach, reach)
        self.here = self.home
        self.free[reach, reach] = True
        self.to_home = distances(self.free, self.home)
        self.last = 0

    def around(self) -> list[tuple[int, tuple[int, int]]]:
        """Free neighbours, each with its direction: 0 ahead, 1 left, 2 back, 3 right, as seen at the beginning."""
        found = []
        rows, columns = len(self.free), len(self.free[0])
        for way, (dx, dy) in enumerate(((1, 0), (0, 1), (-1, 0), (0, -1))):
            x, y = self.here[0] + dx, self.here[1] + dy
            if 0 <= x < columns and 0 <= y < rows and self.free[y, x]:
                found.append((way, (x, y)))
        return found

    def step(self, way: int, place: tuple[int, int]) -> None:
        """Move to a neighbour."""
        turned = (self.path.heading - self.facing) // VIEW
        self.path.press(list(MOVES)[(way - turned) % 4])
        self.here, self.last = place, way

    def stroll(self, steps: int) -> None:
        """Move at random, forward most, never further from home than the budget; stand where there is no way."""
        for _ in range(steps):
            ways = [(way, p) for way, p in self.around() if self.to_home[p[1], p[0]] <= self.budget]
            if not ways:
                self.path.press()
                continue
            weights = np.array([(4.0 if way == self.last else 1.0) * (0.2 if way == 2 else 1.0) for way, _ in ways])
            self.step(*ways[int(self.path.rng.choice(len(ways), p=weights / weights.sum()))])

    def visit(self, moves: int, most: int) -> None:
        """Go to up to `most` places, drawn at random but rather far ones, by `moves` moves or fewer."""
        rng = self.path.rng
        for _ in range(most):
            field = distances(self.free, self.here)
            ys, xs = np.nonzero((field > 0) & (field <= moves) & (field + self.to_home <= self.budget))
            if not len(xs):
                return
            drawn = rng.integers(len(xs), size=3)
            best = max(drawn, key=lambda i: int(field[ys[i], xs[i]]))
            moves -= self.go((int(xs[best]), int(ys[best])))

    def go(self, goal: tuple[int, int]) -> int:
        """Take a shortest way to a place, straight on where that is one; returns its moves."""
        field = distances(self.free, goal)
        moves = int(field[self.here[1], self.here[0]])
        for left in range(moves - 1, -1, -1):
            ways = [(way, place) for way, place in self.around() if field[place[1], place[0]] == left]
            straight = [entry for entry in ways if entry[0] == self.last]
            self.step(*(straight or ways)[int(self.path.rng.integers(len(straight or ways)))])
        self.budget -= moves
        return moves

    def dwell(self) -> None:
        """Look about and stand until just the way home is left."""
        spare = self.budget - int(self.to_home[self.here[1], self.here[0]])
        self.budget -= spare
        while spare > 1:
            aside = min(int(self.path.rng.integers(1, VIEW + 1)), spare // 2)
            side = self.path.side()
            self.path.turn(side * aside)
            self.path.turn(-side * aside)
            spare -= 2 * aside
        if spare:
            self.path.press()

    def go_home(self) -> None:
        """Spend the rest of the budget on the way home."""
        self.go(self.home)
        assert self.budget == 0 and self.here == self.home, self.budget
