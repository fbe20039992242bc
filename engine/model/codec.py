"""Frame <-> latent: principal components of image patches, and a small learned deblocking pass.

The linear part needs no gradient training and decodes in a fraction of a millisecond; the deblocking
convolutions remove the seams between patches that any patch-wise decoder leaves.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

MOST_PIXELS = 4096
"""Of a frame's side, and channels of the deblocking pass: nothing is allocated for a file that claims more."""


@dataclass(frozen=True)
class CodecConfig:
    """Shape of a codec.

    height, width: frame size in pixels, multiples of `patch`. patch: side of a square patch in pixels.
    channels: numbers kept of each patch, C. deblock: channels of the deblocking pass, 0 for none.
    """

    height: int
    width: int
    patch: int = 16
    channels: int = 64
    deblock: int = 24

    def __post_init__(self) -> None:
        for name in ("height", "width", "patch"):
            if not 1 <= getattr(self, name) <= MOST_PIXELS:
                raise ValueError(f"codec: {name} must be from 1 to {MOST_PIXELS} pixels, got {getattr(self, name)}")
        if not 0 <= self.deblock <= MOST_PIXELS:
            raise ValueError(f"codec: deblock must be from 0 to {MOST_PIXELS}, got {self.deblock}")
        if self.height % self.patch or self.width % self.patch:
            raise ValueError(
                f"codec: frame size must be a multiple of the patch {self.patch}, got {self.height}x{self.width}"
            )
        if not 0 < self.channels <= self.patch * self.patch * 3:
            raise ValueError(f"codec: channels must be in 1..{self.patch * self.patch * 3}, got {self.channels}")

    @property
    def rows(self) -> int:
        return self.height // self.patch

    @property
    def columns(self) -> int:
        return self.width // self.patch

    @property
    def tokens(self) -> int:
        """Tokens of one frame, N."""
        return self.rows * self.columns


class Deblock(nn.Module):
    """A residual of three 3x3 convolutions on the decoded picture, computed at half resolution for speed."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.enter = nn.Conv2d(12, channels * 2, 3, padding=1)
        self.middle = nn.Conv2d(channels * 2, channels * 2, 3, padding=1)
        self.leave = nn.Conv2d(channels * 2, 12, 3, padding=1)
        nn.init.zeros_(self.leave.weight)
        if self.leave.bias is not None:
            nn.init.zeros_(self.leave.bias)

    def forward(self, x: Tensor) -> Tensor:  # (B, 3, H, W)
        y = F.pixel_unshuffle(x, 2)  # (B, 12, H/2, W/2)
        y = F.gelu(self.enter(y), approximate="tanh")
        y = y + F.gelu(self.middle(y), approximate="tanh")
        return x + F.pixel_shuffle(self.leave(y), 2)


class Codec(nn.Module):
    """Principal components of patches (Pearson 1901), partially whitened, with a deblocking pass.

    Latents have shape (..., N, C). Component i is divided by sqrt(std_i), up to a common factor that makes the
    mean square 1: halfway between natural and white, so that a generator spends its loss on what is seen.
    """

    mean: Tensor
    basis: Tensor
    scale: Tensor

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.config = config
        size = config.patch * config.patch * 3
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("basis", torch.zeros(size, config.channels))  # orthonormal columns
        self.register_buffer("scale", torch.ones(config.channels))
        self.deblock = Deblock(config.deblock) if config.deblock else None

    def patches(self, frames: Tensor) -> Tensor:
        """uint8 (..., H, W, 3) -> float32 (..., N, P*P*3) in [-1, 1]."""
        c = self.config
        if frames.dtype != torch.uint8 or frames.shape[-3:] != (c.height, c.width, 3):
            raise ValueError(
                f"codec: expected uint8 frames (..., {c.height}, {c.width}, 3), got {frames.dtype} "
                f"{tuple(frames.shape)}"
            )
        lead = frames.shape[:-3]
        x = frames.reshape(-1, c.rows, c.patch, c.columns, c.patch, 3)
        x = x.permute(0, 1, 3, 2, 4, 5).reshape(*lead, c.tokens, -1)
        return x.float() / 127.5 - 1

    def encode(self, frames: Tensor) -> Tensor:
        """uint8 (..., H, W, 3) -> latents float32 (..., N, C)."""
        return (self.patches(frames) - self.mean) @ self.basis / self.scale

    def decode_float(self, latents: Tensor) -> Tensor:
        """Latents (..., N, C) -> float (..., 3, H, W), about [-1, 1], not clipped."""
        c = self.config
        lead = latents.shape[:-2]
        if latents.shape[-2:] != (c.tokens, c.channels):
            raise ValueError(f"codec: expected latents (..., {c.tokens}, {c.channels}), got {tuple(latents.shape)}")
        x = torch.addmm(self.mean, (latents.float() * self.scale).reshape(-1, c.channels), self.basis.T)
        x = x.reshape(-1, c.rows, c.columns, c.patch, c.patch, 3)
        x = x.permute(0, 5, 1, 3, 2, 4).reshape(-1, 3, c.height, c.width)
        if self.deblock is not None:
            x = self.deblock(x)
        return x.reshape(*lead, 3, c.height, c.width)

    def decode(self, latents: Tensor) -> Tensor:
        """Latents (..., N, C) -> uint8 (..., H, W, 3)."""
        x = self.decode_float(latents)
        return x.add(1).mul(127.5).round_().clamp_(0, 255).to(torch.uint8).movedim(-3, -1).contiguous()

    @torch.no_grad()
    def fit(self, covariance: Tensor, mean: Tensor) -> Tensor:
        """Set the linear part from the patches' covariance (P, P) and mean (P,), P = patch * patch * 3.

        Returns the standard deviations (C,) of the kept components, largest first.
        """
        values, vectors = torch.linalg.eigh(covariance.double())
        keep = self.config.channels
        basis = vectors.flip(1)[:, :keep]
        # An eigenvector's sign is arbitrary: fix it, so that the same data gives the same codec.
        basis = basis * basis.sum(0).sign().where(basis.sum(0) != 0, torch.ones(keep, dtype=basis.dtype))
        std = values.flip(0)[:keep].clamp_min(1e-8).sqrt()
        scale = std.sqrt()
        scale = scale * (std / scale).square().mean().sqrt()
        self.mean.copy_(mean)
        self.basis.copy_(basis)
        self.scale.copy_(scale)
        return std.float()
