"""Clips with the kinds of history that a world plays with, mixed, so that one set of weights serves all modes."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from engine.model.generator import Clip
from engine.train.material import Material
from engine.train.options import DistillOptions, JointOptions
from engine.train.randomness import Randomness
from engine.train.rollouts import most_stretches, rollout_length


class Contexts:
    """Draws clips with blocks to fold (`mag`), with old frames as they are (`full`), or with neither (`window`).

    deepest: the most stretches of a rollout: those asked for, where batch and data have room.
    """

    def __init__(self, options: JointOptions | DistillOptions, material: Material) -> None:
        self.options, self.material, self.shape = options, material, material.shape
        self.sampler, self.held_out_sampler = (
            material.sampler(split, options.old, options.returns) for split in ("train", "validation")
        )
        past = max(options.old, self.shape.sink + options.blocks * options.block)
        enough = self.sampler.left[self.sampler.left_before >= past]
        frames = int(enough.max(initial=self.shape.clip))
        self.deepest = min(options.stretches, options.batch, most_stretches(frames, self.shape.clip))

    def batch(self, step: int, rank: int, random: Randomness, stretches: int = 0) -> tuple[Clip, Clip | None]:
        """A batch of clips, and with them the blocks to fold, if they have any.

        stretches: of a rollout that the clips are to be long enough for; they are fewer then, for all are trained on.
        All ranks do the same kind of work and have gradients for the same weights: the plan decides.
        """
        options = self.options
        length = rollout_length(self.shape.clip, stretches) if stretches else None
        size = options.batch // max(1, stretches)
        kind = random.chance()
        if kind < options.folded_share:
            sink = self.shape.sink * int(random.chance() < 0.7)
            seed = options.seed * 7919
            found = self.sampler.with_blocks(size, seed, step, options.blocks, options.block, sink, length, rank)
            return self.material.moved(found[0]), self.material.moved(found[1])
        clip = self.sampler.batch(size, options.seed, step, rank, length)
        if kind > (1 + options.folded_share) / 2:
            clip = first_only(clip, min(self.shape.sink, clip.old))
        return self.material.moved(clip), None

    def held_out(self) -> tuple[Clip, Clip]:
        """The clips of a validation and the blocks before them: the same ones in every call."""
        clip, blocks = self.held_out_sampler.with_blocks(24, 1, 0, self.options.blocks, self.options.block, 2)
        return self.material.moved(clip), self.material.moved(blocks)


def first_only(clip: Clip, keep: int) -> Clip:
    """A clip with the first `keep` of its old frames alone."""
    pick = [*range(keep), *range(clip.old, clip.latents.shape[1])]
    return replace(clip.each(lambda x: x[:, pick]), old=keep)


def with_frames(clip: Clip, blocks: Clip) -> Clip:
    """A clip whose old frames are the sink and, unfolded, the last frames of the blocks."""
    b, sink = len(clip.latents), clip.old

    def joined(own: Tensor, other: Tensor) -> Tensor:
        return torch.cat((own[:, :sink], other[:, -1].unflatten(0, (b, -1)).to(own.dtype), own[:, sink:]), 1)

    position = torch.cat((clip.position[:, :sink], blocks.position, clip.position[:, sink:]), 1)
    parts = {name: joined(getattr(clip, name), getattr(blocks, name)) for name in ("latents", "actions", "pose")}
    return replace(clip, **parts, position=position, old=sink + blocks.position.shape[1])
