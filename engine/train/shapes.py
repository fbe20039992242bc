"""Shapes of the networks that a world's preset asks for."""

from __future__ import annotations

from engine.config import WorldConfig
from engine.errors import UserError, unknown
from engine.model.codec import CodecConfig
from engine.model.generator import GeneratorConfig
from engine.model.memory import MemoryConfig
from engine.presets import PRESETS, Preset
from engine.train.options import MemoryShapeOptions


def pick_preset(config: WorldConfig, name: str) -> Preset:
    """Preset by name, or the world's. UserError if there is none of that name."""
    if name and name not in PRESETS:
        raise UserError(unknown("preset", name, PRESETS))
    return PRESETS[name or config.preset]


def codec_config(preset: Preset) -> CodecConfig:
    """Shape of a preset's codec."""
    return CodecConfig(preset.height, preset.width, preset.patch, preset.channels, preset.deblock)


def generator_config(preset: Preset, config: WorldConfig) -> GeneratorConfig:
    """Shape of a preset's generator for a world. UserError where the preset needs a geometry that the world has not."""
    player, still_rows = -1, 0
    if preset.sights:
        if config.geometry is None or config.geometry.player is None:
            raise UserError(
                f'preset {preset.name} draws from places, which need a [geometry] with view = "top" and player in the '
                f"world's file; {config.name} has none"
            )
        row, column = config.geometry.player
        player, still_rows = row * preset.columns + column, config.geometry.still_rows
    return GeneratorConfig(
        rows=preset.rows,
        columns=preset.columns,
        channels=preset.channels,
        actions=len(config.buttons),
        dim=preset.dim,
        depth=preset.depth,
        heads=preset.heads,
        window=preset.window,
        sink=preset.sink,
        clip=preset.clip,
        far=preset.far,
        motion=config.motion,
        fov=config.field_of_view if config.motion else 0.0,
        sights=preset.sights,
        still_rows=still_rows,
        player=player,
    )


def memory_config(options: MemoryShapeOptions, generator: GeneratorConfig) -> MemoryConfig:
    """Shape of the memory that the options ask for beside a generator. UserError for nonsense."""
    if generator.sights:
        raise UserError("this size of world remembers by places, and has no folds to train; go on with: distill, heads")
    fold = options.registers or generator.tokens
    budget = 8 * fold if options.budget is None else options.budget
    try:
        found = MemoryConfig(options.block, options.readout, options.registers, options.rank, budget)
    except ValueError as error:
        raise UserError(str(error)) from error
    if budget < fold:
        raise UserError(f"--budget {budget} is smaller than one fold, which has {fold} tokens")
    if found.block > generator.clip:
        raise UserError(f"--block must be at most {generator.clip}, the length of a clip")
    return found
