"""The quality bench of a world of tiles, from its options to its files."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("crafter")

from engine.bench.options import QualityOptions
from engine.bench.quality import run as quality
from engine.errors import UserError
from engine.sources.crafter.source import BUTTONS
from tests.support.tile_world import write_tiles


@pytest.fixture
def options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> QualityOptions:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return QualityOptions(
        str(write_tiles(tmp_path, area=24)),
        episodes=1,
        frames=2,
        history=2,
        drift_frames=0,
        batch=3,
        tile_frames=80,
        play_frames=6,
        play_worlds=2,
        effect_states=2,
        survey_worlds=2,
        survey_frames=8,
        threads=1,
        json=tmp_path / "q.json",
        sheet=tmp_path / "sheet.png",
    )


def test_it_measures_tiles_and_writes_json_a_plot_and_sheets(
    options: QualityOptions, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quality.run(options)
    printed = capsys.readouterr().out
    for head in ("crisp tiles, by frame", "buttons within", "counted by pictures", "steps as drawn"):
        assert head in printed
    found = json.loads((tmp_path / "q.json").read_text())
    assert 0 <= found["crispness"] <= 1 and found["intervals"]["crispness"] is not None
    assert found["action_agreement"] is None  # the probe is of no use here
    assert {row["button"] for row in found["effects"]} == set(BUTTONS)
    assert len(found["materials"]) == 12 and found["materials_missing_real"]
    assert {"creatures", "rates", "steps_stopped", "steps_gone", "effects_worst", "next_still_psnr"} <= found.keys()
    for name in ("q.png", "q-tiles.png", "sheet.png", "sheet-play.png", "sheet-effects.png"):
        assert (tmp_path / name).stat().st_size > 1000, name
    quality.run(options)
    assert json.loads((tmp_path / "q.json").read_text()) | {"date": ""} == found | {"date": ""}


def test_each_part_may_be_left_out(options: QualityOptions, tmp_path: Path) -> None:
    quality.run(replace(options, tile_frames=0, effect_states=0, survey_worlds=0, sheet=None))
    found = json.loads((tmp_path / "q.json").read_text())
    assert not {"crispness", "effects", "materials"} & found.keys()
    with pytest.raises(UserError, match="--survey-worlds must be 0 or more, not -1"):
        quality.run(replace(options, survey_worlds=-1))
    with pytest.raises(UserError, match="--play-worlds must be at most 1000"):
        quality.run(replace(options, play_worlds=2000))
