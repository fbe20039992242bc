"""``python -m engine starts WORLD``: pictures to begin from, by default of test maps that no training saw."""

from contextlib import closing
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from tqdm import tqdm

from engine.config import load_world
from engine.data.options import StartsOptions
from engine.data.shards import collect_episode
from engine.errors import UserError
from engine.files import replace_file
from engine.pictures import png
from engine.sources import make_source
from engine.sources.splits import SPLITS


def interest(frame: np.ndarray) -> float:
    """How much there is to see in a uint8 (H, W, 3) frame: the entropy of its colours, in bits."""
    coarse = (frame >> 5).astype(int) @ (64, 8, 1)
    share = np.bincount(coarse.reshape(-1), minlength=512) / coarse.size
    return float(-(share[share > 0] * np.log2(share[share > 0])).sum())


def write_starts(
    env: gym.Env[Any, Any], out: Path, split: str, count: int, first: int = 0, walk: int = 0
) -> list[Path]:
    """Write ``map-SEED.png`` files of `count` maps of a split, from its map number `first` on; returns their paths."""
    out.mkdir(parents=True, exist_ok=True)
    seeds, written = SPLITS[split], []
    for i in tqdm(range(count), unit="map", desc="starts"):
        map_seed = seeds[(first + i) % len(seeds)]
        episode = collect_episode(env, map_seed, max(1, walk), np.random.default_rng(map_seed))
        frame = max(episode["frames"], key=interest)
        written.append(out / f"map-{map_seed}.png")
        replace_file(written[-1], png(frame, small=True))
    return written


def run(options: StartsOptions) -> None:
    """Write ``map-SEED.png`` files."""
    config = load_world(options.world)
    maps = SPLITS[options.split]
    if not 1 <= options.count <= len(maps):
        raise UserError(f"--count must be in 1..{len(maps)}, not {options.count}")
    if options.seed < 0 or options.walk < 0:
        raise UserError("--seed and --walk must be 0 or more")
    out = options.out or config.starts_path
    if out is None:
        raise UserError(f"{config.name} names no folder for start frames; give --out DIR")
    with closing(make_source(config)) as env:
        write_starts(env, out, options.split, options.count, options.seed, options.walk)
    print(f"{options.count} start frames in {out}")
