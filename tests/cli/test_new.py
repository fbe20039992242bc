"""``engine new``: from an environment's id to a world that can be collected from and opened; mistakes are one line."""

import re
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from PIL import Image

from engine import cli
from engine.cli import new
from engine.cli.options import NewOptions
from engine.config import WorldConfig, load_world, project_root
from engine.data.shards import frames_in
from engine.errors import UserError
from engine.game.controls import check_keys
from engine.loading import load_starts
from engine.sources import make_source
from tests.support.fake_stairs import NAME, stairs


class Pad(gym.Env[Any, Any]):
    """Moves a bright column with a gas pedal and a wheel; `size` is its own option."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 50}  # noqa: RUF012
    action_space = gym.spaces.Box(np.array([-1, 0], np.float32), np.array([1, 1], np.float32))
    observation_space = gym.spaces.Discrete(2)

    def __init__(self, render_mode: str | None = None, size: int = 40, frame_skip: int = 1) -> None:
        self.render_mode, self.size = render_mode, size

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.place = float(self.np_random.integers(self.size))
        return 0, {}

    def step(self, action: np.ndarray) -> Any:
        self.place = (self.place + float(action[0]) * (1 + float(action[1]))) % self.size
        return 0, float(action[1]), False, False, {}

    def render(self) -> Any:
        picture = np.zeros((30, self.size, 3), np.uint8)
        picture[:, int(self.place)] = 255
        return picture


class Blind(Pad):
    metadata = {"render_modes": ["human"]}  # noqa: RUF012


class Words(Pad):
    action_space = gym.spaces.Text(5)  # type: ignore[assignment]


for kind in (Pad, Blind, Words):
    if f"LociTest/{kind.__name__}-v3" not in gym.registry:
        gym.register(
            f"LociTest/{kind.__name__}-v3", entry_point=f"{__name__}:{kind.__name__}", disable_env_checker=True
        )


def run(*words: str | Path) -> int:
    return cli.guarded(lambda: cli.main(["new", *map(str, words)]))


def made(folder: Path, name: str) -> WorldConfig:
    return load_world(folder / f"{name}.toml")


def test_a_world_of_any_environment_can_be_collected_from(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stairs()
    assert run(NAME, "--folder", tmp_path, "--buttons", "none", "down", "up", "--frame-skip", "2") == 0
    config = made(tmp_path, "stairs")
    assert config.buttons == ("down", "up") and config.preset == "nano" and config.frame_rate == 5.0
    assert check_keys(config.keys, config.buttons) == {"down": "down", "s": "down", "up": "up", "w": "up"}
    assert config.source_options["actions"] == {"down": 1, "up": 2} and config.source_options["frame_skip"] == 2
    starts = sorted((tmp_path / "stairs" / "starts").glob("*.png"))
    assert len(starts) == 8 and config.starts_path == starts[0].parent
    with Image.open(starts[3]) as picture:
        assert picture.size == (64, 48) and picture.getpixel((0, 0)) == (0, 0, 123)
    out = capsys.readouterr().out
    assert "100 frames at random" in out and "rewards from -2 to 5" in out and "episodes ended" in out
    commands = [line.split()[2:] for line in out.splitlines() if line.startswith("  python -m engine")]
    assert [words[1] for words in commands] == ["collect", "train", "train", "bench", "ship"]
    collect = [word.replace("30000", "300").replace("data/", f"{tmp_path}/data/") for word in commands[0][1:]]
    assert cli.main(collect) == 0
    assert frames_in(tmp_path / "data" / "stairs" / "train" / "shard-00000.safetensors") == 285


def test_pedals_are_buttons_and_options_reach_the_environment(tmp_path: Path) -> None:
    options = ("--make-option", "size=90", "frame_skip=5", "--name", "car", "--fit", "pad")
    assert run("LociTest/Pad-v3", "--folder", tmp_path, *options) == 0
    config = made(tmp_path, "car")
    assert config.buttons == ("axis_1_low", "axis_1_high", "axis_2_high") and config.frame_rate == 10.0
    assert config.source_options["make"] == {"size": 90, "frame_skip": 5}
    env = make_source(config)
    before, _ = env.reset(seed=0)
    after = env.step(np.array([0, 1, 1]))[0]
    assert (before != after).any() and not before[:6].any() and not before[-6:].any()
    assert env.step(np.array([0, 0, 1]))[1] == 1.0


def test_make_options_can_be_given_one_by_one(tmp_path: Path) -> None:
    words = ("--make-option", "size=50", "--make-option", "frame_skip=2", "--name", "car")
    assert run("LociTest/Pad-v3", "--folder", tmp_path, *words) == 0
    assert made(tmp_path, "car").source_options["make"] == {"size": 50, "frame_skip": 2}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["LociTest/Pod-v3"], "nearest: 'LociTest/Pad-v3'"),
        (["LociTest/Blind-v3"], "shows no pictures: it renders human, not rgb_array"),
        (["LociTest/Words-v3"], "actions cannot be made of buttons: expected Discrete"),
        (["LociTest/Pad-v3", "--name", "Pad"], "--name must be small letters"),
        (["LociTest/Pad-v3", "--name", "../x"], "--name must be small letters"),
        (["LociTest/Pad-v3", "--preset", "nanno"], "nearest: 'nano'"),
        (["LociTest/Pad-v3", "--frame-skip", "0"], "--frame-skip must be from 1"),
        (["LociTest/Pad-v3", "--steps", "0"], "--steps must be 1 or more"),
        (["LociTest/Pad-v3", "--frame-rate", "-3"], "frame_rate must be above 0"),
        (["LociTest/Pad-v3", "--make-option", "size"], "--make-option: expected KEY=VALUE"),
        (["LociTest/Pad-v3", "--make-option", "weight=3"], "cannot be opened: .*weight"),
        (["LociTest/Pad-v3", "--make-option", "size=null"], "cannot hold null"),
        (["LociTest/Pad-v3", "--buttons", "a", "b"], "names can only be given for Discrete"),
        (["LociTest/Stairs-v0", "--buttons", "a"], "expected 3 names"),
        (["LociTest/Stairs-v0", "--buttons", "a", "b", "c d"], "'c d' cannot name a button"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    stairs()
    assert run(*words, "--folder", tmp_path) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert re.search(message, error), error
    assert not list(tmp_path.iterdir())


def test_a_world_that_is_there_is_not_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "pad.toml").write_text("mine")
    assert run("LociTest/Pad-v3", "--folder", tmp_path) == 2
    assert "pad.toml is there already; choose another --name" in capsys.readouterr().err
    assert (tmp_path / "pad.toml").read_text() == "mine" and not (tmp_path / "pad").exists()
    assert run("LociTest/Pad-v3", "--name", "doom") == 2


def test_a_picture_that_never_changes_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("LociTest/Pad-v3", "--folder", tmp_path, "--make-option", "size=1") == 0
    assert "warning: the picture never changed" in capsys.readouterr().out


def test_the_worlds_of_the_examples_are_whole() -> None:
    paths = sorted((project_root() / "examples" / "worlds").glob("*.toml"))
    assert paths
    for path in paths:
        config = load_world(path)
        check_keys(config.keys, config.buttons)
        assert load_starts(config).keys() and set(config.keys.values()) == set(config.buttons)


@pytest.mark.parametrize(
    ("env", "name"),
    [("ALE/Freeway-v5", "freeway"), ("my.module:Some_Thing-v10", "some-thing"), ("CartPole-v1", "cartpole")],
)
def test_a_name_is_made_from_the_id(env: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert new.name_from(env) == name

    def stop(_: NewOptions, named: str) -> Path:
        raise UserError(named)

    monkeypatch.setattr(new, "check", stop)
    with pytest.raises(UserError, match=f"^{name}$"):
        new.run(NewOptions(env))
