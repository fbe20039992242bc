"""Play in training: frames that a generator draws from its own, through the cached passes that a `World` makes.

What a model is trained on must be what it meets in play (self-forcing, arXiv 2506.08009): its own frames, with the
errors of hundreds of frames in them. A rollout goes on stretch by stretch, each from the last frames of the one before.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F

from engine.model.attention import two_streams
from engine.model.generator import Clip, Generator, GeneratorConfig, rotate_time
from engine.model.memory import Folded
from engine.model.sampler import denoising_step_list, sample
from engine.train.randomness import Randomness

FoldedContext = tuple[Folded, Tensor] | tuple[()]
"""Folded keys and values of each layer with their positions (B, P), or nothing."""


def carried(length: int) -> int:
    """Of a stretch of `length` frames (2 or more), the last ones that the next one begins with, at least 1."""
    return min(6, length // 2)


def most_stretches(frames: int, length: int) -> int:
    """Stretches of `length` frames that so many frames are enough for, at least 1."""
    return max(1, 1 + (frames - length) // (length - carried(length)))


def rollout_length(length: int, stretches: int) -> int:
    """Frames of a rollout of so many stretches."""
    return length + (stretches - 1) * (length - carried(length))


@torch.no_grad()
def roll_out(
    generator: Generator,
    weights: dict[str, Tensor],
    clip: Clip,
    real: int,
    noise: Tensor,
    steps: int,
    extra: FoldedContext,
    shift: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """Play on from a clip's old and first `real` frames, as `World` does, in the weights' dtype.

    noise (B, L, N, C). shift: of the noise levels towards noise. Returns the clip's L frames, and the path that led to
    each: (steps + 1, B, L, N, C), from the noise to the frame.
    """
    c, b = generator.config, len(noise)
    device, dtype = noise.device, next(iter(weights.values())).dtype
    keys, values = [], []
    for layer in range(c.depth):
        if extra:
            folded, position = extra
            keys.append(rotate_time(folded[layer][0], position).to(dtype))
            values.append(folded[layer][1].to(dtype))
        else:
            keys.append(torch.empty(b, c.heads, 0, c.head_dim, device=device, dtype=dtype))
            values.append(keys[-1])

    def draw(x: Tensor, level: float, frames: slice, keep: bool) -> Tensor:
        where = clip.position[:, frames].repeat_interleave(c.tokens, 1)

        def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            q, k = (rotate_time(part, where).to(v.dtype) for part in (q, k))
            k, v = torch.cat((keys[layer], k), 2), torch.cat((values[layer], v), 2)
            if keep:
                keys[layer], values[layer] = k, v
            if x.shape[1] == 1:
                return F.scaled_dot_product_attention(q, k, v)
            return two_streams(q, k, v, x.shape[1], c.tokens)

        levels = torch.full(x.shape[:2], level, device=device)
        rotation = generator.rotation(clip.pose[:, frames], dtype)
        return functional_call(generator, weights, (x, levels, clip.actions[:, frames], rotation, attend)).float()

    begin = clip.old + real
    draw(clip.latents[:, :begin], 0.0, slice(0, begin), keep=True)
    known = clip.latents[:, clip.old : begin]
    frames, paths = [known], [known.expand(steps + 1, *known.shape)]
    for i in range(real, noise.shape[1]):
        at = slice(clip.old + i, clip.old + i + 1)
        states: list[Tensor] = []

        def predict(x: Tensor, _: int, level: float, at: slice = at, states: list[Tensor] = states) -> Tensor:
            states.append(x)
            return draw(x, level, at, keep=False)

        frame = sample(predict, noise[:, i : i + 1], denoising_step_list(steps, shift))
        draw(frame, 0.0, at, keep=True)
        frames.append(frame)
        paths.append(torch.stack([*states, frame]))
    return torch.cat(frames, 1), torch.cat(paths, 2)


Draw = Callable[[Clip, int, Tensor], Tensor]
"""(clip, how many of its consecutive frames are given, noise) -> the clip's L frames, the given ones first."""


@dataclass(frozen=True)
class Rollout:
    """All stretches of a rollout as one batch, stretch by stretch: n * B clips of L frames.

    clip: what the simulator showed. frames (n * B, L, N, C): what was played meanwhile. The first `known` are context
    alone, those that each stretch began from (of the first of several, which began from fewer, also what it drew next).
    stretches: n.
    """

    clip: Clip
    frames: Tensor
    known: int
    stretches: int


def rollout_depth(most: int, random: Randomness) -> int:
    """How many stretches to play, 1 to `most`, the same on all ranks.

    All of a rollout's stretches are trained on, so deep ones are drawn more often, in proportion to their depth, or
    what comes late would hardly be seen. A quarter is one stretch long: only there the first frames of a game count.
    """
    drawn = random.chance()
    return 1 if drawn < 0.25 else max(1, math.ceil(most * math.sqrt((drawn - 0.25) / 0.75)))


def play_on(
    draw: Draw, clip: Clip, c: GeneratorConfig, stretches: int, random: Randomness, last: bool = True
) -> Rollout:
    """Play so many stretches of a clip's length, or as many as the clip has; `random` gives the noise.

    last: whether the last stretch is played, or has the simulator's frames after its first ones.
    """
    length = c.clip
    kept = carried(length)
    known = min(1 + int(4 * random.chance() ** 2), kept)
    count = min(stretches, most_stretches(clip.latents.shape[1] - clip.old, length))
    clips: list[Clip] = []
    frames: list[Tensor] = []
    for i in range(count):
        part = stretch(clip, i * (length - kept), length, c.far)
        clips.append(part)
        if i:
            known, given = kept, frames[-1][:, length - kept :]
            rest = part.latents[:, clip.old + kept :]
            part = replace(part, latents=torch.cat((part.latents[:, : clip.old], given, rest), 1))
        if last or i < count - 1:
            noise = random.normal(len(part.latents), length, *part.latents.shape[2:])
            frames.append(draw(part, known, noise))
        else:
            frames.append(part.latents[:, clip.old :])
    return Rollout(stacked(clips), torch.cat(frames), known, count)


class Player:
    """Plays with a generator in the compute dtype; without gradients, its weights as they are at each call.

    shift: of the noise levels towards noise, see `engine.model.sampler.denoising_step_list`.
    """

    def __init__(self, generator: Generator, dtype: torch.dtype, shift: float = 1.0) -> None:
        self.generator, self.dtype, self.shift = generator, dtype, shift

    def roll_out(
        self,
        clip: Clip,
        real: int,
        noise: Tensor,
        passes: int,
        extra: FoldedContext = (),
        weights: Mapping[str, Tensor] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """`roll_out` with the generator's weights, or others."""
        return roll_out(self.generator, self._cast(weights), clip, real, noise, passes, extra, self.shift)

    def play_on(
        self, clip: Clip, passes: int, extra: FoldedContext, stretches: int, random: Randomness, last: bool = True
    ) -> Rollout:
        """`play_on`: what the generator plays along a clip in so many passes a frame."""
        weights = self._cast(None)

        def draw(part: Clip, known: int, noise: Tensor) -> Tensor:
            return roll_out(self.generator, weights, part, known, noise, passes, extra, self.shift)[0]

        return play_on(draw, clip, self.generator.config, stretches, random, last)

    def _cast(self, weights: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
        own = dict(self.generator.named_parameters()) if weights is None else weights
        return {name: p.detach().to(self.dtype) for name, p in own.items()}


def stacked(clips: list[Clip]) -> Clip:
    """Clips of the same lengths as one batch."""

    def joined(name: str) -> Tensor:
        return torch.cat([getattr(clip, name) for clip in clips])

    return Clip(joined("latents"), joined("actions"), joined("position"), joined("pose"), clips[0].old)


def repeated(extra: FoldedContext, times: int) -> FoldedContext:
    """Folded history for `times` batches stacked."""
    if not extra or times == 1:
        return extra
    folded, position = extra
    return [(k.repeat(times, 1, 1, 1), v.repeat(times, 1, 1, 1)) for k, v in folded], position.repeat(times, 1)


def stretch(clip: Clip, first: int, length: int, far: int) -> Clip:
    """A clip's old frames, and `length` of its consecutive ones from the `first` on, with positions from there."""
    pick = [*range(clip.old), *range(clip.old + first, clip.old + first + length)]
    part = clip.each(lambda x: x[:, pick])
    return replace(part, position=(part.position - first).clamp_min(-(far - length)))
