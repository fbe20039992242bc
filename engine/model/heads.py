"""Reward, termination and events, read off the pass that commits a frame: clean frame, action and context.

The reward is spread over buckets, evenly spaced in symlog, and read as their mean ("two-hot", DreamerV3, arXiv
2301.04104), so that a rare large reward is neither smoothed away nor rules the loss.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engine.model.layers import MOST, rms_norm

MOST_EVENTS = 4096
HAPPENED = 0.5
"""Probability above which an event has happened."""


@dataclass(frozen=True)
class HeadsConfig:
    """Shape of the heads.

    layers: numbers of the generator's layers whose outputs are read. hidden: width. buckets: of the reward, from `low`
    to `high` in symlog, both the data's own. threshold: of the probability above which an episode is over. events: how
    many kinds of events are read, E.
    """

    layers: tuple[int, ...]
    hidden: int = 128
    buckets: int = 63
    low: float = -1.0
    high: float = 1.0
    threshold: float = 0.5
    events: int = 0

    def __post_init__(self) -> None:
        if not self.layers or min(self.layers) < 0:
            raise ValueError(f"heads: layers must name one layer or more, from 0, got {list(self.layers)}")
        if not (1 <= self.hidden <= MOST and 2 <= self.buckets <= MOST):
            raise ValueError(
                f"heads: expected hidden >= 1, buckets >= 2, both at most {MOST}, got {self.hidden} and {self.buckets}"
            )
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ValueError(f"heads: expected finite low < high, got {self.low} and {self.high}")
        if not 0 <= self.threshold <= 1:
            raise ValueError(f"heads: threshold must be from 0 to 1, got {self.threshold}")
        if not 0 <= self.events <= MOST_EVENTS:
            raise ValueError(f"heads: events must be from 0 to {MOST_EVENTS}, got {self.events}")


def symlog(x: Tensor) -> Tensor:
    """Sign(x) log(1 + |x|)."""
    return x.sign() * x.abs().log1p()


def symexp(x: Tensor) -> Tensor:
    """Inverse of `symlog`."""
    return x.sign() * x.abs().expm1()


class Heads(nn.Module):
    """A perceptron on each token, pooled over the frame, and a readout for each signal.

    A checkpoint has them where its source gave reward and termination; the source may tell events, too.
    """

    centers: Tensor

    def __init__(self, config: HeadsConfig, dim: int) -> None:
        super().__init__()
        self.config = config
        self.enter = nn.Linear(dim * len(config.layers), config.hidden)
        self.middle = nn.Linear(2 * config.hidden, config.hidden)
        self.reward = nn.Linear(config.hidden, config.buckets)
        self.termination = nn.Linear(config.hidden, 1)
        centers = symexp(torch.linspace(config.low, config.high, config.buckets, dtype=torch.float64)).float()
        self.register_buffer("centers", centers, persistent=False)
        self.events = nn.Linear(config.hidden, config.events) if config.events else None
        for layer in filter(None, (self.reward, self.termination, self.events)):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def features(self, layers: Sequence[Tensor]) -> Tensor:
        """Outputs (B, F, N, d) of all the generator's layers -> what is read of them, float32 (B, F, N, D)."""
        return torch.cat([rms_norm(layers[i].float()) for i in self.config.layers], -1)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Features (..., N, D) -> log-odds of the reward's buckets (..., K), the termination (...), events (..., E)."""
        tokens = F.gelu(self.enter(features))
        x = F.gelu(self.middle(torch.cat((tokens.mean(-2), tokens.amax(-2)), -1)))
        events = self.events(x) if self.events is not None else x[..., :0]
        return self.reward(x), self.termination(x)[..., 0], events

    def expected(self, logits: Tensor) -> Tensor:
        """Mean reward (...) of the buckets' log-odds (..., K)."""
        return torch.softmax(logits, -1) @ self.centers

    def two_hot(self, reward: Tensor) -> Tensor:
        """Shares (..., K) of the two buckets beside each reward (...), whose mean it is; beyond the ends, the end."""
        reward = reward.clamp(self.centers[0], self.centers[-1])
        above = torch.searchsorted(self.centers, reward.contiguous()).clamp(1, len(self.centers) - 1)
        low, high = self.centers[above - 1], self.centers[above]
        share = ((reward - low) / (high - low))[..., None]
        found = torch.zeros(*reward.shape, len(self.centers), device=reward.device)
        return found.scatter_(-1, above[..., None] - 1, 1 - share).scatter_(-1, above[..., None], share)
