"""``python -m engine train motion WORLD``: learn from true poses what a step will really be.

The usual step of a button is most of what happens, and teaches nothing after the first minute: half of each batch are
steps that went another way, because something was in it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engine.config import Geometry, WorldConfig
from engine.data.clips import Latents, check_data, load_latents
from engine.data.poses import load_steps
from engine.errors import UserError
from engine.loading import load_codec
from engine.model.motion import TURN, Motion, MotionConfig, wrong
from engine.pictures import save_grid
from engine.train.export import add_part, done
from engine.train.loop import run_leg
from engine.train.material import base_checkpoint, codec_tag
from engine.train.options import MotionOptions, chosen
from engine.train.running_mean import RunningMean
from engine.train.state import Tensors, copy_back, stored

NOISE = 0.1
"""Greatest deviation of the noise on half of the latents: in play they are drawn, and never quite real ones."""
DECAY = 0.998
"""Of the running mean."""
SHOWN = 8
"""Steps that the picture of a validation shows."""


class Steps:
    """Steps of a split that can be learnt from: those that do not begin an episode.

    latents, actions, steps: of all frames of the split; step i led to frame i. learnable: frames with one before them.
    unusual: those of them whose step is not the usual one of its buttons.
    """

    def __init__(self, data: Path, split: str, latents: Latents, geometry: Geometry) -> None:
        self.latents, self.steps = latents, load_steps(data, split, geometry)
        if len(self.steps) != len(latents):
            raise UserError(f"{data}: its poses and frames are not equally many; collect again into another folder")
        later = np.ones(len(latents), bool)
        later[latents.start[:-1]] = False
        self.learnable = np.flatnonzero(later)
        if not len(self.learnable):
            raise UserError(f"{data}: no {split} episode is two frames long; collect longer ones")
        self.usual = self._usual()
        self.unusual = self.learnable[wrong(self.usual, self.steps, geometry.snap)[self.learnable]]

    def _usual(self) -> np.ndarray:
        """The median step of the same buttons, for each frame (T, 3): what keys alone would say at best."""
        _, kind = np.unique(self.latents.actions.numpy(), axis=0, return_inverse=True)
        found = np.zeros_like(self.steps)
        for number in range(kind.max() + 1):
            same = self.learnable[kind.ravel()[self.learnable] == number]
            if len(same):
                found[kind.ravel() == number] = np.median(self.steps[same], 0)
        return found

    def usual_of_buttons(self) -> np.ndarray:
        """The usual step of each button, (A, 3), in units of the network's output, such that several add up best."""
        held = self.latents.actions[torch.from_numpy(self.learnable)].double().numpy()
        return np.linalg.lstsq(held, self.usual[self.learnable] / (1.0, 1.0, TURN), rcond=None)[0]

    def of(self, frames: np.ndarray, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """Latents (n, N, C) before, actions (n, A) and steps (n, 3), in units of the network's output."""
        at = torch.from_numpy(frames)
        target = torch.from_numpy(self.steps[frames] / (1.0, 1.0, TURN)).float()
        parts = self.latents.latents[at - 1].float(), self.latents.actions[at].float(), target
        before, action, step = (part.to(device) for part in parts)
        return before, action, step


class MotionStage:
    """AdamW on the motion model of a checkpoint, which keeps all that it has."""

    name = "motion"

    def __init__(self, options: MotionOptions, config: WorldConfig, device: torch.device, processes: int = 1) -> None:
        if config.geometry is None:
            raise UserError(f"{config.name} has no [geometry] in its file; give it one, and its motion can be learnt")
        self.options, self.device, self.processes = options, device, processes
        folder, self.base_config, self.base = base_checkpoint(options.run, options.init, config)
        self.codec, _ = load_codec(folder)
        c, tag = self.codec.config, codec_tag(self.codec)
        check_data(options.data, config, c.height, c.width)
        self.train_set, self.held_out = (
            Steps(options.data, split, load_latents(options.data, split, self.codec, tag), config.geometry)
            for split in ("train", "validation")
        )
        torch.manual_seed(options.seed)
        shape = MotionConfig(
            c.tokens, c.channels, len(config.buttons), options.features, options.hidden, config.geometry.snap
        )
        self.model = Motion(shape).to(device)
        self.model.usual.copy_(torch.from_numpy(self.train_set.usual_of_buttons()))
        self.trained = {"motion": dict(self.model.named_parameters())}
        self.mean = RunningMean(self.trained, DECAY)
        self.optimizers = [torch.optim.AdamW(self.model.parameters(), lr=options.lr, weight_decay=0.01)]
        self.state: dict[str, Any] = {
            "settings": {
                "world": config.name,
                "codec": tag,
                # What steps depend on; where the player is shown, they do not.
                "geometry": {name: getattr(config.geometry, name) for name in ("view", "step", "snap")},
                **chosen(options, "seed", "batch", "features", "hidden", "unusual"),
            },
            "frames": 0,
        }

    def loss(self, step: int, rank: int) -> tuple[Tensor, dict[str, float]]:
        """Squared error of the step, a turn of 15 degrees counting as much as a step."""
        options, data = self.options, self.train_set
        rng = np.random.default_rng([options.seed, step, rank, 31])
        frames = rng.choice(data.learnable, options.batch)
        if len(data.unusual):
            frames = np.where(
                rng.random(options.batch) < options.unusual, rng.choice(data.unusual, options.batch), frames
            )
        latents, action, target = data.of(frames, self.device)
        random = torch.Generator().manual_seed(int(rng.integers(2**62)))
        level = NOISE * torch.rand(len(latents), 1, 1, generator=random)
        level = level * (torch.rand(len(latents), 1, 1, generator=random) < 0.5)
        latents = latents + (torch.randn(latents.shape, generator=random) * level).to(self.device)
        error = (self.model(latents, action) - target).square().mean()
        self.state["frames"] += len(frames) * self.processes
        return error, {"error": float(error.detach())}

    def after_step(self, step: int) -> None:
        self.mean.update(step)

    @torch.no_grad()
    def validate(self, step: int, folder: Path) -> dict[str, float]:
        """The share of held-out steps that come out wrong, and how far off they are on average, beside the keys."""
        data, snap = self.held_out, self.model.config.snap
        model = Motion(self.model.config).to(self.device)
        model.load_state_dict(self._weights())
        said = np.zeros((len(data.learnable), 3))
        for at in range(0, len(said), 1024):
            latents, action, _ = data.of(data.learnable[at : at + 1024], self.device)
            said[at : at + 1024] = model.decided(model(latents, action), action)
        mistaken = wrong(said, data.steps[data.learnable], snap)
        unusual = np.isin(data.learnable, data.unusual)
        real, usual = data.steps[data.learnable], data.usual[data.learnable]
        shown = np.concatenate((data.learnable[mistaken], data.unusual, data.learnable))[:SHOWN]
        self._show(folder, shown)
        return {
            "wrong": float(mistaken.mean()),
            "wrong_unusual": float(mistaken[unusual].mean()) if unusual.any() else 0.0,
            "keys_wrong": float(unusual.mean()),
            "off": float(np.hypot(*(said - real)[:, :2].T).mean()),
            "keys_off": float(np.hypot(*(usual - real)[:, :2].T).mean()),
            "steps": float(len(said)),
        }

    def _show(self, folder: Path, frames: np.ndarray) -> None:
        """A picture of steps, before and after: those that came out wrong first, then unusual ones."""
        rows = [self.codec.decode(self.held_out.latents.latents[frames - before].float()) for before in (1, 0)]
        save_grid(folder / "motion.png", [list(row) for row in rows], ["before", "after"])

    def report(self, step: int, scores: dict[str, float]) -> str:
        return (
            f"{step} steps; of {scores['steps']:.0f} held-out steps {scores['wrong']:.3%} come out wrong, of those "
            f"that went another way than usual {scores['wrong_unusual']:.2%}; by keys {scores['keys_wrong']:.2%}; "
            f"{scores['off']:.4f} steps off on average, by keys {scores['keys_off']:.4f}"
        )

    def tensors(self) -> Tensors:
        return stored(self.trained, self.mean.parts, self.optimizers)

    def restore(self, tensors: Tensors) -> None:
        copy_back(self.tensors(), tensors, self.optimizers, self.name)

    def _weights(self) -> dict[str, Tensor]:
        """The running mean, and the usual steps."""
        return {**self.mean.parts["motion"], "usual": self.model.usual}

    def export(self, step: int) -> None:
        """The run's folder becomes the checkpoint that it began with, and motion."""
        half = {name: p.half() for name, p in self._weights().items()}
        trained = done(self.name, step, self.state)
        add_part(self.options.run, (self.base_config, self.base), self.model.config, half, trained)


def run(options: MotionOptions) -> None:
    """Run one leg."""
    run_leg(options, MotionStage, lambda stage: stage.export(0))  # what a run that is continued begins with
