"""Rollouts of training are play: the same passes, the same positions, tens of frames deep."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engine.model import odometry
from engine.model.generator import Clip, Generator, GeneratorConfig
from engine.model.sampler import denoising_step_list, sample
from engine.train.dataset import ClipSampler, Latents
from engine.train.generator import TwoStreams
from engine.train.randomness import Randomness
from engine.train.rollout import carried, play_on, roll_out, rollout_length, stretch

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


def test_each_stretch_begins_with_the_last_frames_of_the_one_before() -> None:
    kept = carried(8)
    config, clip = small().config, some_clip(rollout_length(8, 4), 1)
    clip = replace(clip, latents=torch.zeros_like(clip.latents))
    for stretches in (1, 2, 4, 6):
        calls: list[tuple[Tensor, int]] = []

        def draw(part: Clip, known: int, noise: Tensor, calls: list[Any] = calls) -> Tensor:
            calls.append((part.latents[:, 1:], known))
            frames = part.latents[:, 1:].clone()
            frames[:, known:] = len(calls)
            return frames

        random = Randomness(0, stretches, 0, 0, torch.device("cpu"))
        found = play_on(draw, clip, config, stretches, random)
        assert len(calls) == found.stretches == min(stretches, 4)  # the clip has four
        assert 1 <= calls[0][1] <= 4 and all(known == kept for _, known in calls[1:])
        assert found.known == (kept if stretches > 1 else calls[0][1])
        assert found.frames.shape == (2 * len(calls), 8, 6, 4) and found.clip.latents.shape[1] == 9
        for i, (frames, real) in enumerate(zip(found.frames.split(2), found.clip.pose.split(2), strict=True)):
            assert (frames[:, kept:] == i + 1).all()
            assert torch.equal(real[:, 1:], clip.pose[:, 1:][:, i * (8 - kept) :][:, :8])
            if i:
                assert torch.equal(frames[:, :kept], found.frames.split(2)[i - 1][:, 8 - kept :])
    assert not found.clip.latents.any()  # what the simulator showed, not what was drawn


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
