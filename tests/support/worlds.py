"""Tiny random worlds that draw a frame in a few milliseconds, and what they are played with."""

import numpy as np
import torch

from engine.model.codec import Codec, CodecConfig
from engine.model.generator import Generator, GeneratorConfig
from engine.model.memory import Memory, MemoryConfig
from engine.world import World
from tests.support.models import shaken

BUTTONS = ("forward", "back", "left")
MOTION = ((1.0, 0.0, 0.0), (-1.0, 0.0, 0.0), (0.0, 0.0, 15.0))
HEIGHT, WIDTH = 32, 48
SHAPE = GeneratorConfig(2, 3, 12, len(BUTTONS), dim=64, depth=2, heads=2, window=3, sink=1, clip=4, far=12)


def make_world(
    batch: int = 1, memory: str = "window", seed: int = 0, *, shape: GeneratorConfig = SHAPE, block: int = 2, **options
) -> World:
    """A world of random weights over frames of 32x48; with ``mag`` it folds blocks of `block` frames."""
    torch.manual_seed(seed)
    codec = Codec(CodecConfig(HEIGHT, WIDTH, 16, shape.channels, deblock=4))
    codec.basis.copy_(torch.linalg.qr(torch.randn(codec.basis.shape)).Q)
    generator = shaken(Generator(shape), seed + 1)
    if memory == "mag":
        options["memory_model"] = Memory(MemoryConfig(block=block, budget=18), shape).start_from(generator)
    return World(codec, generator, BUTTONS, batch=batch, memory=memory, **options)


def pictures(batch: int, count: int, seed: int = 0) -> np.ndarray:
    """Frames of noise, uint8 (batch, count, 32, 48, 3)."""
    return np.random.default_rng(seed).integers(0, 256, (batch, count, HEIGHT, WIDTH, 3), np.uint8)


def actions(count: int, batch: int = 1, seed: int = 0) -> np.ndarray:
    """Random play, uint8 (count, batch, A)."""
    return np.random.default_rng(seed).integers(0, 2, (count, batch, len(BUTTONS)), np.uint8)


def play(world: World, moves: np.ndarray) -> np.ndarray:
    """The frames that actions (count, batch, A) lead to, uint8 (count, batch, H, W, 3)."""
    return np.stack([world.step(move) for move in moves])
