"""``python -m engine train distill WORLD``: the picture of many passes in few, learnt on own rollouts.

A frame that is drawn in few passes is the mean of what could be there, which is a blur; many passes choose. But from
the same noise the path of many passes is one path, so a student can learn its jumps by squared error without averaging
(progressive distillation, Salimans and Ho, arXiv 2202.00512; on trajectories of a causal teacher as in CausVid,
arXiv 2412.07772). The teacher goes on from where the student itself has ended up, through the cached passes of play,
so that errors of play are in what is learnt (self-forcing, arXiv 2506.08009).
"""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from engine import runtime
from engine.config import WorldConfig, load_world
from engine.measures import mean_psnr, sharpness
from engine.pictures import save_grid
from engine.train.contexts import Contexts
from engine.train.export import Exporter, Parts, done
from engine.train.jumps import drawn_jumps
from engine.train.loop import run_leg
from engine.train.material import Material, first_generator, trained_before, trained_weights
from engine.train.memory_weights import MemoryWeights
from engine.train.optimizers import muon_and_adamw
from engine.train.options import DistillOptions, chosen
from engine.train.prediction import Prediction
from engine.train.randomness import Randomness
from engine.train.rollouts import FoldedContext, Player, repeated, rollout_depth
from engine.train.running_mean import RunningMean
from engine.train.shapes import pick_preset
from engine.train.stages.distill_placed import DistillPlacedStage
from engine.train.state import Tensors, copy_back, stored


class DistillStage:
    """Trains the generator; the memory model stays as it is, and so does the teacher, the generator that it was."""

    name = "distill"

    def __init__(self, options: DistillOptions, config: WorldConfig, device: torch.device, processes: int = 1) -> None:
        self.options, self.device, self.processes = options, device, processes
        dtype = runtime.pick_dtype(device, options.dtype)
        init = trained_weights(options, config, self.name)
        self.material = Material(options, config, init, device)
        self.contexts = Contexts(options, self.material)
        torch.manual_seed(options.seed)
        self.model = first_generator(self.material.shape, init).to(device)
        self.memory = MemoryWeights(options, self.model, init, device, dtype)
        self.teacher = copy.deepcopy(self.model).requires_grad_(False)
        self.trained = {"generator": dict(self.model.named_parameters())}
        self.mean = RunningMean(self.trained, options.ema)
        self.optimizers = muon_and_adamw(self.trained, options.lr)
        self.predict = Prediction(self.model, device, dtype)
        self.player, self.teacher_player = (
            Player(model, dtype, options.timestep_shift) for model in (self.model, self.teacher)
        )
        self.exporter = Exporter(options, config, self.material, options.timestep_shift)
        self.state: dict[str, Any] = {
            "settings": {
                **self.material.settings(options),
                **chosen(options, "old", "returns"),
                **self.memory.settings(),
                **chosen(options, "blocks", "folded_share", "stretches"),
                "trained_stretches": "all",  # once it was the last of a rollout
                **chosen(options, "teacher_steps", "play_steps"),
                **({} if options.timestep_shift == 1.0 else chosen(options, "timestep_shift")),  # runs begun without it
            },
            "frames": 0,
            "budget": self.memory.shape.budget,
            "before": trained_before(init),
        }

    def loss(self, step: int, rank: int) -> tuple[Tensor, dict[str, float]]:
        """Squared error of the student's jumps along the teacher's path, each frame at one of the student's levels."""
        options = self.options
        random = Randomness(options.seed, step, rank, 9, self.device)
        stretches = rollout_depth(self.contexts.deepest, random)
        clip, blocks = self.contexts.batch(step, rank, random, stretches)
        extra: FoldedContext = ()
        if blocks is not None:
            with torch.no_grad():
                extra = self.memory.fold(self.memory.own, self.trained["generator"], blocks)
        played = self.player.play_on(clip, options.play_steps, extra, stretches, random, last=False)
        extra, known = repeated(extra, played.stretches), played.known
        old = played.clip.latents[:, : clip.old]
        clip = replace(played.clip, latents=torch.cat((old, played.frames), 1))
        noise = random.normal(*played.frames.shape)
        frames, paths = self.teacher_player.roll_out(clip, known, noise, options.teacher_steps, extra)
        here, level, target = drawn_jumps(paths[:, :, known:], options.play_steps, options.timestep_shift, random)
        context = torch.cat((old, frames), 1)
        clean = torch.zeros(context.shape[:2], device=self.device)
        drawn = self.predict(clip, context, clean, here, level, extra, compiled=False)
        error = (drawn - target).square().mean()
        self.state["frames"] += level.numel() * self.processes
        return error, {"error": float(error.detach())}

    def after_step(self, step: int) -> None:
        self.mean.update(step)

    @torch.no_grad()
    def validate(self, step: int, folder: Path) -> dict[str, float]:
        """Rollouts of 12 frames on held-out maps, by the student and by the teacher from the same noise."""
        options, mean, decode = self.options, self.mean.parts["generator"], self.material.codec.decode
        clip, blocks = self.contexts.held_out()
        extra = self.memory.fold(self.memory.own, mean, blocks)
        shape = clip.latents[:, clip.old :].shape
        noise = torch.randn(shape, generator=torch.Generator().manual_seed(2)).to(self.device)
        real = decode(clip.latents[:, clip.old :])
        scores, shown = {}, {"decoded": real}
        teacher = dict(self.teacher.named_parameters())
        for name, weights, passes in (
            ("student", mean, options.play_steps),
            ("teacher", teacher, options.teacher_steps),
            ("before", teacher, options.play_steps),
        ):
            drawn = decode(self.player.roll_out(clip, 1, noise, passes, extra, weights)[0])
            shown[name] = drawn
            scores[f"{name}_psnr"] = mean_psnr(drawn[:, 1:].flatten(0, 1), real[:, 1:].flatten(0, 1))
            scores[f"{name}_sharpness"] = float(sharpness(drawn[:, -1]).mean() / sharpness(real[:, -1]).mean())
        rows = [list(frames[i].cpu()) for i in range(5) for frames in shown.values()]
        save_grid(folder / "rollout.png", rows, [*shown] * 5)
        return scores

    def report(self, step: int, scores: dict[str, float]) -> str:
        found = (f"{n} {scores[f'{n}_psnr']:.2f} dB, {scores[f'{n}_sharpness']:.2f}" for n in ("student", "teacher"))
        return (
            f"{step} steps, {self.state['frames']} frames; held-out rollouts of 12 frames, PSNR and sharpness (of the "
            f"real frames'): {'; '.join(found)}"
        )

    def tensors(self) -> Tensors:
        trained = {**self.trained, "teacher": dict(self.teacher.named_parameters())}
        return stored(trained, {**self.mean.parts, "memory": self.memory.own}, self.optimizers)

    def restore(self, tensors: Tensors) -> None:
        copy_back(self.tensors(), tensors, self.optimizers, self.name)

    def export(self, step: int) -> None:
        parts: Parts = {
            "generator": (self.model.config, self.mean.parts["generator"]),
            "memory": (self.memory.shape_to_export(self.state["budget"]), self.memory.own),
        }
        self.exporter.write(parts, [*self.state["before"], done(self.name, step, self.state)])


def run(options: DistillOptions) -> None:
    """Run one leg, of the kind that the world's size asks for."""
    preset = pick_preset(load_world(options.world), options.preset)
    run_leg(options, DistillStage if preset.window else DistillPlacedStage)
