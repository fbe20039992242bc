"""Simulators that worlds are learned from, each a Gymnasium environment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine.config import WorldConfig
from engine.errors import UserError

if TYPE_CHECKING:
    import gymnasium as gym


def check_simulator(config: WorldConfig) -> None:
    """Raise UserError where `make_source` would: before work begins that needs the simulator, or a folder is made."""
    make_source(config).close()


def make_source(config: WorldConfig, *, height: int | None = None, width: int | None = None) -> gym.Env[Any, Any]:
    """Open a world's simulator, a `engine.sources.contract.Source`.

    `height` and `width` are in pixels; without them the preset's size is taken. Raises UserError where the
    source or one of its options is unknown, or its package is missing.
    """
    for option in ("buttons", "height", "width", "render_mode", "exclusive"):
        if option in config.source_options:
            raise UserError(f"source_options must not name {option!r}: the world's file says it elsewhere")
    size = height or config.shape.height, width or config.shape.width
    if config.source == "doom":
        from engine.sources.doom.source import DoomEnv

        return DoomEnv(config.buttons, *size, exclusive=config.exclusive, **config.source_options)
    if config.source == "crafter":
        from engine.sources.crafter.source import CrafterEnv

        if not config.exclusive:
            raise UserError("the Crafter source does one thing a step: write exclusive = true in the world's file")

        return CrafterEnv(config.buttons, *size, **config.source_options)
    from engine.sources.gymnasium import source

    return source.make(config.source, config.buttons, *size, config.source_options, config.exclusive)
