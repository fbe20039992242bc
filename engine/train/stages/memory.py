"""``python -m engine train memory WORLD``: rebuild a block of frames from its folded keys and values alone.

The first training of a memory model (section 3.2 of MAG, arXiv 2512.18741): the same weights fold a block and draw
it again from noise, seeing nothing but the fold.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from engine import runtime
from engine.config import Geometry, WorldConfig
from engine.data.clips import read_shard, shard_paths
from engine.data.poses import in_steps
from engine.errors import UserError
from engine.measures import mean_psnr
from engine.model import odometry
from engine.model.sampler import denoising_step_list, mix, sample
from engine.pictures import save_grid
from engine.train.export import Exporter, done
from engine.train.loop import run_leg
from engine.train.material import Material, first_generator, trained_before, trained_weights
from engine.train.memory_weights import MemoryWeights
from engine.train.noise import noise_levels, weighed
from engine.train.optimizers import muon_and_adamw
from engine.train.options import MemoryOptions
from engine.train.randomness import Randomness
from engine.train.running_mean import RunningMean
from engine.train.state import Tensors, copy_back, stored


class MemoryStage:
    """Trains the memory model alone; the generator stays as it is."""

    name = "memory"

    def __init__(self, options: MemoryOptions, config: WorldConfig, device: torch.device, processes: int = 1) -> None:
        self.options, self.device, self.processes = options, device, processes
        init = trained_weights(options, config, self.name)
        self.material = Material(options, config, init, device)
        self.sampler = self.material.sampler("train", old=0, returns=0.0)
        self.held_out = shard_paths(options.data, "validation")
        torch.manual_seed(options.seed)
        self.model = first_generator(self.material.shape, init).to(device).requires_grad_(False)
        self.memory = MemoryWeights(options, self.model, init, device, runtime.pick_dtype(device, options.dtype))
        self.trained = {"memory": self.memory.own}
        self.mean = RunningMean(self.trained, options.ema)
        self.optimizers = muon_and_adamw(self.trained, options.lr)
        self.exporter = Exporter(options, config, self.material)
        self.state: dict[str, Any] = {
            "settings": {**self.material.settings(options), **self.memory.settings()},
            "frames": 0,
            "budget": self.memory.shape.budget,
            "before": trained_before(init),
        }

    @property
    def generator(self) -> dict[str, Tensor]:
        """The generator's weights, which stay, and belong to the run all the same."""
        return dict(self.model.named_parameters())

    def loss(self, step: int, rank: int) -> tuple[Tensor, dict[str, float]]:
        """Squared error of the clean latents of a block, each frame at its own level."""
        options = self.options
        clip = self.material.moved(self.sampler.blocks(options.batch, options.block, options.seed, step, rank))
        random = Randomness(options.seed, step, rank, 3, self.device)
        x = clip.latents
        level = noise_levels(random.uniform(*x.shape[:2]))
        noisy = mix(x, random.normal(*x.shape), level)
        drawn = self._unfold(self.memory.own, x, noisy, level, clip.actions, clip.pose)
        error = (drawn - x).square().mean((2, 3))
        self.state["frames"] += error.numel() * self.processes
        return weighed(error, level), {"error": float(error.detach().mean())}

    def _unfold(self, own: Mapping[str, Tensor], *inputs: Tensor) -> Tensor:
        return self.memory.unfold(own, self.generator, *inputs)

    def after_step(self, step: int) -> None:
        self.mean.update(step)

    @torch.no_grad()
    def validate(self, step: int, folder: Path) -> dict[str, float]:
        """PSNR of blocks drawn from their folds alone (4 passes), against real frames, beside the codec's ceiling."""
        codec = self.material.codec
        real, actions, told = held_out_blocks(self.held_out, self.options.block, 64)
        shape = real.shape[:2]
        real, actions = real.flatten(0, 1), actions.float().to(self.device)
        z = torch.cat([codec.encode(part.to(self.device)) for part in real.split(256)]).unflatten(0, shape)
        pose = block_poses(actions, self.model.config.motion, told, self.material.geometry)
        noise = torch.randn(z.shape, generator=torch.Generator().manual_seed(3)).to(self.device)

        def predict(x: Tensor, _: int, level: float) -> Tensor:
            where = torch.full(shape, level, device=self.device)
            return self._unfold(self.mean.parts["memory"], z, x, where, actions, pose)

        drawn = codec.decode(sample(predict, noise, denoising_step_list(4)).flatten(0, 1)).cpu()
        ceiling = codec.decode(z.flatten(0, 1)).cpu()
        shown = min(6, len(z))
        rows = [list(x.unflatten(0, shape)[i]) for i in range(shown) for x in (real, drawn)]
        save_grid(folder / "unfolded.png", rows, ["real", "from its fold"] * shown)
        return {"block_psnr": mean_psnr(real, drawn), "codec_psnr": mean_psnr(real, ceiling)}

    def report(self, step: int, scores: dict[str, float]) -> str:
        return (
            f"{step} steps, {self.state['frames']} frames; blocks from their folds {scores['block_psnr']:.2f} dB; "
            f"the codec's own {scores['codec_psnr']:.2f} dB"
        )

    def tensors(self) -> Tensors:
        return stored(self.trained, {**self.mean.parts, "generator": self.generator}, self.optimizers)

    def restore(self, tensors: Tensors) -> None:
        copy_back(self.tensors(), tensors, self.optimizers, self.name)

    def export(self, step: int) -> None:
        parts = {
            "generator": (self.model.config, self.generator),
            "memory": (self.memory.shape_to_export(self.state["budget"]), self.mean.parts["memory"]),
        }
        self.exporter.write(parts, [*self.state["before"], done(self.name, step, self.state)])


def held_out_blocks(shards: list[Path], length: int, most: int) -> tuple[Tensor, Tensor, Tensor]:
    """Blocks that lie in one episode: frames uint8 (M, T, H, W, 3), actions (M, T, A), poses (M, T, 4).

    There are `most` or fewer. UserError where no episode is long enough.
    """
    frames: list[Tensor] = []
    actions: list[Tensor] = []
    poses: list[Tensor] = []
    for path in shards:
        shard = read_shard(path, ("frames", "actions", "poses", "episode"))
        starts = torch.arange(0, len(shard["frames"]) - length + 1, max(length, len(shard["frames"]) // most))
        whole = shard["episode"][starts] == shard["episode"][starts + length - 1]
        index = starts[whole][:most, None] + torch.arange(length)
        frames.append(shard["frames"][index])
        actions.append(shard["actions"][index])
        poses.append(shard["poses"][index])
        most -= len(index)
        if not most:
            break
    if not any(map(len, frames)):
        data = shards[0].parent.parent
        raise UserError(f"{data}: no held-out episode is {length} frames long; collect longer ones")
    return torch.cat(frames), torch.cat(actions), torch.cat(poses)


def block_poses(actions: Tensor, motion: odometry.Motion, told: Tensor, geometry: Geometry | None) -> Tensor:
    """Poses float64 (M, T, 3) of blocks, the first frame at the origin.

    With a geometry they are the true ones, of poses (M, T, 4) as the source told them; else those that the keys of
    actions (M, T, A) say.
    """
    shape = actions.shape[:2]
    if geometry is not None:
        poses = in_steps(told.double().numpy(), geometry)
        return torch.from_numpy(odometry.seen_from(poses[:, :1], poses))
    if not motion:
        return torch.zeros(*shape, 3, dtype=torch.float64)
    flat = actions.flatten(0, 1).cpu().numpy()
    poses = odometry.integrate(flat, range(0, len(flat), shape[1]), motion)
    return torch.from_numpy(poses).unflatten(0, shape)


def run(options: MemoryOptions) -> None:
    """Run one leg."""
    run_leg(options, MemoryStage)
