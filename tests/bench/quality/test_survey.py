"""A survey of a world: the simulator is like itself, and what a world does wrong is found."""

from functools import lru_cache
from typing import Any

import numpy as np
import pytest

pytest.importorskip("crafter")

from engine.bench.quality.playing import Simulators
from engine.bench.quality.survey import Survey, figures, survey
from engine.bench.tiles.patches import MATERIALS, THINGS, cut, joined
from engine.bench.tiles.player import Players
from engine.bench.tiles.reader import TileReader
from engine.sources.crafter.source import BUTTONS, CrafterEnv
from tests.support.simulated_world import sand

MAPS = [2_000_003, 2_000_004, 2_000_005]
FRAMES = 60


class Sandy(Simulators):
    """Simulators whose cows look like sand, and whose players stand still."""

    def step(self, actions: np.ndarray) -> np.ndarray:
        tiles = cut(super().step(actions * np.uint8(0)).copy())
        reader = READER.read(self.frame)
        tiles[:, :7][reader.things == THINGS.index("cow")] = sand()
        return joined(tiles)


READER = TileReader()


@lru_cache
def counted(kind: type[Simulators] = Simulators) -> Survey:
    envs = [CrafterEnv(area=32) for _ in MAPS]
    players = Players(READER, envs[0].items, BUTTONS, MAPS)
    return survey(kind(envs, MAPS), players, FRAMES)


def test_the_simulator_is_like_itself() -> None:
    found = figures(counted(), counted())
    assert {row["name"] for row in found["materials"]} == set(MATERIALS) - {""}
    assert sum(row["world"] for row in found["materials"]) == pytest.approx(1)
    assert found["materials_alike"] == 1.0
    assert all(row["ratio"] in (1.0, None) or np.isnan(row["ratio"]) for row in found["creatures"] + found["rates"])
    assert found["steps_as_drawn"]["mean"] > 0.97 and found["steps_measured"] > 40
    assert 0 < found["steps_refused"] < 0.7
    rates = {row["name"]: row["world"] for row in found["rates"]}
    assert 15 < rates["food lost in 1000 frames"] < 50  # a point in 26 frames, but for meals
    assert 15 < rates["drink lost in 1000 frames"] < 60  # and in 21, but for what he drinks
    cows = {row["name"]: row["world"] for row in found["creatures"]}
    assert cows["cows in view"] > 0


def test_what_a_world_does_wrong_is_found() -> None:
    found = figures(counted(Sandy), counted())
    rows = {row["name"]: row for row in found["creatures"]}
    assert rows["cows in view"]["ratio"] < 0.1 and found["materials_alike"] < 1
    assert found["steps_as_drawn"]["mean"] < 0.6


def test_surveys_are_joined_and_cut() -> None:
    one = counted()
    both = Survey.joined([one, one])
    assert both.frames.shape == (6,) and (both.cut(3).materials == one.materials).all()
    empty: dict[str, Any] = figures(Survey.empty(2), one)
    assert empty["materials_missing"] == [name for name in MATERIALS if name]
