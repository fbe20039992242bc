"""A person plays the simulator, and what was played becomes training data."""

import json
import sys
from pathlib import Path

import pytest
from PIL import Image
from safetensors.numpy import load_file

import play
from engine import cli
from engine.game import headless, window
from engine.sessions.reader import open_session
from engine.toml import to_toml
from tests.support.fake_stairs import TOP, stairs


@pytest.fixture
def world(tmp_path: Path) -> Path:
    path = tmp_path / "stairs.toml"
    path.write_text(to_toml(stairs()))
    return path


def test_a_source_is_played_and_every_episode_recorded(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--headless", "--frames", "40", "--keys", "up-40", "--record", str(tmp_path / "walk"), "--json")
    assert play.main([str(world), "--source", *words, "--seed", "7"]) == 0
    out, err = capsys.readouterr()
    figures = json.loads(out.splitlines()[-1])
    assert figures["frames"] == 40 and figures["mode"] == "simulator" and figures["start"] == "LociTest/Stairs-v0"
    # From 127 it is 3 steps to the top, from 120 10, each step 2.5; a key on the last frame begins the next episode.
    assert "rewards 7.5, 25, 22.5, 20, 15" in err
    first = open_session(tmp_path / "walk")
    assert first.last == TOP - 127 and first.results[first.last] == (2.5, True, False)
    assert open_session(tmp_path / "walk-2").last == TOP - 120
    data = tmp_path / "data"
    sessions = [str(tmp_path / name) for name in ("walk", "walk-2")]
    assert cli.main(["import", *sessions, "--world", str(world), "--out", str(data)]) == 0
    shard = load_file(data / "train" / "shard-00001.safetensors")
    assert shard["frames"][:, 0, 0, 2].tolist() == list(range(120, TOP + 1))
    assert shard["actions"].tolist() == [[0, 0]] + [[0, 1]] * 10
    assert shard["reward"].tolist() == [0.0] + [2.5] * 10 and shard["terminated"].tolist() == [0] * 10 + [1]


def test_a_source_is_played_in_a_window(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(headless, "has_display", lambda: True)
    picture = tmp_path / "last.png"
    words = ("--frames", "12", "--keys", "down-12", "--record", str(tmp_path / "walk"), "--screenshot", str(picture))
    assert play.main([str(world), "--source", *words, "--fps", "0"]) == 0
    assert "rewards -12" in capsys.readouterr().err
    assert open_session(tmp_path / "walk").last == 12
    assert Image.open(picture).getpixel((0, 0)) == (0, 0, 120 - 12)
    assert window.__name__ in sys.modules


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--checkpoint", "x"], "leave out --checkpoint"),
        (["--image", "x.png"], "leave out --image"),
        (["--start", "x"], "leave out --start"),
        (["--steps", "2"], "leave out --steps"),
        (["--memory-budget", "2"], "leave out --memory-budget"),
        (["--record", "taken"], "taken is there already"),
    ],
)
def test_what_only_a_model_has_is_an_error(
    world: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "mine").write_text("")
    assert play.main([str(world), "--source", "--headless", *words]) == 2
    error = capsys.readouterr().err
    assert message in error and len(error.splitlines()) == 1
