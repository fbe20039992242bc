"""``python -m engine train generator WORLD``: teacher-forced flow matching, every frame at its own noise level.

Against drift, the frames that are seen are lightly noised (as in GameNGen, arXiv 2408.14837), and in a share of
the steps they are the generator's own drawings instead of real ones.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engine import runtime
from engine.config import WorldConfig
from engine.measures import mean_psnr
from engine.model.sampler import mix
from engine.pictures import save_grid
from engine.train.export import Exporter, done
from engine.train.loop import run_leg
from engine.train.material import Material, first_generator, trained_before
from engine.train.noise import context_levels, noise_levels, weighed, with_noisy_sights
from engine.train.optimizers import muon_and_adamw
from engine.train.options import GeneratorOptions, chosen
from engine.train.placed import PlacedPlayer
from engine.train.prediction import Prediction, with_own_frames
from engine.train.randomness import Randomness
from engine.train.running_mean import RunningMean
from engine.train.state import Tensors, copy_back, stored

OWN_FRAMES_FROM = 1000
"""The first step whose context may be the generator's own drawings: before, they show nothing yet."""
OWN_FRAMES_DEEP = 4
"""Drawn frames in a row, at most, whose sights a frame is learnt from, in a world that sees nothing else."""


class GeneratorStage:
    """Trains a generator, from random weights or those of `--init`."""

    name = "generator"

    def __init__(
        self, options: GeneratorOptions, config: WorldConfig, device: torch.device, processes: int = 1
    ) -> None:
        self.options, self.device, self.processes = options, device, processes
        self.material = Material(options, config, options.init, device)
        if not self.material.shape.window:  # nothing but sights is seen of what was before
            options = self.options = replace(options, old=0, returns=0.0)
        self.sampler, self.held_out = (
            self.material.sampler(split, options.old, options.returns) for split in ("train", "validation")
        )
        torch.manual_seed(options.seed)
        self.model = first_generator(self.material.shape, options.init).to(device)
        self.trained = {"generator": dict(self.model.named_parameters())}
        self.mean = RunningMean(self.trained, options.ema)
        self.optimizers = muon_and_adamw(self.trained, options.lr)
        dtype = runtime.pick_dtype(device, options.dtype)
        self.predict = Prediction(self.model, device, dtype, options.compile)
        self.player: PlacedPlayer | None = None
        if not self.material.shape.window:
            self.player = PlacedPlayer(self.model, dtype, self.sampler, self.material.sights["train"])
        self.exporter = Exporter(options, config, self.material)
        self.state: dict[str, Any] = {
            "settings": {
                **self.material.settings(options),
                **chosen(options, "old", "context_noise", "own_frames", "returns"),
                **(chosen(options, "sight_noise") if self.material.shape.sights else {}),
            },
            "frames": 0,
            "before": trained_before(options.init),
        }

    def loss(self, step: int, rank: int) -> tuple[Tensor, dict[str, float]]:
        """Squared error of the clean latents, weighed towards low noise; see `noise_levels`."""
        options = self.options
        random = Randomness(options.seed, step, rank, 0, self.device)
        counts: Tensor | None = None  # tokens that are learnt from, all by default
        drawable = self.player is not None and self.player.longest > 1 and step >= OWN_FRAMES_FROM
        if drawable and self.player is not None and random.chance() < options.own_frames:
            rng = np.random.default_rng([options.seed, step, rank, 17])
            clip, counts = self.player.own_sights(random, rng, options.batch, OWN_FRAMES_DEEP)
        else:
            clip = self.material.moved(self.sampler.batch(options.batch, options.seed, step, rank))
            clip = with_noisy_sights(clip, options.sight_noise, random)
        target, seen = clip.latents[:, clip.old :], clip.latents
        context_level = context_levels(clip, options.context_noise, random)
        if self.player is None and step >= OWN_FRAMES_FROM and random.chance() < options.own_frames:
            seen = with_own_frames(self.predict, clip, 2, random)
        level = noise_levels(random.uniform(*target.shape[:2]))
        context = mix(seen, random.normal(*seen.shape), context_level)
        noisy = mix(target, random.normal(*target.shape), level)
        squared = (self.predict(clip, context, context_level, noisy, level) - target).square()
        error = squared.mean((2, 3))
        if counts is not None:
            error = (squared.mean(3)[:, 0] * counts).sum(1, keepdim=True) / counts.sum(1, keepdim=True).clamp_min(1)
        self.state["frames"] += error.numel() * self.processes
        return weighed(error, level), {"error": float(error.detach().mean())}

    def after_step(self, step: int) -> None:
        self.mean.update(step)

    @torch.no_grad()
    def validate(self, step: int, folder: Path) -> dict[str, float]:
        """Next-frame PSNR after 1, 2 and 4 passes on held-out maps, from real frames, beside the codec's."""
        windowed = self.material.shape.window > 0
        clip = self.material.moved(next(self.held_out.fixed(24 if windowed else 256, 1)))
        later = slice(1, None) if windowed else slice(None)  # a clip's first frame has seen nothing
        target, decode = clip.latents[:, clip.old :], self.material.codec.decode
        noise = torch.randn(target.shape, generator=torch.Generator().manual_seed(2)).to(self.device)
        real = decode(target[:, later])
        scores, drawn = {}, {}
        for passes in (1, 2, 4):
            latents = self.predict.draw(clip, noise, passes, weights=self.mean.parts["generator"])[:, later]
            drawn[passes] = decode(latents)
            scores[f"next_frame_psnr_{passes}"] = mean_psnr(drawn[passes].flatten(0, 1), real.flatten(0, 1))
        pairs = [list(x[i].cpu()) for i in range(4) for x in (real, drawn[2])]
        save_grid(folder / "next-frame.png", pairs, ["decoded", "2 passes"] * 4)
        return scores

    def report(self, step: int, scores: dict[str, float]) -> str:
        text = "  ".join(f"{name.rsplit('_')[-1]} passes {value:.2f} dB" for name, value in scores.items())
        frames = self.state["frames"]
        return f"{step} steps, {frames} frames; held-out maps, next frame against the codec's own: {text}"

    def tensors(self) -> Tensors:
        return stored(self.trained, self.mean.parts, self.optimizers)

    def restore(self, tensors: Tensors) -> None:
        copy_back(self.tensors(), tensors, self.optimizers, self.name)

    def export(self, step: int) -> None:
        parts = {"generator": (self.model.config, self.mean.parts["generator"])}
        self.exporter.write(parts, [*self.state["before"], done(self.name, step, self.state)])


def run(options: GeneratorOptions) -> None:
    """Run one leg."""
    run_leg(options, GeneratorStage)
