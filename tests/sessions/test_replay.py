"""From a world to a session and back, through the commands that a user types."""

import json
from pathlib import Path

import imageio.v3 as iio
import pytest

import play
from engine import cli
from tests.support.environments import weights
from tests.support.sessions import record


def test_play_records_a_session_that_replay_verifies_and_films(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "walk"
    arguments = ["doom-plain", "--headless", "--frames", "24", "--seed", "2", "--record", str(folder), "--json"]
    tiny = ["--checkpoint", str(weights())]
    arguments += [*tiny, "--memory-budget", "12"]  # one fold: what is drawn from frame 6 on depends on it
    assert play.main(arguments) == 0
    assert f"saved {folder}" in capsys.readouterr().err
    names = {path.name for path in folder.iterdir()}
    assert {"session.json", "actions.ndjson", "start.safetensors", "chunk-00000001.safetensors", "video.mp4"} == names
    info = json.loads((folder / "session.json").read_text())
    assert info["world"] == "doom-plain" and info["memory_budget"] == 12
    assert set(info["weights"]) == {"codec", "generator", "memory"}
    assert play.main(arguments) == 2 and "is there already" in capsys.readouterr().err
    video = tmp_path / "part.mp4"
    command = ["replay", str(folder), *tiny, "--verify", "--from", "3", "--to", "20", "--out", str(video)]
    assert cli.guarded(lambda: cli.main(command)) == 0
    assert "18 frames drawn anew are the same" in capsys.readouterr().out
    assert len(iio.imread(video, plugin="pyav")) == 18
    info["weights"]["generator"] = "0" * 64  # as if it had been recorded with others
    (folder / "session.json").write_text(json.dumps(info))
    lines = (folder / "actions.ndjson").read_text().splitlines()
    entry = json.loads(lines[5])
    entry["action"][2] ^= 1
    (folder / "actions.ndjson").write_text("\n".join([*lines[:5], json.dumps(entry), *lines[6:]]) + "\n")
    assert cli.guarded(lambda: cli.main(["replay", str(folder), *tiny, "--verify"])) == 1
    out = capsys.readouterr().out
    assert "frame 5 is the first that differs" in out and "other weights of the generator" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "no such folder"),
        (["walk", "--from", "3"], "must be within 0 to 2"),
        (["walk", "--out", "a.avi"], "ends in .mp4"),
        (["walk", "--verify"], "unknown world 'tiny'"),
    ],
)
def test_mistakes_are_one_line(
    tmp_path: Path,
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    record(tmp_path / "walk", 2)
    monkeypatch.chdir(tmp_path)
    assert cli.guarded(lambda: cli.main(["replay", *arguments])) == 2
    err = capsys.readouterr().err
    assert message in err and len(err.splitlines()) == 1
