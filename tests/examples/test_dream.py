"""The example that learns in a dream, as a whole, on a tiny task."""

import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from engine.errors import UserError
from examples import dream
from tests.support.fake_stairs import NAME, stairs

pytest.importorskip("stable_baselines3")
pytest.importorskip("matplotlib")
pytestmark = pytest.mark.timeout(400)


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    stairs()
    monkeypatch.setattr(dream, "ENVS", 2)
    monkeypatch.setattr(dream, "LOOKS", 1)
    monkeypatch.setattr(dream, "LOOK_EPISODES", 2)
    return dream


def test_a_dream_is_made_learned_in_and_measured_and_goes_on_where_it_was(
    example: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    counts = {"frames": 300, "starts": 3, "horizon": 10, "codec_steps": 2, "generator_steps": 4, "heads_steps": 2}
    args = example.Args(tmp_path / "out", NAME, **counts, dream_steps=128, episodes=4, threads=1)
    example.main(args)
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert result["scores"].keys() == {"random", "dream", "real"}
    for score in result["scores"].values():
        assert len(score["returns"]) == 4 and score["low"] <= score["mean"] <= score["high"]
    assert [point["steps"] for point in result["curves"]["dream"]] == [0, 128]
    assert result["curves"]["real"][-1]["steps"] >= 303
    assert (tmp_path / "out" / "curves.png").stat().st_size > 5000
    assert len(list((tmp_path / "out" / "starts").glob("*.png"))) == 3
    first = (tmp_path / "out" / "dream.zip").stat().st_mtime_ns
    capsys.readouterr()
    example.main(args)
    assert (tmp_path / "out" / "dream.zip").stat().st_mtime_ns == first
    assert json.loads((tmp_path / "out" / "result.json").read_text())["scores"] == result["scores"]
    with pytest.raises(UserError, match="was made with other settings"):
        example.main(example.Args(tmp_path / "out", NAME, seed=1))


def test_an_interval_holds_the_mean_and_shrinks_with_more_episodes(example: ModuleType) -> None:
    values = list(np.random.default_rng(0).normal(3.0, 1.0, 400))
    few, many = example.score_of(values[:25]), example.score_of(values)
    for score in (few, many):
        assert score.low < score.mean < score.high
    assert many.high - many.low == pytest.approx(4 / 20, rel=0.15)
    assert few.high - few.low > 2 * (many.high - many.low)
    assert example.score_of([1.0] * 5).low == 1.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frames": 0}, "--frames must be 1 or more, not 0"),
        ({"seed": -1}, "--seed must be 0 or more, not -1"),
        ({"episodes": 999}, "--episodes must be at most 998"),
    ],
)
def test_numbers_that_make_no_sense_are_one_clear_line(
    example: ModuleType, tmp_path: Path, change: dict[str, int], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        example.Dream(example.Args(tmp_path / "out", **change))
    assert not (tmp_path / "out").exists()
