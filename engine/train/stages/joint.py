"""``python -m engine train joint WORLD``: the generator and the memory model together, on folded history.

The second training of MAG (arXiv 2512.18741). Contexts are mixed, so that one set of weights serves `window`, `full`
and `mag`. History consistency: clips begin where the player comes back to a view, with the recent frames cut away, so
that nothing but memory can explain what is seen (`--returns`; off by default, for it gained nothing here: LOG.md).
Against drift, the context of a share of the steps is what the generator itself has played, tens of frames deep, while
the target stays the simulator's frame (`--rollouts`): it learns to find back from its own errors.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from engine import runtime
from engine.config import WorldConfig
from engine.measures import mean_psnr
from engine.model.sampler import mix
from engine.pictures import save_grid
from engine.train.contexts import Contexts, first_only, with_frames
from engine.train.export import Exporter, done
from engine.train.loop import run_leg
from engine.train.material import Material, first_generator, trained_before, trained_weights
from engine.train.memory_weights import MemoryWeights
from engine.train.noise import context_levels, noise_levels, weighed
from engine.train.optimizers import muon_and_adamw
from engine.train.options import JointOptions, chosen
from engine.train.prediction import Prediction, with_own_frames
from engine.train.randomness import Randomness
from engine.train.rollouts import FoldedContext, Player, carried, repeated, rollout_depth
from engine.train.running_mean import RunningMean
from engine.train.state import Tensors, copy_back, stored


class JointStage:
    """Trains both models."""

    name = "joint"

    def __init__(self, options: JointOptions, config: WorldConfig, device: torch.device, processes: int = 1) -> None:
        self.options, self.device, self.processes = options, device, processes
        dtype = runtime.pick_dtype(device, options.dtype)
        init = trained_weights(options, config, self.name)
        self.material = Material(options, config, init, device)
        self.contexts = Contexts(options, self.material)
        torch.manual_seed(options.seed)
        self.model = first_generator(self.material.shape, init).to(device)
        self.memory = MemoryWeights(options, self.model, init, device, dtype)
        self.trained = {"generator": dict(self.model.named_parameters()), "memory": self.memory.own}
        self.mean = RunningMean(self.trained, options.ema)
        self.optimizers = muon_and_adamw(self.trained, options.lr)
        self.predict = Prediction(self.model, device, dtype, options.compile)
        self.player = Player(self.model, dtype)
        self.exporter = Exporter(options, config, self.material)
        self.state: dict[str, Any] = {
            "settings": {
                **self.material.settings(options),
                **chosen(options, "old", "context_noise", "own_frames", "returns"),
                **self.memory.settings(),
                **chosen(options, "blocks", "folded_share", "rollouts", "stretches"),
                "trained_stretches": "all",  # once it was the last of a rollout
            },
            "frames": 0,
            "budget": self.memory.shape.budget,
            "before": trained_before(init),
        }

    def loss(self, step: int, rank: int) -> tuple[Tensor, dict[str, float]]:
        """Squared error of the clean latents, weighed towards low noise, as in the generator's own training."""
        options = self.options
        random = Randomness(options.seed, step, rank, 5, self.device)
        stretches = rollout_depth(self.contexts.deepest, random) if random.chance() < options.rollouts else 0
        clip, blocks = self.contexts.batch(step, rank, random, stretches)
        extra: FoldedContext = ()
        if blocks is not None:
            extra = self.memory.fold(self.trained["memory"], self.trained["generator"], blocks)
        known = 0
        if stretches:
            played = self.player.play_on(clip, options.play_steps, extra, stretches, random)
            clip, known, extra = played.clip, played.known, repeated(extra, played.stretches)
            seen = torch.cat((clip.latents[:, : clip.old], played.frames), 1)
            context_level = torch.zeros(clip.position.shape, device=self.device)
        else:
            seen = clip.latents
            context_level = context_levels(clip, options.context_noise, random)
            if random.chance() < options.own_frames:
                seen = with_own_frames(self.predict, clip, 3, random, extra)
        target = clip.latents[:, clip.old + known :]  # what the simulator showed meanwhile
        level = noise_levels(random.uniform(*target.shape[:2]))
        context = mix(seen, random.normal(*seen.shape), context_level)
        noisy = mix(target, random.normal(*target.shape), level)
        drawn = self.predict(clip, context, context_level, noisy, level, extra, compiled=not stretches)
        error = (drawn - target).square().mean((2, 3))
        self.state["frames"] += error.numel() * self.processes
        return weighed(error, level), {"error": float(error.detach().mean())}

    def after_step(self, step: int) -> None:
        self.mean.update(step)

    @torch.no_grad()
    def validate(self, step: int, folder: Path) -> dict[str, float]:
        """PSNR against the codec's own of the first frames after a return, 2 passes: by folds, old frames, neither."""
        mean, decode = self.mean.parts, self.material.codec.decode
        clip, blocks = self.contexts.held_out()
        raw = self.material.moved(with_frames(clip, blocks))
        folded = self.memory.fold(mean["memory"], mean["generator"], blocks)
        real = decode(clip.latents[:, clip.old :])
        later = slice(carried(real.shape[1]), None)
        modes: dict[str, tuple[Any, FoldedContext]] = {
            "mag": (clip, folded),
            "full": (raw, ()),
            "window": (first_only(clip, clip.old), ()),
        }
        scores: dict[str, float] = {}
        shown = {"decoded": real}
        for name, (seen, extra) in modes.items():
            shape = seen.latents[:, seen.old :].shape
            noise = torch.randn(shape, generator=torch.Generator().manual_seed(2)).to(self.device)
            drawn = decode(self.predict.draw(seen, noise, 2, extra, weights=mean["generator"]))
            scores[f"{name}_return"] = mean_psnr(drawn[:, 0], real[:, 0])
            scores[f"{name}_next"] = mean_psnr(drawn[:, later].flatten(0, 1), real[:, later].flatten(0, 1))
            shown[name] = drawn
        rows = [list(frames[i, :8].cpu()) for i in range(4) for frames in shown.values()]
        save_grid(folder / "joint.png", rows, [*shown] * 4)
        return scores

    def report(self, step: int, scores: dict[str, float]) -> str:
        text = "  ".join(f"{name} {value:.2f}" for name, value in scores.items())
        return f"{step} steps, {self.state['frames']} frames; held-out maps, dB against the codec's own: {text}"

    def tensors(self) -> Tensors:
        return stored(self.trained, self.mean.parts, self.optimizers)

    def restore(self, tensors: Tensors) -> None:
        copy_back(self.tensors(), tensors, self.optimizers, self.name)

    def export(self, step: int) -> None:
        parts = {
            "generator": (self.model.config, self.mean.parts["generator"]),
            "memory": (self.memory.shape_to_export(self.state["budget"]), self.mean.parts["memory"]),
        }
        self.exporter.write(parts, [*self.state["before"], done(self.name, step, self.state)])


def run(options: JointOptions) -> None:
    """Run one leg."""
    run_leg(options, JointStage)
