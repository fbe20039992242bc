"""Building blocks of the transformer: rotary positions, attention, adaptive layer norm."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]
"""(layer, q, k, v), each (B, heads, tokens, head_dim) -> (B, heads, tokens, head_dim)."""
MOST = 2**14
"""What no size of a network exceeds: a file that claims more is not believed, and nothing is allocated for it."""


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the pairs (first half, second half) of the last axis (RoPE, arXiv 2104.09864).

    x: (..., 2*p); cos, sin: broadcastable to (..., p).
    """
    a, b = x.chunk(2, -1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)


def time_pairs(head_dim: int) -> int:
    """How many pairs of a head's dimensions carry time; the others carry place."""
    return head_dim // 8


def rotate_time_part(x: Tensor, position: Tensor) -> Tensor:
    """Rotate the time part of heads, (..., B, heads, T, 2 * pairs), to positions (B, T), in frames.

    Wavelengths reach from 2 pi to 64 pi frames.
    """
    pairs = x.shape[-1] // 2
    frequency = 32.0 ** (-torch.arange(pairs, device=x.device, dtype=torch.float32) / max(1, pairs - 1))
    angles = (position.float()[..., None] * frequency)[:, None]  # (B, 1, T, pairs)
    return rotate(x, angles.cos().to(x.dtype), angles.sin().to(x.dtype))


def place_angles(rows: int, columns: int, pairs: int) -> Tensor:
    """Angles (rows * columns, pairs) of a token's place: two fifths of the pairs for rows, the rest for columns."""
    by_row = pairs * 2 // 5
    y = torch.arange(rows).repeat_interleave(columns).float()
    x = torch.arange(columns).repeat(rows).float()

    def spread(count: int, longest: int) -> Tensor:
        return math.pi / 2 * (2.0 * longest / math.pi) ** (-torch.arange(count) / max(1, count - 1))

    return torch.cat(
        (y[:, None] * spread(by_row, max(2, rows)), x[:, None] * spread(pairs - by_row, max(2, columns))), -1
    )


@dataclass(frozen=True)
class Rotation:
    """Where the tokens of a pass stand: cos and sin, (B or 1, 1, T, pairs), of all pairs but those of time.

    moving: how many of the last pairs follow the pose; they rotate values too, and the output back (GTA).
    """

    cos: Tensor
    sin: Tensor
    moving: int

    def keys(self, x: Tensor) -> Tensor:
        """Rotate queries or keys, (..., B, heads, T, head_dim); their time stays as it is."""
        split = x.shape[-1] - 2 * self.cos.shape[-1]
        return torch.cat((x[..., :split], rotate(x[..., split:], self.cos, self.sin)), -1)

    def values(self, x: Tensor, back: bool = False) -> Tensor:
        """Rotate values (B, heads, T, head_dim) by the pose, or the output back by the reader's own."""
        if not self.moving:
            return x
        half, moving = self.cos.shape[-1], self.moving
        rest, a, b = x.split((x.shape[-1] - 2 * half, half, half), -1)
        cos, sin = self.cos[..., -moving:], self.sin[..., -moving:]
        c, d = a[..., -moving:], b[..., -moving:]
        if back:
            sin = -sin
        return torch.cat((rest, a[..., :-moving], c * cos - d * sin, b[..., :-moving], d * cos + c * sin), -1)


def rms_norm(x: Tensor) -> Tensor:
    """Root-mean-square norm over the last axis, without weights."""
    return F.rms_norm(x, (x.shape[-1],), eps=1e-6)


class LevelEmbedding(nn.Module):
    """Noise level in [0, 1] -> (..., dim): sinusoids, then two linear layers."""

    def __init__(self, dim: int, waves: int = 32) -> None:
        super().__init__()
        self.waves = waves
        self.enter = nn.Linear(2 * waves, dim)
        self.leave = nn.Linear(dim, dim)

    def forward(self, level: Tensor) -> Tensor:
        frequency = torch.exp(torch.linspace(0.0, math.log(64.0), self.waves, device=level.device))
        angle = level.float()[..., None] * frequency * math.pi
        waves = torch.cat((angle.cos(), angle.sin()), -1)
        return self.leave(F.silu(self.enter(waves.to(self.enter.weight.dtype))))


class Block(nn.Module):
    """Attention and perceptron, each modulated by (shift, scale, gate) of the frame's conditioning (DiT)."""

    def __init__(self, dim: int, heads: int, mlp: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.out = nn.Linear(dim, dim, bias=False)
        self.up = nn.Linear(dim, mlp)
        self.down = nn.Linear(mlp, dim)
        self.q_gain = nn.Parameter(torch.ones(dim // heads))
        self.k_gain = nn.Parameter(torch.ones(dim // heads))
        # One projection of the conditioning serves all layers; each has its own offset (PixArt, arXiv 2310.00426).
        self.offset = nn.Parameter(torch.zeros(6, dim))

    def forward(
        self,
        x: Tensor,
        modulation: Tensor,
        rotation: Rotation,
        attend: Callable[[Tensor, Tensor, Tensor], Tensor],
    ) -> Tensor:
        """x: (B, F, N, d); modulation: (B, F, 6, d); rotation: of the F * N tokens."""
        b, f, n, d = x.shape
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = (modulation + self.offset)[..., None, :].unbind(2)
        h = torch.addcmul(shift_a, rms_norm(x), 1 + scale_a)
        qkv = self.qkv(h).view(b, f * n, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        gains = torch.stack((self.q_gain, self.k_gain))[:, None, None, None]
        q, k = rotation.keys(rms_norm(qkv[:2]) * gains).unbind(0)
        h = rotation.values(attend(q, k, rotation.values(qkv[2])), back=True)
        h = h.transpose(1, 2).reshape(b, f, n, d)
        x = torch.addcmul(x, gate_a, self.out(h))
        h = torch.addcmul(shift_m, rms_norm(x), 1 + scale_m)
        return torch.addcmul(x, gate_m, self.down(F.gelu(self.up(h), approximate="tanh")))
