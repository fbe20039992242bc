"""What places would have told of every frame that was collected: for each token, when its tile was seen last.

It is worked out once from true poses, by the rule of play (`engine.history.places`), and kept beside the latents.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save
from torch import Tensor
from tqdm import tqdm

from engine.config import Geometry
from engine.data.clips import Latents, load_latents, read_shard, shard_paths
from engine.data.poses import load_poses
from engine.data.shards import checksums, metadata_of
from engine.errors import UserError
from engine.files import replace_file
from engine.model.codec import Codec
from engine.model.generator import GeneratorConfig
from engine.model.sights import CHANGED, FEWEST, Layout, sights_of, view_changed

LONGEST = 2**15 - 1
"""Frames of an episode whose ages can be kept."""


def ages_of(latents: np.ndarray, poses: np.ndarray, layout: Layout) -> np.ndarray:
    """Ages int16 (T, N) of the sights of one episode: frames since the tile of a token was seen last, 0 for never.

    latents (T, N, C); poses (T, 2): the tile where the player stood, to the east and to the north.
    """
    east, north = (np.rint(poses[:, i]).astype(np.int64) for i in (0, 1))
    ages = np.zeros(latents.shape[:2], np.int16)
    reach = max(np.abs(layout.east).max(initial=0), np.abs(layout.north).max(initial=0))
    east, north = east - east.min() + reach, north - north.min() + reach
    newest = np.full((north.max() + reach + 1, east.max() + reach + 1), -1, np.int64)
    token = np.zeros(newest.shape, np.int64)  # that showed the tile then
    for t in range(len(latents)):
        at = (north[t] + layout.north, east[t] + layout.east)
        seen = newest[at]
        known = seen >= 0
        if t:
            ages[t, layout.moving] = np.where(known, t - seen, 0)
            ages[t, layout.still] = 1
        new, old = latents[t, layout.moving[known]], latents[seen[known], token[at][known]]
        kept = known & view_changed(new, old)
        newest[at] = np.where(kept, seen, t)
        token[at] = np.where(kept, token[at], layout.moving)
    return ages


def load_ages(data: Path, split: str, tag: str, poses: np.ndarray, found: Latents, config: GeneratorConfig) -> Tensor:
    """Ages int16 (T, N) of a split in the order of `load_latents`; those that are missing are worked out and kept.

    tag: of the codec. poses (T, 3): in tiles, see `engine.data.poses.load_poses`. found: the split's latents.
    """
    if (np.diff(found.start) > LONGEST).any():
        raise UserError(f"{data}: an episode is longer than {LONGEST} frames; collect shorter ones")
    layout, ages, at = Layout.of(config), [], 0
    rule = f"{config.still_rows} {config.player} {CHANGED} {FEWEST}"
    for path in tqdm(shard_paths(data, split), desc=f"{split} sights", unit="shard", leave=False):
        latents = data / f"latents-{tag}" / split / path.name
        kept = data / f"sights-{tag}" / split / path.name
        source = {"rule": rule, "of": metadata_of(latents).get("crc32.latents", "")}
        if not kept.exists() or source.items() - metadata_of(kept).items():
            count = len(read_shard(latents, ("episode",))["episode"])
            begins = found.start[(found.start >= at) & (found.start <= at + count)]
            parts = [ages_of(found.latents[a:b].numpy(), poses[a:b], layout) for a, b in pairwise(begins)]
            tensors = {"age": np.concatenate(parts)}
            kept.parent.mkdir(parents=True, exist_ok=True)
            replace_file(kept, save(tensors, metadata={**checksums(tensors), **source}))
        ages.append(read_shard(kept, ("age",))["age"])
        at += len(ages[-1])
    return torch.cat(ages)


@dataclass
class Sights:
    """The sights of all frames of a split: gathered from its latents when they are asked for.

    latents (T, N, C); age (T, N) int16; tile (T, 2) int64: where the player stood. All on one device.
    """

    latents: Tensor
    age: Tensor
    tile: Tensor
    layout: Layout
    columns: int

    def sources(self, frames: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Where the sights of frames (B,) come from: frame, token and age, each int64 (B, N); age 0 for none."""
        age = self.age[frames].long()
        source = frames[:, None] - age
        east, north = (self.tile[frames][:, None] - self.tile[source]).unbind(-1)
        shift = torch.zeros_like(age)
        moving = torch.from_numpy(self.layout.moving).to(age.device)
        shift[:, moving] = (east - self.columns * north)[:, moving]
        token = torch.arange(age.shape[1], device=age.device) + shift
        return source, torch.where(age > 0, token, 0), age

    def of(self, frames: Tensor, own: Tensor | None = None, since: Tensor | None = None) -> Tensor:
        """Sights (B, N, C + 2) float32 of frames (B,).

        own (B, K, N, C): frames that were drawn in the place of those from `since` (B,) on, to be seen instead.
        """
        source, token, age = self.sources(frames)
        n, c = self.latents.shape[1:]
        seen = self.latents.reshape(-1, c)[(source * n + token)].float()
        if own is not None and since is not None:
            drawn = source - since[:, None]
            rows = torch.arange(len(frames), device=frames.device)[:, None]
            theirs = own[rows, drawn.clamp(0, own.shape[1] - 1), token].float()
            seen = torch.where((drawn >= 0)[..., None], theirs, seen)
        return sights_of(seen, age)


@dataclass(frozen=True)
class Seen:
    """A split as a generator's training sees it: latents, true poses (T, 3) where they are known, and sights."""

    latents: Latents
    poses: np.ndarray | None
    sights: Sights | None


def load_seen(
    data: Path,
    split: str,
    codec: Codec,
    tag: str,
    config: GeneratorConfig,
    geometry: Geometry | None,
    device: torch.device | str = "cpu",
) -> Seen:
    """Read a split, and whatever of it is made once and kept. tag: of the codec.

    Where there is a GPU, latents and sights lie on it, and batches are gathered there. UserError as `load_latents`,
    `load_poses` and `load_ages` say.
    """
    latents = load_latents(data, split, codec, tag)
    poses = load_poses(data, split, geometry) if geometry is not None else None
    age = load_ages(data, split, tag, poses, latents, config) if config.sights and poses is not None else None
    latents = replace(latents, latents=latents.latents.to(device), actions=latents.actions.to(device))
    if age is None or poses is None:
        return Seen(latents, poses, None)
    tile = torch.from_numpy(np.rint(poses[:, :2]).astype(np.int64)).to(device)
    sights = Sights(latents.latents, age.to(device), tile, Layout.of(config), config.columns)
    return Seen(replace(latents, sights=sights.of), poses, sights)
