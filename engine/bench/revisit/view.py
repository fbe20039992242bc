"""How `bench revisit` shows what it found: tables, a plot, a sheet of pictures and a video side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from engine.bench import report
from engine.bench.revisit.play import Played
from engine.bench.revisit.truth import Visits
from engine.pictures import grid, save_grid
from engine.video import VideoWriter

COLORS = {"window": "tab:red", "full": "tab:blue", "mag": "tab:purple"}
SCALE = 4
"""Magnification of the video's frames."""
PAUSE = 6
"""Frames for which the video holds the last frame of a walk."""


@dataclass(frozen=True)
class Shown:
    """One walk (`visits` holds a single one), and what each mode drew of it."""

    history: str
    visits: Visits
    modes: dict[str, Played]

    def frame(self, mode: str, t: int) -> np.ndarray:
        """What a mode showed at a time: real frames as long as its history is real; uint8 (H, W, 3)."""
        drawn = self.modes[mode].frames
        return drawn[t][0] if t in drawn else self.visits.frames[0, t]


def spanned(row: dict[str, Any], name: str) -> dict[str, float] | None:
    """A figure with its interval, as `report.table` takes it."""
    if name not in row:
        return None
    low, high = row["intervals"][name]
    return {"mean": row[name], "low": low, "high": high}


def tables(result: dict[str, Any]) -> str:
    """The cells and the comparisons as text."""
    place = ("task", "history", "gap", "mode")
    scored = ("PSNR, dB", "SSIM", "FLIP", "matched", "still", "truth", "codec", "KB", "ms")
    rows = []
    for row in result["cells"]:
        spans = (spanned(row, "psnr"), row["ssim"], spanned(row, "flip"), row["psnr_matched"])
        limits = (row["psnr_still"], row["psnr_truth"], row["psnr_codec"])
        costs = (f"{row['cache_bytes'] / 1e3:.0f}", f"{row['frame_ms_p50']:.1f}")
        rows.append((*(row[name] for name in place), *spans, *limits, *costs))
    parts = [report.table((*place, *scored), rows)]
    errands = [row for row in result["cells"] if "map_consistency" in row]
    if errands:
        counted = ("map_consistency", "pose_exact", "pose_exact_back", "finished")
        lines = [(*(row[name] for name in place), *(spanned(row, name) for name in counted)) for row in errands]
        parts.append(report.table((*place, *(name.replace("_", " ") for name in counted)), lines, 4))
    names = ("flip_reduction_vs_window", "psnr_minus_window", "psnr_minus_full")
    if result["comparisons"]:
        found = ("FLIP saved", "PSNR - window", "PSNR - full", "bytes in full / its")
        lines = [
            (*(row[name] for name in place), *(spanned(row, name) for name in names), row.get("cache_ratio_to_full"))
            for row in result["comparisons"]
        ]
        parts.append(report.table((*place, *found), lines))
    return "\n\n".join([*parts, *result["notes"]])


def draw(path: Path, cells: Sequence[dict[str, Any]]) -> None:
    """Plot PSNR and FLIP against the gap by mode, with intervals: a column for each task and history."""
    columns = list(dict.fromkeys((row["task"], row["history"]) for row in cells))
    made, axes = report.figure(len(columns), 2, width=3.6, height=2.9)
    for i, (task, history) in enumerate(columns):
        some = [row for row in cells if (row["task"], row["history"]) == (task, history)]
        for name, ax in (("psnr", axes[i]), ("flip", axes[len(columns) + i])):
            for mode in dict.fromkeys(row["mode"] for row in some):
                line = sorted(
                    (row["gap"], row[name], *row["intervals"][name])
                    for row in some
                    if row["mode"] == mode and np.isfinite(row[name])
                )
                if not line:  # nobody came back
                    continue
                gap, mean, low, high = zip(*line, strict=True)
                ax.plot(gap, mean, "o-", color=COLORS.get(mode), label=mode)
                ax.fill_between(gap, low, high, color=COLORS.get(mode), alpha=0.15, linewidth=0)
            if history == "truth":
                best = sorted((row["gap"], row[f"{name}_codec"]) for row in some)
                ax.plot(*zip(*best, strict=True), "--", color="tab:green", label="codec")
            if ax.lines:
                ax.set_xscale("log", base=2)
            gaps = sorted({row["gap"] for row in some})
            ax.set_xticks(gaps, [str(gap) for gap in gaps])
            ax.set(xlabel="gap, frames", ylabel={"psnr": "PSNR, dB", "flip": "FLIP"}[name])
        axes[i].set_title(f"{task}, {history} history", fontsize="medium")
        if axes[i].lines:
            axes[i].legend(fontsize="x-small")
    report.save_figure(path, made)


def save_sheet(path: Path, shown: Sequence[Shown]) -> None:
    """Write one walk of each task, gap and history: truth, then each mode; the scored frames are the columns.

    With generated history there are two rows a mode: what it drew at the first sight, and at the return.
    """
    rows, labels = [], []
    for entry in shown:
        time, task = entry.visits.time, entry.visits.task
        rows.append([entry.visits.frames[0, t] for t in time.back])
        labels.append(f"{task}\ngap {time.gap}\ntruth")
        for mode in entry.modes:
            if entry.history == "generated":
                rows.append([entry.frame(mode, t) for t in time.matches(task)])
                labels.append(f"{mode}\nfirst sight")
            rows.append([entry.frame(mode, t) for t in time.back])
            labels.append(f"{mode}\nreturn" + ("" if entry.history == "truth" else "\n(own history)"))
    heads = [f"frame {i + 1}" for i in range(max(len(row) for row in rows))]
    save_grid(path, rows, labels, heads)


def panels(entry: Shown) -> Iterator[np.ndarray]:
    """The video's frames of one walk: the first sight, the gap's last frames and the return, truth to the left."""
    time = entry.visits.time
    for t in time.kept:
        phase = "first sight" if t < time.away else "return" if t >= time.begin else "away"
        label = f"{entry.visits.task}\ngap {time.gap}\n{entry.history}\nhistory\n\n{phase}\nframe {t}"
        row = [entry.visits.frames[0, t], *(entry.frame(mode, t) for mode in entry.modes)]
        picture = grid([row], [label], ["truth", *entry.modes], scale=SCALE)
        for _ in range(PAUSE if t == time.length - 1 else 1):
            yield picture


def save_video(path: Path, shown: Sequence[Shown], frame_rate: float) -> None:
    """Write `panels` of one walk of each task, gap and history."""
    with VideoWriter(path, frame_rate, scale=1) as video:
        for entry in shown:
            for picture in panels(entry):
                video.add(picture)
