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
from torch.func import functional_call
from torch.nn import functional as F

from engine.errors import UserError
from engine.model.attention import two_streams
from engine.model.generator import Clip, Generator, rotate_time
from engine.model.memory import Folded
from engine.model.sampler import denoising_step_list, sample
from engine.train.codec import psnr
from engine.train.generator import run as run_stage
from engine.train.joint import Args as JointArgs
from engine.train.joint import JointStage

KEPT = 6
"""Frames of a stretch that the next one begins with."""
History = tuple[Folded, Tensor] | tuple[()]


@dataclass
class Args(JointArgs):
    """Learn the picture of many passes in few (--play-steps), on its own rollouts."""

    lr: float = 1e-3
    """Peak learning rate."""
    warmup: int = 30
    """Steps over which the learning rate rises to its peak."""
    teacher_steps: int = 16
    """Passes of the teacher, which is the generator as it was at the beginning; a multiple of --play-steps."""
    stretches: int = 3
    """Stretches of a clip's length, each from the last drawn frames of the one before, that a rollout may have."""


class DistillStage(JointStage):
    """Trains the generator; the memory model stays as it is."""

    name = "distill"
    args: Args

    def modules(self, generator: Generator) -> dict[str, dict[str, nn.Parameter]]:
        if self.args.teacher_steps % self.args.play_steps or self.args.play_steps < 1:
            raise UserError("--teacher-steps must be a multiple of --play-steps, 1 or more")
        self.memory_own = self._new_memory(generator)
        self.teacher = copy.deepcopy(generator).requires_grad_(False)
        return {"generator": dict(generator.named_parameters())}

    def settings(self) -> dict[str, Any]:
        own = {name: getattr(self.args, name) for name in ("teacher_steps", "play_steps", "stretches")}
        return {**super().settings(), **own}

    @torch.no_grad()
    def roll_out(
        self, weights: dict[str, Tensor], clip: Clip, real: int, noise: Tensor, steps: int, extra: History
    ) -> tuple[Tensor, Tensor]:
        """Play on from a clip's old and first `real` frames, as `World` does, with a generator's weights.

        noise (B, L, N, C). Returns the clip's L frames, and the path that led to each: (steps + 1, B, L, N, C), from
        the noise to the frame.
        """
        generator, n, b = self.model, self.model.config.tokens, len(noise)
        cast = {name: p.to(self.dtype) for name, p in weights.items()}
        keys, values = [], []
        for layer in range(generator.config.depth):
            if extra:
                folded, position = extra
                keys.append(rotate_time(folded[layer][0], position).to(self.dtype))
                values.append(folded[layer][1].to(self.dtype))
            else:
                empty = (b, generator.config.heads, 0, generator.config.head_dim)
                keys.append(torch.empty(empty, device=self.device, dtype=self.dtype))
                values.append(keys[-1])

        def draw(x: Tensor, level: float, frames: slice, keep: bool) -> Tensor:
            where = clip.position[:, frames].repeat_interleave(n, 1)

            def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
                q, k = (rotate_time(part, where).to(v.dtype) for part in (q, k))
                k, v = torch.cat((keys[layer], k), 2), torch.cat((values[layer], v), 2)
                if keep:
                    keys[layer], values[layer] = k, v
                if x.shape[1] == 1:
                    return F.scaled_dot_product_attention(q, k, v)
                return two_streams(q, k, v, x.shape[1], n)

            levels = torch.full(x.shape[:2], level, device=self.device)
            rotation = generator.rotation(clip.pose[:, frames], self.dtype)
            return functional_call(generator, cast, (x, levels, clip.actions[:, frames], rotation, attend)).float()

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

            frame = sample(predict, noise[:, i : i + 1], denoising_step_list(steps))
            draw(frame, 0.0, at, keep=True)
            frames.append(frame)
            paths.append(torch.stack([*states, frame]))
        return torch.cat(frames, 1), torch.cat(paths, 2)

    def _play(self, clip: Clip, random: torch.Generator, extra: History) -> tuple[Clip, Tensor, Tensor, int]:
        """Stretch by stretch, each from the last frames of the one before: the student's, and the teacher's last.

        Returns the last stretch as a clip with the frames it began from, its frames, the paths to them, and how many
        of them were there before: 1 to 4 real ones, or `KEPT` that the student has drawn.
        """
        c, before = self.model.config, None
        real = 1 + int(4 * float(torch.rand(1, generator=random)) ** 2)
        most = 1 + (clip.latents.shape[1] - clip.old - c.clip) // (c.clip - KEPT)
        played = 1 + int(most * float(torch.rand(1, generator=random)))
        for i in range(played):
            part = stretch(clip, clip.old + i * (c.clip - KEPT), c.clip)
            if before is not None:
                real = KEPT
                rest = part.latents[:, clip.old + KEPT :]
                part = replace(part, latents=torch.cat((part.latents[:, : clip.old], before, rest), 1))
            noise = torch.randn(len(part.latents), c.clip, *part.latents.shape[2:], generator=random).to(self.device)
            last = i == played - 1
            who, steps = (self.teacher, self.args.teacher_steps) if last else (self.model, self.args.play_steps)
            frames, paths = self.roll_out(dict(who.named_parameters()), part, real, noise, steps, extra)
            before = frames[:, -KEPT:]
        return part, frames, paths, real

    def loss(self, step: int, rank: int) -> tuple[Tensor, dict[str, float]]:
        """Squared error of the student's jumps along the teacher's path, each frame at one of the student's levels."""
        args, c = self.args, self.model.config
        random = torch.Generator().manual_seed((args.seed * 1_000_003 + step) * 1009 + rank + 9)
        clip, blocks = self.batch(step, rank, random, c.clip + (args.stretches - 1) * (c.clip - KEPT))
        weights = {"generator": dict(self.model.named_parameters()), "memory": self.memory_own}
        with torch.no_grad():
            extra: History = () if blocks is None else self.folded(blocks, weights)
        clip, frames, paths, real = self._play(clip, random, extra)
        levels = torch.tensor([*denoising_step_list(args.play_steps), 0.0], device=self.device)
        which = torch.randint(0, args.play_steps, frames.shape[:2], generator=random).to(self.device)
        stops = paths[:: args.teacher_steps // args.play_steps]  # the path at the student's levels
        here, there = (pick(stops, which + i) for i in (0, 1))
        level, following = levels[which], levels[which + 1]
        share = (following / level)[..., None, None]
        target = (there - share * here) / (1 - share)  # the clean latent that leads from here to there
        context = torch.cat((clip.latents[:, : clip.old], frames), 1)
        clean = torch.zeros(context.shape[:2], device=self.device)
        error = (self._predict(clip, context, clean, here, level, *extra) - target)[:, real:].square().mean()
        self.state["frames"] += frames.shape[0] * frames.shape[1] * self.processes
        return error, {"error": float(error.detach())}

    @torch.no_grad()
    def validate(self, step: int, folder: Path) -> dict[str, float]:
        """Rollouts of 12 frames on held-out maps, by the student and by the teacher from the same noise."""
        from engine.train.pictures import save_grid

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
            own, _ = self.roll_out(dict(weights), clip, 1, noise, steps, extra)
            drawn = self.codec.decode(own)
            shown.append(drawn)
            scores[f"{name}_psnr"] = psnr(drawn[:, 1:].flatten(0, 1), real[:, 1:].flatten(0, 1))
            scores[f"{name}_sharpness"] = sharpness(drawn[:, -1]) / sharpness(real[:, -1])
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


def stretch(clip: Clip, first: int, length: int) -> Clip:
    """A clip's old frames, and `length` of its consecutive ones from `first` on, with positions from there."""
    pick = [*range(clip.old), *range(first, first + length)]
    parts = {name: getattr(clip, name)[:, pick] for name in ("latents", "actions", "pose")}
    return replace(clip, **parts, position=clip.position[:, : clip.old + length])


def sharpness(frames: Tensor) -> float:
    """Mean absolute difference of neighbouring pixels of uint8 frames (..., H, W, 3)."""
    x = frames.float()
    across, down = x[..., 1:, :] - x[..., :-1, :], x[..., 1:, :, :] - x[..., :-1, :, :]
    return float((across.abs().mean() + down.abs().mean()) / 2)


def run(args: Args) -> None:
    """Run one leg."""
    run_stage(args, DistillStage)
