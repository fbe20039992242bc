"""What `bench quality` measures in worlds of tiles beside all else: crispness, effects, and a survey of many lives."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from tqdm import tqdm

from engine.bench.opening import open_for
from engine.bench.options import QualityOptions
from engine.bench.quality import crisp, effects, regions, survey
from engine.bench.quality.playing import Dreams, Simulators, start_frames
from engine.bench.rollout import groups
from engine.bench.tiles.dictionary import dictionary
from engine.bench.tiles.player import Players
from engine.bench.tiles.reader import TileReader
from engine.bench.truth import pick_maps
from engine.config import WorldConfig
from engine.sources import make_source
from engine.sources.crafter.source import ROWS, TILES
from engine.world import World

SHOWN_STATES = 3
"""States of each button that a sheet shows."""


@dataclass
class Tiled:
    """What was measured of a world of tiles: figures by name, and pictures.

    play: free play, see `Crispness`; None where it was left out. states: rows of before, after in the simulator, after
    in the world, with a name each.
    """

    figures: dict[str, Any] = field(default_factory=dict)
    play: crisp.Crispness | None = None
    states: list[tuple[str, list[np.ndarray]]] = field(default_factory=list)


def measure(config: WorldConfig, options: QualityOptions) -> Tiled:
    """Measure all that the options ask for. Raises UserError."""
    found = Tiled()
    world = open_for(options, config, options.batch, options.memory)
    reader = TileReader.of(config, world.height, world.width)
    maps = pick_maps("test", options.episodes, options.seed)
    found.figures |= regions.measure(world, config, maps, options.history, options.frames, options.seed)
    if options.tile_frames:
        _crispness(config, options, reader, found)
    if options.effect_states:
        _effects(config, options, reader, world, found)
    if options.survey_worlds:
        found.figures |= _survey(config, options, reader, world)
    return found


def _source(config: WorldConfig, reader: TileReader) -> Any:
    return make_source(config, height=reader.height, width=reader.width)


def _crispness(config: WorldConfig, options: QualityOptions, reader: TileReader, found: Tiled) -> None:
    size = reader.height, reader.width
    known = dictionary(config, size, options.tile_frames, options.seed)
    world = open_for(options, config, options.play_worlds, options.memory)
    maps = pick_maps("test", options.play_worlds, options.seed)
    seeds = [options.seed + int(map_seed) for map_seed in maps]
    with closing(_source(config, reader)) as env:
        dreams = Dreams(world, start_frames(env, maps), seeds)
        players = Players(reader, env.items, config.buttons, seeds)
    found.play = crisp.free_play(dreams, players, known, options.play_frames, ROWS)
    found.figures |= crisp.figures(found.play, ROWS, TILES)


def _effects(config: WorldConfig, options: QualityOptions, reader: TileReader, world: World, found: Tiled) -> None:
    with closing(_source(config, reader)) as env:
        maps = pick_maps("test", options.effect_states, options.seed)
        made = effects.states(env, maps, options.effect_states, options.seed)
        told, drawn = effects.measure(world, reader, made, env.items, options.seed)
    found.figures |= told
    for button in dict.fromkeys(made.buttons):
        for i in [i for i, name in enumerate(made.buttons) if name == button][:SHOWN_STATES]:
            found.states.append((button, [made.before[i], made.after[i], drawn[i]]))


def _survey(config: WorldConfig, options: QualityOptions, reader: TileReader, world: World) -> dict[str, Any]:
    """The same players on the same maps, in the simulator and in what the world makes of their first frames."""
    maps = pick_maps("test", options.survey_worlds, options.seed)
    drawn, real = [], []
    total = 2 * options.survey_frames * world.batch * -(-len(maps) // world.batch)
    with ExitStack() as stack, tqdm(total=total, desc="survey", unit="frame", leave=False) as bar:
        envs = [stack.enter_context(closing(_source(config, reader))) for _ in range(world.batch)]
        for index, count in groups(len(maps), world.batch):
            seeds = [options.seed + int(map_seed) for map_seed in maps[index]]
            simulators = Simulators(envs, maps[index])
            starts = simulators.frame

            def players(own: Sequence[int] = seeds) -> Players:
                return Players(reader, envs[0].items, config.buttons, own)

            real.append(survey.survey(simulators, players(), options.survey_frames, bar).cut(count))
            dreams = Dreams(world, starts, seeds)
            drawn.append(survey.survey(dreams, players(), options.survey_frames, bar).cut(count))
    return survey.figures(survey.Survey.joined(drawn), survey.Survey.joined(real))
