"""``python -m engine train memory WORLD``: rebuild a block of frames from its folded keys and values alone.

The first training of a memory model (section 3.2 of MAG, arXiv 2512.18741): the same weights fold a block and draw
it again from noise, seeing nothing but the fold.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from engine import checkpoint
from engine.config import WorldConfig
from engine.data.clips import read_shard, shard_paths
from engine.errors import UserError
from engine.loading import fits
from engine.measures import mean_psnr
from engine.model.generator import Generator
from engine.model.memory import Memory, MemoryConfig, new_delta, with_delta
from engine.model.sampler import denoising_step_list, mix, sample
from engine.train.stages.codec import pick_preset
from engine.train.stages.generator import Args as GeneratorArgs
from engine.train.stages.generator import GeneratorStage, noise_levels
from engine.train.stages.generator import run as run_stage


@dataclass
class Args(GeneratorArgs):
    """Learn to fold blocks of frames, from a generator's weights."""

    block: int = 3
    """Frames folded at a time, T."""
    readout: str = "last-frame"
    """What is kept of a block: last-frame (the paper's rule) or registers."""
    registers: int = 0
    """Tokens kept of a block with --readout registers, R."""
    rank: int = 0
    """Rank of the memory model's difference to the generator; 0 for weights of its own."""
    budget: int | None = None
    """Tokens of folded memory attended to in play, by default; without it as many as 8 folds have."""


def memory_config(args: Args, frame: int) -> MemoryConfig:
    """Shape of the memory that the options ask for, where a frame has so many tokens. UserError for nonsense."""
    fold = args.registers or frame
    budget = 8 * fold if args.budget is None else args.budget
    try:
        found = MemoryConfig(args.block, args.readout, args.registers, args.rank, budget)
    except ValueError as error:
        raise UserError(str(error)) from error
    if budget < fold:
        raise UserError(f"--budget {budget} is smaller than one fold, which has {fold} tokens")
    return found


class MemoryWeights(nn.Module):
    """What is trained of a memory model: all of its weights, or the factors of a low-rank difference."""

    def __init__(self, config: MemoryConfig, generator: Generator, seed: int) -> None:
        super().__init__()
        self.memory = Memory(config, generator.config).start_from(generator)
        own: dict[str, Tensor] = dict(self.memory.named_parameters())
        if config.rank:
            own = new_delta(generator, config.rank, torch.Generator().manual_seed(seed))
            own["registers"] = self.memory.registers
        self.own = {name: p.detach().clone() for name, p in own.items()}
        self.memory.requires_grad_(False)

    def weights(
        self, own: Mapping[str, Tensor], generator: Mapping[str, Tensor], dtype: torch.dtype
    ) -> dict[str, Tensor]:
        """Weights of the memory model in the compute dtype, from what is trained and the generator's weights."""
        if not self.memory.config.rank:
            return {name: p.to(dtype) for name, p in own.items()}
        changed = with_delta(generator, {name: p for name, p in own.items() if name != "registers"})
        found = {f"net.{name}": p.to(dtype) for name, p in changed.items()}
        return {**found, "registers": own["registers"].to(dtype)}


class Unfolding(nn.Module):
    """Fold and draw again in one call, so that one set of weights serves both."""

    def __init__(self, memory: Memory) -> None:
        super().__init__()
        self.memory = memory

    def forward(self, latents: Tensor, noisy: Tensor, level: Tensor, actions: Tensor, pose: Tensor) -> Tensor:
        return self.memory.unfold(self.memory.fold(latents, actions, pose), noisy, level, actions, pose)


class MemoryStage(GeneratorStage):
    """Trains the memory model alone; the generator stays as it is."""

    name = "memory"
    args: Args

    def __init__(self, args: Args, config: WorldConfig, *rest: Any) -> None:
        self.memory_config = memory_config(args, pick_preset(config, args.preset).tokens)
        if args.init is None and not (args.run / self.name / checkpoint.CONFIG).exists():
            args.init = config.checkpoint_path
        super().__init__(args, config, *rest)
        if self.memory_config.block > self.model.config.clip:
            raise UserError(f"--block must be at most {self.model.config.clip}, the length of a clip")
        self.unfolding = Unfolding(self.part.memory)

    def modules(self, generator: Generator) -> dict[str, dict[str, nn.Parameter]]:
        generator.requires_grad_(False)
        return {"memory": self._new_memory(generator)}

    def _new_memory(self, generator: Generator) -> dict[str, nn.Parameter]:
        self.part = MemoryWeights(self.memory_config, generator, self.args.seed).to(self.device)
        own = self.part.own
        if self.args.init is not None:
            config, tensors = checkpoint.load(self.args.init)
            if "memory" in tensors:
                if self.args.budget is None:
                    self.memory_config = replace(self.memory_config, budget=config["memory"]["budget"])
                if config["memory"] != asdict(self.memory_config):
                    raise UserError(f"--init {self.args.init}: its memory is {config['memory']}; ask for the same")
                fits(own, tensors["memory"], f"--init {self.args.init}: memory")
                own = {name: tensors["memory"][name] for name in own}  # in their order: the optimizers count on it
        return {name: nn.Parameter(p.float().to(self.device)) for name, p in own.items()}

    def settings(self) -> dict[str, Any]:
        c = self.memory_config
        return {"block": c.block, "readout": c.readout, "registers": c.registers, "rank": c.rank}

    def _memory_weights(self, own: Mapping[str, Tensor], generator: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return self.part.weights(own, generator, self.dtype)

    def _unfold(self, own: Mapping[str, Tensor], *inputs: Tensor) -> Tensor:
        weights = self._memory_weights(own, dict(self.model.named_parameters()))
        named = {f"memory.{name}": p for name, p in weights.items()}
        return functional_call(self.unfolding, named, inputs).float()

    def loss(self, step: int, rank: int) -> tuple[Tensor, dict[str, float]]:
        """Squared error of the clean latents of a block, each frame at its own level."""
        args = self.args
        clip = self._clip(self.sampler.blocks(args.batch, self.memory_config.block, args.seed, step, rank))
        random = self.randomness(step, rank, 3)
        x = clip.latents
        level = noise_levels(random.uniform(*x.shape[:2]))
        noisy = mix(x, random.normal(*x.shape), level)
        error = (
            (self._unfold(self.trained["memory"], x, noisy, level, clip.actions, clip.pose) - x).square().mean((2, 3))
        )
        self.state["frames"] += x.shape[0] * x.shape[1] * self.processes
        return (error / level.clamp_min(0.3)).mean(), {"error": float(error.detach().mean())}

    @torch.no_grad()
    def validate(self, step: int, folder: Path) -> dict[str, float]:
        """PSNR of blocks drawn from their folds alone (4 passes), against real frames, beside the codec's ceiling."""
        from engine.pictures import save_grid

        real, actions = self._blocks(64)
        shape = real.shape[:2]
        real, actions = real.flatten(0, 1), actions.float().to(self.device)
        z = torch.cat([self.codec.encode(part.to(self.device)) for part in real.split(256)]).unflatten(0, shape)
        pose = self._block_pose(actions)
        noise = torch.randn(z.shape, generator=torch.Generator().manual_seed(3)).to(self.device)

        def predict(x: Tensor, _: int, level: float) -> Tensor:
            return self._unfold(
                self.ema["memory"], z, x, torch.full(z.shape[:2], level, device=self.device), actions, pose
            )

        drawn = self.codec.decode(sample(predict, noise, denoising_step_list(4)).flatten(0, 1)).cpu()
        ceiling = self.codec.decode(z.flatten(0, 1)).cpu()
        shown = min(6, len(z))
        rows = [list(x.unflatten(0, shape)[i]) for i in range(shown) for x in (real, drawn)]
        save_grid(folder / "unfolded.png", rows, ["real", "from its fold"] * shown)
        return {"block_psnr": mean_psnr(real, drawn), "codec_psnr": mean_psnr(real, ceiling)}

    def _blocks(self, most: int) -> tuple[Tensor, Tensor]:
        """Held-out blocks that lie in one episode: frames uint8 (M, T, H, W, 3), actions (M, T, A); `most` or fewer."""
        t = self.memory_config.block
        frames: list[Tensor] = []
        actions: list[Tensor] = []
        for path in shard_paths(self.args.data, "validation"):
            shard = read_shard(path, ("frames", "actions", "episode"))
            starts = torch.arange(0, len(shard["frames"]) - t + 1, max(t, len(shard["frames"]) // most))
            whole = shard["episode"][starts] == shard["episode"][starts + t - 1]
            index = starts[whole][:most, None] + torch.arange(t)
            frames.append(shard["frames"][index])
            actions.append(shard["actions"][index])
            most -= len(index)
            if not most:
                break
        if not any(map(len, frames)):
            raise UserError(f"{self.args.data}: no held-out episode is {t} frames long; collect longer ones")
        return torch.cat(frames), torch.cat(actions)

    def _block_pose(self, actions: Tensor) -> Tensor:
        """Poses of blocks (M, T) from their actions, the first frame at the origin."""
        from engine.model import odometry

        motion, shape = self.model.config.motion, actions.shape[:2]
        if not motion:
            return torch.zeros(*shape, 3, dtype=torch.float64)
        flat = actions.flatten(0, 1).cpu().numpy()
        poses = odometry.integrate(flat, range(0, len(flat), shape[1]), motion)
        return torch.from_numpy(poses).unflatten(0, shape)

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        found = super().tensors()
        if "generator" not in self.trained:  # it stays as it is, and belongs to the run all the same
            found["ema"] |= {f"generator.{name}": p for name, p in self.model.named_parameters()}
        return found

    def report(self, scores: dict[str, float]) -> str:
        return f"blocks from their folds {scores['block_psnr']:.2f} dB; the codec's own {scores['codec_psnr']:.2f} dB"

    def parts(self) -> tuple[dict[str, Any], dict[str, dict[str, Tensor]]]:
        config, tensors = super().parts()
        config["memory"] = asdict(self.memory_config)
        memory = {name: p.half() for name, p in self.ema.get("memory", {}).items()}
        return config, {**tensors, "memory": memory}


def run(args: Args) -> None:
    """Run one leg."""
    run_stage(args, MemoryStage)
