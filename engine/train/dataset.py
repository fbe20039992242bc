"""Collected shards, their cached latents, and training batches that are a function of (seed, step) alone."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from torch import Tensor
from tqdm import tqdm

from engine.checkpoint import replace_file
from engine.config import WorldConfig
from engine.errors import UserError
from engine.model.codec import Codec
from engine.model.generator import Clip
from engine.train.shards import checksums


def shard_paths(data: Path, split: str) -> list[Path]:
    """Shards of one split, in order. UserError where there are none."""
    paths = sorted((data / split).glob("shard-*.safetensors"))
    if not paths:
        raise UserError(f"no {split} shards in {data}; make some with: python -m engine collect WORLD --out {data}")
    return paths


def check_data(data: Path, config: WorldConfig, height: int, width: int) -> None:
    """Raise UserError unless the folder was collected for these buttons and this frame size."""
    path = data / "collect.json"
    try:
        found = json.loads(path.read_text())
        buttons, size = tuple(found["buttons"]), (found["height"], found["width"])
    except FileNotFoundError as error:
        raise UserError(f"{data} holds no collected data (no collect.json)") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is not what collect writes; collect again into another folder") from error
    if buttons != tuple(config.buttons):
        raise UserError(f"{data} was collected with buttons {', '.join(buttons)}; {config.name} has others")
    if size != (height, width):
        raise UserError(f"{data} holds frames of {size[0]}x{size[1]} pixels; expected {height}x{width}")


def read_shard(path: Path, names: tuple[str, ...] = ("frames", "actions", "poses", "episode")) -> dict[str, Tensor]:
    """Read tensors of a shard and compare them with their checksums. UserError if anything is off."""
    advice = f"delete it and {'train' if path.parent.parent.name.startswith('latents-') else 'collect'} again"
    try:
        with safe_open(path, framework="np") as file:
            arrays = {name: file.get_tensor(name) for name in names}
            stated = file.metadata() or {}
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{path} is broken ({error}); {advice} to make it anew") from error
    if any(value != stated.get(name, value) for name, value in checksums(arrays).items()):
        raise UserError(f"{path} is altered (its checksum differs); {advice} to make it anew")
    if len({len(array) for array in arrays.values()}) != 1:
        raise UserError(f"{path} is broken (tensors of unequal length); {advice} to make it anew")
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def patch_moments(paths: list[Path], codec: Codec, rng: np.random.Generator, frames: int) -> tuple[Tensor, Tensor]:
    """Mean (P,) and covariance (P, P) of the patches of about `frames` random frames."""
    size = codec.config.patch**2 * 3
    total, outer, count = torch.zeros(size, dtype=torch.float64), torch.zeros(size, size, dtype=torch.float64), 0
    each = max(1, frames // len(paths))
    for path in tqdm(paths, desc="patches", unit="shard"):
        pictures = read_shard(path, ("frames",))["frames"]
        pick = rng.choice(len(pictures), min(each, len(pictures)), replace=False)
        x = codec.patches(pictures[np.sort(pick)]).reshape(-1, size)
        total += x.sum(0)
        outer += (x.T @ x).double()
        count += len(x)
    mean = total / count
    return mean.float(), (outer / count - mean[:, None] * mean).float()


@dataclass
class Latents:
    """Episodes of one split, concatenated: latents (T, N, C) float16, actions (T, A) uint8, start (E + 1,) int64."""

    latents: Tensor
    actions: Tensor
    start: np.ndarray

    def __len__(self) -> int:
        return len(self.latents)


def load_latents(data: Path, split: str, codec: Codec, tag: str) -> Latents:
    """Latents of a split; those that are missing are computed once and kept in ``DATA/latents-TAG``."""
    latents, actions, starts, at = [], [], [], 0
    paths = shard_paths(data, split)
    for path in tqdm(paths, desc=f"{split} latents", unit="shard", leave=False):
        kept = data / f"latents-{tag}" / split / path.name
        if not kept.exists():
            _encode(path, kept, codec)
        found = read_shard(kept, ("latents", "actions", "episode"))
        latents.append(found["latents"])
        actions.append(found["actions"])
        episode = found["episode"].numpy()
        starts.append(at + np.flatnonzero(np.diff(episode, prepend=episode[:1] - 1)))
        at += len(episode)
    return Latents(torch.cat(latents), torch.cat(actions), np.concatenate([*starts, [at]]))


@torch.inference_mode()
def _encode(path: Path, kept: Path, codec: Codec) -> None:
    shard = read_shard(path, ("frames", "actions", "episode"))
    z = torch.cat([codec.encode(part) for part in shard["frames"].split(256)])
    kept.parent.mkdir(parents=True, exist_ok=True)
    tensors = {"latents": z.half().numpy(), "actions": shard["actions"].numpy(), "episode": shard["episode"].numpy()}
    replace_file(kept, save(tensors, metadata=checksums(tensors)))


class ClipSampler:
    """Draws training clips of `length` consecutive frames, with up to `old` earlier ones before them."""

    def __init__(self, data: Latents, length: int, old: int, far: int) -> None:
        self.data, self.length, self.old, self.far = data, length, old, far
        begin, end = data.start[:-1], data.start[1:]
        self.start_of = np.repeat(begin, end - begin)  # of each frame, its episode's first
        left = np.repeat(end, end - begin) - np.arange(len(data))
        self.firsts = np.flatnonzero(left >= length)  # frames that a clip can begin at
        if not len(self.firsts):
            raise UserError(f"no episode is {length} frames long; collect longer ones")
        self.with_past = self.firsts[self.firsts - self.start_of[self.firsts] >= max(1, old)]

    def batch(self, size: int, seed: int, step: int, rank: int = 0) -> Clip:
        """Batch of `size` clips, a function of the arguments alone.

        How many old frames there are changes from step to step, 0 to `old`; they are random ones of the same
        episode, or its first ones, as a sink holds them.
        """
        rng = np.random.default_rng([seed, step, rank])
        old = int(rng.integers(0, self.old + 1)) if len(self.with_past) else 0
        first = rng.choice(self.with_past if old else self.firsts, size)
        index = first[:, None] + np.arange(self.length)
        if old:
            begin = self.start_of[first]
            past = np.stack([self._past(rng, b, f, old) for b, f in zip(begin, first, strict=True)])
            index = np.concatenate((past, index), 1)
        position = np.maximum(index - first[:, None], -(self.far - self.length))
        flat = torch.from_numpy(index.reshape(-1))
        latents = self.data.latents[flat].float().unflatten(0, index.shape)
        actions = self.data.actions[flat].float().unflatten(0, index.shape)
        return Clip(latents, actions, torch.from_numpy(position), old)

    def _past(self, rng: np.random.Generator, begin: int, first: int, old: int) -> np.ndarray:
        sink = min(2, old) if rng.random() < 0.5 else 0
        rest = rng.choice(np.arange(begin + sink, first), old - sink, replace=False)
        return np.sort(np.concatenate((begin + np.arange(sink), rest)))

    def fixed(self, size: int, seed: int) -> Iterator[Clip]:
        """Endless batches for validation: the same ones in every call."""
        step = 0
        while True:
            yield self.batch(size, seed, step)
            step += 1
