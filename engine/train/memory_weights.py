"""A memory model in training: what is trained of it, and passes with those weights in the compute dtype."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.func import functional_call

from engine import checkpoint
from engine.errors import UserError
from engine.loading import fits
from engine.model.generator import Clip, Generator
from engine.model.memory import Folded, Memory, MemoryConfig, new_delta, with_delta
from engine.train.options import DistillOptions, JointOptions, MemoryOptions
from engine.train.shapes import memory_config

Weights = Mapping[str, Tensor]


class Unfolding(nn.Module):
    """Fold and draw again in one call, so that one set of weights serves both."""

    def __init__(self, memory: Memory) -> None:
        super().__init__()
        self.memory = memory

    def forward(self, latents: Tensor, noisy: Tensor, level: Tensor, actions: Tensor, pose: Tensor) -> Tensor:
        return self.memory.unfold(self.memory.fold(latents, actions, pose), noisy, level, actions, pose)


class MemoryWeights:
    """The weights of a memory model that a run begins with: those of `init`, else ones that fold as `generator` reads.

    shape: as the options ask for; with an `init` that has a memory, its budget is taken unless they name one. The stage
    keeps that budget in its state, for a run may go on without its `init`; see `shape_to_export`.
    own: what is trained, float32 by name, on `device`: all weights, or the factors of a low-rank difference to the
    generator's. The methods take such weights as arguments, for it may be the running mean that is asked for.
    Raises UserError where options and `init` do not go together.
    """

    def __init__(
        self,
        options: MemoryOptions | JointOptions | DistillOptions,
        generator: Generator,
        init: Path | None,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self.shape, self.dtype = memory_config(options, generator.config), dtype
        self.budget_named = options.budget is not None
        net = Memory(self.shape, generator.config).start_from(generator)
        own: dict[str, Tensor] = dict(net.named_parameters())
        if self.shape.rank:
            own = new_delta(generator, self.shape.rank, torch.Generator().manual_seed(options.seed))
            own["registers"] = net.registers
        own = {name: p.detach().clone() for name, p in own.items()}
        if init is not None:
            config, tensors = checkpoint.load(init)
            if "memory" in tensors:
                if options.budget is None:
                    self.shape = replace(self.shape, budget=config["memory"]["budget"])
                if config["memory"] != asdict(self.shape):
                    raise UserError(f"--init {init}: its memory is {config['memory']}; ask for the same")
                fits(own, tensors["memory"], f"--init {init}: memory")
                own = {name: tensors["memory"][name] for name in own}  # in their order: the optimizers count on it
        self.own = {name: nn.Parameter(p.float().to(device)) for name, p in own.items()}
        self.unfolding = Unfolding(net).to(device).requires_grad_(False)
        self.tokens = self.shape.tokens(generator.config)

    def full(self, own: Weights, generator: Weights) -> dict[str, Tensor]:
        """All weights of the memory model in the compute dtype, from what is trained and the generator's weights."""
        if not self.shape.rank:
            return {name: p.to(self.dtype) for name, p in own.items()}
        changed = with_delta(generator, {name: p for name, p in own.items() if name != "registers"})
        found = {f"net.{name}": p.to(self.dtype) for name, p in changed.items()}
        return {**found, "registers": own["registers"].to(self.dtype)}

    def unfold(self, own: Weights, generator: Weights, *inputs: Tensor) -> Tensor:
        """Predict blocks from their folds alone; see `Unfolding` for the inputs. Clean latents float32 (B, T, N, C)."""
        named = {f"memory.{name}": p for name, p in self.full(own, generator).items()}
        return functional_call(self.unfolding, named, inputs).float()

    def fold(self, own: Weights, generator: Weights, blocks: Clip) -> tuple[Folded, Tensor]:
        """Fold a batch's blocks: per layer keys and values (B, heads, M * R, head_dim), and positions (B, M * R)."""
        inputs = (blocks.latents, blocks.actions, blocks.pose)
        found = functional_call(self.unfolding.memory, self.full(own, generator), inputs)
        position = blocks.position.repeat_interleave(self.tokens, 1)
        b = len(position)

        def joined(x: Tensor) -> Tensor:
            return x.unflatten(0, (b, -1)).transpose(1, 2).flatten(2, 3)

        return [(joined(k), joined(v)) for k, v in found], position

    def shape_to_export(self, begun: int) -> MemoryConfig:
        """The shape with the budget that the options name, else with the one that the run has begun with."""
        return self.shape if self.budget_named else replace(self.shape, budget=begun)

    def settings(self) -> dict[str, int | str]:
        """What a run keeps from its beginning."""
        c: MemoryConfig = self.shape
        return {"block": c.block, "readout": c.readout, "registers": c.registers, "rank": c.rank}
