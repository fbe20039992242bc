"""Walks made for memory: leave and come back, full turns, tours through rooms, standing, random play.

A walk is a generator: it yields the buttons to press, and is sent the pose after each step. `Walker` strings
walks together for an episode, and ends one that runs against a wall.
"""

from collections.abc import Callable, Generator, Sequence
from typing import TypeAlias

import numpy as np

from engine.actions import encode

Pressed: TypeAlias = frozenset[str]
Walk: TypeAlias = Generator[Pressed, np.ndarray, None]
Route: TypeAlias = Callable[[np.random.Generator], list[tuple[float, float]]]

CONTRARY = {
    "forward": "back",
    "turn_left": "turn_right",
    "strafe_left": "strafe_right",
    "left": "right",
    "up": "down",
}
OPPOSITE = CONTRARY | {two: one for one, two in CONTRARY.items()}
TURNS = ("turn_left", "turn_right")
FULL_TURN = 24
"""Steps in a full circle."""
NEAR = 24.0
"""A way point counts as reached at this distance, in map units."""
NOTHING: Pressed = frozenset()


def inverse(path: Sequence[Pressed]) -> list[Pressed]:
    """Return the way back: the steps in reverse order, each button replaced by its opposite."""
    return [frozenset(OPPOSITE.get(button, button) for button in pressed) for pressed in reversed(path)]


def play(path: Sequence[Pressed]) -> Walk:
    """Press what `path` says."""
    for pressed in path:  # noqa: UP028  (a list's iterator could not be sent the pose)
        yield pressed


def spin(rng: np.random.Generator) -> Walk:
    """Turn a full circle, or two, either way."""
    side = frozenset({_one_of(rng, TURNS)})
    for _ in range(FULL_TURN * (1 + (rng.random() < 0.2))):
        yield side


def look(rng: np.random.Generator) -> Walk:
    """Turn aside, wait a moment, turn back."""
    path = [frozenset({_one_of(rng, TURNS)})] * int(rng.integers(2, 13))
    yield from play([*path, *[NOTHING] * int(rng.integers(0, 4)), *inverse(path)])


def stand(rng: np.random.Generator) -> Walk:
    """Stand still."""
    yield from play([NOTHING] * int(rng.integers(3, 13)))


def held_keys(rng: np.random.Generator, buttons: Sequence[str]) -> Walk:
    """Play at random, each choice of one or two buttons held for a while; forward is chosen most."""
    weights = np.array([3.0 if button == "forward" else 1.0 for button in buttons])
    for _ in range(int(rng.integers(3, 9))):
        count = min(1 + int(rng.random() < 0.45), len(buttons))
        chosen = rng.choice(len(buttons), size=count, replace=False, p=weights / weights.sum())
        pressed = {buttons[index] for index in chosen}
        if any(OPPOSITE.get(button) in pressed for button in pressed):
            pressed = {buttons[chosen[0]]}
        yield from play([frozenset(pressed)] * int(rng.integers(2, 9)))


def random_play(rng: np.random.Generator, buttons: Sequence[str]) -> Walk:
    """Play at random in a world that is no walk: nothing, one button or two, held for 1 to 8 steps, mostly few."""
    for _ in range(int(rng.integers(6, 13))):
        count = min(int(rng.choice(3, p=(0.15, 0.65, 0.2))), len(buttons))
        pressed = {buttons[index] for index in rng.choice(len(buttons), size=count, replace=False)}
        if any(OPPOSITE.get(button) in pressed for button in pressed):
            continue
        yield from play([frozenset(pressed)] * min(8, int(rng.geometric(0.4))))


def leave_and_return(rng: np.random.Generator, buttons: Sequence[str]) -> Walk:
    """Walk away at random, and come back by the inverse of the way."""
    path: list[Pressed] = []
    for pressed in held_keys(rng, buttons):
        yield pressed
        path.append(pressed)
    yield from play([NOTHING] * int(rng.integers(0, 3)) + inverse(path))


def turn_away(rng: np.random.Generator) -> Walk:
    """Turn by 75 to 180 degrees, away from a wall."""
    yield from play([frozenset({_one_of(rng, TURNS)})] * int(rng.integers(5, 13)))


def follow(rng: np.random.Generator, points: Sequence[tuple[float, float]], pose: np.ndarray) -> Walk:
    """Go through the way points (map units), facing the way or sidling; look around at times."""
    sidle = rng.random() < 0.2
    for x, y in points:
        for _ in range(200):
            dx, dy = x - float(pose[0]), y - float(pose[1])
            distance = float(np.hypot(dx, dy))
            if distance < NEAR:
                break
            bearing = (float(np.degrees(np.arctan2(dy, dx))) - float(pose[3]) + 180.0) % 360.0 - 180.0
            if rng.random() < 0.01:
                for pressed in look(rng):
                    pose = yield pressed
            if sidle:
                pose = yield _sidle(bearing)
            elif abs(bearing) > 7.6:
                turn = "turn_left" if bearing > 0 else "turn_right"
                both = abs(bearing) < 31.0 and distance > 3 * NEAR and rng.random() < 0.7
                pose = yield frozenset({"forward", turn} if both else {turn})
            else:
                pose = yield frozenset({"forward"})


def _sidle(bearing: float) -> Pressed:
    """Return the buttons that move closest to `bearing` (degrees to the left of the view) without turning."""
    eighth = round(bearing / 45.0) % 8
    pressed = set()
    if eighth in (7, 0, 1):
        pressed.add("forward")
    if eighth in (3, 4, 5):
        pressed.add("back")
    if eighth in (1, 2, 3):
        pressed.add("strafe_left")
    if eighth in (5, 6, 7):
        pressed.add("strafe_right")
    return frozenset(pressed)


def _one_of(rng: np.random.Generator, names: Sequence[str]) -> str:
    return names[int(rng.integers(len(names)))]


class Walker:
    """An endless walk: call `act` with the pose, float32 (4,) or None, before each step.

    `buttons` are the world's; those that a walk does not know are only pressed in random play, and a world without
    `forward` and `back` is played at random altogether. `route`, where the source has one, gives way points from the
    present place.
    """

    def __init__(self, buttons: Sequence[str], rng: np.random.Generator, route: Route | None = None) -> None:
        self.buttons, self.rng, self.route = tuple(buttons), rng, route
        self.history: list[Pressed] = []
        self._walk: Walk = stand(rng)
        self._fresh = True
        self._before: np.ndarray | None = None
        self._blocked = 0
        self._stride = 0.0

    def act(self, pose: np.ndarray | None) -> np.ndarray:
        """Return the next action, uint8 (A,)."""
        if pose is not None and self._stuck(pose):
            self._begin(turn_away(self.rng) if self._can(TURNS) else held_keys(self.rng, self.buttons))
        while True:
            try:
                pressed = next(self._walk) if self._fresh or pose is None else self._walk.send(pose)
                self._fresh = False
                break
            except StopIteration:
                self._begin(self._choose(pose))
        self.history.append(pressed)
        self._before = None if pose is None else pose.copy()
        return encode(self.buttons, pressed)

    def _begin(self, walk: Walk) -> None:
        self._walk, self._fresh, self._blocked = walk, True, 0

    def _can(self, needed: Sequence[str]) -> bool:
        return set(needed) <= set(self.buttons)

    def _stuck(self, pose: np.ndarray) -> bool:
        """Say whether the last two steps that should have moved the player hardly did."""
        if self._before is None or not self.history:
            return False
        moving = [button for button in self.history[-1] if button in OPPOSITE and button not in TURNS]
        if not moving:
            return False
        moved = float(np.hypot(*(pose[:2] - self._before[:2])))
        self._stride = max(self._stride, moved)
        self._blocked = self._blocked + 1 if moved < 0.4 * self._stride else 0
        return self._blocked >= 2

    def _choose(self, pose: np.ndarray | None) -> Walk:
        rng, steerable = self.rng, self._can((*TURNS, "forward", "back", "strafe_left", "strafe_right"))
        if not self._can(("forward", "back")):  # no place to leave and to come back to
            return random_play(rng, self.buttons)
        luck = rng.random()
        if steerable and self.route is not None and pose is not None and luck < 0.40:
            return follow(rng, self.route(rng)[: int(rng.integers(2, 13))], pose)
        if luck < 0.56 and len(self.history) >= 12:
            return play(inverse(self.history[-int(rng.integers(8, 61)) :]))
        if luck < 0.70:
            return leave_and_return(rng, self.buttons)
        if self._can(TURNS) and luck < 0.82:
            return spin(rng) if luck < 0.76 else look(rng)
        if luck < 0.88:
            return stand(rng)
        return held_keys(rng, self.buttons)
