"""The generator: a block-causal diffusion transformer that draws one frame from those before it.

Every frame has its own noise level and action. It predicts the clean latent of a flow-matching path
``x_t = (1 - t) x + t noise`` (Lipman et al., arXiv 2210.02747; clean-latent prediction: arXiv 2511.13720).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engine.model import odometry
from engine.model.attention import two_streams
from engine.model.layers import (
    MOST,
    Attend,
    Block,
    LevelEmbedding,
    Rotation,
    place_angles,
    rms_norm,
    rotate_time_part,
    time_pairs,
)


@dataclass(frozen=True)
class GeneratorConfig:
    """Shape of a generator.

    rows, columns: tokens of a frame (N = rows * columns). channels: numbers of a token, C. actions: A.
    window, sink: frames attended to at play; with 0 each frame sees itself alone, and its sights. clip: frames of a
    training clip. far: the greatest age in frames that training saw; older frames are read as if they were `far` old.
    motion: what each button does to the pose (see `odometry`), empty for a world without one; fov: horizontal field of
    view in degrees.

    sights: whether it takes what was seen before of each tile (see `engine.model.sights`), and draws what is to be
    added to it. still_rows: the last rows of tokens that do not scroll with the world, such as an inventory. player:
    the token that shows the player, row * columns + column.
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
    motion: odometry.Motion = ()
    fov: float = 0.0
    sights: bool = False
    still_rows: int = 0
    player: int = -1

    def __post_init__(self) -> None:
        for name in ("rows", "columns", "channels", "actions", "dim", "depth", "heads", "mlp", "clip"):
            if not 1 <= getattr(self, name) <= MOST:
                raise ValueError(f"generator: {name} must be at least 1 and at most {MOST}, got {getattr(self, name)}")
        if self.dim % self.heads or (self.dim // self.heads) % 16:
            raise ValueError(f"generator: dim {self.dim} must be heads x a multiple of 16, got {self.heads} heads")
        if self.window < (0 if self.sights else 1) or self.sink < 0:
            raise ValueError(f"generator: window must be at least 1, or 0 with sights, got {self.window}")
        if not 0 <= self.still_rows < self.rows or not -1 <= self.player < self.columns * (self.rows - self.still_rows):
            raise ValueError(f"generator: no frame has {self.still_rows} still rows and its player at {self.player}")
        if self.sights and self.player < 0:
            raise ValueError("generator: sights need the token that shows the player")
        if self.far <= self.clip or self.window < self.sink or self.window > MOST:
            raise ValueError(f"generator: expected far > clip and window >= sink, and a window of at most {MOST}")
        if self.motion and (len(self.motion) != self.actions or any(len(m) != 3 for m in self.motion)):
            raise ValueError(f"generator: motion needs {self.actions} triples, one a button, or none")
        if not 0 <= self.fov < 180:
            raise ValueError(f"generator: fov must be from 0 to below 180 degrees, got {self.fov}")

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
    columns: Tensor

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.config = config
        c, d = config, config.dim
        self.enter = nn.Linear(2 * c.channels + 2 if c.sights else c.channels, d)
        self.place = nn.Parameter(torch.randn(c.tokens, d) * 0.02)
        self.level = LevelEmbedding(d)
        self.action = nn.Sequential(nn.Linear(c.actions, d), nn.SiLU(), nn.Linear(d, d))
        self.modulate = nn.Linear(d, 6 * d)
        self.blocks = nn.ModuleList(Block(d, c.heads, c.mlp * d) for _ in range(c.depth))
        self.final = nn.Linear(d, 2 * d)
        self.leave = nn.Linear(d, c.channels)
        still = c.head_dim // 2 - time_pairs(c.head_dim) - self._moving_pairs()
        angles = place_angles(c.rows, c.columns, still)
        self.register_buffer("place_cos", angles.cos(), persistent=False)
        self.register_buffer("place_sin", angles.sin(), persistent=False)
        middles = (torch.arange(c.columns) + 0.5) / c.columns * 2 - 1
        self.register_buffer("columns", middles.repeat(c.rows), persistent=False)
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

    def _moving_pairs(self) -> int:
        bearings, lengths = odometry.pairs(self.config.head_dim)
        return bearings + 2 * lengths if self.config.motion else 0

    def rotation(self, pose: Tensor, dtype: torch.dtype | None = None) -> Rotation:
        """Where the tokens of frames with poses (B, F, 3) stand; `dtype` is the weights' own by default."""
        moving, dtype = self._moving_pairs(), dtype or self.enter.weight.dtype
        cos, sin = (x.to(dtype).expand(*pose.shape[:2], -1, -1) for x in (self.place_cos, self.place_sin))
        if moving:
            columns = self.columns.to(pose.device)
            angles = odometry.pose_angles(pose.double(), columns, self.config.head_dim, self.config.fov).to(cos.device)
            cos = torch.cat((cos, angles.cos().to(dtype)), -1)
            sin = torch.cat((sin, angles.sin().to(dtype)), -1)
        return Rotation(cos.flatten(1, 2)[:, None], sin.flatten(1, 2)[:, None], moving)

    def entered(
        self, latents: Tensor, level: Tensor, action: Tensor, sights: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What the first block takes: tokens (B, F, N, d), modulation (B, F, 6, d) and, for the end, `final`.

        sights: (B, F, N, C + 2), none by default.
        """
        acted, modulation, final = self.condition(level, action)
        if self.config.sights:
            if sights is None:
                sights = latents.new_zeros(*latents.shape[:-1], self.config.channels + 2)
            latents = torch.cat((latents, sights.to(latents.dtype)), -1)
        x = self.enter(latents.to(self.enter.weight.dtype)) + self.place + acted[..., None, :]
        return x, modulation, final

    def forward(
        self,
        latents: Tensor,
        level: Tensor,
        action: Tensor,
        rotation: Rotation,
        attend: Attend,
        outputs: list[Tensor] | None = None,
        sights: Tensor | None = None,
    ) -> Tensor:
        """Predict clean latents (B, F, N, C) from noised ones.

        rotation: what `rotation` gives for the frames' poses. `attend(layer, q, k, v)` says who sees whom; q, k
        and v come with their place rotated, q and k with their time not. outputs: a list that each layer's output
        (B, F, N, d) is appended to. sights: (B, F, N, C + 2) float32, where the generator takes them: what it draws is
        added to what was seen, in float32, so that what stays as it was costs nothing.
        """
        x, modulation, final = self.entered(latents, level, action, sights)
        for i, block in enumerate(self.blocks):
            x = block(x, modulation, rotation, lambda q, k, v, i=i: attend(i, q, k, v))
            if outputs is not None:
                outputs.append(x)
        scale, shift = final[..., None, :].unbind(2)
        drawn = self.leave(rms_norm(x) * (1 + scale) + shift)
        return drawn if sights is None else drawn.float() + sights[..., : self.config.channels]


@dataclass(frozen=True)
class Clip:
    """One training batch: M old frames in order of time, then L consecutive ones; F = M + L.

    latents (B, F, N, C) float32; actions (B, F, A); position (B, F): frames relative to the clip's first, old
    ones clipped to at most `far - clip` before it; pose (B, F, 3) float64, see `odometry`. old: M. sights (B, F, N,
    C + 2) float32, for a generator that takes them.
    """

    latents: Tensor
    actions: Tensor
    position: Tensor
    pose: Tensor
    old: int
    sights: Tensor | None = None

    def each(self, change: Callable[[Tensor], Tensor]) -> Clip:
        """The same clips with every tensor changed."""
        sights = None if self.sights is None else change(self.sights)
        latents, actions, position, pose = map(change, (self.latents, self.actions, self.position, self.pose))
        return Clip(latents, actions, position, pose, self.old, sights)


def teacher_forced(
    generator: Generator,
    clip: Clip,
    context: Tensor,
    context_level: Tensor,
    noisy: Tensor,
    level: Tensor,
    folded: list[tuple[Tensor, Tensor]] | None = None,
    folded_position: Tensor | None = None,
) -> Tensor:
    """Predict a clip's last L frames, its consecutive ones or fewer, each from the lightly noised frames before it.

    Two streams in one pass: `context` (B, F, N, C) at `context_level` (B, F), causal over frames; `noisy`
    (B, L, N, C) at `level` (B, L), each frame seeing itself and the context before it. folded: keys and values
    that everybody sees, of each layer (B, heads, P, head_dim), at `folded_position` (B, P) frames relative to
    the clip's first. Returns (B, L, N, C). A generator without a window sees no context, but each frame's sights.
    """
    n, total = generator.config.tokens, context.shape[1]
    first = total - noisy.shape[1]
    if not generator.config.window:
        last = clip.each(lambda x: x[:, first:])
        return generator(noisy, level, last.actions, generator.rotation(last.pose), alone(n), sights=last.sights)
    where = torch.cat((clip.position, clip.position[:, first:]), 1).repeat_interleave(n, 1)

    def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        k = rotate_time(k, where)
        if folded is not None and folded_position is not None:
            keys, values = folded[layer]
            k, v = torch.cat((rotate_time(keys, folded_position), k), 2), torch.cat((values, v), 2)
        return two_streams(rotate_time(q, where), k, v, total, n)

    out = generator(
        torch.cat((context, noisy), 1),
        torch.cat((context_level, level), 1),
        torch.cat((clip.actions, clip.actions[:, first:]), 1),
        generator.rotation(torch.cat((clip.pose, clip.pose[:, first:]), 1)),
        attend,
        sights=None if clip.sights is None else torch.cat((clip.sights, clip.sights[:, first:]), 1),
    )
    return out[:, total:]


def alone(tokens: int) -> Attend:
    """Attention of each frame, of so many tokens, to itself and nothing else."""

    def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        b, frames = len(q), q.shape[2] // tokens
        if frames == 1:
            return F.scaled_dot_product_attention(q, k, v)
        q, k, v = (x.unflatten(2, (frames, tokens)).transpose(1, 2).flatten(0, 1) for x in (q, k, v))
        return F.scaled_dot_product_attention(q, k, v).unflatten(0, (b, frames)).transpose(1, 2).flatten(2, 3)

    return attend


def clean_pass(generator: Generator, clip: Clip, latents: Tensor) -> list[Tensor]:
    """Outputs (B, F, N, d) of each layer for a clip of clean frames, each seeing those before it, or its sights."""
    n, total = generator.config.tokens, latents.shape[1]
    where = clip.position.repeat_interleave(n, 1)
    outputs: list[Tensor] = []

    def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return two_streams(rotate_time(q, where), rotate_time(k, where), v, total, n)

    clean = torch.zeros(clip.position.shape, device=latents.device)
    attends = attend if generator.config.window else alone(n)
    generator(latents, clean, clip.actions, generator.rotation(clip.pose), attends, outputs, clip.sights)
    return outputs
