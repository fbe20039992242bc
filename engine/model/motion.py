"""Motion: what a step will really be, from what was seen last and the buttons.

Counting keys (`engine.model.odometry`) breaks at the first wall; whether the way is free can be seen. A few numbers of
each token and a perceptron tell (`Motion`), and the frame is drawn at the pose that they say, so that picture and
memory agree.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engine.model.layers import MOST

TURN = 15.0
"""Degrees that count as much as a step in the network's output: what a turn of one step usually is."""
FINEST, FINEST_TURN = 1 / 64, 1 / 8
"""Steps and degrees to which what the network says is rounded, so that the last bit of a sum decides nothing."""
CLEAR = 0.4
"""Steps, or turns of `TURN` degrees, by which the network must say something else than the usual step, to be believed.

Where steps are not whole, what it says of usual ones is never quite right, and what it has not seen enough of is a
guess somewhere between: on held-out maps the usual step was the better answer up to here (LOG.md).
"""


@dataclass(frozen=True)
class MotionConfig:
    """Shape of a motion model.

    tokens, channels: of a frame's latents, N and C. actions: buttons, A. features: numbers that are kept of each token.
    hidden: width of the perceptron. snap: whether each step is whole, as in a world of tiles.
    """

    tokens: int
    channels: int
    actions: int
    features: int = 16
    hidden: int = 256
    snap: bool = False

    def __post_init__(self) -> None:
        for name in ("tokens", "channels", "actions", "features", "hidden"):
            if not 1 <= getattr(self, name) <= MOST:
                raise ValueError(f"motion: {name} must be at least 1 and at most {MOST}, got {getattr(self, name)}")


class Motion(nn.Module):
    """Latents (B, N, C) of the last committed frame and action (B, A) -> the step (B, 3) that will be made.

    A step is forward and to the left, in the world's steps, and turned to the left in degrees, all seen from where the
    player looks before it.

    usual (A, 3): the step that each button leads to where nothing is in the way, in the network's own units; those of
    several buttons add up.
    """

    usual: Tensor

    def __init__(self, config: MotionConfig) -> None:
        super().__init__()
        self.config = c = config
        self.token = nn.Linear(c.channels, c.features)
        self.enter = nn.Linear(c.tokens * c.features + c.actions, c.hidden)
        self.middle = nn.Linear(c.hidden, c.hidden // 2)
        self.leave = nn.Linear(c.hidden // 2, 3)
        self.register_buffer("usual", torch.zeros(c.actions, 3))

    def forward(self, latents: Tensor, action: Tensor) -> Tensor:
        """As learnt: float32 (B, 3), turns in units of `TURN` degrees, nothing rounded."""
        seen = F.silu(self.token(latents.float())).flatten(1)
        x = F.silu(self.enter(torch.cat((seen, action.float()), 1)))
        return self.leave(F.silu(self.middle(x)))

    @torch.no_grad()
    def step(self, latents: Tensor, action: Tensor) -> np.ndarray:
        """The step, float64 (B, 3), in steps and degrees; see `decided`.

        Each world is asked alone: how a product is summed may depend on the number of rows, and a step that falls to
        the other side of a rounding would lead a world elsewhere because of its neighbours.
        """
        rows = torch.cat([self(latents[b : b + 1], action[b : b + 1]) for b in range(len(latents))])
        return self.decided(rows, action)

    @torch.no_grad()
    def decided(self, said: Tensor, action: Tensor) -> np.ndarray:
        """What `forward` says (B, 3) of an action (B, A), as a step float64 (B, 3) in steps and degrees.

        With `snap` whole steps and turns of `TURN` degrees; else the usual step of the buttons, unless the network says
        clearly something else (`CLEAR`).
        """
        told, usual = (x.cpu().numpy().astype(np.float64) for x in (said, action.float() @ self.usual))
        if self.config.snap:
            return rounded(told, snap=True)
        apart = np.abs(told - usual)
        clear = (np.hypot(apart[:, 0], apart[:, 1]) > CLEAR) | (apart[:, 2] > CLEAR)
        return rounded(np.where(clear[:, None], told, usual), snap=False)


def rounded(said: np.ndarray, snap: bool) -> np.ndarray:
    """What `Motion.forward` says, (..., 3), as a step in steps and degrees, rounded."""
    if snap:
        return np.round(said) * (1.0, 1.0, TURN) + 0.0  # no negative zero
    finest = (FINEST, FINEST, FINEST_TURN)
    return np.round(said * (1.0, 1.0, TURN) / finest) * finest + 0.0


def wrong(said: np.ndarray, real: np.ndarray, snap: bool) -> np.ndarray:
    """Which steps (..., 3), in steps and degrees, are not what really happened: bool (...).

    With `snap` that is any difference; else more than a tenth of a step, or more than a tenth of a turn.
    """
    apart = np.abs(said - real)
    turn = np.minimum(apart[..., 2], np.abs(360.0 - apart[..., 2]))
    far = np.hypot(apart[..., 0], apart[..., 1])
    return (far > 1e-6) | (turn > 1e-6) if snap else (far > 0.1) | (turn > TURN / 10)
