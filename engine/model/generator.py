"""The generator: a block-causal diffusion transformer that draws one frame from those before it.

Every frame has its own noise level and action. It predicts the clean latent of a flow-matching path
``x_t = (1 - t) x + t noise`` (Lipman et al., arXiv 2210.02747; clean-latent prediction: arXiv 2511.13720).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engine.model.attention import two_streams
from engine.model.layers import (
    Attend,
    Block,
    LevelEmbedding,
    place_angles,
    rms_norm,
    rotate,
    rotate_time_part,
    time_pairs,
)


@dataclass(frozen=True)
class GeneratorConfig:
    """Shape of a generator.

    rows, columns: tokens of a frame (N = rows * columns). channels: numbers of a token, C. actions: A.
    window, sink: frames attended to at play. clip: frames of a training clip. far: the greatest age in frames
    that training saw; older frames are read as if they were `far` old.
    """

    rows: int
    columns: int
    channels: int
    actions: int
    dim: int
    depth: int
    heads: int
    window: int
    sink: int
    clip: int
    far: int
    mlp: int = 4

    def __post_init__(self) -> None:
        if self.dim % self.heads or (self.dim // self.heads) % 16:
            raise ValueError(f"generator: dim {self.dim} must be heads x a multiple of 16, got {self.heads} heads")
        for name in ("rows", "columns", "channels", "actions", "depth", "window", "clip"):
            if getattr(self, name) < 1:
                raise ValueError(f"generator: {name} must be at least 1, got {getattr(self, name)}")
        if self.far <= self.clip or self.window < self.sink:
            raise ValueError("generator: expected far > clip and window >= sink")

    @property
    def tokens(self) -> int:
        return self.rows * self.columns

    @property
    def head_dim(self) -> int:
        return self.dim // self.heads


def rotate_time(x: Tensor, position: Tensor) -> Tensor:
    """Rotate the time part of heads x (B, heads, T, head_dim) to positions (B, T), in frames."""
    split = 2 * time_pairs(x.shape[-1])
    return torch.cat((rotate_time_part(x[..., :split], position), x[..., split:]), -1)


class Generator(nn.Module):
    """See the module's docstring. Latents are (B, F, N, C), noise levels (B, F), actions (B, F, A)."""

    place_cos: Tensor
    place_sin: Tensor

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.config = config
        c, d = config, config.dim
        self.enter = nn.Linear(c.channels, d)
        self.place = nn.Parameter(torch.randn(c.tokens, d) * 0.02)
        self.level = LevelEmbedding(d)
        self.action = nn.Sequential(nn.Linear(c.actions, d), nn.SiLU(), nn.Linear(d, d))
        self.modulate = nn.Linear(d, 6 * d)
        self.blocks = nn.ModuleList(Block(d, c.heads, c.mlp * d) for _ in range(c.depth))
        self.final = nn.Linear(d, 2 * d)
        self.leave = nn.Linear(d, c.channels)
        angles = place_angles(c.rows, c.columns, c.head_dim)
        self.register_buffer("place_cos", angles.cos(), persistent=False)
        self.register_buffer("place_sin", angles.sin(), persistent=False)
        self.initialize()

    def initialize(self) -> None:
        """Xavier for the matrices; gates and output start at zero, so that the first prediction is the mean."""
        for name, p in self.named_parameters():
            if p.dim() == 2 and name != "place" and not name.endswith("offset"):
                nn.init.xavier_uniform_(p)
            elif name.endswith("bias"):
                nn.init.zeros_(p)
        for module in (self.modulate, self.final, self.leave):
            nn.init.zeros_(module.weight)

    def condition(self, level: Tensor, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Noise levels (B, F) and actions (B, F, A) -> what each frame adds to its tokens and modulates by."""
        acted = self.action(action.to(self.enter.weight.dtype))
        cond = F.silu(self.level(level) + acted)
        modulation = self.modulate(cond).unflatten(-1, (6, -1))  # (B, F, 6, d)
        return acted, modulation, self.final(cond).unflatten(-1, (2, -1))

    def rotate_place(self, x: Tensor) -> Tensor:
        """Rotate the place part of heads x (..., F * N, head_dim); it never changes afterwards."""
        split = 2 * time_pairs(x.shape[-1])
        y = x[..., split:].unflatten(-2, (-1, self.config.tokens))
        y = rotate(y, self.place_cos.to(x.dtype), self.place_sin.to(x.dtype)).flatten(-3, -2)
        return torch.cat((x[..., :split], y), -1)

    def forward(self, latents: Tensor, level: Tensor, action: Tensor, attend: Attend) -> Tensor:
        """Predict clean latents (B, F, N, C) from noised ones.

        `attend(layer, q, k, v)` says who sees whom; q and k come with their place rotated and their time not.
        """
        acted, modulation, final = self.condition(level, action)
        x = self.enter(latents.to(self.enter.weight.dtype)) + self.place + acted[..., None, :]
        for i, block in enumerate(self.blocks):
            x = block(x, modulation, self.rotate_place, lambda q, k, v, i=i: attend(i, q, k, v))
        scale, shift = final[..., None, :].unbind(2)
        return self.leave(rms_norm(x) * (1 + scale) + shift)


@dataclass(frozen=True)
class Clip:
    """One training batch: M old frames in order of time, then L consecutive ones; F = M + L.

    latents (B, F, N, C) float32; actions (B, F, A); position (B, F): frames relative to the clip's first, old
    ones clipped to at most `far - clip` before it. old: M.
    """

    latents: Tensor
    actions: Tensor
    position: Tensor
    old: int


def teacher_forced(
    generator: Generator, clip: Clip, context: Tensor, context_level: Tensor, noisy: Tensor, level: Tensor
) -> Tensor:
    """Predict each of the L consecutive frames from the lightly noised frames before it.

    Two streams in one pass: `context` (B, F, N, C) at `context_level` (B, F), causal over frames; `noisy`
    (B, L, N, C) at `level` (B, L), each frame seeing itself and the context before it. Returns (B, L, N, C).
    """
    n, total, old = generator.config.tokens, context.shape[1], clip.old
    where = torch.cat((clip.position, clip.position[:, old:]), 1).repeat_interleave(n, 1)

    def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return two_streams(rotate_time(q, where), rotate_time(k, where), v, total, n)

    out = generator(
        torch.cat((context, noisy), 1),
        torch.cat((context_level, level), 1),
        torch.cat((clip.actions, clip.actions[:, old:]), 1),
        attend,
    )
    return out[:, total:]
