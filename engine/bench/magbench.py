"""``python -m engine bench magbench``: score any system's videos by the files of the paper's MAG-Bench.

The CSV has the columns ``video_path, raw_caption, duration(sec)``. In each video the camera goes a way and turns
back: what comes before `switch_frame` is history, the rest is compared. Scores are time-aligned; beside them stand
matched ones, for which each generated frame meets the nearest truth frame of the whole return, by PSNR (the paper:
by LPIPS). A frozen picture can match well, so a matched score never stands alone.
"""

from __future__ import annotations

import csv
import datetime
import io
import math
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F
from tqdm import tqdm

from engine import runtime
from engine.bench import report
from engine.bench.options import MagbenchOptions
from engine.errors import UserError
from engine.measures import flip, has_flip, interval, psnr, psnr_table, ssim

COMMAND = "bench magbench"
COLUMNS = ("video_path", "raw_caption", "duration(sec)")
RATE = 16
"""Frames a second that the rule for the turning point counts in."""
BLOCK = 12
"""Frames of a block; generated videos are whole blocks, and may end up to one before the truth does."""
MAX_SECONDS = 3600.0
AT_ONCE = 4
"""Pictures measured at a time: they are large."""


@dataclass(frozen=True)
class Clip:
    """A line of the list: path relative to the folders, seconds, and the line's number."""

    path: str
    seconds: float
    line: int

    @property
    def switch(self) -> int:
        """First frame that is compared."""
        return switch_frame(self.seconds)


def switch_frame(seconds: float) -> int:
    """First frame after the camera has turned back, on the border of a block."""
    frame = math.floor(seconds * 0.75 * RATE)
    return frame + -(frame + 3) % BLOCK


def read_list(path: Path) -> list[Clip]:
    """Read the CSV; UserError with the line for anything that isn't as MAG-Bench has it."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise UserError(f"{path}: there is no such file; expected MAG-Bench's CSV") from error
    except IsADirectoryError as error:
        raise UserError(f"{path}: this is a folder; expected MAG-Bench's CSV") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: this is not UTF-8 text; expected MAG-Bench's CSV") from error
    rows = csv.reader(io.StringIO(text, newline=""), skipinitialspace=True)
    try:
        heads = [head.strip() for head in next(rows, [])]
        for name in COLUMNS:
            if name not in heads:
                raise UserError(f"{path}: no column {name!r}; expected {', '.join(COLUMNS)}, found {', '.join(heads)}")
        where = {name: heads.index(name) for name in COLUMNS}
        clips = [_clip(path, rows.line_num, row, where) for row in rows if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise UserError(f"{path}, line {rows.line_num}: {error}") from error
    if not clips:
        raise UserError(f"{path}: no videos are listed")
    seen: dict[str, int] = {}
    for clip in clips:
        if seen.setdefault(clip.path, clip.line) != clip.line:
            raise UserError(f"{path}, line {clip.line}: {clip.path} is listed before, in line {seen[clip.path]}")
    return clips


def _clip(path: Path, line: int, row: list[str], where: dict[str, int]) -> Clip:
    if len(row) <= max(where.values()):
        raise UserError(f"{path}, line {line}: expected {max(where.values()) + 1} columns, found {len(row)}")
    name, duration = row[where["video_path"]].strip(), row[where["duration(sec)"]].strip()
    pure = PurePosixPath(name.replace("\\", "/"))
    if not name or "\0" in name:
        raise UserError(f"{path}, line {line}: no video_path")
    if pure.is_absolute() or PureWindowsPath(name).drive or ".." in pure.parts:
        raise UserError(f"{path}, line {line}: video_path must lie within the folders, not {name!r}")
    try:
        seconds = float(duration)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds <= MAX_SECONDS:
        raise UserError(
            f"{path}, line {line}: duration(sec) must be above 0 and at most {MAX_SECONDS:.0f}, not {duration!r}"
        )
    return Clip(str(pure), seconds, line)


def frames_of(path: Path) -> Iterator[np.ndarray]:
    """Stream a video's frames, uint8 (H, W, 3); UserError where it can't be read."""
    import imageio.v3 as iio

    if not path.is_file():
        raise UserError(f"{path}: there is no such video")
    try:
        for frame in iio.imiter(path, plugin="pyav"):
            picture = np.asarray(frame)
            if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
                raise UserError(f"{path}: expected frames of uint8 (H, W, 3), found {picture.dtype} {picture.shape}")
            yield picture
    except (OSError, ValueError, IndexError) as error:  # UserError is a ValueError
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path}: cannot be read as a video ({error})") from error


def after(path: Path, switch: int, most: int | None = None) -> np.ndarray:
    """Frames of a video from `switch` on, uint8 (n, H, W, 3), n >= 1, at most `most`; the others aren't kept."""
    kept, count = [], 0
    for frame in frames_of(path):
        if count >= switch:
            kept.append(frame)
        count += 1
        if most is not None and len(kept) == most:
            break
    if not kept:
        raise UserError(f"{path}: too short: {count} frames, but the camera turns back at frame {switch}")
    return np.stack(kept)


def resized(frames: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bring frames uint8 (n, H, W, 3) to another size, bilinear and antialiased."""
    parts = []
    for part in torch.from_numpy(frames).split(AT_ONCE):
        x = part.movedim(-1, 1).float()
        x = F.interpolate(x, (height, width), mode="bilinear", antialias=True)
        parts.append(x.round().clamp(0, 255).byte().movedim(1, -1))
    return torch.cat(parts).numpy()


def _each(measure: Any, a: np.ndarray, b: np.ndarray) -> float:
    starts = range(0, len(a), AT_ONCE)
    return float(np.concatenate([measure(a[i : i + AT_ONCE], b[i : i + AT_ONCE]) for i in starts]).mean())


def scored(truth: np.ndarray, generated: np.ndarray, with_flip: bool) -> dict[str, float]:
    """Means over the frames of (n, H, W, 3) each: psnr, ssim, flip, and the same with `_matched`.

    NaN where FLIP isn't measured. truth may hold more frames, which only matching sees.
    """
    nearest = psnr_table(generated, truth).argmax(1)
    found = {}
    for suffix, wanted in (("", truth[: len(generated)]), ("_matched", truth[nearest])):
        found[f"psnr{suffix}"] = _each(psnr, wanted, generated)
        found[f"ssim{suffix}"] = _each(ssim, wanted, generated)
        found[f"flip{suffix}"] = _each(flip, wanted, generated) if with_flip else math.nan
    return found


def compared(clip: Clip, options: MagbenchOptions) -> dict[str, Any]:
    """Score one video."""
    truth = after(options.truth / clip.path, clip.switch)
    path = options.generated / clip.path
    drawn = after(path, clip.switch, len(truth))
    if len(drawn) < max(1, len(truth) - BLOCK + 1):
        raise UserError(
            f"{path}: too short: {clip.switch + len(drawn)} frames; the real video has {clip.switch + len(truth)}"
        )
    row: dict[str, Any] = {"video": clip.path, "switch": clip.switch, "frames": len(drawn)}
    if drawn.shape[1:] != truth.shape[1:]:
        row["resized_from"] = list(drawn.shape[1:3])
        drawn = resized(drawn, *truth.shape[1:3])
    return row | scored(truth, drawn, options.flip and has_flip())


def check(options: MagbenchOptions) -> list[Clip]:
    """Read the list, and look for every file in it before the work begins."""
    clips = read_list(options.csv)
    for folder in (options.truth, options.generated):
        if not folder.is_dir():
            raise UserError(f"{folder}: expected a folder of videos")
        for clip in clips:
            if not (folder / clip.path).is_file():
                raise UserError(f"{folder / clip.path}: there is no such video ({options.csv}, line {clip.line})")
    return clips


def command_line(options: MagbenchOptions) -> str:
    """Return the command that gives these arguments."""
    words = ["python", "-m", "engine", *COMMAND.split()]
    for name in ("csv", "truth", "generated", "json"):
        if getattr(options, name) is not None:
            words += [f"--{name}", str(getattr(options, name))]
    return shlex.join(words + ([] if options.flip else ["--no-flip"]))


def run(options: MagbenchOptions) -> None:
    """Score all videos, print a table, write the JSON. Raises UserError."""
    clips = check(options)
    report.check_outputs(options.json)
    rows = []
    with tqdm(clips, desc="videos", unit="video") as bar:  # closed before an error is printed
        for clip in bar:
            rows.append(compared(clip, options))
    names = [f"{name}{suffix}" for suffix in ("", "_matched") for name in ("psnr", "ssim", "flip")]
    spans = {name: interval(np.array([row[name] for row in rows])) for name in names}
    notes = ["lpips is not measured: its weights are not at hand; matched scores take the nearest frame by PSNR"]
    other = sum("resized_from" in row for row in rows)
    if other:
        notes.append(f"{other} generated video(s) had another size and were resized to the truth's")
    if options.flip and not has_flip():
        notes.append("flip is missing: the package flip-evaluator is not installed")
    table = [
        (suffix or "time-aligned", *(spans[f"{name}{end}"] for name in ("psnr", "ssim", "flip")))
        for suffix, end in (("", ""), ("matched", "_matched"))
    ]
    print(f"{len(rows)} videos, {sum(row['frames'] for row in rows)} frames compared")
    print(report.table(("alignment", "PSNR, dB", "SSIM", "FLIP"), table, 3))
    print("\n".join(notes))
    if options.json is not None:
        result = {
            "command": command_line(options),
            "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "hardware": runtime.hardware(),
            "videos": len(rows),
            "notes": notes,
            **{name: span["mean"] for name, span in spans.items()},
            "intervals": {name: [span["low"], span["high"]] for name, span in spans.items()},
            "cells": rows,
        }
        report.save_json(options.json, result)
