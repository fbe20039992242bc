"""``python -m engine train distill WORLD``: the picture of many passes in few, learnt on own rollouts.

A frame that is drawn in few passes is the mean of what could be there, which is a blur; many passes choose. But from
the same noise the path of many passes is one path, so a student can learn its jumps by squared error without averaging
(progressive distillation, Salimans and Ho, arXiv 2202.00512; on trajectories of a causal teacher as in CausVid,
arXiv 2412.07772). The teacher goes on from where the student itself has ended up, through the cached passes of play,
so that errors of play are in what is learnt (self-forcing, arXiv 2506.08009).
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from engine.errors import UserError
from engine.measures import mean_psnr, sharpness
from engine.model.generator import Generator
from engine.model.sampler import MAX_STEPS, denoising_step_list
from engine.train.rollouts import History, repeated, roll_out, rollout_depth
from engine.train.stages.generator import run as run_stage
from engine.train.stages.joint import Args as JointArgs
from engine.train.stages.joint import JointStage


@dataclass
class Args(JointArgs):
    """Learn the picture of many passes in few (--play-steps), on its own rollouts."""

    lr: float = 1e-3
    """Peak learning rate."""
    warmup: int = 30
    """Steps over which the learning rate rises to its peak."""
    teacher_steps: int = 16
    """Passes of the teacher, which is the generator as it was at the beginning; a multiple of --play-steps."""


class DistillStage(JointStage):
    """Trains the generator; the memory model stays as it is."""

    name = "distill"
    args: Args
    RANGES = JointStage.RANGES | {"teacher_steps": (1, MAX_STEPS)}

    def modules(self, generator: Generator) -> dict[str, dict[str, nn.Parameter]]:
        if self.args.teacher_steps % self.args.play_steps:
            raise UserError("--teacher-steps must be a multiple of --play-steps")
        self.memory_own = self._new_memory(generator)
        self.teacher = copy.deepcopy(generator).requires_grad_(False)
        return {"generator": dict(generator.named_parameters())}

    def settings(self) -> dict[str, Any]:
        own = {name: getattr(self.args, name) for name in ("teacher_steps", "play_steps")}
        return {**super().settings(), **own}

    def loss(self, step: int, rank: int) -> tuple[Tensor, dict[str, float]]:
        """Squared error of the student's jumps along the teacher's path, each frame at one of the student's levels."""
        args = self.args
        random = self.randomness(step, rank, 9)
        stretches = rollout_depth(self.deepest, random)
        clip, blocks = self.batch(step, rank, random, stretches)
        weights = {"generator": dict(self.model.named_parameters()), "memory": self.memory_own}
        with torch.no_grad():
            extra: History = () if blocks is None else self.folded(blocks, weights)
        played = self.played(clip, extra, stretches, random, last=False)
        extra, known = repeated(extra, played.stretches), played.known
        old = played.clip.latents[:, : clip.old]
        clip = replace(played.clip, latents=torch.cat((old, played.frames), 1))
        noise = random.normal(*played.frames.shape)
        teacher = self._cast(dict(self.teacher.named_parameters()))
        frames, paths = roll_out(self.teacher, teacher, clip, known, noise, args.teacher_steps, extra)
        levels = torch.tensor([*denoising_step_list(args.play_steps), 0.0], device=self.device)
        stops = paths[:: args.teacher_steps // args.play_steps, :, known:]  # the path at the student's levels
        which = random.integers(args.play_steps, *stops.shape[1:3])
        here, there = (pick(stops, which + i) for i in (0, 1))
        level, following = levels[which], levels[which + 1]
        share = (following / level)[..., None, None]
        target = (there - share * here) / (1 - share)  # the clean latent that leads from here to there
        context = torch.cat((old, frames), 1)
        clean = torch.zeros(context.shape[:2], device=self.device)
        drawn = self._predict(clip, context, clean, here, level, *extra, compiled=False)
        error = (drawn - target).square().mean()
        self.state["frames"] += which.numel() * self.processes
        return error, {"error": float(error.detach())}

    @torch.no_grad()
    def validate(self, step: int, folder: Path) -> dict[str, float]:
        """Rollouts of 12 frames on held-out maps, by the student and by the teacher from the same noise."""
        from engine.pictures import save_grid

        clip, blocks = self.held_out.with_blocks(24, 1, 0, self.args.blocks, self.memory_config.block, 2)
        clip, blocks = self._clip(clip), self._clip(blocks)
        extra = self.folded(blocks, {"generator": self.ema["generator"], "memory": self.memory_own})
        shape = clip.latents[:, clip.old :].shape
        noise = torch.randn(shape, generator=torch.Generator().manual_seed(2)).to(self.device)
        real = self.codec.decode(clip.latents[:, clip.old :])
        scores, shown = {}, [real]
        teacher = dict(self.teacher.named_parameters())
        for name, weights, steps in (
            ("student", self.ema["generator"], self.args.play_steps),
            ("teacher", teacher, self.args.teacher_steps),
            ("before", teacher, self.args.play_steps),
        ):
            own, _ = roll_out(self.model, self._cast(weights), clip, 1, noise, steps, extra)
            drawn = self.codec.decode(own)
            shown.append(drawn)
            scores[f"{name}_psnr"] = mean_psnr(drawn[:, 1:].flatten(0, 1), real[:, 1:].flatten(0, 1))
            scores[f"{name}_sharpness"] = float(sharpness(drawn[:, -1]).mean() / sharpness(real[:, -1]).mean())
        rows = [list(x[i].cpu()) for i in range(5) for x in shown]
        labels = ["decoded", "student", "teacher", "before"]
        save_grid(folder / "rollout.png", rows, labels * 5)
        return scores

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        found = super().tensors()
        found["model"] |= {f"teacher.{name}": p for name, p in self.teacher.named_parameters()}
        found["ema"] |= {f"memory.{name}": p for name, p in self.memory_own.items()}
        return found

    def parts(self) -> tuple[dict[str, Any], dict[str, dict[str, Tensor]]]:
        config, tensors = super().parts()
        return config, {**tensors, "memory": {name: p.detach().half() for name, p in self.memory_own.items()}}

    def report(self, scores: dict[str, float]) -> str:
        found = (f"{n} {scores[f'{n}_psnr']:.2f} dB, {scores[f'{n}_sharpness']:.2f}" for n in ("student", "teacher"))
        return f"held-out rollouts of 12 frames, PSNR and sharpness (of the real frames'): {'; '.join(found)}"


def pick(stops: Tensor, which: Tensor) -> Tensor:
    """From stops (K, B, L, N, C), of each frame the one that `which` (B, L) says: (B, L, N, C)."""
    index = which[None, :, :, None, None].expand(1, *stops.shape[1:])
    return stops.gather(0, index)[0]


def run(args: Args) -> None:
    """Run one leg."""
    run_stage(args, DistillStage)
