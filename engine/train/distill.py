"""``python -m engine train distill WORLD``: few passes and no drift, learnt on the generator's own rollouts.

Self-forcing (arXiv 2506.08009): the generator plays from a few real frames on, through the cached passes of play, and
is corrected where it ended up. Two things pull at what it drew: the true frame, and an adversary that compares drawn
with true frames. The squared error alone returns the mean of what could be there, which is a blur; the adversary is
what makes a choice pay (the GAN variant of self-forcing; relativistic loss as in R3GAN, arXiv 2501.05441, with the
finite-difference penalty of APT, arXiv 2501.08316).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from engine.model.attention import two_streams
from engine.model.generator import Clip, Generator, rotate_time
from engine.model.layers import rms_norm
from engine.model.memory import Folded
from engine.model.sampler import denoising_step_list, sample
from engine.train.codec import psnr
from engine.train.generator import run as run_stage
from engine.train.joint import Args as JointArgs
from engine.train.joint import JointStage

KEPT = 6
"""Frames of a stretch that the next one begins with."""


@dataclass
class Args(JointArgs):
    """Learn to draw well in few passes, on its own rollouts."""

    lr: float = 5e-4
    """Peak learning rate."""
    adversary: float = 1.0
    """Pull of the adversary on what is drawn, in the pull of the true frame."""
    adversary_lr: float = 5e-4
    """Learning rate of the adversary."""
    adversary_depth: int = 3
    """Layers of the adversary, which begins as the generator's first ones."""
    penalty: float = 0.1
    """Weight of the adversary's own smoothness."""
    stretches: int = 3
    """Stretches of a clip's length, each from the last drawn frames of the one before, that a rollout may have."""
    alone: int = 50
    """Steps that the adversary learns before its pull begins."""


class Critic(nn.Module):
    """Judges each token of each frame after those before it: latents (B, F, N, C) -> (B, F, N)."""

    def __init__(self, generator: Generator, depth: int) -> None:
        super().__init__()
        self.net = Generator(replace(generator.config, depth=depth))
        own = self.net.state_dict()
        self.net.load_state_dict({n: p for n, p in generator.state_dict().items() if n in own}, strict=False)
        self.net.leave.requires_grad_(False)
        self.judge = nn.Linear(generator.config.dim, 1)
        nn.init.zeros_(self.judge.weight)

    def forward(self, latents: Tensor, clip: Clip) -> Tensor:
        net, n, frames = self.net, self.net.config.tokens, latents.shape[1]
        where = clip.position.repeat_interleave(n, 1)

        def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            return two_streams(rotate_time(q, where), rotate_time(k, where), v, frames, n)

        level = torch.zeros(latents.shape[:2], device=latents.device)
        x, modulation, _ = net.entered(latents, level, clip.actions)
        rotation = net.rotation(clip.pose)
        for block in net.blocks:
            x = block(x, modulation, rotation, attend)
        return self.judge(rms_norm(x))[..., 0].float()


class DistillStage(JointStage):
    """Trains the generator and its adversary; the memory model stays as it is."""

    name = "distill"
    args: Args

    def modules(self, generator: Generator) -> dict[str, dict[str, nn.Parameter]]:
        self.memory_own = self._new_memory(generator)
        torch.manual_seed(self.args.seed)
        self.critic = Critic(generator, self.args.adversary_depth).to(self.device)
        return {"generator": dict(generator.named_parameters())}

    def __init__(self, args: Args, *rest: Any) -> None:
        super().__init__(args, *rest)
        self.judges = {n: p for n, p in self.critic.named_parameters() if p.requires_grad}
        self.judge_optimizer = torch.optim.AdamW(self.judges.values(), lr=args.adversary_lr, betas=(0.0, 0.95))

    def settings(self) -> dict[str, Any]:
        a = self.args
        return {
            **super().settings(),
            "adversary": a.adversary,
            "adversary_depth": a.adversary_depth,
            "stretches": a.stretches,
        }

    def _judge(self, latents: Tensor, clip: Clip) -> Tensor:
        weights = {n: p.to(self.dtype) for n, p in self.critic.named_parameters()}
        return functional_call(self.critic, weights, (latents.to(self.dtype), clip))

    @torch.no_grad()
    def roll_out(
        self, clip: Clip, real: int, levels: list[float], noise: Tensor, folded: Folded | None, position: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Play on from the clip's old and first `real` frames: latents (B, L, N, C), and what the last pass took in."""
        generator, n, b = self.model, self.model.config.tokens, len(noise)
        weights = {name: p.to(self.dtype) for name, p in generator.named_parameters()}
        keys: list[Tensor] = []
        values: list[Tensor] = []
        for layer in range(generator.config.depth):
            if folded is None or position is None:
                keys.append(torch.empty(b, generator.config.heads, 0, generator.config.head_dim, device=self.device))
                values.append(keys[-1])
            else:
                keys.append(rotate_time(folded[layer][0], position))
                values.append(folded[layer][1])

        def draw(x: Tensor, level: float, frames: slice, keep: bool) -> Tensor:
            where = clip.position[:, frames].repeat_interleave(n, 1)

            def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
                q, k = (rotate_time(part, where).to(v.dtype) for part in (q, k))
                k, v = torch.cat((keys[layer].to(v.dtype), k), 2), torch.cat((values[layer].to(v.dtype), v), 2)
                if keep:
                    keys[layer], values[layer] = k, v
                count = x.shape[1]
                if count == 1:
                    return F.scaled_dot_product_attention(q, k, v)
                return two_streams(q, k, v, count, n)

            levels = torch.full(x.shape[:2], level, device=self.device)
            inputs = (x, levels, clip.actions[:, frames], generator.rotation(clip.pose[:, frames], self.dtype), attend)
            return functional_call(generator, weights, inputs).float()

        begin = clip.old + real
        draw(clip.latents[:, :begin], 0.0, slice(0, begin), keep=True)
        drawn, taken = [clip.latents[:, clip.old : begin]], [noise[:, :real]]
        for i in range(real, noise.shape[1]):
            at = slice(clip.old + i, clip.old + i + 1)
            last = noise[:, i : i + 1]

            def predict(x: Tensor, _: int, level: float, at: slice = at) -> Tensor:
                nonlocal last
                last = x
                return draw(x, level, at, keep=False)

            frame = sample(predict, noise[:, i : i + 1], levels)
            draw(frame, 0.0, at, keep=True)
            drawn.append(frame)
            taken.append(last)
        return torch.cat(drawn, 1), torch.cat(taken, 1)

    def _play(
        self, clip: Clip, levels: list[float], random: torch.Generator, folded: Folded | None, position: Tensor | None
    ) -> tuple[Clip, Tensor, Tensor, int]:
        """Roll out a clip, stretch by stretch where it is long, each from the last frames of the one before.

        Returns the last stretch as a clip, its latents as played (B, L, N, C), what the last pass took in, and how
        many of its frames were there before: 1 to 4 real ones, or `KEPT` that were drawn.
        """
        c = self.model.config
        real = 1 + int(4 * float(torch.rand(1, generator=random)) ** 2)
        stretches = 1 + (clip.latents.shape[1] - clip.old - c.clip) // (c.clip - KEPT)
        played = 1 + int(stretches * float(torch.rand(1, generator=random)))
        before: Tensor | None = None
        for i in range(played):
            first = clip.old + i * (c.clip - KEPT)
            part = stretch(clip, first, c.clip)
            if before is not None:
                real = KEPT
                begun = torch.cat((part.latents[:, : clip.old], before), 1)
                part = replace(part, latents=torch.cat((begun, part.latents[:, clip.old + KEPT :]), 1))
            shape = (len(part.latents), c.clip, *part.latents.shape[2:])
            noise = torch.randn(shape, generator=random).to(self.device)
            own, taken = self.roll_out(part, real, levels, noise, folded, position)
            before = own[:, -KEPT:]
        return stretch(clip, first, c.clip), own, taken, real

    def loss(self, step: int, rank: int) -> tuple[Tensor, dict[str, float]]:
        """A value whose gradient is the pull of the true frame and of the adversary; the adversary's step, too."""
        args = self.args
        random = torch.Generator().manual_seed((args.seed * 1_000_003 + step) * 1009 + rank + 9)
        longest = self.model.config.clip + (args.stretches - 1) * (self.model.config.clip - KEPT)
        clip, blocks = self.batch(step, rank, random, longest)
        weights = {"generator": dict(self.model.named_parameters()), "memory": self.memory_own}
        with torch.no_grad():
            folded, position = (None, None) if blocks is None else self.folded(blocks, weights)
        steps = (1, 2, 2, 2, 4)[int(5 * float(torch.rand(1, generator=random)))]
        levels = denoising_step_list(steps)
        clip, own, taken, real = self._play(clip, levels, random, folded, position)
        length, shape = own.shape[1], own.shape
        context = torch.cat((clip.latents[:, : clip.old], own), 1)
        clean = torch.zeros(context.shape[:2], device=self.device)
        level = torch.full(own.shape[:2], levels[-1], device=self.device)
        extra = () if folded is None else (folded, position)
        drawn = self._predict(clip, context, clean, taken, level, *extra)[:, real:]
        target = clip.latents[:, clip.old + real :]
        seen = torch.cat((context[:, : clip.old + real], drawn), 1)
        judged, gap = self._train_critic(seen.detach(), clip, real, random)
        leaf = drawn.detach().requires_grad_(True)
        error = (leaf - target).square().mean()
        (pull,) = torch.autograd.grad(error, leaf)
        if args.adversary and step >= args.alone:
            fake = torch.cat((context[:, : clip.old + real], leaf), 1)
            score = self._judge(fake, clip)[:, clip.old + real :]
            (other,) = torch.autograd.grad(F.softplus(judged[:, clip.old + real :] - score).mean(), leaf)
            pull = pull + args.adversary * other * (pull.norm() / other.norm().clamp_min(1e-12))
        self.state["frames"] += shape[0] * length * self.processes
        # Its gradient by `drawn` is `pull`; its value is the error.
        value = (drawn * pull).sum()
        return value - value.detach() + error.detach(), {"error": float(error.detach()), "judged": gap}

    def _train_critic(self, seen: Tensor, clip: Clip, real: int, random: torch.Generator) -> tuple[Tensor, float]:
        """One step of the adversary; returns how it judges the true frames (B, F, N), and by how much they win."""
        first = clip.old + real

        def scores(latents: Tensor) -> tuple[Tensor, Tensor]:
            noise = 0.1 * torch.randn(latents.shape, generator=random).to(self.device)
            score = self._judge(latents, clip)
            return score, (self._judge(latents + noise, clip) - score)[:, first:].div(0.1).square().mean()

        true, rough_true = scores(clip.latents)
        fake, rough_fake = scores(seen)
        gap = (true - fake)[:, first:]
        loss = F.softplus(-gap).mean() + self.args.penalty * (rough_true + rough_fake)
        grads = torch.autograd.grad(loss, list(self.judges.values()), allow_unused=True)
        for p, g in zip(self.judges.values(), grads, strict=True):
            p.grad = g
        nn.utils.clip_grad_norm_(self.judges.values(), 1.0)
        self.judge_optimizer.step()
        self.judge_optimizer.zero_grad(set_to_none=True)
        return true.detach(), float(gap.detach().mean())

    @torch.no_grad()
    def validate(self, step: int, folder: Path) -> dict[str, float]:
        """Rollouts of 12 frames on held-out maps in 2 passes: PSNR against the codec's own, and sharpness."""
        from engine.train.pictures import save_grid

        clip, blocks = self.held_out.with_blocks(24, 1, 0, self.args.blocks, self.memory_config.block, 2)
        clip, blocks = self._clip(clip), self._clip(blocks)
        extra = self.folded(blocks, {"generator": self.ema["generator"], "memory": self.memory_own})
        shape = clip.latents[:, clip.old :].shape
        noise = torch.randn(shape, generator=torch.Generator().manual_seed(2)).to(self.device)
        kept = {n: p.detach().clone() for n, p in self.model.named_parameters()}
        try:
            self.model.load_state_dict(self.ema["generator"], strict=False)
            own, _ = self.roll_out(clip, 1, denoising_step_list(2), noise, *extra)
        finally:
            self.model.load_state_dict(kept, strict=False)
        drawn, real = self.codec.decode(own), self.codec.decode(clip.latents[:, clip.old :])
        rows = [list(x[i].cpu()) for i in range(6) for x in (real, drawn)]
        save_grid(folder / "rollout.png", rows, ["decoded", "2 passes"] * 6)
        return {
            "rollout_psnr": psnr(drawn[:, 1:].flatten(0, 1), real[:, 1:].flatten(0, 1)),
            "next_psnr": psnr(drawn[:, 1], real[:, 1]),
            "sharpness": sharpness(drawn[:, -1]) / sharpness(real[:, -1]),
        }

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        found = super().tensors()
        found["model"] |= {f"critic.{name}": p for name, p in self.critic.named_parameters()}
        found["ema"] |= {f"memory.{name}": p for name, p in self.memory_own.items()}
        for name, p in self.judges.items():
            for key, value in self.judge_optimizer.state.get(p, {}).items():
                found["optimizer"][f"judge:{name}:{key}"] = torch.as_tensor(value)
        return found

    @torch.no_grad()
    def restore(self, tensors: dict[str, dict[str, Tensor]]) -> None:
        kept = {key: value for key, value in tensors["optimizer"].items() if key.startswith("judge:")}
        rest = {key: value for key, value in tensors["optimizer"].items() if key not in kept}
        super().restore({**tensors, "optimizer": rest})
        for key, value in kept.items():
            _, name, what = key.split(":")
            self.judge_optimizer.state[self.judges[name]][what] = value.clone()

    def parts(self) -> tuple[dict[str, Any], dict[str, dict[str, Tensor]]]:
        config, tensors = super().parts()
        return config, {**tensors, "memory": {name: p.detach().half() for name, p in self.memory_own.items()}}

    def report(self, scores: dict[str, float]) -> str:
        return (
            f"held-out rollouts in 2 passes: {scores['rollout_psnr']:.2f} dB over 12 frames, {scores['next_psnr']:.2f}"
            f" on the first, sharpness {scores['sharpness']:.2f} of the real frames'"
        )


def stretch(clip: Clip, first: int, length: int) -> Clip:
    """A clip's old frames, and `length` of its consecutive ones from `first` on, with positions from there."""
    pick = [*range(clip.old), *range(first, first + length)]
    parts = {name: getattr(clip, name)[:, pick] for name in ("latents", "actions", "pose")}
    position = torch.cat((clip.position[:, : clip.old], clip.position[:, clip.old : clip.old + length]), 1)
    return replace(clip, **parts, position=position)


def sharpness(frames: Tensor) -> float:
    """Mean absolute difference of neighbouring pixels of uint8 frames (..., H, W, 3)."""
    x = frames.float()
    across, down = x[..., 1:, :] - x[..., :-1, :], x[..., 1:, :, :] - x[..., :-1, :, :]
    return float((across.abs().mean() + down.abs().mean()) / 2)


def run(args: Args) -> None:
    """Run one leg."""
    run_stage(args, DistillStage)
