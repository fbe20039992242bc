"""The live revisit meter: when the view returns to an old place, how well does the picture match what was there?

A place is a pose by dead reckoning, so the meter works where the world has odometry and no wall was run into. It
compares with what was drawn, not with a simulator: the world's agreement with itself.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

AWAY = 16
"""Frames for which a view must have been left before coming back counts."""
ALIKE = (0.35, math.radians(5.0))
"""Within this many steps and this angle a pose is the same."""
TURNS = 24
"""Cells of a full turn in which places are looked up."""
PLACES = 4096
"""Places that are kept, the first ones seen."""


@dataclass(frozen=True)
class Revisit:
    """A view that came back: PSNR in dB against its picture `age` frames ago."""

    psnr: float
    age: int


@dataclass
class _Place:
    pose: tuple[float, ...]
    frame: np.ndarray
    index: int  # when its picture was drawn
    seen: int  # when it was last in view


class RevisitMeter:
    """Feed it every frame with `see`."""

    def __init__(self) -> None:
        self._places: dict[tuple[int, int, int], list[_Place]] = {}
        self._count = 0
        self.last: Revisit | None = None

    def see(self, pose: Sequence[float] | None, frame: np.ndarray, index: int) -> Revisit | None:
        """A frame uint8 (H, W, 3), number `index`, from pose (x, y, heading); returns what `last` then is.

        `last` is None in views that are new, or were never left.
        """
        self.last = None
        if pose is None:
            return None
        x, y, heading = pose
        turned = heading % (2 * math.pi)
        place = self._near(x, y, turned)
        if place is not None:
            if index - place.seen > AWAY:
                self.last = Revisit(_psnr(frame, place.frame), index - place.index)
                place.seen = index - AWAY - 1  # as long as it stays in view, it counts as come back
            else:
                place.seen = index
            return self.last
        if self._count < PLACES:
            self._count += 1
            cell = _cell(x, y, turned)
            self._places.setdefault(cell, []).append(_Place((x, y, turned), frame.copy(), index, index))
        return None

    def _near(self, x: float, y: float, turned: float) -> _Place | None:
        """The place of this pose; it may lie in a neighbouring cell, for rounding is no measure of distance."""
        i, j, k = _cell(x, y, turned)
        for cell in itertools.product((i, i - 1, i + 1), (j, j - 1, j + 1), (k, (k - 1) % TURNS, (k + 1) % TURNS)):
            for place in self._places.get(cell, ()):
                px, py, other = place.pose
                angle = abs((turned - other + math.pi) % (2 * math.pi) - math.pi)
                if math.hypot(x - px, y - py) < ALIKE[0] and angle < ALIKE[1]:
                    return place
        return None

    def forget(self, after: int = -1) -> None:
        """Forget what was seen after frame `after`; all by default."""
        for key, places in list(self._places.items()):
            kept = [place for place in places if place.index <= after]
            for place in kept:
                place.seen = min(place.seen, after)
            self._places[key] = kept
        self._count = sum(map(len, self._places.values()))
        self.last = None


def _cell(x: float, y: float, turned: float) -> tuple[int, int, int]:
    return round(x), round(y), round(turned / (2 * math.pi) * TURNS) % TURNS


def _psnr(a: np.ndarray, b: np.ndarray) -> float:
    from engine.measures import psnr  # it is torch's: a window opens without

    return float(psnr(a[None], b[None])[0])
