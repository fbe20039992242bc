"""Play in training for worlds whose only history is places: frames drawn from what was drawn before, tile by tile."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call

from engine.data.clips import ClipSampler, clip_of
from engine.data.sights import Sights
from engine.model.generator import Clip, Generator, alone
from engine.model.sampler import denoising_step_list, sample
from engine.train.randomness import Randomness

MENDED = 0.6
"""How far a drawn tile may be from the real one, as `engine.model.sights.apart` says, and still be meant for it."""


@dataclass(frozen=True)
class Drawn:
    """Frames that were drawn one after the other along real ones: as they are, and what each was drawn from.

    latents (B, K, N, C), sights (B, K, N, C + 2), actions (B, K, A).
    """

    latents: Tensor
    sights: Tensor
    actions: Tensor


class PlacedPlayer:
    """Draws frames of a generator without a window, in training.

    generator: the network. dtype: of its passes. sampler, sights: of one split; frames begin where they say. shift: of
    the noise levels towards noise.
    """

    def __init__(
        self, generator: Generator, dtype: torch.dtype, sampler: ClipSampler, sights: Sights, shift: float = 1.0
    ) -> None:
        self.generator, self.dtype, self.sampler, self.sights = generator, dtype, sampler, sights
        self.shift = shift
        self.longest = int(sampler.left[sampler.firsts].max())  # frames that can be drawn in a row

    def starts(self, count: int, length: int, rng: np.random.Generator) -> Tensor:
        """Frames (count,) that begin `length` frames of the same episode; at most `longest`."""
        pool = self.sampler.firsts[self.sampler.left[self.sampler.firsts] >= length]
        return torch.from_numpy(rng.choice(pool, count)).to(self.sights.latents.device)

    @torch.no_grad()
    def play(self, first: Tensor, noise: Tensor, passes: int, weights: Mapping[str, Tensor] | None = None) -> Drawn:
        """Draw frames `first` (B,) and those that follow, each from the sights of those drawn before it.

        noise (B, K, N, C): of K frames. weights: the generator's own by default.
        """
        cast = self.cast(weights)
        length = noise.shape[1]
        own, seen = torch.zeros_like(noise), []
        frames = first[:, None] + torch.arange(length, device=first.device)
        actions = self.sampler.data.actions[frames].float()
        for k in range(length):
            seen.append(self.sights.of(frames[:, k], own[:, :k] if k else None, first if k else None))
            own[:, k] = self.path(cast, noise[:, k], seen[k], actions[:, k], passes)[-1]
        return Drawn(own, torch.stack(seen, 1), actions)

    def own_sights(self, random: Randomness, rng: np.random.Generator, size: int, most: int) -> tuple[Clip, Tensor]:
        """A batch of real frames whose sights are drawn: of the 1 to `most` frames before them, in two passes each.

        There must be episodes with two frames to draw. Returns the clips (L = 1), and which tokens (B, N) can be learnt
        from: where what was drawn is another tile than the real one, the world has become another, and there is
        nothing to mend.
        """
        depth = min(1 + int(random.chance() * most), self.longest - 1)
        first = self.starts(size, depth + 1, rng)
        noise = random.normal(size, depth, *self.sights.latents.shape[1:])
        drawn = self.play(first, noise, 2).latents
        last = first + depth
        own, index = self.sights.of(last, drawn, first), last.cpu().numpy()
        clip = clip_of(self.sampler.data, self.sampler.pose, index[:, None], index, 0, 0)
        clip = clip.each(lambda x: x.to(own.device))
        assert clip.sights is not None
        c = drawn.shape[-1]
        apart = (own - clip.sights[:, 0])[..., :c].square().mean(-1).sqrt()
        return replace(clip, sights=own[:, None]), (apart < MENDED).float()

    def cast(self, weights: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """Weights in the dtype of the passes."""
        own = dict(self.generator.named_parameters()) if weights is None else weights
        return {name: p.detach().to(self.dtype) for name, p in own.items()}

    @torch.no_grad()
    def path(self, cast: dict[str, Tensor], noise: Tensor, sights: Tensor, action: Tensor, passes: int) -> list[Tensor]:
        """The path from noise (B, N, C) to a frame: passes + 1 tensors, the frame last.

        sights (B, N, C + 2), action (B, A).
        """
        states: list[Tensor] = []

        def predict(x: Tensor, _: int, level: float) -> Tensor:
            states.append(x)
            return self.predict(cast, x, torch.full((len(x),), level, device=x.device), sights, action)

        frame = sample(predict, noise, denoising_step_list(passes, self.shift))
        return [*states, frame]

    def predict(self, cast: dict[str, Tensor], x: Tensor, level: Tensor, sights: Tensor, action: Tensor) -> Tensor:
        """Clean latents (B, N, C) float32 from noised ones at noise levels (B,)."""
        rotation = self.generator.rotation(torch.zeros(len(x), 1, 3, device=x.device), self.dtype)
        attend = alone(x.shape[1])
        inputs = (x[:, None], level[:, None], action[:, None], rotation, attend, None, sights[:, None])
        return functional_call(self.generator, cast, inputs)[:, 0].float()
