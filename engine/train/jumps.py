"""Jumps along a teacher's path, which a student of few passes learns (progressive distillation, arXiv 2202.00512)."""

from __future__ import annotations

import torch
from torch import Tensor

from engine.model.sampler import denoising_step_list
from engine.train.randomness import Randomness


def drawn_jumps(path: Tensor, passes: int, shift: float, random: Randomness) -> tuple[Tensor, Tensor, Tensor]:
    """One of the student's jumps for each frame of a path (K + 1, ..., N, C), K a multiple of the student's `passes`.

    Returns where each begins (..., N, C), its noise level (...), and the clean latent that leads to where it ends.
    """
    levels = torch.tensor([*denoising_step_list(passes, shift), 0.0], device=path.device)
    stops = path[:: (len(path) - 1) // passes]  # the path at the student's levels
    which = random.integers(passes, *stops.shape[1:-2])
    here, there = (pick(stops, which + i) for i in (0, 1))
    level, following = levels[which], levels[which + 1]
    share = (following / level)[..., None, None]
    return here, level, (there - share * here) / (1 - share)


def pick(stops: Tensor, which: Tensor) -> Tensor:
    """From stops (K, ..., N, C), of each frame the one that `which` (...) says: (..., N, C)."""
    index = which[None, ..., None, None].expand(1, *stops.shape[1:])
    return stops.gather(0, index)[0]
