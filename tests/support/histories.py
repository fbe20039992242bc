"""Small generators with memory models, and a player that feeds a history fixed latents and actions."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from engine.history.frame import Frame
from engine.history.history import History
from engine.model import odometry
from engine.model.generator import Generator, GeneratorConfig
from engine.model.memory import Memory, MemoryConfig
from tests.support.models import shaken

CONFIG = GeneratorConfig(
    rows=2,
    columns=3,
    channels=8,
    actions=2,
    dim=64,
    depth=3,
    heads=2,
    window=4,
    sink=1,
    clip=5,
    far=12,
    motion=((1.0, 0.0, 0.0), (0.0, 0.5, 15.0)),
    fov=90.0,
)
N = CONFIG.tokens
CPU = torch.device("cpu")


def make_generator(config: GeneratorConfig = CONFIG) -> Generator:
    torch.manual_seed(0)
    return shaken(Generator(config), 1)


def make_models(shape: MemoryConfig, config: GeneratorConfig = CONFIG) -> tuple[Generator, Memory]:
    generator = make_generator(config)
    return generator, shaken(Memory(shape, config).start_from(generator), 2)


class Player:
    """Appends fixed latents and actions to a history, as `World` does."""

    def __init__(
        self, generator: Generator, memory: Memory | None = None, mode: str = "mag", batch: int = 2, **options: Any
    ) -> None:
        self.generator, self.memory, self.batch = generator, memory, batch
        self.history = History(generator, batch, mode, CPU, torch.float32, memory, **options)
        random, c = torch.Generator().manual_seed(7), generator.config
        self.latents = torch.randn(batch, 120, c.tokens, c.channels, generator=random)
        self.actions = torch.randint(0, 2, (batch, 120, 2), generator=random).float()

    def next_frame(self) -> Frame:
        count, motion = self.history.count, self.generator.config.motion
        latents, action = (x[np.arange(self.batch), count] for x in (self.latents, self.actions))
        pose = self.history.pose
        if motion:
            pose = np.where(count[:, None] > 0, odometry.advance(pose, action.numpy(), motion), 0.0)
        return Frame(latents, action, pose)

    def step(self, only: np.ndarray | None = None) -> Tensor:
        """Append the next frame; returns what the last layer made of it, (B, N, d)."""
        outputs: list[Tensor] = []
        self.history.append(self.next_frame(), only, outputs)
        return outputs[-1][:, 0]

    def run(self, frames: int) -> Tensor:
        """The same for several frames, (B, frames, N, d)."""
        return torch.stack([self.step() for _ in range(frames)], 1)

    def run_into_a_fold(self, after: int) -> None:
        """Play until a block is half folded, and at least `after` are done."""
        history = self.history
        while not (history.folding and history.folding.jobs and len(history.cold[0]) >= after):
            self.step()


def as_stored(x: Tensor) -> Tensor:
    """In 8 bits, as cold storage keeps it."""
    scale = x.abs().amax(-1, keepdim=True).clamp_min(1e-8) / 127
    return (x / scale).round() * scale
