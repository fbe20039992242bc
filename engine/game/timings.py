"""How long frames took, and how long a key took to become pixels."""

from __future__ import annotations

import statistics
from collections import deque
from typing import Any

RECENT = 120  # frames that the HUD's figures look back on


class Timings:
    """Collects the times of a game, in seconds as time.perf_counter() gives them."""

    def __init__(self) -> None:
        self.frames = 0
        self._work: list[float] = []
        self._periods: list[float] = []
        self._last: float | None = None
        self._to_pixels: list[float] = []
        self._presses: list[float] = []
        self._recent: deque[float] = deque(maxlen=RECENT)

    def frame(self, began: float, ended: float) -> None:
        """A frame was drawn and committed between these times."""
        self.frames += 1
        self._work.append(ended - began)
        if self._last is not None:
            self._periods.append(began - self._last)
            self._recent.append(began - self._last)
        self._last = began

    def interrupt(self) -> None:
        """The game stood still here: the time until the next frame is not a frame's."""
        self._last = None

    def shown(self, began: float, pressed_at: float | None, seen: float) -> None:
        """A frame's pixels were there at `seen`. Its key was taken at `began`, and pressed at `pressed_at`
        if it was not already held."""
        self._to_pixels.append(seen - (began if pressed_at is None else pressed_at))
        if pressed_at is not None:
            self._presses.append(seen - pressed_at)

    def rate(self) -> float:
        """Frames a second over the last frames; 0 before there are any."""
        recent = list(self._recent)
        total = sum(recent)
        return len(recent) / total if total > 0 else 0.0

    def latency_ms(self) -> float | None:
        """The median from key to pixels over the last frames."""
        recent = self._to_pixels[-RECENT:]
        return 1000 * statistics.median(recent) if recent else None

    def summary(self) -> dict[str, Any]:
        """The figures of the whole game; None where nothing was measured."""
        periods = sum(self._periods)
        if periods > 0:
            fps: float | None = len(self._periods) / periods
        else:
            fps = self.frames / sum(self._work) if self._work else None
        return {
            "frames": self.frames,
            "fps": _round(fps),
            "key_to_frame_ms_p50": _percentile(self._to_pixels, 50),
            "key_to_frame_ms_p95": _percentile(self._to_pixels, 95),
            "press_to_frame_ms_p50": _percentile(self._presses, 50),
            "frame_ms_p50": _percentile(self._work, 50),
            "frame_ms_p95": _percentile(self._work, 95),
            "frame_ms_max": _percentile(self._work, 100),
        }


def _percentile(seconds: list[float], percent: int) -> float | None:
    """The smallest of the times that `percent` percent of them do not exceed, in milliseconds."""
    if not seconds:
        return None
    ordered = sorted(seconds)
    return _round(1000 * ordered[max(0, -(-len(ordered) * percent // 100) - 1)])


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
