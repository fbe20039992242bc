"""How noisy the frames of a training clip are, and how much an error at a noise level counts."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from engine.model.generator import Clip
from engine.train.randomness import Randomness


def noise_levels(uniform: Tensor, shift: float = 3.0) -> Tensor:
    """Uniform numbers -> noise levels, more of them noisy: few-step sampling spends its passes there."""
    return (shift * uniform / (1 + (shift - 1) * uniform)).clamp_min(0.02)


def context_levels(clip: Clip, most: float, random: Randomness) -> Tensor:
    """Noise levels (B, F) of the frames that are seen, up to `most`, against drift (GameNGen, arXiv 2408.14837).

    Half of the clips are seen clean, for play begins from real frames.
    """
    b = len(clip.position)
    return random.uniform(*clip.position.shape) * most * (random.uniform(b, 1) < 0.5)


def with_noisy_sights(clip: Clip, most: float, random: Randomness) -> Clip:
    """A clip whose sights are noised, up to a deviation of `most`, in half of the cases.

    What is drawn is seen again, and drawn again: without noise its flaws would be copied for ever, with it the
    generator learns what tiles look like, and mends them.
    """
    if clip.sights is None or not most:
        return clip
    level = random.uniform(len(clip.latents), 1, 1, 1) * most * (random.uniform(len(clip.latents), 1, 1, 1) < 0.5)
    c = clip.latents.shape[-1]
    seen, there = clip.sights[..., :c], clip.sights[..., c : c + 1]
    noised = seen + random.normal(*seen.shape) * level * there
    return replace(clip, sights=torch.cat((noised, clip.sights[..., c:]), -1))


def weighed(error: Tensor, level: Tensor) -> Tensor:
    """Mean of errors at their noise levels, those at low noise counting more, as far as 0.3."""
    return (error / level.clamp_min(0.3)).mean()
