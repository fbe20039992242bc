"""The world `doom-plain` as an environment, with its start frames and spaces, but tiny random weights."""

from functools import cache
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from engine.config import load_world
from engine.model.heads import HeadsConfig
from tests.support.leftovers import folder_for_the_run
from tests.support.weights import write_weights_for

NAME = "doom-plain"
WORLD = "engine:Loci/DoomPlain-v0"


@cache
def weights() -> Path:
    """A checkpoint for the world, written once in each process."""
    return write_weights_for(load_world(NAME), folder_for_the_run("weights"))


def options_with(**options: Any) -> dict[str, Any]:
    """Options of an environment on these weights, on one thread of the CPU, and others."""
    return {"threads": 1, "device": "cpu", "checkpoint": weights(), **options}


def make(**options: Any) -> gym.Env[Any, Any]:
    """One world."""
    return gym.make(WORLD, **options_with(**options))


def make_vec(count: int, **options: Any) -> Any:
    """A batch of worlds."""
    return gym.make_vec(WORLD, num_envs=count, **options_with(**options))


def moves(count: int, steps: int, seed: int = 0) -> np.ndarray:
    """Held buttons, uint8 (steps, count, 6)."""
    return np.random.default_rng(seed).integers(0, 2, (steps, count, 6), np.uint8)


def with_heads(folder: Path, bias: float, threshold: float = 0.5, events: int = 0) -> Path:
    """A checkpoint that is `weights`, and has heads: random ones, but for the termination's bias."""
    shape = HeadsConfig((0, 1), hidden=16, buckets=9, low=-3.0, high=3.0, threshold=threshold, events=events)
    return write_weights_for(load_world(NAME), folder, heads=(shape, bias))
