"""The shipped plain world in the form that the tests of its environments need."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from engine import checkpoint
from engine.config import load_world
from engine.model.heads import Heads, HeadsConfig

WORLD = "engine:Loci/DoomPlain-v0"


def make(**options: Any) -> gym.Env[Any, Any]:
    return gym.make(WORLD, **{"threads": 1, "device": "cpu", **options})


def make_vec(count: int, **options: Any) -> Any:
    return gym.make_vec(WORLD, num_envs=count, **{"threads": 1, "device": "cpu", **options})


def moves(count: int, steps: int, seed: int = 0) -> np.ndarray:
    """Held buttons (steps, count, 6)."""
    return np.random.default_rng(seed).integers(0, 2, (steps, count, 6), np.uint8)


def with_heads(folder: Path, bias: float, threshold: float = 0.5) -> Path:
    """A checkpoint whose heads are random, but for the termination's bias."""
    config, tensors = checkpoint.load(load_world("doom-plain").checkpoint_path)
    shape = HeadsConfig((1, 5), hidden=16, buckets=9, low=-3.0, high=3.0, threshold=threshold)
    torch.manual_seed(0)
    heads = Heads(shape, config["generator"]["dim"])
    with torch.no_grad():
        heads.reward.weight.add_(torch.randn_like(heads.reward.weight))
        heads.termination.weight.add_(torch.randn_like(heads.termination.weight))
        heads.termination.bias.fill_(bias)
    config["heads"] = {"layers": [1, 5], "hidden": 16, "buckets": 9, "low": -3.0, "high": 3.0, "threshold": threshold}
    parts = {name: config[name] for name in config if name not in ("files", "format")}
    checkpoint.save(folder, parts, {**tensors, "heads": dict(heads.state_dict())})
    return folder
