"""Few-step sampling of the flow-matching path, and noise that is a function of (seed, frame)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

MAX_STEPS = 64
"""Passes a frame that a world may ask for."""


def denoising_step_list(steps: int, timestep_shift: float = 1.0) -> list[float]:
    """Noise levels at which the generator is asked, from 1 downwards; `steps` of them.

    Evenly spaced levels u are shifted towards noise, ``s u / (1 + (s - 1) u)`` (SD3, arXiv 2403.03206).
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    even = [1 - i / steps for i in range(steps)]
    return [timestep_shift * u / (1 + (timestep_shift - 1) * u) for u in even]


def noise_for(seed: int, frame: int, shape: Sequence[int]) -> Tensor:
    """Standard normal noise (`shape`), float32 on the CPU, a function of seed and frame number alone.

    So a branch, a neighbour in the batch or another device never shifts it.
    """
    generator = torch.Generator().manual_seed((seed * 0x9E3779B97F4A7C15 + frame * 0xBF58476D1CE4E5B9) % 2**63)
    return torch.randn(*shape, generator=generator)


def mix(clean: Tensor, noise: Tensor, level: Tensor | float) -> Tensor:
    """The path ``(1 - level) clean + level noise``; a tensor `level` gets axes appended as needed."""
    if isinstance(level, Tensor):
        level = level.reshape(*level.shape, *[1] * (clean.dim() - level.dim()))
    return clean * (1 - level) + noise * level


def sample(predict: Callable[[Tensor, int, float], Tensor], noise: Tensor, levels: Sequence[float]) -> Tensor:
    """Euler steps along the path. `predict(x, i, level)` gives the clean latent; the result is the last one."""
    x = noise
    clean = noise
    for i, level in enumerate(levels):
        clean = predict(x, i, level)
        following = levels[i + 1] if i + 1 < len(levels) else 0.0
        x = clean + (x - clean) * (following / level)
    return clean
