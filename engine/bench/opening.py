"""What the benches share: which world, which weights, on which machine, and where the figures go."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from engine.config import WorldConfig
from engine.errors import UserError, unknown
from engine.history.recall import RECALLS
from engine.loading import open_world
from engine.model.sampler import MAX_STEPS
from engine.world import World


@dataclass
class Options:
    """Options of every bench that opens a world."""

    world: tyro.conf.Positional[str]
    """World, or path of a world's TOML file."""
    checkpoint: Path | None = None
    """Folder of weights; the world's own by default."""
    memory_budget: int | None = None
    """Tokens of folded history that a frame sees in mode mag; the memory model's own by default."""
    recall: str = "relevance"
    """Which folds a frame sees in mode mag: relevance, recent (the newest) or random, for comparisons."""
    steps: int | None = None
    """Passes a frame; the checkpoint's own by default."""
    seed: int = 0
    """Picks the test maps, the walks, the start frame and the noise."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or mps."""
    dtype: str = "auto"
    """Number format: auto, fp32, bf16 or fp16."""
    threads: int | None = None
    """Threads of one operation."""
    json: Path | None = None
    """Write the figures here; the plot goes beside it."""
    plot: Path | None = None
    """Write the plot here, a PNG."""

    def check_options(self) -> None:
        """Raise UserError where one of these makes no sense."""
        if self.seed < 0:
            raise UserError(f"--seed must be 0 or more, not {self.seed}")
        if self.steps is not None and not 1 <= self.steps <= MAX_STEPS:
            raise UserError(f"--steps must be from 1 to {MAX_STEPS}, not {self.steps}")
        if self.memory_budget is not None and self.memory_budget < 1:
            raise UserError(f"--memory-budget must be 1 or more tokens, not {self.memory_budget}")
        if self.recall not in RECALLS:
            raise UserError(unknown("recall", self.recall, RECALLS))

    def open(self, config: WorldConfig, batch: int, mode: str) -> World:
        """Open the world with `batch` worlds in it, in a memory mode."""
        return open_world(
            config,
            checkpoint=self.checkpoint,
            device=self.device,
            memory=mode,
            memory_budget=self.memory_budget if mode == "mag" else None,
            recall=self.recall,
            batch=batch,
            steps=self.steps,
            threads=self.threads,
            dtype=self.dtype,
        )
