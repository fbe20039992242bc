"""Crispness: are the tiles that a world draws, in long free play, as sharp as real ones?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from engine.bench.quality.playing import Playable
from engine.bench.rollout import moments
from engine.bench.tiles.dictionary import Dictionary
from engine.bench.tiles.player import Players
from engine.measures import interval

MOMENTS = (20, 100, 500, 1000, 2000)
"""Frames by which windows end in which tiles are measured."""
WINDOW = 20
"""Frames of such a window."""
SHOWN = (1, 20, 100, 500, 1000, 2000)
"""Frames that a sheet shows."""


@dataclass(frozen=True)
class Crispness:
    """Of B worlds: by the last frame of each window the share of crisp tiles (B,), of the view and of the inventory.

    sheet: frames at `shown`, uint8 (B, len(shown), H, W, 3).
    """

    view: dict[int, np.ndarray]
    items: dict[int, np.ndarray]
    shown: list[int]
    sheet: np.ndarray


def free_play(playable: Playable, players: Players, known: Dictionary, frames: int, rows: int) -> Crispness:
    """Let the players play on for `frames` frames. rows: of tiles that show the world; the others are the inventory."""
    ends = sorted({*moments(frames, MOMENTS), frames})
    shown = sorted({*moments(frames, SHOWN), frames})
    width = max(1, min(WINDOW, ends[0]))
    parts: dict[int, list[np.ndarray]] = {end: [] for end in ends}
    sheet = []
    frame = playable.frame
    for t in tqdm(range(1, frames + 1), desc="free play by pictures", unit="frame", leave=False):
        actions, _ = players.act(frame)
        frame = playable.step(actions)
        for end in ends:
            if end - width < t <= end:
                parts[end].append(known.crisp(frame))
        if t in shown:
            sheet.append(frame.copy())
    crisp = {end: np.stack(found, 1) for end, found in parts.items()}  # each (B, window, 9, 9)
    return Crispness(
        {end: found[:, :, :rows].mean((1, 2, 3)) for end, found in crisp.items()},
        {end: found[:, :, rows:].mean((1, 2, 3)) for end, found in crisp.items()},
        shown,
        np.stack(sheet, 1),
    )


def figures(found: Crispness, rows: int, height: int) -> dict[str, Any]:
    """`crispness`: of all tiles in the last window, with its interval over worlds; `crispness_early`: in the first.

    rows: of tiles that show the world, of `height`.
    """

    def whole(end: int) -> np.ndarray:
        return (rows * found.view[end] + (height - rows) * found.items[end]) / height

    ends = list(found.view)
    by_frame = [
        {
            "frame": end,
            "all": interval(whole(end)),
            "view": interval(found.view[end]),
            "inventory": interval(found.items[end]),
        }
        for end in ends
    ]
    return {
        "crispness": interval(whole(ends[-1])),
        "crispness_early": interval(whole(ends[0])),
        "crispness_by_frame": by_frame,
    }
