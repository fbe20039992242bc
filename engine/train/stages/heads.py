"""``python -m engine train heads WORLD``: learn to read reward, termination and events off the generator's features.

The generator stays as it is. Events are rare, so batches show many of them; the log-odds are shifted by the ratio of
the batches' shares to the data's own while they are trained (logit adjustment, Menon et al., arXiv 2007.07314), so
that what is read in play is a probability. Above which one an episode ends is chosen on one half of the held-out
episodes, and what is reported is measured on the other half.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from engine import runtime
from engine.config import WorldConfig
from engine.data.clips import check_data
from engine.data.sights import load_seen
from engine.data.signals import SignalSampler, load_signals
from engine.errors import UserError
from engine.files import replace_file
from engine.loading import load_codec, load_generator
from engine.model.generator import Clip, Generator, clean_pass, teacher_forced
from engine.model.heads import Heads, HeadsConfig, symlog
from engine.model.sampler import denoising_step_list, sample
from engine.train.export import add_part, done
from engine.train.loop import run_leg
from engine.train.material import base_checkpoint, codec_tag
from engine.train.optimizers import pack_optimizers
from engine.train.options import HeadsOptions, chosen
from engine.train.randomness import Randomness
from engine.train.running_mean import RunningMean
from engine.train.scores import best_threshold, events_scores, scores_of
from engine.train.state import Tensors, copy_back

REPORT = "heads.json"
DECAY = 0.995
"""Of the running mean: events are rare, so it is to hold many steps."""
RAREST = 1e-5
"""Share of the frames that an event begins with at least: what the data never shows may happen all the same."""


class HeadsStage:
    """AdamW on the heads, and a running mean of their weights, which is what is kept."""

    name = "heads"

    def __init__(self, options: HeadsOptions, config: WorldConfig, device: torch.device, processes: int = 1) -> None:
        self.options, self.geometry, self.device, self.processes = options, config.geometry, device, processes
        folder, self.base_config, self.base = base_checkpoint(options.run, options.init, config)
        self.codec, _ = load_codec(folder)
        check_data(options.data, config, self.codec.config.height, self.codec.config.width)
        dtype = runtime.pick_dtype(device, options.dtype)
        self.generator = load_generator(folder).to(device, dtype).eval().requires_grad_(False)
        self.train_set, self.held_out = (self._sampler(split) for split in ("train", "validation"))
        torch.manual_seed(options.seed)
        shape = heads_config(options, self.generator, self.train_set)
        self.heads = Heads(shape, self.generator.config.dim).to(device)
        self.shifts = self._shifts()
        self._expect_the_usual()
        self.mean = RunningMean({"heads": dict(self.heads.named_parameters())}, DECAY)
        self.optimizers = [torch.optim.AdamW(self.heads.parameters(), lr=options.lr, weight_decay=0.01)]
        self.state: dict[str, Any] = {
            "settings": {
                "world": config.name,
                "generator": digest(self.base["generator"]),
                **chosen(options, "seed", "batch", "hidden", "buckets", "old", "events", "drawn"),
                "layers": list(shape.layers),
                "kinds": shape.events or None,  # as runs say it that were begun before there were any
            },
            "frames": 0,
            "threshold": 0.5,
        }

    def _sampler(self, split: str) -> SignalSampler:
        data, c = self.options.data, self.generator.config
        if c.sights and self.geometry is None:
            raise UserError("the generator takes sights, which need the [geometry] of the world's file")
        found = load_seen(data, split, self.codec, codec_tag(self.codec), c, self.geometry)
        signals, old = load_signals(data, split), self.options.old if c.window else 0
        return SignalSampler(found.latents, signals, c.clip, old, c.far, c.motion, self.options.events, found.poses)

    @torch.no_grad()
    def _shifts(self) -> tuple[Tensor, float, Tensor]:
        """Log of the ratio of shares in the batches to shares in the data.

        Of the reward's buckets (K,), and, as those of it and of it not, of the termination and of the events (E,).
        """
        data = np.flatnonzero(self.train_set.before > 0)
        shown = self.train_set.typical(self.options.batch, self.options.seed)
        shares = []
        for frames in (shown, data):
            reward, ended, events = self.train_set.labels(frames)
            buckets = self.heads.two_hot(reward.to(self.device)).mean(0)
            over, told = float(ended.float().mean()), events.float().mean(0)
            shares.append((buckets, torch.tensor([over, 1 - over]), torch.stack((told, 1 - told)).to(self.device)))
        ratios = [torch.where((a > 0) & (b > 0), (a / b).log(), 0.0) for a, b in zip(*shares, strict=True)]
        return ratios[0], float(ratios[1][0] - ratios[1][1]), ratios[2][0] - ratios[2][1]

    @torch.no_grad()
    def _expect_the_usual(self) -> None:
        """Let events begin as likely as they are in the data: the first steps need not learn that they are rare."""
        events = self.train_set.signals.events
        if self.heads.events is None or events is None:
            return
        share = events.float().mean(0).clamp(RAREST, 1 - RAREST)
        self.heads.events.bias.copy_(torch.logit(share))

    def loss(self, step: int, rank: int) -> tuple[Tensor, dict[str, float]]:
        """Cross-entropy of the reward's buckets, of the termination and of the events, with shifted log-odds."""
        clip, index = self.train_set.batch(self.options.batch, self.options.seed, step, rank)
        random = Randomness(self.options.seed, step, rank, 13, self.device)
        drawn = random.chance() < self.options.drawn
        features = self.features(clip, random if drawn else None)
        logits, ended, told = self.heads(features)
        asked = index[:, self.train_set.skipped :]
        reward, over, events = (x.to(self.device) for x in self.train_set.labels(asked))
        buckets, odds, of_kinds = self.shifts
        of_reward = F.cross_entropy(
            (logits + buckets).flatten(0, 1), self.heads.two_hot(reward).flatten(0, 1), reduction="mean"
        )
        of_end = F.binary_cross_entropy_with_logits(ended + odds, over.float())
        self.state["frames"] += over.numel() * self.processes
        parts, loss = {"reward": of_reward, "end": of_end}, of_reward + of_end
        if events.shape[-1]:  # each is a question of its own: summed, not averaged
            each = F.binary_cross_entropy_with_logits(told + of_kinds, events.float(), reduction="none")
            parts["events"] = each.sum(-1).mean()
            loss = loss + parts["events"]
        return loss, {name: float(part.detach()) for name, part in parts.items()}

    @torch.no_grad()
    def features(self, clip: Clip, random: Randomness | None = None) -> Tensor:
        """What the heads read of all consecutive frames that are asked about: float32 (B, L - `skipped`, N, D).

        random: with it, the frames are drawn from the real ones before them, in as many passes as in play.
        """
        clip = clip.each(lambda x: x.to(self.device))
        latents, first = clip.latents, clip.old + self.train_set.skipped
        if random is not None:
            target = latents[:, clip.old :]
            noise = random.normal(*target.shape)
            clean = torch.zeros(clip.position.shape, device=self.device)

            def predict(x: Tensor, _: int, level: float) -> Tensor:
                where = torch.full(target.shape[:2], level, device=self.device)
                return teacher_forced(self.generator, clip, latents, clean, x, where).float()

            passes = int(self.base_config.get("steps", 2))
            made = sample(predict, noise, denoising_step_list(passes, self.base_config.get("timestep_shift", 1.0)))
            # The first frame stays: where it is an episode's own first, play was given it.
            latents = torch.cat((latents[:, :first], made[:, self.train_set.skipped :]), 1)
        outputs = clean_pass(self.generator, clip, latents)
        return self.heads.features(outputs)[:, first:]

    def after_step(self, step: int) -> None:
        self.mean.update(step)

    @torch.no_grad()
    def answers(self, drawn: bool) -> dict[str, np.ndarray]:
        """What the running mean says of held-out frames, beside the truth: arrays (T,), of events (T, E)."""
        heads = Heads(self.heads.config, self.generator.config.dim).to(self.device)
        heads.load_state_dict(self.mean.parts["heads"])
        names = ("reward", "probability", "real", "ended", "episode", "told", "happened")
        found: dict[str, list[np.ndarray]] = {name: [] for name in names}
        random = Randomness(5, 0, 0, 0, self.device)
        for index, ask, number in self.held_out.windows(self.options.validation_frames):
            logits, ended, told = heads(self.features(self.held_out.clip(index), random if drawn else None))
            there = ask[:, self.held_out.skipped :]
            asked = torch.from_numpy(there)
            real, over, happened = (x[asked] for x in self.held_out.labels(index[:, self.held_out.skipped :]))
            found["reward"].append(heads.expected(logits).cpu()[asked].numpy())
            found["probability"].append(torch.sigmoid(ended).cpu()[asked].numpy())
            found["told"].append(torch.sigmoid(told).cpu()[asked].numpy())
            found["happened"].append(happened.numpy())
            found["real"].append(real.numpy())
            found["ended"].append(over.numpy())
            found["episode"].append(np.repeat(number[:, None], there.shape[1], 1)[there])
        return {name: np.concatenate(parts) for name, parts in found.items()}

    def validate(self, step: int, folder: Path) -> dict[str, float]:
        """Choose the threshold, measure on the other episodes, and write both down in `heads.json`."""
        answers = {"real": self.answers(drawn=False), "drawn": self.answers(drawn=True)}
        choosing = {kind: found["episode"] % 2 == 0 for kind, found in answers.items()}
        self.state["threshold"] = best_threshold(
            *((found["probability"][choosing[kind]], found["ended"][choosing[kind]]) for kind, found in answers.items())
        )
        report: dict[str, Any] = {"step": step, "threshold": self.state["threshold"], "usual": self.held_out.usual}
        for kind, found in answers.items():
            rest = ~choosing[kind]
            left = {name: values[rest] for name, values in found.items()}
            report[kind] = scores_of(left, self.state["threshold"], self.held_out.usual)
            if self.heads.config.events:
                report[f"{kind}_events"] = events_scores(left["told"], left["happened"])
        replace_file(folder / REPORT, (json.dumps(report, indent=2) + "\n").encode())
        flat = {f"{kind}_{name}": value for kind in answers for name, value in report[kind].items()}
        for kind in answers if self.heads.config.events else ():
            flat |= {f"{kind}_events_{name}": report[f"{kind}_events"][name] for name in ("precision", "recall")}
        return {name: value for name, value in flat.items() if value is not None}

    def report(self, step: int, scores: dict[str, float]) -> str:
        def text(name: str) -> str:
            return f"{scores[name]:.3g}" if name in scores else "-"

        parts = [f"threshold {self.state['threshold']:.3g}"]
        parts += [
            f"{kind} frames: {scores[f'{kind}_ends']} ends of {scores[f'{kind}_frames']}, precision "
            f"{text(f'{kind}_precision')}, recall {text(f'{kind}_recall')}, reward error {text(f'{kind}_reward_mae')} "
            f"(at events {text(f'{kind}_event_mae')}, always the usual {text(f'{kind}_usual_mae')})"
            + (
                f", events: precision {text(f'{kind}_events_precision')}, recall {text(f'{kind}_events_recall')}"
                if self.heads.config.events
                else ""
            )
            for kind in ("real", "drawn")
        ]
        return f"{step} steps, {self.state['frames']} frames; held-out episodes, {'; '.join(parts)}"

    def tensors(self) -> Tensors:
        return {
            "model": dict(self.heads.named_parameters()),
            "ema": self.mean.parts["heads"],
            "optimizer": pack_optimizers(self.optimizers),
        }

    def restore(self, tensors: Tensors) -> None:
        copy_back(self.tensors(), tensors, self.optimizers, self.name)

    def export(self, step: int) -> None:
        """The run's folder becomes the checkpoint that it began with, and heads."""
        shape = replace(self.heads.config, threshold=self.state["threshold"])
        trained = done(self.name, step, self.state)
        add_part(self.options.run, (self.base_config, self.base), shape, self.mean.parts["heads"], trained)


def heads_config(options: HeadsOptions, generator: Generator, data: SignalSampler) -> HeadsConfig:
    """Shape of the heads for a generator and the rewards of the data. UserError where it makes no sense."""
    depth = generator.config.depth
    try:
        layers = tuple(int(part) for part in options.layers.split(",")) if options.layers else (depth // 2, depth - 1)
    except ValueError:
        raise UserError(f"--layers: expected numbers such as 2,5, not {options.layers!r}") from None
    if not all(0 <= layer < depth for layer in layers):
        raise UserError(f"--layers: the generator has layers 0 to {depth - 1}, not {options.layers}")
    events = data.signals.events
    reward = data.signals.reward[torch.from_numpy(data.before > 0)]
    low, high = float(symlog(reward.min())), float(symlog(reward.max()))
    if low == high:
        if not bool(data.signals.terminated.any()) and (events is None or not bool(events.any())):
            raise UserError(
                f"{options.data} has nothing to learn: the reward is always {data.usual:g}, and no episode terminates"
            )
        low, high = low - 0.5, high + 0.5
    try:
        kinds = 0 if events is None else events.shape[1]
        return HeadsConfig(layers, options.hidden, options.buckets, low, high, events=kinds)
    except ValueError as error:
        raise UserError(str(error)) from error


def digest(tensors: Mapping[str, Tensor]) -> str:
    """Name of some weights: a hash of them in 16 bits."""
    found = hashlib.sha256()
    for name in sorted(tensors):
        found.update(tensors[name].detach().cpu().half().contiguous().numpy().tobytes())
    return found.hexdigest()[:12]


def run(options: HeadsOptions) -> None:
    """Run one leg."""
    # The base is exported first, so that a run that is continued finds in its own folder what it began with.
    run_leg(options, HeadsStage, begin=lambda stage: stage.export(0))
