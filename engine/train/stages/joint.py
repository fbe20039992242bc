"""``python -m engine train joint WORLD``: the generator and the memory model together, on folded history.

The second training of MAG (arXiv 2512.18741). Contexts are mixed, so that one set of weights serves `window`, `full`
and `mag`. History consistency: clips begin where the player comes back to a view, with the recent frames cut away, so
that nothing but memory can explain what is seen (`--returns`; off by default, for it gained nothing here: LOG.md).
Against drift, the context of a share of the steps is what the generator itself has played, tens of frames deep, while
the target stays the simulator's frame (`--rollouts`): it learns to find back from its own errors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from engine.measures import mean_psnr
from engine.model.generator import Clip, Generator
from engine.model.memory import Folded
from engine.model.sampler import denoising_step_list, mix, sample
from engine.train.randomness import Randomness
from engine.train.rollouts import (
    History,
    Rollout,
    carried,
    most_stretches,
    play_on,
    repeated,
    roll_out,
    rollout_depth,
    rollout_length,
)
from engine.train.stages.generator import noise_levels
from engine.train.stages.generator import run as run_stage
from engine.train.stages.memory import Args as MemoryArgs
from engine.train.stages.memory import MemoryStage


@dataclass
class Args(MemoryArgs):
    """Learn to draw from folded history."""

    returns: float = 0.0
    """Share of the clips that begin where the player comes back to a view (needs odometry)."""
    blocks: int = 8
    """The most folded blocks that a clip sees."""
    folded_share: float = 0.6
    """Share of the steps with folded history; of the rest, half see old frames as they are, half a window alone."""
    own_frames: float = 0.35
    """Share of the steps whose context is drawn by the generator itself, all frames of a clip at once."""
    rollouts: float = 0.0
    """Share of the steps whose context the generator has played, frame by frame."""
    stretches: int = 8
    """Stretches of a clip's length, each from the last drawn frames of the one before, that a rollout may have; all are
    trained on, so --batch clips are --batch stretches then."""


class JointStage(MemoryStage):
    """Trains both models."""

    name = "joint"
    args: Args
    RANGES = MemoryStage.RANGES | {"blocks": (1, 64), "folded_share": (0, 1), "rollouts": (0, 1), "stretches": (1, 64)}

    def modules(self, generator: Generator) -> dict[str, dict[str, nn.Parameter]]:
        memory = self._new_memory(generator)
        return {"generator": dict(generator.named_parameters()), "memory": memory}

    def settings(self) -> dict[str, Any]:
        own = {name: getattr(self.args, name) for name in ("blocks", "folded_share", "rollouts", "stretches")}
        return {**super().settings(), **own, "trained_stretches": "all"}  # once it was the last of a rollout

    def folded(self, blocks: Clip, weights: Mapping[str, Mapping[str, Tensor]]) -> tuple[Folded, Tensor]:
        """Fold a batch's blocks: per layer keys and values (B, heads, M * R, head_dim), and positions (B, M * R)."""
        own = self._memory_weights(weights["memory"], weights["generator"])
        found = functional_call(self.part.memory, own, (blocks.latents, blocks.actions, blocks.pose))
        position = blocks.position.repeat_interleave(self.memory_config.tokens(self.model.config), 1)
        b = len(position)

        def joined(x: Tensor) -> Tensor:
            return x.unflatten(0, (b, -1)).transpose(1, 2).flatten(2, 3)

        return [(joined(k), joined(v)) for k, v in found], position

    def batch(self, step: int, rank: int, random: Randomness, stretches: int = 0) -> tuple[Clip, Clip | None]:
        """A batch of clips; with the blocks to fold, with old frames as they are, or neither.

        stretches: of a rollout that the clips are to be long enough for; they are fewer then, for all are trained on.
        All ranks do the same kind of work and have gradients for the same weights: the plan decides.
        """
        args = self.args
        length = rollout_length(self.model.config.clip, stretches) if stretches else None
        size = args.batch // max(1, stretches)
        kind = random.chance()
        if kind < args.folded_share:
            sink = self.model.config.sink * int(random.chance() < 0.7)
            block, seed = self.memory_config.block, args.seed * 7919
            clip, blocks = self.sampler.with_blocks(size, seed, step, args.blocks, block, sink, length, rank)
            return self._clip(clip), self._clip(blocks)
        clip = self.sampler.batch(size, args.seed, step, rank, length)
        if kind > (1 + args.folded_share) / 2:
            clip = first_only(clip, min(self.model.config.sink, clip.old))
        return self._clip(clip), None

    def loss(self, step: int, rank: int) -> tuple[Tensor, dict[str, float]]:
        """Squared error of the clean latents, weighed towards low noise, as in the generator's own training."""
        args = self.args
        random = self.randomness(step, rank, 5)
        stretches = rollout_depth(self.deepest, random) if random.chance() < args.rollouts else 0
        clip, blocks = self.batch(step, rank, random, stretches)
        extra: History = () if blocks is None else self.folded(blocks, self.trained)
        known = 0
        if stretches:
            played = self.played(clip, extra, stretches, random)
            clip, known, extra = played.clip, played.known, repeated(extra, played.stretches)
            seen = torch.cat((clip.latents[:, : clip.old], played.frames), 1)
            context_level = torch.zeros(clip.position.shape, device=self.device)
        else:
            seen, b = clip.latents, len(clip.position)
            context_level = random.uniform(*clip.position.shape) * args.context_noise * (random.uniform(b, 1) < 0.5)
            if random.chance() < args.own_frames:
                rounds = 1 + int(3 * random.chance())
                noise = random.normal(*clip.latents[:, clip.old :].shape)
                seen = self._redrawn(clip, seen, noise, 1.5 * random.uniform(b, 1), rounds, extra)
        target = clip.latents[:, clip.old + known :]  # what the simulator showed meanwhile
        level = noise_levels(random.uniform(*target.shape[:2]))
        context = mix(seen, random.normal(*seen.shape), context_level)
        noisy = mix(target, random.normal(*target.shape), level)
        drawn = self._predict(clip, context, context_level, noisy, level, *extra, compiled=not stretches)
        error = (drawn - target).square().mean((2, 3))
        self.state["frames"] += error.numel() * self.processes
        return (error / level.clamp_min(0.3)).mean(), {"error": float(error.detach().mean())}

    @cached_property
    def deepest(self) -> int:
        """The most stretches of a rollout: those asked for, where batch and data have room."""
        args, c = self.args, self.model.config
        past = max(args.old, c.sink + args.blocks * self.memory_config.block)
        frames = int(self.sampler.left[self.sampler.left_before >= past].max(initial=c.clip))
        return min(args.stretches, args.batch, most_stretches(frames, c.clip))

    def _cast(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Weights to play with, in the compute dtype."""
        return {name: p.detach().to(self.dtype) for name, p in weights.items()}

    def played(self, clip: Clip, extra: History, stretches: int, random: Randomness, last: bool = True) -> Rollout:
        """What the generator plays along a clip in --play-steps passes; see `play_on`."""
        weights = self._cast(dict(self.model.named_parameters()))

        def draw(part: Clip, known: int, noise: Tensor) -> Tensor:
            return roll_out(self.model, weights, part, known, noise, self.args.play_steps, extra)[0]

        return play_on(draw, clip, self.model.config, stretches, random, last)

    @torch.no_grad()
    def validate(self, step: int, folder: Path) -> dict[str, float]:
        """PSNR against the codec's own of the first frames after a return, 2 passes: by folds, old frames, neither."""
        from engine.pictures import save_grid

        clip, blocks = self.held_out.with_blocks(24, 1, 0, self.args.blocks, self.memory_config.block, 2)
        clip, blocks = self._clip(clip), self._clip(blocks)
        raw = self._clip(with_frames(clip, blocks))
        extra = self.folded(blocks, self.ema)
        real = self.codec.decode(clip.latents[:, clip.old :])
        scores: dict[str, float] = {}
        rows, labels = [list(real[i, :8].cpu()) for i in range(4)], ["decoded"] * 4
        for name, seen, added in (("mag", clip, extra), ("full", raw, ()), ("window", first_only(clip, clip.old), ())):
            target = seen.latents[:, seen.old :]
            noise = torch.randn(target.shape, generator=torch.Generator().manual_seed(2)).to(self.device)
            clean = torch.zeros(seen.position.shape, device=self.device)

            def predict(x: Tensor, _: int, level: float, seen: Clip = seen, added: Any = added) -> Tensor:
                where = torch.full(x.shape[:2], level, device=self.device)
                inputs = (seen, seen.latents, clean, x, where, *added)  # noqa: B023  (called in this round only)
                return self._predict(*inputs, weights=self.ema["generator"])

            drawn = self.codec.decode(sample(predict, noise, denoising_step_list(2)))
            scores[f"{name}_return"] = mean_psnr(drawn[:, 0], real[:, 0])
            later = slice(carried(real.shape[1]), None)
            scores[f"{name}_next"] = mean_psnr(drawn[:, later].flatten(0, 1), real[:, later].flatten(0, 1))
            rows += [list(drawn[i, :8].cpu()) for i in range(4)]
            labels += [name] * 4
        order = [i + 4 * k for i in range(4) for k in range(4)]
        save_grid(folder / "joint.png", [rows[i] for i in order], [labels[i] for i in order])
        return scores

    def report(self, scores: dict[str, float]) -> str:
        return "held-out maps, dB against the codec's own: " + "  ".join(f"{n} {v:.2f}" for n, v in scores.items())


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


def run(args: Args) -> None:
    """Run one leg."""
    run_stage(args, JointStage)
