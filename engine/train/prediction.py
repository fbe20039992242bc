"""Predictions of a generator in training: weights kept in float32, passes in the compute dtype, maybe compiled."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from engine.model.generator import Clip, Generator, teacher_forced
from engine.model.sampler import denoising_step_list, sample
from engine.train.randomness import Randomness
from engine.train.rollouts import FoldedContext


class TwoStreams(nn.Module):
    """`teacher_forced` as a module, so that its weights can be replaced by copies in another dtype."""

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, *inputs: Any) -> Tensor:
        return teacher_forced(self.generator, *inputs)


class Prediction:
    """Two-stream predictions of a generator; gradients reach its float32 weights.

    compiled: whether to compile the passes; None: on a GPU only.
    """

    def __init__(
        self, generator: Generator, device: torch.device, dtype: torch.dtype, compiled: bool | None = False
    ) -> None:
        self.generator, self.device, self.dtype = generator, device, dtype
        self.streams: nn.Module = TwoStreams(generator)
        self.plain = TwoStreams(generator)  # never compiled: for shapes that change from step to step
        if compiled or (compiled is None and device.type == "cuda"):
            self.streams.compile(dynamic=False)

    def __call__(
        self,
        clip: Clip,
        context: Tensor,
        context_level: Tensor,
        noisy: Tensor,
        level: Tensor,
        extra: FoldedContext = (),
        *,
        weights: Mapping[str, Tensor] | None = None,
        compiled: bool = True,
    ) -> Tensor:
        """Clean latents float32 (B, L, N, C), as `teacher_forced` predicts them.

        weights: the generator's own by default. compiled: False for shapes that will hardly come again.
        """
        own = dict(self.generator.named_parameters()) if weights is None else weights
        cast = {f"generator.{name}": p.to(self.dtype) for name, p in own.items()}
        inputs = (clip, context, context_level, noisy, level, *extra)
        return functional_call(self.streams if compiled else self.plain, cast, inputs).float()

    @torch.no_grad()
    def draw(
        self,
        clip: Clip,
        noise: Tensor,
        passes: int,
        extra: FoldedContext = (),
        *,
        context: Tensor | None = None,
        weights: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """All consecutive frames of a clip at once, each drawn from the clean frames before it: (B, L, N, C).

        noise: where the frames come from, (B, L, N, C). context: latents to be seen in the place of the clip's own.
        """
        seen = clip.latents if context is None else context
        clean = torch.zeros(clip.position.shape, device=self.device)

        def predict(x: Tensor, _: int, level: float) -> Tensor:
            where = torch.full(noise.shape[:2], level, device=self.device)
            return self(clip, seen, clean, x, where, extra, weights=weights)

        return sample(predict, noise, denoising_step_list(passes))


def with_own_frames(
    prediction: Prediction, clip: Clip, most_rounds: int, random: Randomness, extra: FoldedContext = ()
) -> Tensor:
    """A clip's latents, of its consecutive frames a random share replaced by the generator's own (two passes).

    Each further round, of 1 to `most_rounds`, draws from frames of the round before: errors add up as they do in play,
    but all frames of the clip at once. (A cheap form of self-forcing, arXiv 2506.08009.)
    """
    rounds = 1 + int(most_rounds * random.chance())
    old, real = clip.latents[:, : clip.old], clip.latents[:, clip.old :]
    noise = random.normal(*real.shape)
    share = 1.5 * random.uniform(len(real), 1)
    own = real
    for i in range(rounds):
        own = prediction.draw(clip, noise.roll(i, 0), 2, extra, context=torch.cat((old, own), 1))
    # Which frames are replaced follows from the noise too.
    take = (noise[:, :, 0, 0].argsort(1).argsort(1) < share * noise.shape[1])[..., None, None]
    return torch.cat((old, torch.where(take, own, real)), 1)
