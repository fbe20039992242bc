"""A running mean of weights: less noisy than the weights themselves, and so what is shipped."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


class RunningMean:
    """Exponential mean of trained weights (an EMA); it begins as a copy of them.

    trained: the weights by name, for each part of a checkpoint; they are read again at every `update`.
    decay: what the mean keeps of itself in a step; less in the first steps, which are soon forgotten.

    parts: the means, in the same order.
    """

    def __init__(self, trained: Mapping[str, Mapping[str, Tensor]], decay: float) -> None:
        self.trained, self.decay = trained, decay
        self.parts = {part: {n: p.detach().clone() for n, p in own.items()} for part, own in trained.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights as they are after `step`."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for part, own in self.trained.items():
            torch._foreach_lerp_(list(self.parts[part].values()), list(own.values()), 1 - decay)
