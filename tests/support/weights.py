"""A checkpoint of random weights, for worlds that are opened from files; it opens and draws in milliseconds."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from engine import checkpoint
from engine.config import WorldConfig
from engine.model.codec import Codec, CodecConfig
from engine.model.generator import Generator, GeneratorConfig
from engine.model.heads import Heads, HeadsConfig
from engine.model.memory import Memory, MemoryConfig
from engine.model.motion import Motion, MotionConfig
from tests.support.models import shaken

CHANNELS, DIM, DEPTH = 24, 32, 2


def write_weights(
    folder: Path,
    buttons: Sequence[str],
    /,
    *,
    motion: Sequence[Sequence[float]] = (),
    memory: MemoryConfig | None = None,
    heads: tuple[HeadsConfig, float] | None = None,
    steps: MotionConfig | None = None,
    sights: bool = False,
    window: int = 3,
    **changes: Any,
) -> Path:
    """Write a checkpoint of the preset `nano`, with frames of 48x64; returns its folder.

    memory: with a memory model of this shape. heads: with heads of this shape, and the bias of their termination:
    far below 0, and no episode ends; far above, and each ends at once. steps: with a motion model of this shape.
    sights: of the preset `tile` instead, with frames of 144x144 and a generator that takes sights; the player is at
    [3, 4], above two still rows. window: of the generator, at least 3, or with sights 0 for none.
    changes: entries of ``config.json`` in place of those that belong to the weights.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        height, width = (144, 144) if sights else (48, 64)
        codec = Codec(CodecConfig(height, width, 16, CHANNELS, deblock=0 if sights else 4))
        patches = torch.rand(2000, 768) * 2 - 1
        codec.fit(patches.T.cov(), patches.mean(0))
        shape = GeneratorConfig(
            *(height // 16, width // 16, CHANNELS, len(buttons), DIM, DEPTH),
            heads=2,
            window=window,
            sink=1 if window else 0,
            clip=window + 1,
            far=12,
            motion=tuple((float(x), float(y), float(turn)) for x, y, turn in motion),
            fov=90.0 if motion else 0.0,
            sights=sights,
            still_rows=2 if sights else 0,
            player=31 if sights else -1,
        )
        generator = shaken(Generator(shape), seed=1, amount=0.05)
        config: dict[str, Any] = {
            "world": "scroll",
            "preset": "tile" if sights else "nano",
            "buttons": list(buttons),
            "codec": asdict(codec.config),
            "generator": asdict(shape),
            "notes": {"generator_steps": 0},
        }
        tensors = {"codec": codec.state_dict(), "generator": _weights_of(generator)}
        if memory is not None:
            config["memory"] = asdict(memory)
            tensors["memory"] = _weights_of(Memory(memory, shape).start_from(generator))
        if heads is not None:
            config["heads"] = asdict(heads[0])
            tensors["heads"] = _random_heads(*heads)
        if steps is not None:
            config["motion"] = asdict(steps)
            tensors["motion"] = dict(shaken(Motion(steps), seed=2).state_dict())
    checkpoint.save(folder, {**config, **changes}, tensors)
    return folder


def write_weights_for(world: WorldConfig, folder: Path, **options: Any) -> Path:
    """Write a checkpoint for the buttons and the odometry of a world, with a memory model; returns its folder."""
    return write_weights(folder, world.buttons, motion=world.motion, memory=MemoryConfig(block=1, budget=48), **options)


def _weights_of(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: weight.data for name, weight in model.named_parameters()}


def _random_heads(shape: HeadsConfig, bias: float) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    heads = Heads(shape, DIM)
    with torch.no_grad():
        heads.reward.weight.add_(torch.randn_like(heads.reward.weight))
        heads.termination.weight.add_(torch.randn_like(heads.termination.weight))
        heads.termination.bias.fill_(bias)
        if heads.events is not None:
            heads.events.weight.add_(3 * torch.randn_like(heads.events.weight))
    return dict(heads.state_dict())
