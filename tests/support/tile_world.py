"""Worlds of Crafter's tiles: one with random weights, opened from files, and one that draws just what it remembers."""

from pathlib import Path

import numpy as np
import torch

from engine.bench.tiles.patches import Named
from engine.model.codec import Codec, CodecConfig
from engine.model.generator import Generator, GeneratorConfig
from engine.model.motion import Motion, MotionConfig
from engine.sources.crafter.source import BUTTONS
from engine.world import World
from tests.support.weights import CHANNELS, write_weights

TOML = """
title = "Tiles"
preset = "tile"
source = "crafter"
checkpoint = "{checkpoint}"
buttons = {buttons}
exclusive = true
[source_options]
area = {area}
[geometry]
view = "top"
snap = true
player = [3, 4]
still_rows = 2
"""
STEPS = {"left": (-1.0, 0.0), "right": (1.0, 0.0), "up": (0.0, 1.0), "down": (0.0, -1.0)}
EXACT = 150
"""Numbers of a token that are enough for every tile that there is."""


def write_tiles(folder: Path, area: int = 40) -> Path:
    """Write tiles.toml and a checkpoint of random weights with places and motion; returns the TOML's path."""
    steps = MotionConfig(81, CHANNELS, len(BUTTONS), 4, 16, snap=True)
    write_weights(folder / "weights", BUTTONS, sights=True, steps=steps, window=0, world="tiles")
    path = folder / "tiles.toml"
    path.write_text(TOML.format(checkpoint=folder / "weights", buttons=list(BUTTONS), area=area))
    return path


def remembering(named: Named, batch: int, memory: str = "full") -> World:
    """A world with places that draws each tile as it saw it last, and nothing where it saw none.

    Its player is stopped by nothing but in frames that it is shown, where it finds out. named: the tiles that there
    are, all of which its codec keeps.
    """
    codec = Codec(CodecConfig(144, 144, 16, EXACT, deblock=0))
    patches = np.concatenate((named.patches, named.items.reshape(-1, *named.patches.shape[1:])))
    flat = torch.from_numpy(patches.reshape(len(patches), -1)).float() / 127.5 - 1
    codec.fit(flat.T.cov(), flat.mean(0))
    shape = GeneratorConfig(
        *(9, 9, EXACT, len(BUTTONS), 32, 1),
        heads=2,
        window=0,
        sink=0,
        clip=1,
        far=2,
        sights=True,
        still_rows=2,
        player=31,
    )
    generator = Generator(shape)
    with torch.no_grad():
        for weight in generator.leave.parameters():
            weight.zero_()
    return World(codec, generator, BUTTONS, batch=batch, memory=memory, motion=_by_keys())


def _by_keys() -> Motion:
    """A motion model that believes that the way is always free."""
    count, loud = len(BUTTONS), 30.0  # where SiLU is the identity
    motion = Motion(MotionConfig(81, EXACT, count, 4, 2 * count, snap=True))
    steps = torch.tensor([STEPS.get(button, (0.0, 0.0)) for button in BUTTONS])
    with torch.no_grad():
        for weight in motion.parameters():
            weight.zero_()
        motion.enter.weight[:count, -count:] = torch.eye(count) * loud
        motion.middle.weight[:, :count] = torch.eye(count)
        motion.leave.weight[:2] = steps.T / loud
        motion.usual[:, :2] = steps
    return motion
