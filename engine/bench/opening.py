"""What the benches share: which world, which weights, on which machine."""

from __future__ import annotations

from collections.abc import Sequence

from engine.bench.options import BenchOptions
from engine.config import WorldConfig
from engine.errors import UserError, unknown
from engine.history.recall import RECALLS
from engine.loading import open_world
from engine.model.sampler import MAX_STEPS
from engine.world import World


def check_shared(options: BenchOptions) -> None:
    """Raise UserError where an option that all benches have makes no sense."""
    if options.seed < 0:
        raise UserError(f"--seed must be 0 or more, not {options.seed}")
    if options.steps is not None and not 1 <= options.steps <= MAX_STEPS:
        raise UserError(f"--steps must be from 1 to {MAX_STEPS}, not {options.steps}")
    if options.memory_budget is not None and options.memory_budget < 1:
        raise UserError(f"--memory-budget must be 1 or more tokens, not {options.memory_budget}")
    if options.recall not in RECALLS:
        raise UserError(unknown("recall", options.recall, RECALLS))


def open_for(options: BenchOptions, config: WorldConfig, batch: int, mode: str) -> World:
    """Open the world as the options say, with `batch` worlds in it, in a memory mode. Raises UserError."""
    return open_world(
        config,
        checkpoint=options.checkpoint,
        device=options.device,
        memory=mode,
        memory_budget=options.memory_budget if mode == "mag" else None,
        recall=options.recall,
        batch=batch,
        steps=options.steps,
        threads=options.threads,
        dtype=options.dtype,
    )


def numbers(text: str, option: str) -> list[int]:
    """Read ``1,4,16``: whole numbers of 1 or more. UserError for anything else."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and 0 < int(part) <= 10**7 for part in parts):
        raise UserError(f"{option}: expected whole numbers of 1 or more, such as 1,4,16, not {text!r}")
    return list(dict.fromkeys(int(part) for part in parts))


def named(text: str, kind: str, known: Sequence[str]) -> list[str]:
    """Read names with commas between; UserError for one that isn't known."""
    names = list(dict.fromkeys(part.strip() for part in text.split(",")))
    for name in names:
        if name not in known:
            raise UserError(unknown(kind, name, known))
    return names
