"""Planning of a walk: where the player can stand, where buttons lead, and random walks that touch no wall."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from engine.data.walks import FULL_TURN, Pressed

TURN = 360.0 / FULL_TURN
"""Degrees of a step of turning."""
VIEW = FULL_TURN // 4
"""Field of view in steps of turning: two views so far apart touch at most at their edges."""
MOVES = {"forward": 0, "strafe_left": VIEW, "back": 2 * VIEW, "strafe_right": 3 * VIEW}
"""Where a button moves to, in steps of turning to the left of the view."""


class Ground:
    """Where the player can stand: what the source says, where it can, and what bumping into walls has taught."""

    def __init__(self, clear: Callable[[np.ndarray], np.ndarray] | None, stride: float) -> None:
        self.clear, self.stride = clear, stride
        self.blocked: list[tuple[float, float]] = []

    def free(self, points: np.ndarray) -> np.ndarray:
        """Points (n, 2) in map units -> bool (n,)."""
        free = np.ones(len(points), bool) if self.clear is None else self.clear(points)
        for x, y in self.blocked:
            free = free & (np.hypot(points[:, 0] - x, points[:, 1] - y) > self.stride / 2)
        return free


class Path:
    """A walk that is being planned: buttons pressed so far, and where they lead if no wall is touched.

    pose (4,): x, y, z, angle in degrees. Headings are whole steps of turning to the left of the first one.
    """

    def __init__(self, pose: np.ndarray, ground: Ground, buttons: Sequence[str], rng: np.random.Generator) -> None:
        self.ground, self.buttons, self.rng = ground, tuple(buttons), rng
        self.angle = float(pose[3])
        self.places = [(float(pose[0]), float(pose[1]))]
        self.heading = 0
        self.pressed: list[Pressed] = []

    def direction(self, heading: int) -> np.ndarray:
        """Unit vector (2,) of a heading."""
        radians = np.radians(self.angle + TURN * heading)
        return np.array([np.cos(radians), np.sin(radians)])

    def target(self, button: str) -> np.ndarray:
        """Where a step of a moving button leads, (2,)."""
        return np.array(self.places[-1]) + self.ground.stride * self.direction(self.heading + MOVES[button])

    def press(self, button: str | None = None) -> None:
        """Append a step; None stands still."""
        place = tuple(self.target(button)) if button in MOVES else self.places[-1]
        self.heading += {"turn_left": 1, "turn_right": -1}.get(button or "", 0)
        self.places.append((float(place[0]), float(place[1])))
        self.pressed.append(frozenset() if button is None else frozenset({button}))

    def turn(self, steps: int) -> None:
        """Turn by so many steps, to the left where positive."""
        for _ in range(abs(steps)):
            self.press("turn_left" if steps > 0 else "turn_right")

    def play(self, pressed: Sequence[Pressed]) -> None:
        """Append steps of at most one button each."""
        for buttons in pressed:
            self.press(next(iter(buttons), None))

    def open(self, button: str) -> bool:
        """Say whether a moving button leads to a free place over free ground."""
        if button not in self.buttons:
            return False
        here, there = np.array(self.places[-1]), self.target(button)
        return bool(self.ground.free(np.stack(((here + there) / 2, there))).all())

    def side(self) -> int:
        """Draw a side: 1 for left, -1 for right."""
        return 1 if self.rng.random() < 0.5 else -1


def wander(path: Path, steps: int, centre: int, width: int) -> None:
    """Hold buttons at random for so many steps; no heading further than `width` from `centre`, no wall touched."""
    rng, left = path.rng, steps
    while left:
        weights = {button: 3.0 if button == "forward" else 1.0 for button in MOVES if path.open(button)}
        for button, way in (("turn_left", 1), ("turn_right", -1)):
            if abs(path.heading + way - centre) <= width:
                weights[button] = 1.0
        if not weights or rng.random() < 0.05:
            path.press()
            left -= 1
            continue
        shares = np.array(list(weights.values()))
        button = list(weights)[int(rng.choice(len(weights), p=shares / shares.sum()))]
        for _ in range(min(left, int(rng.integers(2, 9)))):
            sign = {"turn_left": 1, "turn_right": -1}.get(button, 0)
            fine = abs(path.heading + sign - centre) <= width if sign else path.open(button)
            if not fine:
                break
            path.press(button)
            left -= 1


def sway(path: Path, steps: int, side: int, at: int, end: int, last: int) -> None:
    """Turn to and fro between 0 and `last` steps towards `side`, from `at`, in so many steps; arrive at `end`."""
    way = 1
    for left in range(steps, 0, -1):
        luck = path.rng.random()
        way = -way if luck < 0.1 or not 0 <= at + way <= last else way
        step = 0 if luck > 0.9 or not 0 <= at + way <= last else way
        if abs(end - at - step) > left - 1:
            step = int(np.sign(end - at))
        path.turn(side * step) if step else path.press()
        at += step
    assert at == end, (at, end)
