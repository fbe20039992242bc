"""The Doom source: repeatable, exact, and a correct Gymnasium environment."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from engine.actions import encode
from engine.config import load_world, project_root
from engine.errors import UserError
from engine.sources import make_source
from engine.sources.doom import source as doom_source
from engine.sources.doom.source import BUTTONS, STEP_LENGTH, DoomEnv
from tests.support import leftovers

pytest.importorskip("vizdoom")
PLAIN: dict[str, Any] = {
    "map_size": [2, 3],
    "textures": "plain",
    "heights": 0,
    "props": 0,
    "features": 0,
    "ceilings": 128,
}


@pytest.fixture(scope="module")
def env():
    source = DoomEnv(height=48, width=64, **PLAIN)
    yield source
    source.close()


@pytest.fixture(scope="module")
def rich():
    source = DoomEnv()
    yield source
    source.close()


def press(env, text):
    """Press `text` ('forward+turn_left' ...); returns the frame and pose."""
    frame, reward, terminated, truncated, info = env.step(encode(BUTTONS, text.split("+") if text else []))
    assert (reward, terminated, truncated) == (0.0, False, False)
    return frame, info["pose"]


def start(env, map_seed):
    frame, info = env.reset(options={"map_seed": map_seed})
    return frame, info["pose"]


def play(env, map_seed, steps=40):
    rng = np.random.default_rng(map_seed)
    frames = [start(env, map_seed)[0]]
    for _ in range(steps):
        frames.append(env.step((rng.random(len(BUTTONS)) < 0.3).astype(np.uint8))[0])
    return np.array(frames)


def test_where_the_player_stands_free_is_known_to_a_unit(env):
    """Walk ahead until a wall stops the player: all places on the way are clear, the next one is not."""
    _, pose = start(env, 5)
    while True:
        radians = np.radians(pose[3])
        ahead = pose[:2] + STEP_LENGTH * np.array([np.cos(radians), np.sin(radians)])
        before, (_, pose) = pose, press(env, "forward")
        free = np.hypot(*(pose - before)[:2]) > 0.98 * STEP_LENGTH
        assert env.clear(ahead[None]).tolist() == [free]
        if not free:
            break
    assert env.clear(np.array([[-1e6, 0.0], [1e6, 1e6]])).tolist() == [False, False]


def test_same_map_and_actions_give_same_frames_whatever_was_played_before(rich):
    first = play(rich, 11)
    play(rich, 12)
    assert np.array_equal(first, play(rich, 11))
    fresh = DoomEnv()
    play(fresh, 13, 5)
    assert np.array_equal(first, play(fresh, 11))
    fresh.close()


def test_another_map_looks_different(env):
    assert not np.array_equal(start(env, 1)[0], start(env, 2)[0])


def test_frames_show_something(rich):
    for seed in range(4):
        frame = play(rich, seed, 0)[0]
        assert frame.dtype == np.uint8 and frame.shape == (96, 128, 3)
        assert frame.std() > 4


def test_a_step_forward_is_24_units_along_the_view(env):
    _, before = start(env, 3)
    _, after = press(env, "forward")
    angle = np.radians(before[3])
    expected = before[:2] + STEP_LENGTH * np.array([np.cos(angle), np.sin(angle)])
    assert np.allclose(after[:2], expected, atol=0.05)


def test_there_is_no_momentum(env):
    start(env, 3)
    _, moved = press(env, "forward")
    _, after = press(env, "")
    assert np.array_equal(moved, after)


@pytest.mark.parametrize("there", ["forward", "strafe_left", "turn_left", "forward+turn_left", "back+turn_right"])
def test_the_opposite_button_undoes_a_step(env, there):
    pairs = dict(zip(BUTTONS[::2], BUTTONS[1::2], strict=True))
    opposite = pairs | {two: one for one, two in pairs.items()}
    first, before = start(env, 3)
    for text in (there, there, "+".join(opposite[name] for name in there.split("+"))):
        press(env, text)
    last, after = press(env, "+".join(opposite[name] for name in there.split("+")))
    assert np.allclose(before, after, atol=0.01)
    assert np.abs(last.astype(int) - first).mean() < 0.5


def test_turns_are_15_degrees_and_never_drift(env):
    _, before = start(env, 3)
    _, once = press(env, "turn_left")
    assert abs((once[3] - before[3]) % 360 - 15) < 0.02
    for _ in range(24 * 5 - 1):
        _, after = press(env, "turn_left")
    assert after[3] == before[3]


def test_contrary_buttons_cancel(env):
    _, before = start(env, 3)
    _, after = press(env, "forward+back+turn_left+turn_right+strafe_left+strafe_right")
    assert np.array_equal(before, after)


def test_passes_the_environment_checker():
    env = DoomEnv(height=48, width=64, render_mode="rgb_array", **PLAIN)
    check_env(env, skip_render_check=True)
    env.close()


def test_without_a_map_seed_the_seed_chooses_a_training_map(env):
    _, one = env.reset(seed=5)
    _, two = env.reset(seed=5)
    _, three = env.reset()
    assert one["map_seed"] == two["map_seed"] != three["map_seed"]
    assert 0 <= one["map_seed"] < 1_000_000


def test_close_twice_is_fine_and_a_closed_source_can_be_reset():
    env = DoomEnv(height=48, width=64, **PLAIN)
    first, _ = start(env, 1)
    env.close()
    env.close()
    with pytest.raises(UserError, match="reset"):
        env.step(np.zeros(6, np.uint8))
    assert np.array_equal(first, start(env, 1)[0])
    env.close()


def test_a_choice_of_buttons_is_enough(env):
    small = DoomEnv(("turn_left", "forward"), height=48, width=64, **PLAIN)
    small.reset(options={"map_seed": 3})
    start(env, 3)
    assert np.array_equal(small.step(np.array([0, 1]))[0], press(env, "forward")[0])
    small.close()


def test_an_unknown_button_or_size_is_an_error():
    with pytest.raises(UserError, match="nearest: 'forward'"):
        DoomEnv(("forwards",))
    with pytest.raises(UserError, match="frames must be"):
        DoomEnv(height=0)


def test_the_engine_s_empty_folder_goes_unless_it_was_there_before(tmp_path: Path) -> None:
    new, old, full = (tmp_path / name for name in ("new", "old", "full"))
    for folder in (new, old, full):
        folder.mkdir()
    os.utime(old, (1, 1))
    (full / "a").touch()
    for folder in (new, old, full, tmp_path / "none"):
        doom_source._remove_litter(folder)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["full", "old"]


def test_missing_vizdoom_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "vizdoom", None)
    with pytest.raises(UserError, match=r"pip install 'loci-engine\[doom\]'"):
        DoomEnv()


def test_nothing_is_left_in_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    env = DoomEnv(height=48, width=64, **PLAIN)
    env.reset(seed=1)
    env.step(np.zeros(6, np.uint8))
    env.close()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("option", ["buttons", "height", "width", "render_mode"])
def test_a_world_s_options_name_nothing_that_its_file_says_elsewhere(option: str) -> None:
    config = replace(load_world("doom-plain"), source_options={option: 48})
    with pytest.raises(UserError, match=f"source_options must not name '{option}'"):
        make_source(config)


@pytest.mark.parametrize("way", ["del env; import gc; gc.collect()", "raise SystemExit(3)", "pass"])
def test_nothing_is_left_of_a_source_that_nobody_closes(way: str, tmp_path: Path) -> None:
    code = f"from engine.sources.doom.source import DoomEnv\nenv = DoomEnv()\nenv.reset(seed=1)\n{way}"
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], cwd=project_root(), env=environment, timeout=60)
    assert not list(tmp_path.iterdir())
    assert not [line for line in leftovers.processes(patience=0) if str(tmp_path) in line]
