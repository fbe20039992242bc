"""Worlds of a batch that are reset one by one: each remembers what it would alone, at the same frame."""

import numpy as np
import pytest
import torch

from engine.model.codec import Codec, CodecConfig
from engine.model.generator import Generator, GeneratorConfig
from engine.model.memory import Memory, MemoryConfig
from engine.world import World

MOTION = ((1.0, 0.0, 0.0), (-1.0, 0.0, 0.0), (0.0, 0.0, 15.0))


def make(batch: int, block: int, window: int, depth: int) -> World:
    torch.manual_seed(0)
    codec = Codec(CodecConfig(32, 48, 16, 12))
    codec.basis.copy_(torch.linalg.qr(torch.randn(codec.basis.shape)).Q)
    shape = GeneratorConfig(
        2, 3, 12, 3, 32, depth, heads=2, window=window, sink=1, clip=window + 1, far=20, motion=MOTION, fov=90.0
    )
    generator = Generator(shape)
    with torch.no_grad():
        for p in generator.parameters():
            p.add_(torch.randn_like(p) * 0.1)
    memory = Memory(MemoryConfig(block=block, budget=18), shape).start_from(generator)
    return World(codec, generator, ("forward", "back", "left"), memory_model=memory, memory="mag", batch=batch)


@pytest.mark.parametrize(("block", "window", "depth"), [(3, 5, 4), (5, 4, 1), (4, 7, 2), (1, 2, 3)])
def test_each_world_sees_and_folds_the_frames_that_it_would_alone(block: int, window: int, depth: int) -> None:
    rng = np.random.default_rng(block)
    many, alone = make(2, block, window, depth), [make(1, block, window, depth) for _ in range(2)]
    pictures = rng.integers(0, 256, (2, 2, 32, 48, 3), np.uint8)
    many.reset(5, pictures)
    for b in range(2):
        alone[b].reset(5 + b, pictures[b : b + 1])
    for t in range(36):
        if t in (4, 15, 17, 26):
            b, count = t % 2, int(rng.integers(1, 20))
            history, acted = rng.integers(0, 256, (2, count, 32, 48, 3), np.uint8), rng.integers(0, 2, (2, count, 3))
            many.reset([t, t], history, acted, np.arange(2) == b)
            alone[b].reset(t, history[b : b + 1], acted[b : b + 1])
        if t == 20:  # through a file, too
            many.restore(many.snapshot_from(*many.snapshot().state()))
        move = rng.integers(0, 2, (2, 3))
        frames = many.step(move).astype(int)
        for b, world in enumerate(alone):
            assert abs(frames[b] - world.step(move[b : b + 1])[0]).max() <= 1
            own, other = (sorted(t[t >= 0]) for t in (many.history.buffers.time[b], world.history.buffers.time[0]))
            assert own == other and len(many.history.cold[b]) == len(world.history.cold[0])
            assert many.history.buffers.hot[b].tolist() == world.history.buffers.hot[0].tolist()


def test_a_partial_reset_of_all_worlds_is_a_whole_one() -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (2, 3, 32, 48, 3), np.uint8)
    worlds = [make(2, 3, 5, 2) for _ in range(2)]
    for world, only in zip(worlds, (None, np.ones(2, bool)), strict=True):
        world.reset(1, pictures)
        for _ in range(9):
            world.step(np.array([1, 0, 1]))
        world.reset(7, pictures, only=only)
    for _ in range(12):
        one, two = (world.step(np.array([0, 1, 1])) for world in worlds)
        assert np.array_equal(one, two)
