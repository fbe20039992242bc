"""The figures of `bench revisit`: one cell for each task, history, gap and mode, and modes compared pair by pair."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from engine.measures import interval, mean_seen, relative_change


@dataclass
class Cell:
    """What is gathered for one task, gap, history and mode: scores (E, S), seconds of steps, bytes, worlds a step."""

    parts: list[dict[str, np.ndarray]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    bytes: float = 0.0
    batch: int = 0

    def over_episodes(self, name: str) -> np.ndarray:
        """Mean over the scored frames, (E,)."""
        return mean_seen(np.concatenate([part[name] for part in self.parts]))

    def figures(self) -> dict[str, Any]:
        """Means as plain numbers under their names, their 95 % intervals over episodes under "intervals"."""
        spans = {name: interval(self.over_episodes(name)) for name in self.parts[0]}
        plain: dict[str, Any] = {name: span["mean"] for name, span in spans.items()}
        rows = {name: np.concatenate([part[name] for part in self.parts]) for name in ("psnr", "flip")}
        return plain | {
            "cache_bytes": self.bytes,
            "frame_ms_p50": 1e3 * float(np.median(self.seconds)),
            "batch": self.batch,
            "by_frame": {name: mean_seen(values, 0) for name, values in rows.items()},
            "intervals": {name: [span["low"], span["high"]] for name, span in spans.items()},
        }


Key = tuple[str, str, int, str]  # task, history, gap, mode


def compared(cells: dict[Key, Cell]) -> list[dict[str, Any]]:
    """Each mode beside `window` and `full`, where they were measured, by pairs of the same episode and noise.

    flip_reduction_vs_window: share of the window's FLIP that is saved, 0.37 for 37 % less; psnr_minus_window and
    psnr_minus_full in dB; cache_ratio_to_full: full's bytes over this mode's. Intervals as in the cells.
    """
    rows = []
    for (task, history, gap, mode), cell in cells.items():
        row: dict[str, Any] = {"task": task, "mode": mode, "history": history, "gap": gap}
        spans: dict[str, dict[str, float]] = {}
        for base in ("window", "full"):
            other = cells.get((task, history, gap, base))
            if other is None or mode == base:
                continue
            spans[f"psnr_minus_{base}"] = interval(cell.over_episodes("psnr") - other.over_episodes("psnr"))
            if base == "window":
                change = relative_change(other.over_episodes("flip"), cell.over_episodes("flip"))
                reduction = {"mean": -change["mean"], "low": -change["high"], "high": -change["low"]}
                spans["flip_reduction_vs_window"] = reduction
            else:
                row["cache_ratio_to_full"] = other.bytes / cell.bytes if cell.bytes else None
        if spans:
            row |= {name: span["mean"] for name, span in spans.items()}
            rows.append(row | {"intervals": {name: [span["low"], span["high"]] for name, span in spans.items()}})
    return rows


def collected(cells: dict[Key, Cell], episodes: int) -> dict[str, Any]:
    """Return the JSON's `cells` and `comparisons`, of the tasks and gaps that are whole."""
    rows = [
        {"task": task, "mode": mode, "history": history, "gap": gap, "episodes": episodes} | cell.figures()
        for (task, history, gap, mode), cell in cells.items()
    ]
    return {"cells": rows, "comparisons": compared(cells)}
