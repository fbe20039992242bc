"""``python -m engine starts WORLD``: pictures to begin from, taken from test maps that no training saw."""

import io
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from PIL import Image
from tqdm import tqdm

from engine.checkpoint import replace_file
from engine.config import load_world
from engine.errors import UserError
from engine.sources import make_source
from engine.sources.splits import SPLITS
from engine.train.shards import collect_episode


@dataclass
class Args:
    """Take start frames from a world's simulator."""

    world: tyro.conf.Positional[str]
    """World, or path of a world's TOML file."""
    count: int = 16
    """Start frames to make."""
    out: Path | None = None
    """Folder; the world's own by default."""
    seed: int = 0
    """First test map, counted from 0; each frame comes from the map after the last one's."""
    walk: int = 64


def interest(frame: np.ndarray) -> float:
    """How much there is to see in a uint8 (H, W, 3) frame: the entropy of its colours, in bits."""
    coarse = (frame >> 5).astype(int) @ (64, 8, 1)
    share = np.bincount(coarse.reshape(-1), minlength=512) / coarse.size
    return float(-(share[share > 0] * np.log2(share[share > 0])).sum())


def run(args: Args) -> None:
    """Write ``map-SEED.png`` files and a sheet of them all."""
    config = load_world(args.world)
    test = SPLITS["test"]
    if not 1 <= args.count <= len(test):
        raise UserError(f"--count must be in 1..{len(test)}, not {args.count}")
    if args.seed < 0 or args.walk < 2:
        raise UserError("--seed must be 0 or more, --walk 2 or more")
    out = args.out or config.starts_path
    if out is None:
        raise UserError(f"{config.name} names no folder for start frames; give --out DIR")
    out.mkdir(parents=True, exist_ok=True)
    with closing(make_source(config)) as env:
        for i in tqdm(range(args.count), unit="map", desc="starts"):
            map_seed = test[(args.seed + i) % len(test)]
            episode = collect_episode(env, map_seed, args.walk, np.random.default_rng(map_seed))
            frame = max(episode["frames"], key=interest)
            data = io.BytesIO()
            Image.fromarray(frame).save(data, "PNG", optimize=True)
            replace_file(out / f"map-{map_seed}.png", data.getvalue())

    print(f"{args.count} start frames in {out}")
