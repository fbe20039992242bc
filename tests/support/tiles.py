"""A world of tiles that is seen from above: its real frames, and models of random weights that play in it.

Frames are 5 tiles wide. The upper 4 rows show the country around the player, who stands in the middle of the third
column, the last row what he has.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from engine.config import Geometry, WorldConfig
from engine.model.codec import Codec, CodecConfig
from engine.model.generator import Generator, GeneratorConfig
from engine.model.motion import Motion, MotionConfig
from engine.world import World
from tests.support.models import shaken
from tests.support.weights import CHANNELS, write_weights

TILE, COLUMNS, ROWS, STILL = 16, 5, 5, 1
HEIGHT, WIDTH = TILE * ROWS, TILE * COLUMNS
PLAYER = (1, 2)
BUTTONS = ("east", "north", "west", "dig")
STEPS = ((1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (0.0, 0.0))
"""What each button does where the way is free: tiles to the east and to the north."""
MATERIALS = 200
SHAPE = GeneratorConfig(
    rows=ROWS,
    columns=COLUMNS,
    channels=12,
    actions=len(BUTTONS),
    dim=32,
    depth=2,
    heads=2,
    window=0,
    sink=0,
    clip=1,
    far=20,
    sights=True,
    still_rows=STILL,
    player=PLAYER[0] * COLUMNS + PLAYER[1],
)
MOVING = [i for i in range((ROWS - STILL) * COLUMNS) if i != SHAPE.player]
"""Tokens that show tiles of the world."""
WITH_WINDOW = replace(SHAPE, window=3, sink=1, clip=4)


class Country:
    """An endless map of random tiles, a function of its seed; `changes` are tiles that are another material now."""

    def __init__(self, seed: int = 0) -> None:
        random = np.random.default_rng(seed)
        self.pictures = random.integers(0, 256, (MATERIALS, TILE, TILE, 3), np.uint8)
        self._map = random.integers(0, MATERIALS - 10, (64, 64))
        self.changes: dict[tuple[int, int], int] = {}

    def material(self, x: int, y: int) -> int:
        return self.changes.get((x, y), int(self._map[x % 64, y % 64]))

    def frame(self, x: int, y: int, dark: bool = False) -> np.ndarray:
        """What the player sees who stands at (x, y), uint8 (H, W, 3)."""
        seen = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        for row in range(ROWS):
            for column in range(COLUMNS):
                material = self.material(x + column - PLAYER[1], y - (row - PLAYER[0]))
                if row >= ROWS - STILL:
                    material = MATERIALS - 9 + column
                elif (row, column) == PLAYER:
                    material = MATERIALS - 10
                at = (slice(row * TILE, (row + 1) * TILE), slice(column * TILE, (column + 1) * TILE))
                seen[at] = self.pictures[material]
        return seen // 8 if dark else seen

    def frames(self, path: Iterable[tuple[int, int]]) -> np.ndarray:
        """What is seen along a path, uint8 (1, n, H, W, 3)."""
        return np.stack([self.frame(x, y) for x, y in path])[None]


def pressed(*buttons: str, batch: int = 1) -> np.ndarray:
    """Actions, one button each, uint8 (batch, n, A); an empty name presses none."""
    found = np.array([[button == name for name in BUTTONS] for button in buttons], np.uint8)
    return np.broadcast_to(found, (batch, *found.shape)).copy()


def random_actions(count: int, batch: int = 1, seed: int = 0) -> np.ndarray:
    """Random play, one button at a time, uint8 (count, batch, A)."""
    picked = np.random.default_rng(seed).integers(0, len(BUTTONS), (count, batch))
    return np.eye(len(BUTTONS), dtype=np.uint8)[picked]


def by_keys(config: GeneratorConfig = SHAPE) -> Motion:
    """A motion model that believes that the way is always free."""
    loud, a = 30.0, config.actions  # where SiLU is the identity
    motion = Motion(MotionConfig(config.tokens, config.channels, a, 4, 2 * a, snap=True))
    with torch.no_grad():
        for weight in motion.parameters():
            weight.zero_()
        motion.enter.weight[:a, -a:] = torch.eye(a) * loud
        motion.middle.weight[:, :a] = torch.eye(a)
        motion.leave.weight[:2] = torch.tensor(STEPS).T / loud
        motion.usual[:, :2] = torch.tensor(STEPS)
    return motion


def make_generator(shape: GeneratorConfig = SHAPE) -> Generator:
    torch.manual_seed(0)
    return shaken(Generator(shape), 1)


def make_world(batch: int = 1, memory: str = "full", *, shape: GeneratorConfig = SHAPE, **options: Any) -> World:
    """A world of random weights whose generator takes sights, and whose player is stopped by nothing."""
    torch.manual_seed(0)
    codec = Codec(CodecConfig(HEIGHT, WIDTH, TILE, shape.channels, deblock=0))
    codec.basis.copy_(torch.linalg.qr(torch.randn(codec.basis.shape)).Q)
    options.setdefault("motion", by_keys(shape))
    return World(codec, make_generator(shape), BUTTONS, batch=batch, memory=memory, **options)


def play(world: World, moves: np.ndarray) -> np.ndarray:
    """The frames that actions (count, B, A) lead to, uint8 (count, B, H, W, 3)."""
    return np.stack([world.step(move) for move in moves])


def begun(batch: int = 1, seed: int = 1, **options: Any) -> World:
    """Worlds that have begun at the same place of the same country; options: of `make_world`."""
    world = make_world(batch, **options)
    world.reset(seed, np.repeat(Country().frames([(0, 0)]), batch, 0))
    return world


def write_world(folder: Path, **options: Any) -> WorldConfig:
    """A world of the preset `tile` with a checkpoint of random weights in `folder`; options: of `write_weights`."""
    steps = MotionConfig(81, CHANNELS, len(BUTTONS), 4, 16, snap=True)
    write_weights(folder, BUTTONS, **{"sights": True, "steps": steps, "window": 0, **options})
    return WorldConfig(
        name="tiles",
        title="Tiles",
        preset="tile",
        source="fake",
        checkpoint=str(folder),
        buttons=BUTTONS,
        geometry=Geometry(view="top", snap=True, player=(3, 4), still_rows=2),
    )
