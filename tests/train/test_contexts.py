"""The histories that a clip is shown with."""

from dataclasses import replace

import numpy as np
import torch

from engine.data.clips import ClipSampler, Latents
from engine.train.contexts import first_only, with_frames

LATENTS = Latents(torch.arange(80.0).reshape(80, 1, 1), torch.zeros(80, 2, dtype=torch.uint8), np.array([0, 40, 80]))


def test_a_window_has_the_first_old_frames_alone() -> None:
    sampler = ClipSampler(LATENTS, 5, 6, 20)
    clip = next(clip for clip in sampler.fixed(3, 0) if clip.old > 3)
    found = first_only(clip, 2)
    assert found.old == 2 and found.latents.shape[1] == 2 + 5
    assert torch.equal(found.latents[:, 2:], clip.latents[:, clip.old :])
    assert torch.equal(found.position[:, :2], clip.position[:, :2])


def test_blocks_stand_unfolded_between_the_sink_and_the_clip() -> None:
    clip, blocks = ClipSampler(LATENTS, 5, 6, 20).with_blocks(3, 0, 0, 2, 4, 2)
    found = with_frames(clip, blocks)
    count = blocks.position.shape[1]
    assert found.old == 2 + count and found.latents.shape[1] == 2 + count + 5
    number = found.latents[:, :, 0, 0]
    assert (number.diff() > 0).all()  # in order of time
    assert torch.equal(number[:, 2 : 2 + count], blocks.latents[:, -1, 0, 0].unflatten(0, (3, count)))
    assert torch.equal(replace(found, old=2).latents[:, -5:], clip.latents[:, 2:])
