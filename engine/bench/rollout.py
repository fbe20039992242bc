"""Generated frames beside the simulator's: the next frame after real history, and rollouts under the same actions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from tqdm import tqdm

from engine.bench.truth import Episodes
from engine.measures import flip, psnr, ssim
from engine.model.codec import Codec
from engine.world import World

HORIZONS = (1, 8, 32, 128)
"""Frames ahead at which rollouts are scored."""
SHOWN = (1, 2, 4, 8, 16, 32, 64, 128)
"""Frames ahead that a sheet shows."""


def moments(frames: int, wanted: Sequence[int] = HORIZONS) -> list[int]:
    """Those of `wanted` that `frames` frames reach; the last frame where they reach none."""
    return [moment for moment in wanted if moment <= frames] or [frames]


@torch.inference_mode()
def reconstructed(codec: Codec, frames: np.ndarray, device: torch.device | str = "cpu") -> np.ndarray:
    """Frames uint8 (..., H, W, 3) through the codec and back."""
    flat = torch.from_numpy(np.ascontiguousarray(frames)).flatten(0, -4)
    parts = [codec.decode(codec.encode(part.to(device))).cpu() for part in flat.split(64)]
    return torch.cat(parts).reshape(frames.shape).numpy()


def groups(count: int, batch: int) -> Iterator[tuple[np.ndarray, int]]:
    """Split `count` episodes into worlds of `batch`: indices (batch,), filled up by repeating, and how many count."""
    for first in range(0, count, batch):
        index = np.arange(first, min(first + batch, count))
        yield np.resize(index, batch), len(index)


def each_psnr(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """PSNR of each of (B, F, H, W, 3) -> (B, F)."""
    return psnr(a.reshape(-1, *a.shape[-3:]), b.reshape(-1, *b.shape[-3:])).reshape(a.shape[:2])


def each_ssim(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """SSIM of each of (B, F, H, W, 3) -> (B, F)."""
    return ssim(a.reshape(-1, *a.shape[-3:]), b.reshape(-1, *b.shape[-3:])).reshape(a.shape[:2])


def next_frames(
    world: World, episodes: Episodes, start: int, seeds: Sequence[int], bar: tqdm | None = None
) -> np.ndarray:
    """Draw each frame from `start` on after the real ones before it: uint8 (B, T - start, H, W, 3)."""
    frames, actions = episodes.frames, episodes.actions
    world.reset(seeds, frames[:, :start], actions[:, :start])
    drawn = []
    for t in range(start, frames.shape[1]):
        drawn.append(world.render(actions[:, t]))
        world.observe(frames[:, t : t + 1], actions[:, t : t + 1])
        if bar is not None:
            bar.update()
    return np.stack(drawn, 1)


def rolled_out(
    world: World, episodes: Episodes, start: int, seeds: Sequence[int], bar: tqdm | None = None
) -> np.ndarray:
    """Go on from `start` real frames by generated ones alone: uint8 (B, T - start, H, W, 3)."""
    frames, actions = episodes.frames, episodes.actions
    world.reset(seeds, frames[:, :start], actions[:, :start])
    drawn = []
    for t in range(start, frames.shape[1]):
        drawn.append(world.step(actions[:, t]))
        if bar is not None:
            bar.update()
    return np.stack(drawn, 1)


@dataclass(frozen=True)
class Scores:
    """Scores by episode and frame, float64 (E, F), F frames after the start; NaN where the source had ended.

    codec_psnr, codec_ssim: the codec's reconstruction; next_psnr, next_ssim: the frame generated after real
    history, against the real one; next_psnr_codec: against the codec's reconstruction of it; psnr, ssim: the
    rollout; still_psnr: the last real frame held still, in its place; flip: the rollout's, (E, len(horizons)).
    """

    codec_psnr: np.ndarray
    codec_ssim: np.ndarray
    next_psnr: np.ndarray
    next_psnr_codec: np.ndarray
    next_ssim: np.ndarray
    psnr: np.ndarray
    ssim: np.ndarray
    still_psnr: np.ndarray
    flip: np.ndarray

    @staticmethod
    def joined(parts: Sequence[Scores]) -> Scores:
        """Scores of all the groups."""
        return Scores(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in vars(parts[0])})


def compare(
    world: World, episodes: Episodes, start: int, seeds: Sequence[int], count: int, bar: tqdm | None = None
) -> tuple[Scores, np.ndarray]:
    """Score one group, of which the first `count` episodes matter; returns the rollouts' frames too."""
    real = episodes.frames[:count, start:]
    there = episodes.there[:count, start:]
    codec = reconstructed(world.codec, real, world.device)
    following = next_frames(world, episodes, start, seeds, bar)[:count]
    rollout = rolled_out(world, episodes, start, seeds, bar)[:count]
    still = episodes.frames[:count, start - 1 : start].repeat(real.shape[1], 1)
    at = np.array(moments(real.shape[1])) - 1
    flips = np.stack([flip(real[:, t], rollout[:, t]) for t in at], 1)
    scores = Scores(
        codec_psnr=each_psnr(real, codec),
        codec_ssim=each_ssim(real, codec),
        next_psnr=each_psnr(real, following),
        next_psnr_codec=each_psnr(codec, following),
        next_ssim=each_ssim(real, following),
        psnr=each_psnr(real, rollout),
        ssim=each_ssim(real, rollout),
        still_psnr=each_psnr(real, still),
        flip=np.where(there[:, at], flips, np.nan),
    )
    masked = {
        name: values if name == "flip" else np.where(there, values, np.nan) for name, values in vars(scores).items()
    }
    return Scores(**masked), rollout
