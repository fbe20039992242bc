"""The memory model: folds a finished block of T frames into a few keys and values a layer (MAG, arXiv 2512.18741).

It has the generator's architecture and starts from its weights. A block is read at noise level 0 with attention
both ways inside the block; only the keys and values of its last frame (`last-frame`, the paper's rule), or of R
learned tokens (`registers`), are kept. They take the place of the block's frames in the generator's attention.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engine.model.generator import Generator, GeneratorConfig, rotate_time
from engine.model.layers import Rotation

READOUTS = ("last-frame", "registers")
Folded = list[tuple[Tensor, Tensor]]
"""Keys and values of each layer, (B, heads, R, head_dim): their place is rotated, the keys' time is not."""


@dataclass(frozen=True)
class MemoryConfig:
    """Shape of a memory: block: frames folded at a time, T. readout: `last-frame` or `registers`.

    registers: tokens kept of a block, R, with `registers`. rank: of a low-rank difference to the generator's
    matrices; 0 for weights of its own. budget: tokens of folded memory attended to in play, by default.
    """

    block: int = 3
    readout: str = "last-frame"
    registers: int = 0
    rank: int = 0
    budget: int = 96

    def __post_init__(self) -> None:
        if self.readout not in READOUTS:
            raise ValueError(f"memory: readout must be one of {', '.join(READOUTS)}, got {self.readout!r}")
        if not 1 <= self.block <= 64:
            raise ValueError(f"memory: block must be from 1 to 64 frames, got {self.block}")
        if (self.readout == "registers") != (self.registers > 0):
            raise ValueError(f"memory: readout {self.readout} with {self.registers} registers makes no sense")
        if self.rank < 0 or self.budget < 0:
            raise ValueError("memory: rank and budget must be 0 or more")

    def tokens(self, generator: GeneratorConfig) -> int:
        """Tokens that a folded block keeps, R."""
        return self.registers or generator.tokens


@dataclass
class FoldState:
    """A fold between two slices: the first `layer` layers are done. Its tensors are never changed in place."""

    x: Tensor  # (B, T * N + registers, 1, d)
    modulation: Tensor
    rotation: Rotation
    layer: int
    folded: Folded

    def copy(self) -> FoldState:
        """Independent copy."""
        return FoldState(self.x, self.modulation, self.rotation, self.layer, list(self.folded))


class Memory(nn.Module):
    """See the module's docstring. Blocks are latents (B, T, N, C), actions (B, T, A) and poses (B, T, 3)."""

    def __init__(self, config: MemoryConfig, generator: GeneratorConfig) -> None:
        super().__init__()
        self.config = config
        self.net = Generator(generator)
        self.registers = nn.Parameter(torch.randn(config.registers, generator.dim) * 0.02)

    def start_from(self, generator: Generator) -> Memory:
        """Take the generator's weights; registers begin as its places, which its layers know."""
        self.net.load_state_dict(generator.state_dict(), strict=False)
        with torch.no_grad():
            if self.config.registers:
                self.registers.copy_(generator.place[self._places()])
        return self

    def _places(self) -> Tensor:
        """Where the registers stand: tokens spread over the frame."""
        c = self.net.config
        return torch.linspace(0, c.tokens - 1, self.config.registers, device=self.registers.device).round().long()

    def begin(self, latents: Tensor, actions: Tensor, pose: Tensor) -> FoldState:
        """Start to fold blocks; `advance` goes on."""
        net, (b, t, n, _) = self.net, latents.shape
        clean = torch.zeros(b, t, device=latents.device)
        x, modulation, _ = net.entered(latents, clean, actions)
        x, modulation = x.flatten(1, 2), modulation.repeat_interleave(n, 1)
        rotation = net.rotation(pose)
        if r := self.config.registers:
            x = torch.cat((x, self.registers.to(x.dtype).expand(b, -1, -1)), 1)
            modulation = torch.cat((modulation, modulation[:, -1:].expand(-1, r, -1, -1)), 1)
            at = (t - 1) * n + self._places()
            cos, sin = (torch.cat((a, a[:, :, at]), 2) for a in (rotation.cos, rotation.sin))
            rotation = Rotation(cos, sin, rotation.moving)
        return FoldState(x[:, :, None], modulation, rotation, 0, [])

    def times(self, batch: int, device: torch.device) -> Tensor:
        """Positions (B, T * N + registers) of a block's tokens, in frames before its last."""
        n, t = self.net.config.tokens, self.config.block
        frames = torch.arange(1 - t, 1, device=device).repeat_interleave(n)
        return torch.cat((frames, frames.new_zeros(self.config.registers))).expand(batch, -1)

    def advance(self, state: FoldState, layers: int) -> FoldState:
        """Do the next `layers` layers; finished once `state.layer` is the depth."""
        net, kept = self.net, self.config.tokens(self.net.config)
        times = self.times(len(state.x), state.x.device)
        x, folded = state.x, list(state.folded)
        last = min(net.config.depth, state.layer + layers)
        for i in range(state.layer, last):

            def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
                folded.append((k[:, :, -kept:], v[:, :, -kept:]))
                return F.scaled_dot_product_attention(
                    rotate_time(q, times).to(v.dtype), rotate_time(k, times).to(v.dtype), v
                )

            x = net.blocks[i](x, state.modulation, state.rotation, attend)
        return FoldState(x, state.modulation, state.rotation, last, folded)

    def fold(self, latents: Tensor, actions: Tensor, pose: Tensor) -> Folded:
        """Fold blocks in one go."""
        return self.advance(self.begin(latents, actions, pose), self.net.config.depth).folded

    def forward(self, latents: Tensor, actions: Tensor, pose: Tensor) -> Folded:
        return self.fold(latents, actions, pose)

    def unfold(self, folded: Folded, noisy: Tensor, level: Tensor, actions: Tensor, pose: Tensor) -> Tensor:
        """Predict a block's clean latents (B, T, N, C) from noised ones at `level` (B, T) and its fold alone.

        What the first training of a memory model measures (section 3.2 of the paper).
        """
        net, (b, t, n, _) = self.net, noisy.shape
        own = torch.arange(1 - t, 1, device=noisy.device).repeat_interleave(n).expand(b, -1)

        def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            keys, values = folded[layer]
            keys = torch.cat((rotate_time(keys, own.new_zeros(b, keys.shape[2])), rotate_time(k, own)), 2)
            return F.scaled_dot_product_attention(
                rotate_time(q, own).to(v.dtype), keys.to(v.dtype), torch.cat((values, v), 2)
            )

        return net(noisy, level, actions, net.rotation(pose), attend)


def shape_of_delta(name: str, weight: Tensor, rank: int) -> tuple[int, int, int] | None:
    """(rows, columns, rank) of a matrix that a low-rank memory changes; None for what it shares."""
    changed = name.startswith("blocks.") and name.endswith(("qkv.weight", "out.weight", "up.weight", "down.weight"))
    return (weight.shape[0], weight.shape[1], rank) if changed and rank else None


def new_delta(generator: Generator, rank: int, random: torch.Generator | None = None) -> dict[str, Tensor]:
    """Factors of a difference that is zero: NAME.a (rank, columns) random, NAME.b (rows, rank) zero (LoRA)."""
    factors = {}
    for name, weight in generator.named_parameters():
        if shape := shape_of_delta(name, weight, rank):
            rows, columns, _ = shape
            factors[f"{name}.a"] = torch.randn(rank, columns, generator=random) * columns**-0.5
            factors[f"{name}.b"] = torch.zeros(rows, rank)
    return factors


def with_delta(weights: Mapping[str, Tensor], factors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The generator's weights by name, changed by the factors of `new_delta`: W + B A."""
    changed = dict(weights)
    for key, a in factors.items():
        if key.endswith(".a"):
            name = key.removesuffix(".a")
            changed[name] = weights[name] + (factors[f"{name}.b"] @ a).to(weights[name].dtype)
    return changed
