"""Collected shards, their cached latents, and training batches that are a function of (seed, step) alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from torch import Tensor
from tqdm import tqdm

from engine.config import WorldConfig
from engine.data.shards import checksums, metadata_of
from engine.errors import UserError
from engine.files import replace_file
from engine.model import odometry
from engine.model.codec import Codec
from engine.model.generator import Clip


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
    """Episodes of one split, concatenated: latents (T, N, C) float16, actions (T, A) uint8, start (E + 1,) int64.

    sights: gives those of frames (B,), (B, N, C + 2), for a generator that takes them.
    """

    latents: Tensor
    actions: Tensor
    start: np.ndarray
    sights: Callable[[Tensor], Tensor] | None = None

    def __len__(self) -> int:
        return len(self.latents)


def load_latents(data: Path, split: str, codec: Codec, tag: str) -> Latents:
    """Latents of a split; those that are missing are computed once and kept in ``DATA/latents-TAG``."""
    latents, actions, starts, at = [], [], [], 0
    paths = shard_paths(data, split)
    for path in tqdm(paths, desc=f"{split} latents", unit="shard", leave=False):
        kept = data / f"latents-{tag}" / split / path.name
        # A last shard may have grown; an older version did not note what latents were made of.
        if not kept.exists() or metadata_of(kept).get("source") not in (None, _frames_sum(path)):
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
    replace_file(kept, save(tensors, metadata={**checksums(tensors), "source": _frames_sum(path)}))


def _frames_sum(path: Path) -> str:
    """Checksum of a shard's frames as its header states it, empty where it states none."""
    return metadata_of(path).get("crc32.frames", "")


def clip_of(data: Latents, pose: np.ndarray, index: np.ndarray, first: np.ndarray, old: int, oldest: int) -> Clip:
    """Frames `index` (B, F) of the data, after the `old` ones consecutive, with poses (T, 3) of all its frames.

    Positions are relative to `first` (B,), and not below -oldest.
    """
    position = np.maximum(index - first[:, None], -oldest)
    position[:, old:] = np.arange(index.shape[1] - old)  # a frame that is repeated counts as often
    flat = torch.from_numpy(index.reshape(-1)).to(data.latents.device)
    latents = data.latents[flat].float().unflatten(0, index.shape)
    actions = data.actions[flat].float().unflatten(0, index.shape)
    sights = None if data.sights is None else data.sights(flat).unflatten(0, index.shape)
    return Clip(latents, actions, torch.from_numpy(position), torch.from_numpy(pose[index]), old, sights)


def reckoned(data: Latents, motion: odometry.Motion) -> np.ndarray:
    """Poses (T, 3) of all frames by dead reckoning from the buttons; all zero where nobody knows what they do."""
    return odometry.integrate(data.actions.numpy(), data.start[:-1], motion) if motion else np.zeros((len(data), 3))


class ClipSampler:
    """Draws training clips of `length` consecutive frames, with up to `old` earlier ones before them.

    An episode that is shorter is one clip: its first frame is repeated before it, as if the player had waited there.
    motion: what each button does to the pose (see `engine.model.odometry`), empty for none. poses: true ones (T, 3), in
    place of those that keys reckon. With either, half of the clips begin where the player comes back to a view (history
    consistency: the recent frames are cut away, so that only an old one can explain the first), and most old frames are
    those whose view is nearest to the clip's.
    """

    RETURN, AWAY = 0.35, 16  # cost below which a view is the same one, and frames after which it is an old one
    ROWS = 256  # views compared at once with all before them

    def __init__(
        self,
        data: Latents,
        length: int,
        old: int,
        far: int,
        motion: odometry.Motion = (),
        returns: float = 0.5,
        poses: np.ndarray | None = None,
    ) -> None:
        self.data, self.length, self.old, self.far = data, length, old, far
        self.share_of_returns = returns
        begin, end = data.start[:-1], data.start[1:]
        self.start_of = np.repeat(begin, end - begin)  # of each frame, its episode's first
        self.left_before = np.arange(len(data)) - self.start_of
        self.left = np.repeat(end, end - begin) - np.arange(len(data))
        self.firsts = np.flatnonzero(self.left >= length)  # frames that a clip can begin at
        short = end[(end - begin < length) & (end - begin > 1)]
        if not len(self.firsts) and not len(short):
            raise UserError("no episode is two frames long; collect longer ones")
        self.anywhere = np.concatenate((self.firsts, short - length))  # the latter begin before their episode does
        if data.sights is not None:  # of a first frame nothing was seen before, and it is never drawn
            self.firsts = self.firsts[self.left_before[self.firsts] > 0]
            self.anywhere = self.firsts if length == 1 else self.anywhere
        self.with_past = self.firsts[self.firsts - self.start_of[self.firsts] >= max(1, old)]
        self.posed = bool(motion) or poses is not None
        self.pose = poses if poses is not None else reckoned(data, motion)
        self.returns = self._returns(begin, end) if self.posed and returns > 0 else np.zeros(0, np.int64)

    def _returns(self, begin: np.ndarray, end: np.ndarray) -> np.ndarray:
        """Frames of `with_past` whose view was seen before, at least `AWAY` frames ago."""
        seen = np.zeros(len(self.data), bool)
        for a, b in zip(begin, end, strict=True):
            for i in range(a + self.AWAY, b, self.ROWS):  # an imported session may be one episode of hours
                j = min(i + self.ROWS, b)
                near = odometry.cost(self.pose[i:j, None], self.pose[None, a : j - self.AWAY]) < self.RETURN
                seen[i:j] = np.tril(near, i - a - self.AWAY).any(1)
        return self.with_past[seen[self.with_past]]

    def batch(self, size: int, seed: int, step: int, rank: int = 0, length: int | None = None) -> Clip:
        """Batch of `size` clips, a function of the arguments alone.

        length: consecutive frames, the sampler's own by default, fewer where no episode is as long.

        How many old frames there are changes from step to step, 0 to `old`, the same on all ranks, which wait for each
        other; they are random ones of the same episode, its first ones, as a sink holds them, or those with the
        nearest view.
        """
        rng = np.random.default_rng([seed, step, rank])
        shared = np.random.default_rng([seed, step])
        old = int(shared.integers(0, self.old + 1)) if len(self.with_past) else 0
        pool = self.with_past if old else self.firsts
        length = min(length or self.length, int(self.left[pool].max(initial=self.length)))
        if length > self.length:
            pool = pool[self.left[pool] >= length]
        elif not old:
            pool = self.anywhere
        first = rng.choice(pool, size)
        returns = self.returns[self.left[self.returns] >= length]
        if old and len(returns):
            first = np.where(rng.random(size) < self.share_of_returns, rng.choice(returns, size), first)
        begin = self.start_of[first + self.length - 1]
        index = np.maximum(first[:, None] + np.arange(length), begin[:, None])
        if old:
            past = np.stack([self._past(rng, b, f, old) for b, f in zip(begin, first, strict=True)])
            index = np.concatenate((past, index), 1)
        return self._clip(index, first, old)

    def _past(self, rng: np.random.Generator, begin: int, first: int, old: int) -> np.ndarray:
        sink = min(2, old) if rng.random() < 0.4 else 0
        frames = np.arange(begin + sink, first)
        if not self.posed or rng.random() < 0.25:
            rest = rng.choice(frames, old - sink, replace=False)
        else:
            target = self.pose[first + int(rng.integers(self.length))]
            score = rng.gumbel(size=len(frames)) - odometry.cost(self.pose[frames], target) / 0.3
            rest = frames[np.argsort(-score)[: old - sink]]
        return np.sort(np.concatenate((begin + np.arange(sink), rest)))

    def with_blocks(
        self,
        size: int,
        seed: int,
        step: int,
        most: int,
        block: int,
        sink: int,
        length: int | None = None,
        rank: int = 0,
    ) -> tuple[Clip, Clip]:
        """Clips whose old frames are the sink, and up to `most` blocks of `block` frames that memory folds.

        length: consecutive frames, the sampler's own by default, fewer where no episode is as long.

        Blocks begin where the sink ends, as in play, and those with the nearest view are chosen. Returns the clips
        and the blocks, (B * M, block) of them, as a `Clip` whose position is that of the folded tokens, (B, M).
        """
        rng = np.random.default_rng([seed, step, rank, 7])
        count = int(np.random.default_rng([seed, step, 7]).integers(1, most + 1))  # the same on all ranks
        count = min(count, int((self.left_before[self.firsts] - sink).max(initial=0)) // block)
        enough = sink + block * count
        early = self.firsts[self.left_before[self.firsts] >= enough]
        length = min(length or self.length, int(self.left[early].max(initial=self.length)))
        pool = early[self.left[early] >= length]
        if not count or not len(pool):
            raise UserError(
                f"no episode is long enough for clips with a block of {block} frames before; collect longer ones"
            )
        first = rng.choice(pool, size)
        returns = self.returns[(self.left_before[self.returns] >= enough) & (self.left[self.returns] >= length)]
        if len(returns):
            first = np.where(rng.random(size) < self.share_of_returns, rng.choice(returns, size), first)
        begin = self.start_of[first]
        sinks = begin[:, None] + np.arange(sink)
        index = np.concatenate((sinks, first[:, None] + np.arange(length)), 1)
        chosen = []
        for b, f in zip(begin, first, strict=True):
            ends = np.arange(b + sink + block - 1, f, block)
            score = rng.gumbel(size=len(ends))
            if self.posed and rng.random() < 0.8:
                target = self.pose[f + int(rng.integers(self.length))]
                score -= odometry.cost(self.pose[ends], target) / 0.3
            chosen.append(np.sort(ends[np.argsort(-score)[:count]]))
        frames = np.stack(chosen).reshape(-1)[:, None] + np.arange(1 - block, 1)  # (B * M, T)
        position = torch.full((size, count), -(self.far - self.length))
        return self._clip(index, first, sink), replace(self._clip(frames, frames[:, 0], 0), position=position)

    def _clip(self, index: np.ndarray, first: np.ndarray, old: int) -> Clip:
        """Frames `index` (B, F) of the data; see `clip_of`."""
        return clip_of(self.data, self.pose, index, first, old, self.far - self.length)

    def blocks(self, size: int, block: int, seed: int, step: int, rank: int = 0) -> Clip:
        """`size` runs of `block` frames from anywhere."""
        rng = np.random.default_rng([seed, step, rank, 11])
        firsts = np.flatnonzero(self.left >= block)
        if not len(firsts):
            raise UserError(f"no episode is {block} frames long; collect longer ones")
        first = rng.choice(firsts, size)
        return self._clip(first[:, None] + np.arange(block), first, 0)

    def fixed(self, size: int, seed: int) -> Iterator[Clip]:
        """Endless batches for validation: the same ones in every call."""
        step = 0
        while True:
            yield self.batch(size, seed, step)
            step += 1
