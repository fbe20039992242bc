"""``python -m engine train codec WORLD``: fit the linear codec, then train its deblocking pass."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from torch import Tensor

from engine import checkpoint
from engine.config import WorldConfig, load_world
from engine.data.clips import check_data, patch_moments, read_shard, shard_paths
from engine.errors import UserError, unknown
from engine.loading import load_exactly
from engine.measures import mean_psnr
from engine.model.codec import Codec, CodecConfig
from engine.presets import PRESETS, Preset
from engine.train.loop import Common, pack_optimizers, processes, set_up, train, unpack_optimizers


@dataclass
class Args(Common):
    """Learn the codec between frames and latents."""

    world: tyro.conf.Positional[str] = "doom"
    """World, or path of a world's TOML file."""
    preset: str = ""
    """Size; the world's own by default."""
    minutes: float = 4.0
    """Length of this leg."""
    lr: float = 1e-3
    """Peak learning rate of the deblocking pass."""


def pick_preset(config: WorldConfig, name: str) -> Preset:
    """Preset by name, or the world's. UserError if there is none of that name."""
    if name and name not in PRESETS:
        raise UserError(unknown("preset", name, PRESETS))
    return PRESETS[name or config.preset]


def codec_config(preset: Preset) -> CodecConfig:
    """Shape of a preset's codec."""
    return CodecConfig(preset.height, preset.width, preset.patch, preset.channels)


class CodecStage:
    """Adam on the deblocking pass; the linear part stays as the principal components gave it."""

    name = "codec"

    def __init__(self, args: Args, config: WorldConfig, device: torch.device) -> None:
        self.args, self.config, self.device = args, config, device
        self.preset = pick_preset(config, args.preset)
        torch.manual_seed(args.seed)
        self.model: Codec = Codec(codec_config(self.preset))
        self.frames = self._frames("train", 20_000)
        self.held_out = self._frames("validation", 512)
        self.state: dict[str, Any] = {
            "settings": {"world": config.name, "preset": self.preset.name, "seed": args.seed, "batch": args.batch}
        }
        if not (args.run / self.name / checkpoint.CONFIG).exists():
            paths = shard_paths(args.data, "train")
            mean, covariance = patch_moments(paths, self.model, np.random.default_rng(args.seed), 20_000)
            self.model.fit(covariance, mean)
        self.model.to(device)
        assert self.model.deblock is not None
        self.optimizers: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(self.model.deblock.parameters(), lr=args.lr, weight_decay=0.0)
        ]

    def _frames(self, split: str, count: int) -> Tensor:
        """About `count` frames, spread over all shards of a split."""
        paths = shard_paths(self.args.data, split)
        rng, parts = np.random.default_rng(self.args.seed + 1), []
        for path in paths:
            frames = read_shard(path, ("frames",))["frames"]
            pick = rng.choice(len(frames), min(len(frames), count // len(paths) + 1), replace=False)
            parts.append(frames[np.sort(pick)])
        return torch.cat(parts)

    def loss(self, step: int, rank: int) -> tuple[Tensor, dict[str, float]]:
        """Mean squared error of pixels in [-1, 1]."""
        rng = np.random.default_rng([self.args.seed, step, rank])
        frames = self.frames[rng.choice(len(self.frames), self.args.batch)].to(self.device)
        target = frames.movedim(-1, -3).float() / 127.5 - 1
        loss = (self.model.decode_float(self.model.encode(frames)) - target).square().mean()
        return loss, {"psnr": 10 * float(torch.log10(4 / loss.detach()))}

    def after_step(self, step: int) -> None:
        pass

    @torch.inference_mode()
    def validate(self, step: int, folder: Path) -> dict[str, float]:
        from engine.pictures import save_grid

        frames = self.held_out.to(self.device)
        decoded = self.model.decode(self.model.encode(frames))
        deblock, self.model.deblock = self.model.deblock, None
        linear = self.model.decode(self.model.encode(frames))
        self.model.deblock = deblock
        save_grid(folder / "codec.png", [list(frames[:48:6].cpu()), list(decoded[:48:6].cpu())], ["real", "codec"])
        return {"psnr": mean_psnr(frames, decoded), "psnr_linear": mean_psnr(frames, linear)}

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        return {"model": self.model.state_dict(), "optimizer": pack_optimizers(self.optimizers)}

    def restore(self, tensors: dict[str, dict[str, Tensor]]) -> None:
        load_exactly(self.model, tensors["model"], "codec")
        unpack_optimizers(self.optimizers, tensors["optimizer"])

    def export(self, step: int) -> None:
        """The run's own folder is a checkpoint, so that it can be played at any time."""
        config = {
            "world": self.config.name,
            "preset": self.preset.name,
            "buttons": list(self.config.buttons),
            "codec": asdict(self.model.config),
            "notes": {"codec_steps": step},
        }
        half = {name: t.half() for name, t in self.model.state_dict().items()}
        checkpoint.save(self.args.run, config, {"codec": half})


def run(args: Args) -> None:
    """Run one leg."""
    config = load_world(args.world)
    preset = pick_preset(config, args.preset)
    check_data(args.data, config, preset.height, preset.width)
    device, _ = set_up(args)
    with processes(device) as (rank, size):
        stage = CodecStage(args, config, device)
        step = train(stage, args, rank, size)
        if rank == 0:
            scores = stage.validate(step, args.run)
            print(f"{step} steps; held-out maps: {scores['psnr']:.2f} dB ({scores['psnr_linear']:.2f} dB linear)")
