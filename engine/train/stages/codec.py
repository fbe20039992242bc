"""``python -m engine train codec WORLD``: fit the linear codec, then train its deblocking pass."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engine import checkpoint
from engine.config import WorldConfig
from engine.data.clips import check_data, patch_moments, read_shard, shard_paths
from engine.loading import load_exactly
from engine.measures import mean_psnr
from engine.model.codec import Codec
from engine.pictures import save_grid
from engine.train.loop import run_leg
from engine.train.optimizers import pack_optimizers, unpack_optimizers
from engine.train.options import CodecOptions
from engine.train.shapes import codec_config, pick_preset
from engine.train.state import Tensors

FITTED, HELD_OUT = 20_000, 512
"""Frames that the codec is fitted to and trained on, and those that it is measured on."""


class CodecStage:
    """Adam on the deblocking pass; the linear part stays as the principal components gave it.

    A preset without such a pass has nothing to train: it is done once the linear part is fitted.
    """

    name = "codec"

    def __init__(self, options: CodecOptions, config: WorldConfig, device: torch.device, processes: int = 1) -> None:
        self.options, self.config, self.device = options, config, device
        self.preset = pick_preset(config, options.preset)
        check_data(options.data, config, self.preset.height, self.preset.width)
        torch.manual_seed(options.seed)
        self.model: Codec = Codec(codec_config(self.preset))
        train = shard_paths(options.data, "train")
        self.frames = some_frames(train, FITTED, options.seed)
        self.held_out = some_frames(shard_paths(options.data, "validation"), HELD_OUT, options.seed)
        self.state: dict[str, Any] = {
            "settings": {
                "world": config.name,
                "preset": self.preset.name,
                "seed": options.seed,
                "batch": options.batch,
            }
        }
        if not (options.run / self.name / checkpoint.CONFIG).exists():
            mean, covariance = patch_moments(train, self.model, np.random.default_rng(options.seed), FITTED)
            self.model.fit(covariance, mean)
        self.model.to(device)
        self.optimizers: list[torch.optim.Optimizer] = []
        if self.model.deblock is not None:
            self.optimizers.append(torch.optim.AdamW(self.model.deblock.parameters(), lr=options.lr, weight_decay=0.0))

    def loss(self, step: int, rank: int) -> tuple[Tensor, dict[str, float]]:
        """Mean squared error of pixels in [-1, 1]."""
        rng = np.random.default_rng([self.options.seed, step, rank])
        frames = self.frames[rng.choice(len(self.frames), self.options.batch)].to(self.device)
        target = frames.movedim(-1, -3).float() / 127.5 - 1
        loss = (self.model.decode_float(self.model.encode(frames)) - target).square().mean()
        return loss, {"psnr": 10 * float(torch.log10(4 / loss.detach()))}

    def after_step(self, step: int) -> None:
        """Nothing follows: the weights themselves are shipped."""

    @torch.inference_mode()
    def validate(self, step: int, folder: Path) -> dict[str, float]:
        """PSNR of held-out frames, with and without the deblocking pass."""
        frames = self.held_out.to(self.device)
        decoded = self.model.decode(self.model.encode(frames))
        deblock, self.model.deblock = self.model.deblock, None
        linear = self.model.decode(self.model.encode(frames))
        self.model.deblock = deblock
        save_grid(folder / "codec.png", [list(frames[:48:6].cpu()), list(decoded[:48:6].cpu())], ["real", "codec"])
        return {"psnr": mean_psnr(frames, decoded), "psnr_linear": mean_psnr(frames, linear)}

    def report(self, step: int, scores: dict[str, float]) -> str:
        return f"{step} steps; held-out maps: {scores['psnr']:.2f} dB ({scores['psnr_linear']:.2f} dB linear)"

    def tensors(self) -> Tensors:
        return {"model": self.model.state_dict(), "optimizer": pack_optimizers(self.optimizers)}

    def restore(self, tensors: Tensors) -> None:
        load_exactly(self.model, tensors["model"], "codec")
        unpack_optimizers(self.optimizers, tensors["optimizer"])

    def export(self, step: int) -> None:
        config = {
            "world": self.config.name,
            "preset": self.preset.name,
            "buttons": list(self.config.buttons),
            "codec": asdict(self.model.config),
            "notes": {"codec_steps": step},
        }
        half = {name: t.half() for name, t in self.model.state_dict().items()}
        checkpoint.save(self.options.run, config, {"codec": half})


def some_frames(shards: list[Path], count: int, seed: int) -> Tensor:
    """About `count` frames uint8 (n, H, W, 3), spread over all shards."""
    rng, parts = np.random.default_rng(seed + 1), []
    for path in shards:
        frames = read_shard(path, ("frames",))["frames"]
        pick = rng.choice(len(frames), min(len(frames), count // len(shards) + 1), replace=False)
        parts.append(frames[np.sort(pick)])
    return torch.cat(parts)


def run(options: CodecOptions) -> None:
    """Run one leg."""
    run_leg(options, CodecStage)
