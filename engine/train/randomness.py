"""A step's random numbers: a function of the run's seed and the step alone, so that a resumed run draws the same."""

from __future__ import annotations

import torch
from torch import Tensor


class Randomness:
    """Two streams: `plan`, the same on all ranks, for what kind of step it is; `noise`, each rank's own.

    salt: tells apart the stages that ask at the same step. Noise is made where it is needed: a GPU would wait for a
    CPU's, and has another stream.
    """

    def __init__(self, seed: int, step: int, rank: int, salt: int, device: torch.device) -> None:
        base = (seed * 1_000_003 + step) * 1009 + salt
        self.plan = torch.Generator().manual_seed(base)
        self.noise = torch.Generator(device).manual_seed(base + 2**40 * (rank + 1))
        self.device = device

    def chance(self) -> float:
        """From the plan, in [0, 1)."""
        return float(torch.rand(1, generator=self.plan))

    def uniform(self, *shape: int) -> Tensor:
        """Of this rank, in [0, 1)."""
        return torch.rand(*shape, generator=self.noise, device=self.device)

    def normal(self, *shape: int) -> Tensor:
        """Of this rank, standard normal."""
        return torch.randn(*shape, generator=self.noise, device=self.device)

    def integers(self, end: int, *shape: int) -> Tensor:
        """Of this rank, 0 to `end` - 1."""
        return torch.randint(0, end, shape, generator=self.noise, device=self.device)
