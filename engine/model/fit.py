"""Whether networks belong together: each has the shapes that the generator asks for."""

from __future__ import annotations

from dataclasses import replace

from engine.model.codec import Codec
from engine.model.generator import Generator
from engine.model.heads import Heads
from engine.model.memory import Memory
from engine.model.motion import Motion


def check_fit(
    codec: Codec, generator: Generator, memory: Memory | None, heads: Heads | None, motion: Motion | None
) -> None:
    """Raise ValueError, opened by "world: ", for the first network that does not fit the generator."""
    need = generator.config
    found = (codec.config.rows, codec.config.columns, codec.config.channels)
    if found != (need.rows, need.columns, need.channels):
        raise ValueError(
            f"world: the codec gives latents (rows, columns, channels) = {found}, the generator takes "
            f"{(need.rows, need.columns, need.channels)}"
        )
    if memory is not None and replace(memory.net.config, window=need.window, sink=need.sink) != need:
        raise ValueError("world: the memory model does not fit the generator: it has another shape")
    if motion is not None:
        shape = (motion.config.tokens, motion.config.channels, motion.config.actions)
        if shape != (need.tokens, need.channels, need.actions):
            raise ValueError("world: the motion model does not fit the generator: it has another shape")
    if heads is not None and max(heads.config.layers) >= need.depth:
        raise ValueError(f"world: the heads read layer {max(heads.config.layers)}, which the generator has not")
    if need.sights and motion is None and not need.motion:
        raise ValueError("world: a generator that takes sights needs a motion model, or a motion of its buttons")
