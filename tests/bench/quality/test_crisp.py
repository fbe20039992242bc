"""Crispness: real tiles are, blurred ones are not; a dictionary is made once and read again."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("crafter")

from engine.bench.quality import crisp
from engine.bench.quality.playing import Simulators
from engine.bench.tiles import dictionary as dictionaries
from engine.bench.tiles.dictionary import cache_folder, dictionary
from engine.bench.tiles.player import Players
from engine.bench.tiles.reader import TileReader
from engine.config import WorldConfig, load_world
from engine.sources.crafter.source import BUTTONS, CrafterEnv
from tests.support.tile_world import write_tiles


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WorldConfig:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return load_world(write_tiles(tmp_path, area=24))


class Blurred(Simulators):
    """Simulators whose pictures are blurred from a frame on."""

    count = 0

    def step(self, actions: np.ndarray) -> np.ndarray:
        self.count += 1
        frame = super().step(actions)
        soft = (frame.astype(float) + np.roll(frame, 1, 2) + np.roll(frame, 1, 1)) / 3
        return soft.astype(np.uint8) if self.count > 10 else frame


@pytest.mark.parametrize(("kind", "least", "most"), [(Simulators, 0.99, 1.0), (Blurred, 0.0, 0.6)])
def test_real_tiles_are_crisp_and_blurred_ones_are_not(
    config: WorldConfig, kind: type[Simulators], least: float, most: float
) -> None:
    known = dictionary(config, (144, 144), 1500, 0)
    envs = [CrafterEnv(area=64) for _ in range(2)]
    players = Players(TileReader(), envs[0].items, BUTTONS, [1, 2])
    found = crisp.free_play(kind(envs, [2_000_001, 2_000_002]), players, known, 24, 7)
    figures = crisp.figures(found, 7, 9)
    view, items = (figures["crispness_by_frame"][-1][name]["mean"] for name in ("view", "inventory"))
    assert least <= view <= most
    assert figures["crispness"]["mean"] == pytest.approx((7 * view + 2 * items) / 9)
    assert found.sheet.shape == (2, len(found.shown), 144, 144, 3) and found.shown[-1] == 24


def test_a_dictionary_is_kept_in_the_users_cache_and_a_damaged_one_is_made_anew(
    config: WorldConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = dictionary(config, (144, 144), 60, 0)
    (path,) = cache_folder().iterdir()
    with monkeypatch.context() as patch:
        patch.setattr(dictionaries, "_play", lambda *_: pytest.fail("it was there already"))
        again = dictionary(config, (144, 144), 60, 0)
    assert np.array_equal(made.view._flat, again.view._flat) and np.array_equal(made.items._flat, again.items._flat)
    path.write_bytes(path.read_bytes()[:100])
    assert np.array_equal(dictionary(config, (144, 144), 60, 0).view._flat, made.view._flat)
    assert made.crisp(CrafterEnv(area=24).reset(options={"map_seed": 9})[0]).mean() > 0.5
