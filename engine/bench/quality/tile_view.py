"""How `bench quality` shows what it found in worlds of tiles: tables, a plot and sheets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.bench import report
from engine.pictures import save_grid

if TYPE_CHECKING:
    from engine.bench.quality.tiles import Tiled

SHEET_WORLDS = 8
"""Worlds of free play that a sheet shows."""


def tables(measured: dict[str, Any]) -> list[str]:
    """The figures as text; none where the world has no tiles."""
    parts = []
    if "next_still_psnr" in measured:
        rows = [(name, measured[f"next_{name}_psnr"]) for name in ("still", "inventory", "all")]
        parts.append(report.table(("next frame against the codec's", "PSNR, dB"), rows))
    if "crispness_by_frame" in measured:
        rows = [tuple(row.values()) for row in measured["crispness_by_frame"]]
        parts.append(report.table(("crisp tiles, by frame", "all", "view", "inventory"), rows, 4))
    if "effects" in measured:
        names = ("button", "effect", "states", "simulator", "world", "difference", "agreement")
        parts.append(report.table(names, [[row[name] for name in names] for row in measured["effects"]]))
        parts.append(
            report.table(
                ("effects", ""),
                [("largest difference", measured["effects_worst"]), ("buttons within", measured["effects_within"])],
            )
        )
    if "materials" in measured:
        counted = ("simulator", "world", "ratio")
        rows = [(row["name"], *(row[name] for name in counted)) for kind in SURVEYED for row in measured[kind]]
        parts.append(report.table(("counted by pictures", *counted), rows, 4))
        spans = ("steps_as_drawn", "steps_as_drawn_real", "steps_stopped", "steps_gone", "frames_lived")
        rows = [(name.replace("_", " "), measured[name]) for name in spans]
        rows.append(("materials that never appear", ", ".join(measured["materials_missing"]) or "none"))
        rows.append(("common materials alike", measured["materials_alike"]))
        parts.append(report.table(("survey", "mean [95 % interval]"), rows, 4))
    return parts


SURVEYED = ("materials", "creatures", "rates")
"""Parts of a survey that have a row for each thing."""


def draw(path: Path, measured: dict[str, Any]) -> None:
    """Plot shares of materials, the effects' differences and crispness over time; nothing where none was measured."""
    kinds = [kind for kind in ("crispness_by_frame", "effects", "materials") if kind in measured]
    if not kinds:
        return
    made, axes = report.figure(len(kinds))
    for ax, kind in zip(axes, kinds, strict=True):
        rows = measured[kind]
        if kind == "crispness_by_frame":
            for name in ("view", "inventory"):
                ax.plot([row["frame"] for row in rows], [row[name]["mean"] for row in rows], "o-", label=name)
            ax.set(xlabel="frame", ylabel="share within 30 dB of a real tile", title="Crispness", ylim=(0, 1.02))
        else:
            names = [f"{row['button']}: {row['effect']}" if kind == "effects" else row["name"] for row in rows]
            places = np.arange(len(rows))
            for shift, name in ((-0.2, "simulator"), (0.2, "world")):
                ax.barh(places + shift, [row[name] or 0.0 for row in rows], 0.4, label=name)
            ax.set_yticks(places, names, fontsize=5)
            ax.set(title={"effects": "Share of states with the effect", "materials": "Share of tiles"}[kind])
        ax.legend(fontsize="small")
    report.save_figure(path, made)


def save_sheets(path: Path, tiled: Tiled) -> None:
    """Write free play as NAME-play.png and states with what followed as NAME-effects.png, beside a sheet."""
    if tiled.play is not None:
        rows = [list(row) for row in tiled.play.sheet[:SHEET_WORLDS]]
        labels = [f"world {i}" for i in range(len(rows))]
        save_grid(path.with_name(f"{path.stem}-play{path.suffix}"), rows, labels, [str(t) for t in tiled.play.shown])
    if tiled.states:
        by_button: dict[str, list[np.ndarray]] = {}
        for name, pictures in tiled.states:
            by_button.setdefault(name, []).extend(pictures)
        labels, rows = [name.replace("_", "\n") for name in by_button], list(by_button.values())
        heads = ["before", "simulator", "world"] * (max(len(row) for row in rows) // 3)
        save_grid(path.with_name(f"{path.stem}-effects{path.suffix}"), rows, labels, heads)
