"""What a bench leaves: a table for the eye, JSON for programs, plots as PNG."""

from __future__ import annotations

import datetime
import io
import json
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from engine import checkpoint as checkpoints
from engine import runtime
from engine.config import WorldConfig
from engine.errors import UserError
from engine.files import replace_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def command_line(command: str, options: Any) -> str:
    """Return the command that gives these arguments, with what differs from the defaults."""
    words = ["python", "-m", "engine", *command.split()]
    for entry in fields(options):
        value = getattr(options, entry.name)
        if entry.default is MISSING:
            words.append(str(value))
        elif value != entry.default:
            words += [f"--{entry.name.replace('_', '-')}", str(value)]
    return shlex.join(words)


def header(command: str, options: Any, config: WorldConfig) -> dict[str, Any]:
    """What was measured, on what, when and how: the part that all benches have in common."""
    folder = Path(options.checkpoint) if options.checkpoint is not None else config.checkpoint_path
    found, _ = checkpoints.load(folder)
    return {
        "command": command_line(command, options),
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "world": config.name,
        "preset": found.get("preset"),
        "seed": options.seed,
        "checkpoint": {
            "folder": str(options.checkpoint or config.checkpoint),
            "notes": found.get("notes", {}),
            "sha256": {name: entry["sha256"] for name, entry in found["files"].items()},
        },
        "hardware": runtime.hardware(),
    }


def check_outputs(*paths: Path | None) -> None:
    """Make the folders of the files to come; UserError where one cannot be written, before hours of work."""
    for path in paths:
        if path is None:
            continue
        if path.is_dir():
            raise UserError(f"{path} is a folder; expected the name of a file to write")
        path.parent.mkdir(parents=True, exist_ok=True)
        probe = path.with_name(f".{path.name}.try.tmp")
        probe.touch()
        probe.unlink()


def beside(path: Path | None, chosen: Path | None) -> Path | None:
    """Return the file of the plot: the one that was chosen, or the JSON's name with .png; None for neither."""
    return chosen if chosen is not None or path is None else path.with_suffix(".png")


def plain(value: Any) -> Any:
    """Return a value as JSON has it: NaN and infinity as None, arrays as lists."""
    if isinstance(value, Mapping):
        return {str(name): plain(entry) for name, entry in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [plain(entry) for entry in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    return value


def save_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write a JSON file, whole or not at all."""
    text = json.dumps(plain(values), indent=2, ensure_ascii=False, allow_nan=False)
    replace_file(path, (text + "\n").encode("utf-8"))


def figure(columns: int, rows: int = 1, *, width: float = 5.0, height: float = 3.4) -> tuple[Figure, list[Any]]:
    """Make a figure with `columns` axes side by side in each of `rows`, row by row; no window is ever opened."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    made = Figure(figsize=(columns * width, rows * height), layout="constrained")
    FigureCanvasAgg(made)
    axes = [made.add_subplot(rows, columns, i + 1) for i in range(rows * columns)]
    for ax in axes:
        ax.grid(alpha=0.3)
    return made, axes


def save_figure(path: Path, made: Figure) -> None:
    """Write a figure as PNG, whole or not at all."""
    data = io.BytesIO()
    made.savefig(data, format="png", dpi=120)
    replace_file(path, data.getvalue())


def text_of(value: Any, digits: int = 2) -> str:
    """Return a cell's text: numbers rounded, {"mean", "low", "high"} as mean and interval, None and NaN as a dash."""
    if isinstance(value, Mapping):
        mean, low, high = (text_of(value[name], digits) for name in ("mean", "low", "high"))
        return f"{mean} [{low}, {high}]" if mean != "-" else mean
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "-"
    if isinstance(value, (float, np.floating)):
        return f"{value:.{digits}f}"
    return str(value)


def table(heads: Sequence[str], rows: Sequence[Sequence[Any]], digits: int = 2) -> str:
    """Return lines with aligned columns: the first to the left, the others to the right."""
    cells = [list(heads), *([text_of(value, digits) for value in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(heads))]
    lines = []
    for row in cells:
        first, *rest = (
            text.ljust(width) if column == 0 else text.rjust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        lines.append("  ".join([first, *rest]).rstrip())
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)
