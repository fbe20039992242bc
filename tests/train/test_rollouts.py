"""Rollouts of training are play: the same passes, the same positions, tens of frames deep."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from engine.data.clips import ClipSampler, Latents
from engine.model import odometry
from engine.model.generator import Clip, Generator, GeneratorConfig
from engine.model.sampler import denoising_step_list, sample
from engine.train.prediction import TwoStreams
from engine.train.randomness import Randomness
from engine.train.rollouts import (
    carried,
    most_stretches,
    play_on,
    repeated,
    roll_out,
    rollout_depth,
    rollout_length,
    stacked,
    stretch,
)

MOTION = ((1.0, 0.0, 0.0), (0.0, 0.0, 15.0))
SHAPE: dict[str, Any] = {"dim": 64, "depth": 2, "heads": 2, "window": 8, "sink": 2, "clip": 8, "far": 20}


def small(seed: int = 0) -> Generator:
    """A generator whose every weight counts."""
    config = GeneratorConfig(2, 3, 4, 2, **SHAPE, motion=MOTION, fov=90.0)
    generator, random = Generator(config), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in generator.parameters():
            p.copy_(torch.randn(p.shape, generator=random) * 0.2)
    return generator.requires_grad_(False)


def some_clip(frames: int, old: int, batch: int = 2) -> Clip:
    rng = np.random.default_rng(1)
    actions = rng.integers(0, 2, (batch, old + frames, 2)).astype(np.float32)
    pose = np.stack([odometry.integrate(a, [0], MOTION) for a in actions])
    position = torch.arange(-old, frames).expand(batch, -1).clamp_min(-(20 - 8))
    latents = torch.from_numpy(rng.normal(size=(batch, old + frames, 6, 4)).astype(np.float32))
    return Clip(latents, torch.from_numpy(actions), position, torch.from_numpy(pose), old)


def test_a_rollout_draws_what_the_two_streams_of_training_draw_from_the_same_frames() -> None:
    generator, clip = small(), some_clip(8, 3)
    noise = torch.randn(2, 8, 6, 4, generator=torch.Generator().manual_seed(3))
    frames, paths = roll_out(generator, dict(generator.named_parameters()), clip, 2, noise, 2, ())
    assert torch.equal(frames[:, :2], clip.latents[:, 3:5])
    assert torch.equal(paths[0, :, 2:], noise[:, 2:]) and torch.equal(paths[-1], frames)
    context = torch.cat((clip.latents[:, :3], frames), 1)
    streams = TwoStreams(generator)

    def predict(x: Tensor, _: int, level: float) -> Tensor:
        return streams(clip, context, torch.zeros(2, 11), x, torch.full((2, 8), level))

    again = sample(predict, noise, denoising_step_list(2))
    torch.testing.assert_close(again[:, 2:], frames[:, 2:], rtol=1e-3, atol=1e-3)


def test_a_stretch_stands_where_its_frames_stand_and_old_frames_move_away() -> None:
    clip = some_clip(20, 2)
    part = stretch(clip, 12, 8, far=20)
    assert part.position[0].tolist() == [-12, -12, *range(8)]
    assert torch.equal(part.latents[:, 2:], clip.latents[:, 14:22])
    assert torch.equal(part.pose[:, :2], clip.pose[:, :2]) and torch.equal(part.actions[:, 2:], clip.actions[:, 14:22])


@pytest.mark.parametrize(("length", "last"), [(8, True), (8, False), (5, True)])
def test_each_stretch_begins_with_the_last_frames_of_the_one_before(length: int, last: bool) -> None:
    kept = carried(length)
    config = replace(small().config, clip=length)
    clip = some_clip(rollout_length(length, 4), 1)
    clip = replace(clip, latents=torch.zeros_like(clip.latents))
    firsts: set[int] = set()
    for stretches in (1, 2, 4, 6, 1, 1, 1, 1):
        calls: list[tuple[Tensor, int]] = []

        def draw(part: Clip, known: int, noise: Tensor, calls: list[Any] = calls) -> Tensor:
            calls.append((part.latents[:, 1:], known))
            frames = part.latents[:, 1:].clone()
            frames[:, known:] = len(calls)
            return frames

        random = Randomness(0, len(firsts) * 10 + stretches, 0, 0, torch.device("cpu"))
        found = play_on(draw, clip, config, stretches, random, last)
        n = found.stretches
        assert n == min(stretches, 4) and len(calls) == n - (not last)  # the clip has room for four
        assert all(known == kept for _, known in calls[1:])
        assert found.frames.shape == (2 * n, length, 6, 4) and found.clip.latents.shape[1] == length + 1
        if n > 1:
            assert found.known == kept and 1 <= calls[0][1] <= kept
        else:
            firsts.add(found.known)
        for i, (frames, real) in enumerate(zip(found.frames.split(2), found.clip.pose.split(2), strict=True)):
            assert (frames[:, found.known :] == (i + 1 if last or i < n - 1 else 0)).all()
            assert torch.equal(real[:, 1:], clip.pose[:, 1:][:, i * (length - kept) :][:, :length])
            if i:
                assert torch.equal(frames[:, :kept], found.frames.split(2)[i - 1][:, length - kept :])
        assert not found.clip.latents.any()  # what the simulator showed, not what was drawn
    assert max(firsts) <= kept


def test_deep_rollouts_are_more_frequent_and_a_quarter_ends_where_a_game_begins() -> None:
    depths = np.bincount([rollout_depth(6, Randomness(0, step, 0, 0, torch.device("cpu"))) for step in range(4000)])
    shares = depths / depths.sum()
    assert len(shares) == 7 and 0.24 < shares[1] < 0.30
    assert (np.diff(shares[2:]) > 0).all() and 0.2 < shares[6] < 0.26
    assert rollout_depth(1, Randomness(0, 0, 0, 0, torch.device("cpu"))) == 1


def test_stacked_stretches_see_the_history_of_their_own_clips() -> None:
    generator, clip = small(), some_clip(8, 3)
    config, random = generator.config, torch.Generator().manual_seed(3)
    shape = (2, config.heads, 6, config.head_dim)
    folded = [tuple(torch.randn(shape, generator=random) for _ in range(2)) for _ in range(config.depth)]
    extra: Any = (folded, torch.full((2, 6), -12.0))
    other = replace(clip, latents=torch.randn(clip.latents.shape, generator=random))
    noisy, level = torch.randn(4, 8, 6, 4, generator=random), torch.full((4, 8), 0.5)
    streams, both = TwoStreams(generator), stacked([clip, other])
    found = streams(both, both.latents, torch.zeros(4, 11), noisy, level, *repeated(extra, 2))
    for part, which in ((clip, slice(0, 2)), (other, slice(2, 4))):
        alone = streams(part, part.latents, torch.zeros(2, 11), noisy[which], level[which], *extra)
        torch.testing.assert_close(found[which], alone, rtol=1e-4, atol=1e-4)


def test_the_noisy_stream_may_stand_for_the_last_frames_alone() -> None:
    generator, clip = small(), some_clip(8, 3)
    noisy = torch.randn(2, 8, 6, 4, generator=torch.Generator().manual_seed(3))
    streams, clean, level = TwoStreams(generator), torch.zeros(2, 11), torch.full((2, 8), 0.5)
    whole = streams(clip, clip.latents, clean, noisy, level)
    part = streams(clip, clip.latents, clean, noisy[:, 5:], level[:, 5:])
    torch.testing.assert_close(part, whole[:, 5:], rtol=1e-4, atol=1e-4)


def test_clips_can_be_longer_than_the_sampler_s_own_but_not_than_an_episode() -> None:
    data = Latents(
        torch.arange(100.0).reshape(100, 1, 1), torch.zeros(100, 2, dtype=torch.uint8), np.array([0, 40, 100])
    )
    sampler = ClipSampler(data, 8, 2, 20, (), 0.0)
    for step in range(20):
        clip = sampler.batch(4, 0, step, length=50)
        own = clip.latents[:, clip.old :, 0, 0]
        assert own.shape[1] == 50 and (own.diff() == 1).all() and (own[:, 0] >= 40).all()
        assert sampler.batch(4, 0, step, length=500).latents.shape[1] <= 60 + 2


def test_as_many_stretches_as_fit() -> None:
    for length in (5, 8, 9, 13):
        for stretches in (1, 2, 5):
            frames = rollout_length(length, stretches)
            assert most_stretches(frames, length) == stretches
            assert most_stretches(frames + length - carried(length) - 1, length) == stretches
        assert most_stretches(length - 2, length) == 1
