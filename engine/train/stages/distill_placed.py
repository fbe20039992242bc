"""``python -m engine train distill WORLD``, for worlds whose only history is places; see `engine.train.stages.distill`.

The student plays some frames on from real ones, each drawn from its own; from the same noise and the same sights the
teacher draws every one of them again in many passes, and the student learns the jumps along the teacher's path.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engine import runtime
from engine.config import WorldConfig
from engine.measures import mean_psnr, sharpness
from engine.pictures import save_grid
from engine.train.export import Exporter, Parts, done
from engine.train.jumps import drawn_jumps
from engine.train.material import Material, first_generator, trained_before, trained_weights
from engine.train.optimizers import muon_and_adamw
from engine.train.options import DistillOptions, chosen
from engine.train.placed import PlacedPlayer
from engine.train.randomness import Randomness
from engine.train.running_mean import RunningMean
from engine.train.state import Tensors, copy_back, stored

FRAMES_OF_A_STRETCH = 4
"""Frames in a row that `--stretches` counts, where there are no clips."""
SHOWN, FOLLOWED = 24, 16
"""Worlds and frames of a validation."""


class DistillPlacedStage:
    """Trains the generator; the teacher stays what it was at the beginning."""

    name = "distill"

    def __init__(self, options: DistillOptions, config: WorldConfig, device: torch.device, processes: int = 1) -> None:
        self.options, self.device, self.processes = options, device, processes
        dtype = runtime.pick_dtype(device, options.dtype)
        init = trained_weights(options, config, self.name)
        self.material = Material(options, config, init, device)
        samplers = [self.material.sampler(split, 0, 0.0) for split in ("train", "validation")]
        torch.manual_seed(options.seed)
        self.model = first_generator(self.material.shape, init).to(device)
        self.teacher = copy.deepcopy(self.model).requires_grad_(False)
        self.trained = {"generator": dict(self.model.named_parameters())}
        self.mean = RunningMean(self.trained, options.ema)
        self.optimizers = muon_and_adamw(self.trained, options.lr)
        sights = [self.material.sights[split] for split in ("train", "validation")]
        self.player, self.held_out = (
            PlacedPlayer(self.model, dtype, *both, options.timestep_shift)
            for both in zip(samplers, sights, strict=True)
        )
        self.length = min(options.stretches * FRAMES_OF_A_STRETCH, self.player.longest, options.batch)
        self.exporter = Exporter(options, config, self.material, options.timestep_shift)
        self.state: dict[str, Any] = {
            "settings": {
                **self.material.settings(options),
                **chosen(options, "stretches", "teacher_steps", "play_steps", "timestep_shift"),
            },
            "frames": 0,
            "before": trained_before(init),
        }

    def loss(self, step: int, rank: int) -> tuple[Tensor, dict[str, float]]:
        """Squared error of the student's jumps along the teacher's path, each frame at one of the student's levels."""
        options, player = self.options, self.player
        random = Randomness(options.seed, step, rank, 13, self.device)
        rng = np.random.default_rng([options.seed, step, rank, 13])
        worlds = max(1, options.batch // self.length)
        first = player.starts(worlds, self.length, rng)
        noise = random.normal(worlds, self.length, *self.player.sights.latents.shape[1:])
        played = player.play(first, noise, options.play_steps)
        sights, action, noise = played.sights.flatten(0, 1), played.actions.flatten(0, 1), noise.flatten(0, 1)
        teacher = player.cast(dict(self.teacher.named_parameters()))
        path = torch.stack(player.path(teacher, noise, sights, action, options.teacher_steps))
        here, level, target = drawn_jumps(path, options.play_steps, options.timestep_shift, random)
        own = {name: p.to(player.dtype) for name, p in self.trained["generator"].items()}
        drawn = player.predict(own, here, level, sights, action)
        error = (drawn - target).square().mean()
        self.state["frames"] += len(noise) * self.processes
        return error, {"error": float(error.detach())}

    def after_step(self, step: int) -> None:
        self.mean.update(step)

    @torch.no_grad()
    def validate(self, step: int, folder: Path) -> dict[str, float]:
        """Play on held-out maps, by the student and by the teacher from the same noise, with real frames' keys."""
        options, player, decode = self.options, self.held_out, self.material.codec.decode
        length = min(FOLLOWED, player.longest)
        first = player.starts(SHOWN, length, np.random.default_rng(3))
        shape = (SHOWN, length, *player.sights.latents.shape[1:])
        noise = torch.randn(shape, generator=torch.Generator().manual_seed(2)).to(self.device)
        frames = first[:, None] + torch.arange(length, device=first.device)
        real = decode(player.sights.latents[frames].float())
        scores: dict[str, float] = {}
        shown = {"decoded": real}
        teacher = dict(self.teacher.named_parameters())
        for name, weights, passes in (
            ("student", self.mean.parts["generator"], options.play_steps),
            ("teacher", teacher, options.teacher_steps),
            ("before", teacher, options.play_steps),
        ):
            drawn = decode(player.play(first, noise, passes, weights).latents)
            shown[name] = drawn
            scores[f"{name}_psnr"] = mean_psnr(drawn.flatten(0, 1), real.flatten(0, 1))
            scores[f"{name}_sharpness"] = float(sharpness(drawn[:, -1]).mean() / sharpness(real[:, -1]).mean())
        rows = [list(frames[i, :8].cpu()) for i in range(4) for frames in shown.values()]
        save_grid(folder / "rollout.png", rows, [*shown] * 4)
        return scores

    def report(self, step: int, scores: dict[str, float]) -> str:
        found = (
            f"{name} {scores[f'{name}_psnr']:.2f} dB, {scores[f'{name}_sharpness']:.2f}"
            for name in ("student", "teacher", "before")
        )
        return (
            f"{step} steps, {self.state['frames']} frames; played on held-out maps (PSNR; sharpness of the last frames "
            f"as a share of real ones): {'; '.join(found)}"
        )

    def tensors(self) -> Tensors:
        trained = {**self.trained, "teacher": dict(self.teacher.named_parameters())}
        return stored(trained, self.mean.parts, self.optimizers)

    def restore(self, tensors: Tensors) -> None:
        copy_back(self.tensors(), tensors, self.optimizers, self.name)

    def export(self, step: int) -> None:
        parts: Parts = {"generator": (self.model.config, self.mean.parts["generator"])}
        self.exporter.write(parts, [*self.state["before"], done(self.name, step, self.state)])
