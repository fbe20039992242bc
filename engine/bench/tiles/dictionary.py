"""Every tile that real test frames show: what a drawn tile is held against, and nothing else is ever done with it."""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
import zlib
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from engine.bench.tiles.patches import Palette, cut
from engine.bench.tiles.reader import Nearest
from engine.bench.truth import pick_maps
from engine.config import WorldConfig
from engine.files import replace_file
from engine.sources import make_source
from engine.sources.crafter.source import ROWS

EPISODE = 400
"""Frames of a test map that go into a dictionary, where the player lives so long."""
NEAR = 30.0
"""dB within which a drawn tile is as crisp as a real one."""
VERSION = 1
"""Of the files that keep dictionaries; another one when what is in them changes."""


@dataclass(frozen=True)
class Dictionary:
    """The different tiles of real frames: those of the view, and those of the inventory below it."""

    view: Nearest
    items: Nearest

    def crisp(self, frames: np.ndarray) -> np.ndarray:
        """Which tiles of frames (..., H, W, 3) are within `NEAR` of a real one, bool (..., 9, 9)."""
        tiles = cut(frames)
        upper, lower = (tiles[..., rows, :, :, :, :] for rows in (slice(None, ROWS), slice(ROWS, None)))
        near = np.concatenate((self.view.psnr(upper), self.items.psnr(lower)), -2)
        return np.asarray(near >= NEAR)


def cache_folder() -> Path:
    """Where this user's programs keep what can be made again."""
    given = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA")
    return (Path(given) if given else Path.home() / ".cache") / "loci"


def dictionary(config: WorldConfig, size: tuple[int, int], frames: int, seed: int) -> Dictionary:
    """Of `frames` real frames of test maps at `size` (height, width); kept in the user's cache, made anew elsewhere."""
    told = [VERSION, config.buttons, sorted(config.source_options.items()), size, frames, seed]
    name = hashlib.sha256(json.dumps(told, default=str).encode()).hexdigest()[:24]
    path = cache_folder() / f"tiles-{name}.npz"
    found = _read(path)
    if found is None:
        found = _play(config, size, frames, seed)
        kept = io.BytesIO()
        np.savez_compressed(kept, view=found[0], items=found[1])
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(path, kept.getvalue())
        except OSError:
            pass  # it is made again next time
    return Dictionary(Nearest(found[0]), Nearest(found[1]))


def _read(path: Path) -> tuple[np.ndarray, np.ndarray] | None:
    """What was kept; None where there is nothing that can be read."""
    try:
        with np.load(path, allow_pickle=False) as kept:
            return kept["view"], kept["items"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return None


def _play(config: WorldConfig, size: tuple[int, int], frames: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Let the source's own player play; the different tiles of the view (K, h, w, 3) and of the inventory."""
    view, items = Palette(), Palette()
    maps = pick_maps("test", 1000, seed)
    made = 0
    with (
        closing(make_source(config, height=size[0], width=size[1])) as env,
        tqdm(total=frames, desc="real tiles", unit="frame", leave=False) as bar,
    ):
        for number in range(frames):
            map_seed = int(maps[number % len(maps)])
            frame, info = env.reset(options={"map_seed": map_seed})
            act = env.get_wrapper_attr("own_player")(np.random.default_rng([seed, map_seed, number]))
            for _ in range(min(EPISODE, frames - made)):
                tiles = cut(frame)
                view.take(tiles[:ROWS])
                items.take(tiles[ROWS:])
                made += 1
                bar.update()
                frame, _, terminated, truncated, info = env.step(act(frame, info))
                if terminated or truncated:
                    break
            if made >= frames:
                break
    return view.patches, items.patches
