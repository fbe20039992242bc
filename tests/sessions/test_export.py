"""Sessions as files that other programs open, read back by those; and play as training data."""

import json
import os
from pathlib import Path
from typing import Any

import gymnasium as gym
import imageio.v3 as iio
import numpy as np
import pytest

from engine import cli
from engine.data.clips import check_data, read_shard
from engine.data.shards import has_rewards
from engine.envs.record import RecordSession
from engine.sessions.info import info_of_source
from engine.sessions.reader import open_session
from engine.sessions.recorder import SessionRecorder
from engine.sessions.replay import Replayer
from engine.sessions.store import LOG, MAX_CHUNK_BYTES, chunk_name, read_tensors, write_tensors
from engine.sessions.writer import Drawn
from tests.support.sessions import CONFIG, WEIGHTS, branch, moves, record
from tests.support.worlds import BUTTONS, make_world

WORLD = """
title = "Tiny"
preset = "nano"
source = "fake"
checkpoint = "nowhere"
buttons = ["forward", "back", "left"]
"""


@pytest.fixture
def seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """A session `walk` of 20 frames and a branch `walk-2` of 5 from frame 12; returns the first one's frames."""
    world = make_world()
    recorder, seen = record(tmp_path / "s" / "walk", 20, world=world)
    Replayer(open_session(tmp_path / "s" / "walk"), world).go_to(12)
    own = branch(tmp_path / "s" / "walk-2", recorder, world, 12, 5, seed=1)
    opened = (make_world(), CONFIG, WEIGHTS)
    monkeypatch.setattr("engine.sessions.export.open_world_of", lambda info, **options: opened)
    (tmp_path / "tiny.toml").write_text(WORLD)
    return [*seen, *own]


def export(*arguments: str | Path) -> None:
    cli.main(["export", *map(str, arguments)])


def test_sessions_become_videos_and_lossless_pictures(tmp_path: Path, seen: list[np.ndarray]) -> None:
    export(tmp_path / "s", "--to", "png", "--out", tmp_path / "pictures")
    assert np.array_equal(iio.imread(tmp_path / "pictures" / "walk.png", plugin="pyav"), seen[:21])
    assert np.array_equal(iio.imread(tmp_path / "pictures" / "walk-2.png", plugin="pyav"), [seen[12], *seen[21:]])
    export(tmp_path / "s" / "walk-2", "--to", "mp4", "--out", tmp_path / "a.mp4", "--whole")
    assert len(iio.imread(tmp_path / "a.mp4", plugin="pyav")) == 18
    export(tmp_path / "s" / "walk", "--to", "gif", "--out", tmp_path / "a.gif")
    assert (tmp_path / "a.gif").stat().st_size > 1000


def test_mistakes_are_one_line(tmp_path: Path, seen: list[np.ndarray], capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, message in (
        ([tmp_path, "--to", "mp4", "--out", tmp_path / "a.mp4"], "holds no sessions"),
        ([tmp_path / "s", "--to", "mp4", "--out", tmp_path / "a.mp4"], "for several sessions a folder"),
        ([tmp_path / "s", "--to", "minari", "--out", tmp_path / "s"], "is there already"),
    ):
        assert cli.guarded(lambda arguments=arguments: export(*arguments)) == 2  # type: ignore[misc]
        assert message in capsys.readouterr().err


def test_minari_reads_back_what_was_played(
    tmp_path: Path, seen: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    minari = pytest.importorskip("minari")
    export(tmp_path / "s", "--to", "minari", "--out", tmp_path / "data")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "data"))
    found = list(minari.load_dataset("loci/tiny-v0"))
    assert [len(entry.actions) for entry in found] == [20, 5]
    assert np.array_equal(found[0].observations, seen[:21]) and np.array_equal(found[0].actions, moves(20))
    assert np.array_equal(found[1].observations, [seen[12], *seen[21:]])
    assert found[0].truncations[-1] and not found[0].terminations.any()


def test_lerobot_reads_back_what_was_played(
    tmp_path: Path, seen: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = pytest.importorskip("lerobot.datasets.lerobot_dataset")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    export(tmp_path / "s", "--to", "lerobot", "--out", tmp_path / "data")
    data = module.LeRobotDataset("loci/tiny", root=tmp_path / "data")
    assert data.num_episodes == 2 and data.num_frames == 25
    for index in (0, 7, 19):
        image = (data[index]["observation.image"].permute(1, 2, 0) * 255).round().numpy()
        assert np.array_equal(image, seen[index])
        assert np.array_equal(data[index]["action"].numpy(), moves(20)[index])


def test_sessions_and_videos_become_training_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from engine.config import WorldConfig
    from engine.presets import PRESETS
    from engine.toml import from_toml

    (tmp_path / "tiny.toml").write_text(WORLD)
    config = from_toml(WorldConfig, tmp_path / "tiny.toml")
    rng = np.random.default_rng(0)
    videos = tmp_path / "videos"
    videos.mkdir()
    frames = rng.integers(0, 256, (6, 96, 128, 3), np.uint8)
    iio.imwrite(videos / "a.mp4", frames, plugin="pyav", codec="libx264", fps=12)
    rows = moves(6)
    (videos / "a.actions.ndjson").write_text("\n".join(json.dumps(row.tolist()) for row in rows))
    iio.imwrite(videos / "b.mp4", frames, plugin="pyav", codec="libx264", fps=12)
    (videos / "b.actions.csv").write_text("forward,back,left\n" + "1,0,1\n" * 5)
    cli.main(["import", str(videos), "--world", str(tmp_path / "tiny.toml"), "--out", str(tmp_path / "data")])
    check_data(tmp_path / "data", config, PRESETS["nano"].height, PRESETS["nano"].width)
    first = read_shard(tmp_path / "data" / "train" / "shard-00000.safetensors")
    assert first["frames"].shape == (6, 48, 64, 3) and np.array_equal(first["actions"].numpy(), rows)
    second = read_shard(tmp_path / "data" / "train" / "shard-00001.safetensors")["actions"]
    assert second[0].sum() == 0 and (second[1:] == second[1]).all() and second[1].tolist() == [1, 0, 1]


def test_a_session_of_the_world_becomes_its_training_data(tmp_path: Path, seen: list[np.ndarray]) -> None:
    out = tmp_path / "data"
    command = ["import", str(tmp_path / "s"), "--world", str(tmp_path / "tiny.toml"), "--out", str(out)]
    cli.main([*command, "--validation", "0.5"])
    train = read_shard(out / "train" / "shard-00000.safetensors")
    assert np.array_equal(train["actions"][1:].numpy(), moves(20)) and train["actions"][0].sum() == 0
    assert len(read_shard(out / "validation" / "shard-00000.safetensors")["frames"]) == 6
    assert os.listdir(out / "train") == ["shard-00000.safetensors"]


class Steps(gym.Env[np.ndarray, Any]):
    """Pictures at random; step n gives n, the fourth ends it."""

    observation_space = gym.spaces.Box(0, 255, (48, 64, 3), np.uint8)
    action_space = gym.spaces.MultiBinary(3)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.time = 0
        return self.np_random.integers(0, 256, (48, 64, 3), np.uint8), {}

    def step(self, action: Any) -> Any:
        self.time += 1
        return self.np_random.integers(0, 256, (48, 64, 3), np.uint8), self.time, self.time == 4, False, {}


@pytest.mark.parametrize(("steps", "over"), [(4, 1), (3, 0)])
def test_a_recorded_environments_rewards_and_end_become_training_data(tmp_path: Path, steps: int, over: int) -> None:
    env = RecordSession(Steps(), tmp_path / "play", BUTTONS)
    env.reset(seed=0)
    for _ in range(steps):
        env.step(np.array([1, 0, 0], np.int8))
    env.close()
    (tmp_path / "tiny.toml").write_text(WORLD)
    out = tmp_path / "data"
    cli.main(["import", str(tmp_path / "play"), "--world", str(tmp_path / "tiny.toml"), "--out", str(out)])
    names = ("frames", "reward", "terminated")
    found = read_shard(out / "train" / "shard-00000.safetensors", names)
    assert found["reward"].tolist() == list(range(steps + 1)) and found["reward"].numpy().dtype == np.float32
    assert found["terminated"].tolist() == [0] * steps + [over]


def test_a_session_without_rewards_gets_none(tmp_path: Path, seen: list[np.ndarray]) -> None:
    out = tmp_path / "data"
    cli.main(["import", str(tmp_path / "s"), "--world", str(tmp_path / "tiny.toml"), "--out", str(out)])
    assert not has_rewards(out / "train" / "shard-00000.safetensors")


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        ("[0, 1]\n", "expected 3 zeros and ones"),
        ('["forwards"]\n', "nearest: 'forward'"),
        ("{\n", "cannot be read"),
        ("[0, 1, 0]\n" * 40, "has 6 frames or more"),
        (None, "has no actions file"),
    ],
)
def test_an_actions_file_that_does_not_fit_is_one_line(
    tmp_path: Path, actions: str | None, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tiny.toml").write_text(WORLD)
    iio.imwrite(tmp_path / "a.mp4", np.zeros((6, 48, 64, 3), np.uint8), plugin="pyav", codec="libx264", fps=12)
    if actions is not None:
        (tmp_path / "a.actions.ndjson").write_text(actions)
    command = ["import", str(tmp_path), "--world", str(tmp_path / "tiny.toml"), "--out", str(tmp_path / "data")]
    assert cli.guarded(lambda: cli.main(command)) == 2
    err = capsys.readouterr().err
    assert message in err and len(err.splitlines()) == 1
    assert len(BUTTONS) == 3


@pytest.mark.parametrize(("kept", "last"), [(3, 11), (0, 8)])
def test_pictures_that_a_crash_took_are_left_out_and_the_others_exported(tmp_path: Path, kept: int, last: int) -> None:
    """The log goes on to frame 13, in the second chunk of eight; only the first pictures of that were written."""
    start = (np.zeros((1, 600, 400, 3), np.uint8), np.zeros((1, 3), np.uint8))
    info = info_of_source("tiny", BUTTONS, 600, 400, frame_rate=30.0, seed=0)
    recorder = SessionRecorder(tmp_path / "play", info, start=start, video=False)
    for index in range(1, 15):
        recorder.add(Drawn(moves(1)[0], np.full((600, 400, 3), index, np.uint8), result=(1.0, False, False)))
    recorder.close()
    chunk, log = chunk_name(9), tmp_path / "play" / LOG
    assert info.chunk == 8
    _, tensors = read_tensors(tmp_path / "play", chunk, MAX_CHUNK_BYTES)
    (tmp_path / "play" / chunk).unlink()
    if kept:
        write_tensors(tmp_path / "play" / chunk, {"frames": tensors["frames"][:kept].clone()}, {"first": 9})
    log.write_bytes(b"".join(log.read_bytes().splitlines(keepends=True)[:-2]))
    session = open_session(tmp_path / "play")
    assert session.last == last and not session.ended
    export(tmp_path / "play", "--to", "gif", "--out", tmp_path / "a.gif")
    (tmp_path / "tiny.toml").write_text(WORLD)
    out = tmp_path / "data"
    cli.main(["import", str(tmp_path / "play"), "--world", str(tmp_path / "tiny.toml"), "--out", str(out)])
    found = read_shard(out / "train" / "shard-00000.safetensors", ("frames", "reward"))
    assert found["frames"][:, 0, 0, 0].tolist() == list(range(last + 1)) and len(found["reward"]) == last + 1
