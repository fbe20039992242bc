"""Walks that see a place, leave it, and come back to exactly the same views: spin, there-and-back, loop.

All walks share one timetable (`Timetable`), so that episodes can be batched:

    0 .. LEAD - 1       lead: looks away from the place, then turns towards it
    seen                the place: `scored` frames, each a view that will come back
    leave               the view turns away: 5 frames in which a part of the place is still in sight
    gap                 exactly `gap` frames in which nothing of it is: every heading is at least the field of
                        view, 90 degrees, from every heading of `seen`, wherever the player stands
    begin               the return: 5 frames of turning back, in which the place comes into sight again
    back                the scored frames: the poses of `seen` again

spin: on the spot. A full circle past the place, the gap spent turning to and fro in the part of the circle
opposite to it, and the same circle again, in the same sense. there-and-back: the place is a path that is walked
looking one way; the player turns about, walks at random (looking the other way) for half the gap, and then takes
the inverse of everything, so that `back` is `seen` in reverse. loop: the place is the first leg of a closed
circuit that turns a quarter circle at three corners and goes through other rooms where they are near enough for
the gap; the second round repeats the first leg.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from engine.bench.revisit.circuit import Circuit
from engine.bench.revisit.path import TURN, VIEW, Path, sway, wander
from engine.data.walks import FULL_TURN, inverse

NEEDED = {
    "spin": ("turn_left", "turn_right"),
    "there-and-back": ("forward", "back", "turn_left", "turn_right"),
    "loop": ("forward", "back", "strafe_left", "strafe_right", "turn_left", "turn_right"),
}
"""Buttons that a task presses."""
REAL = 8
"""Frames that always look away from the place: the real ones of a generated history, and any sink."""
LEAD = REAL + FULL_TURN // 2
MIN_GAP = 16
MAX_SCORED = 12


@dataclass(frozen=True)
class Timetable:
    """When what happens in a walk, in frames; `seen` and `back` as in the module's text, oldest first."""

    gap: int
    scored: int

    @property
    def seen(self) -> np.ndarray:
        """Frames that see the place for the first time, (scored,)."""
        return LEAD + np.arange(self.scored)

    @property
    def away(self) -> int:
        """First frame of the gap."""
        return LEAD + self.scored + VIEW - 1

    @property
    def begin(self) -> int:
        """First frame of the return."""
        return self.away + self.gap

    @property
    def back(self) -> np.ndarray:
        """Scored frames, (scored,)."""
        return self.begin + VIEW - 1 + np.arange(self.scored)

    @property
    def length(self) -> int:
        """Frames of the whole walk."""
        return self.begin + VIEW - 1 + self.scored

    @property
    def kept(self) -> list[int]:
        """Frames that are scored, compared with or shown; what a world draws at other times is forgotten at once."""
        return [*range(LEAD - VIEW, self.away), *range(self.begin - VIEW, self.length)]

    def matches(self, task: str) -> np.ndarray:
        """For each scored frame the earlier frame of the same pose, (scored,)."""
        return self.seen[::-1] if task == "there-and-back" else self.seen

    def first_sight(self, task: str) -> range:
        """Frames that have the views of the whole return: of turning to the place or, for the way back, from it."""
        first = LEAD if task == "there-and-back" else LEAD - VIEW + 1
        return range(first, first + self.scored + VIEW - 1)


def face(path: Path, heading: int) -> None:
    """Turn to a heading, and stand before everything else so long that it is reached at frame LEAD."""
    way = (heading - path.heading + FULL_TURN // 2) % FULL_TURN - FULL_TURN // 2
    way = path.side() * abs(way) if abs(way) == FULL_TURN // 2 else way
    path.turn(way)
    waiting = LEAD - len(path.pressed)
    assert waiting >= 0, waiting
    path.pressed[:0] = [frozenset()] * waiting
    path.places[:0] = [path.places[0]] * waiting


def spin(path: Path, time: Timetable) -> None:
    """Plan a full circle, the gap within what lies opposite to the place, and the circle again."""
    side, last = path.side(), FULL_TURN - 2 * VIEW + 1 - time.scored
    sway(path, LEAD - VIEW, side, int(path.rng.integers(last + 1)), last, last)
    path.turn(side * (VIEW + time.scored - 1))  # to the place, past it
    path.turn(side * VIEW)
    sway(path, time.gap - 1, side, 0, last, last)
    path.turn(side * (VIEW + time.scored - 1))


def there_and_back(path: Path, time: Timetable) -> None:
    """Plan a path and its inverse."""
    opposite, place = path.heading, path.heading + FULL_TURN // 2
    wander(path, REAL, opposite, VIEW)
    face(path, place)
    place = path.heading
    out = len(path.pressed)
    wander(path, time.scored - 1, place, 0)
    side = path.side()
    path.turn(side * VIEW)
    wander(path, (time.gap - 1) // 2, place + side * FULL_TURN // 2, VIEW)
    way_back = inverse(path.pressed[out:])
    if time.gap % 2 == 0:
        path.press()
    path.play(way_back)


def loop(path: Path, time: Timetable) -> None:
    """Plan a closed circuit of four legs, on a grid of strides, and its first leg again."""
    aslant = [abs((path.angle + TURN * h + 45.0) % 90.0 - 45.0) for h in range(-3, 4)]
    opposite = int(np.argmin(aslant)) - 3  # Doom's rooms lie along the axes, and so do the legs
    wander(path, REAL, opposite, VIEW)
    face(path, opposite + FULL_TURN // 2)
    circuit = Circuit(path, time.gap - 1 - 2 * VIEW)
    side, first = path.side(), len(path.pressed)
    circuit.stroll(time.scored - 1)
    leg = path.pressed[first:]
    path.turn(side * VIEW)
    circuit.visit(circuit.budget // 3, 1)
    path.turn(side * VIEW)
    circuit.visit(circuit.budget, 80)
    circuit.dwell()
    path.turn(side * VIEW)
    circuit.go_home()
    path.turn(side * VIEW)
    path.play(leg)


PLANNERS: dict[str, Callable[[Path, Timetable], None]] = {
    "spin": spin,
    "there-and-back": there_and_back,
    "loop": loop,
}


def fault(task: str, time: Timetable, poses: np.ndarray) -> str | None:
    """Say what is wrong with a walk's true poses (T, 4), or None: the contract of the module's text."""
    poses = np.asarray(poses, np.float64)
    if len(poses) != time.length:
        return f"{len(poses)} frames instead of {time.length}"
    back, seen = poses[time.back], poses[time.matches(task)]
    turned = np.abs((back[:, 3] - seen[:, 3] + 180.0) % 360.0 - 180.0)
    if np.abs(back[:, :3] - seen[:, :3]).max() > 1.0 or turned.max() > 0.5:
        return "a view that should come back does not"
    elsewhere = np.concatenate((poses[:REAL], poses[time.away : time.begin]))
    apart = np.abs((elsewhere[:, None, 3] - back[None, :, 3] + 180.0) % 360.0 - 180.0)
    return "the place is in sight while it should be away" if apart.min() < VIEW * TURN - 0.5 else None
