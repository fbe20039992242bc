"""Reward and termination, read off the generator's last features."""

from __future__ import annotations

from torch import Tensor, nn


class Heads(nn.Module):
    """Linear readouts of a frame's mean feature. A checkpoint has them where its source gave both signals."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.reward = nn.Linear(dim, 1)
        self.termination = nn.Linear(dim, 1)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B, N, d) -> reward (B,) and the termination's log-odds (B,)."""
        mean = features.mean(-2)
        return self.reward(mean)[..., 0], self.termination(mean)[..., 0]
