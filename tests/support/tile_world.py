"""A world of tiles with tiny random weights, opened from files."""

from dataclasses import asdict
from pathlib import Path

import torch

from engine import checkpoint
from engine.model.codec import Codec, CodecConfig
from engine.model.generator import Generator, GeneratorConfig
from engine.sources.crafter.source import BUTTONS
from tests.support.models import shaken

TOML = """
title = "Tiles"
preset = "tile"
source = "crafter"
checkpoint = "{checkpoint}"
buttons = {buttons}
[source_options]
area = {area}
"""
STEPS = {"left": (-1.0, 0.0, 0.0), "right": (1.0, 0.0, 0.0), "up": (0.0, 1.0, 0.0), "down": (0.0, -1.0, 0.0)}


def write_tiles(folder: Path, area: int = 40) -> Path:
    """Write tiles.toml and a checkpoint of random weights that counts steps by keys; returns the TOML's path."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        codec = Codec(CodecConfig(144, 144, 16, 24, deblock=0))
        patches = torch.rand(2000, 768) * 2 - 1
        codec.fit(patches.T.cov(), patches.mean(0))
        motion = tuple(STEPS.get(button, (0.0, 0.0, 0.0)) for button in BUTTONS)
        shape = GeneratorConfig(
            *(9, 9, 24, len(BUTTONS), 32, 1), heads=2, window=2, sink=1, clip=4, far=12, motion=motion, fov=90.0
        )
        generator = shaken(Generator(shape), seed=1, amount=0.05)
    config = {
        "world": "tiles",
        "preset": "tile",
        "buttons": list(BUTTONS),
        "codec": asdict(codec.config),
        "generator": asdict(shape),
        "notes": {},
    }
    tensors = {
        "codec": codec.state_dict(),
        "generator": {name: weight.data for name, weight in generator.named_parameters()},
    }
    checkpoint.save(folder / "weights", config, tensors)
    path = folder / "tiles.toml"
    path.write_text(TOML.format(checkpoint=folder / "weights", buttons=list(BUTTONS), area=area))
    return path
