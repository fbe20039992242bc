"""How noisy the frames of a training clip are, and how much an error at a noise level counts."""

from __future__ import annotations

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


def weighed(error: Tensor, level: Tensor) -> Tensor:
    """Mean of errors at their noise levels, those at low noise counting more, as far as 0.3."""
    return (error / level.clamp_min(0.3)).mean()
