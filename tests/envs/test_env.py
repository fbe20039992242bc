"""Generated worlds and their simulators as Gymnasium environments: the contract, options, mistakes."""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from engine.config import list_worlds, load_world, project_root
from engine.envs.env import LociEnv
from engine.envs.registration import env_name
from engine.envs.source import SourceEnv
from engine.errors import UserError
from tests.support import fake_source
from tests.support.environments import NAME, WORLD, make, moves, options_with, weights, with_heads

IDS = [f"Loci/{env_name(world)}{kind}-v0" for world in list_worlds() for kind in ("", "Source")]


def opened(name: str, **options: Any) -> gym.Env[Any, Any]:
    if "Source" not in name:
        options |= {"threads": 1}
        world = gym.spec(name).kwargs["world"]
        if not (load_world(world).checkpoint_path / "config.json").exists():
            pytest.skip(f"{world} has no checkpoint here")
    try:
        return gym.make(f"engine:{name}", render_mode="rgb_array", **options)
    except UserError as error:
        if "install" in str(error):
            pytest.skip(str(error))
        raise


@pytest.fixture(scope="module")
def env() -> Iterator[LociEnv]:
    made: Any = make(render_mode="rgb_array", horizon=50).unwrapped
    yield made
    made.close()


@pytest.mark.parametrize("name", IDS)
def test_every_shipped_world_passes_the_checks_of_gymnasium_without_a_warning(name: str) -> None:
    env = opened(name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env.unwrapped)
    env.close()
    env.close()


@pytest.mark.parametrize("name", IDS)
def test_every_shipped_world_passes_the_checks_of_stable_baselines_without_a_warning(name: str) -> None:
    checker = pytest.importorskip("stable_baselines3.common.env_checker")
    for actions in ("multi_binary", "discrete"):
        env = opened(name, actions=actions)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            checker.check_env(env)
        env.close()


def test_a_seed_gives_the_same_episode_and_another_seed_another_one(env: LociEnv) -> None:
    runs = []
    for seed in (5, 5, 6):
        runs.append([env.reset(seed=seed)[0], *(env.step(move[0])[0] for move in moves(1, 4))])
    assert np.array_equal(runs[0], runs[1]) and not np.array_equal(runs[0], runs[2])
    first, info = env.reset()
    again, other = env.reset()
    assert info["world_seed"] != other["world_seed"]  # without a seed the generator goes on


def test_what_comes_back_has_the_exact_types(env: LociEnv) -> None:
    observation, info = env.reset(seed=0)
    assert observation.dtype == np.uint8 and isinstance(info["start"], str) and type(info["world_seed"]) is int
    observation, reward, terminated, truncated, info = env.step(np.zeros(6, np.int8))
    assert env.observation_space.contains(observation)
    assert (type(reward), type(terminated), type(truncated)) == (float, bool, bool)
    assert (reward, terminated, truncated, info) == (0.0, False, False, {}) and not env.has_heads
    shown = env.render()
    assert shown is not None and np.array_equal(shown, observation)
    shown[:] = 0
    assert np.any(env.render())


def test_the_horizon_truncates_and_a_finished_episode_refuses_to_go_on() -> None:
    env = make(horizon=3)
    with pytest.raises(gym.error.ResetNeeded):
        env.step(np.zeros(6, np.int8))
    for _ in range(2):
        env.reset(seed=1)
        ends = [env.step(np.zeros(6, np.int8))[2:4] for _ in range(3)]
        assert ends == [(False, False), (False, False), (False, True)]
        with pytest.raises(gym.error.ResetNeeded, match="call reset"):
            env.step(np.zeros(6, np.int8))
    env.close()
    with pytest.raises(gym.error.ClosedEnvironmentError):
        env.unwrapped.reset()


def test_start_frames_pictures_and_histories_can_be_chosen(env: LociEnv, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    history = random.integers(0, 256, (4, 48, 64, 3), np.uint8)
    assert env.reset(options={"start": "map-2000003"})[1]["start"] == "map-2000003"
    drawn = {env.reset(options={"start": ["map-2000003", "map-2000004"]})[1]["start"] for _ in range(20)}
    assert drawn == {"map-2000003", "map-2000004"}
    assert np.array_equal(env.reset(options={"image": history[0]})[0], history[0])
    assert np.array_equal(env.reset(options={"frames": history, "actions": np.ones((4, 6))})[0], history[3])
    acted = env.step(np.zeros(6))[0]
    env.reset(options={"frames": history[3:], "seed": 3})
    assert not np.array_equal(env.step(np.zeros(6))[0], acted)
    one = [env.reset(options={"start": "map-2000003", "seed": 3})[0], env.step(np.ones(6))[0]]
    two = [env.reset(options={"start": "map-2000003", "seed": 3})[0], env.step(np.ones(6))[0]]
    assert np.array_equal(one, two)
    fixed: Any = make(start="map-2000007").unwrapped
    assert {fixed.reset()[1]["start"] for _ in range(3)} == {"map-2000007"}
    assert np.array_equal(make(image=history[1]).reset()[0], history[1])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"strat": "x"}, "unknown reset option 'strat'.*nearest: 'start'"),
        ({"start": "map-2000"}, "unknown start frame 'map-2000'"),
        ({"start": []}, "not an empty list"),
        ({"image": np.zeros((4, 4, 3), np.uint8)}, r"expected the path of a picture or uint8 \(48, 64, 3\)"),
        ({"image": "nowhere.png"}, "no such file"),
        ({"frames": np.zeros((48, 64, 3), np.uint8)}, "expected frames uint8"),
        ({"frames": np.zeros((2, 48, 64, 3))}, "expected frames uint8.*float64"),
        ({"frames": np.zeros((2, 48, 64, 3), np.uint8), "actions": np.zeros((1, 6))}, r"shape \(2, 6\)"),
        ({"actions": np.zeros((1, 6))}, "give frames, too"),
        ({"start": "map-2000003", "image": "a.png"}, "either start or image"),
        ({"seed": -1}, "seed must be a whole number"),
    ],
)
def test_reset_options_that_make_no_sense_are_named(env: LociEnv, options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        env.reset(options=options)


@pytest.mark.parametrize(
    "action", [np.zeros(5), np.full(6, 2), np.full(6, 0.5), np.full(6, -1), 3, None, "left", [[0] * 6], [1, [2]]]
)
def test_an_action_outside_the_space_says_what_was_expected(env: LociEnv, action: Any) -> None:
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"expected an action in MultiBinary\(6\), got"):
        env.step(action)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"size": (0, 5)}, r"size must be \(height, width\)"),
        ({"size": 48}, r"size must be \(height, width\)"),
        ({"size": (48, 64, 3)}, r"size must be \(height, width\)"),
        ({"horizon": 0}, "horizon must be 1 or more steps"),
        ({"actions": "keys"}, "multi_binary"),
        ({"actions": [["jump"], "none"]}, "unknown button 'jump'"),
        ({"actions": ["forward"]}, "two combinations"),
        ({"memory": "forever"}, "memory must be one of"),
        ({"steps": 65}, "steps must be in"),
        ({"start": "x"}, "unknown start frame"),
        ({"start": "map-2000003", "image": "x.png"}, "either start or image"),
        ({"render_mode": "ansi"}, "render_mode"),
        ({"checkpoint": "nowhere"}, "nowhere"),
        ({"world": "dom"}, "unknown world 'dom'"),
    ],
)
def test_options_that_make_no_sense_are_named(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        LociEnv(**options_with(**{"world": NAME, **options}))


def test_a_checkpoint_for_other_buttons_is_refused(tmp_path: Path) -> None:
    text = (
        (project_root() / "worlds" / "doom-plain.toml")
        .read_text()
        .replace('"strafe_left", "strafe_right"]', '"a", "b"]')
    )
    path = tmp_path / "other.toml"
    path.write_text(text.replace("strafe_left", "a").replace("strafe_right", "b"))
    with pytest.raises(ValueError, match="was trained for buttons"):
        LociEnv(path, checkpoint=weights(), threads=1)


def test_discrete_actions_hold_what_the_buttons_hold() -> None:
    steps = {}
    for name, options, actions in (
        ("buttons", {}, [np.eye(6)[2], np.zeros(6), np.eye(6)[0] + np.eye(6)[2]]),
        ("list", {"actions": ["none", "turn_left", ["forward", "turn_left"]]}, [1, np.int64(0), 2]),
    ):
        env = make(**options)
        env.reset(seed=4)
        steps[name] = [env.step(action)[0] for action in actions]
    assert np.array_equal(steps["buttons"], steps["list"])
    assert env.action_space == gym.spaces.Discrete(3)
    with pytest.raises(ValueError, match=r"expected an action in Discrete\(3\), got 3"):
        env.unwrapped.step(3)
    assert make(actions="discrete").action_space == gym.spaces.Discrete(7)


def test_a_world_without_start_frames_asks_for_a_picture(tmp_path: Path) -> None:
    text = (project_root() / "worlds" / "doom-plain.toml").read_text()
    path = tmp_path / "bare.toml"
    path.write_text(text.replace('starts = "assets/doom-plain"\n', ""))
    env = LociEnv(path, checkpoint=weights(), threads=1)
    with pytest.raises(ValueError, match="bare has no start frames; give image"):
        env.reset()
    picture = np.full((48, 64, 3), 90, np.uint8)
    assert np.array_equal(env.reset(options={"image": picture})[0], picture)
    assert np.array_equal(LociEnv(path, checkpoint=weights(), threads=1, image=picture).reset()[0], picture)


def test_keys_become_actions_for_gymnasium_play(env: LociEnv) -> None:
    import pygame

    keys = env.get_keys_to_action()
    both = tuple(sorted((pygame.K_LEFT, pygame.K_w)))
    assert keys[both].tolist() == [1, 0, 1, 0, 0, 0] and keys[()].tolist() == [0] * 6
    assert all(env.action_space.contains(action) for action in keys.values())
    discrete: Any = make(actions="discrete").unwrapped
    keys = discrete.get_keys_to_action()
    assert keys[(pygame.K_LEFT,)] == 3 and keys[()] == 0 and both not in keys


def test_observations_come_in_the_size_asked_for() -> None:
    env = make(size=(24, 32), render_mode="rgb_array")
    seen, _ = env.reset(seed=1)
    shown: Any = env.render()
    assert seen.shape == (24, 32, 3) and shown.shape == (48, 64, 3)
    assert abs(seen - shown.reshape(24, 2, 32, 2, 3).mean((1, 3))).max() <= 0.5


@pytest.mark.parametrize("memory", ["window", "mag"])
def test_a_restored_snapshot_goes_on_with_the_same_frames(memory: str) -> None:
    env: Any = make(memory=memory, horizon=30).unwrapped
    seen, _ = env.reset(seed=9)
    for move in moves(1, 20):
        seen = env.step(move[0])[0]
    kept, ways = env.snapshot(), []
    for _ in range(2):
        assert np.array_equal(env.restore(kept), seen)
        path = [env.step(move[0]) for move in moves(1, 10, seed=1)]
        assert path[-1][3] and not path[-2][3]
        ways.append([*(step[0] for step in path), env.reset()[0], env.step(np.ones(6))[0]])
    assert np.array_equal(ways[0], ways[1])


def test_heads_give_reward_and_termination(tmp_path: Path) -> None:
    env: Any = make(checkpoint=with_heads(tmp_path / "on", bias=-30.0)).unwrapped
    env.reset(seed=0)
    rewards = [env.step(move[0])[1] for move in moves(1, 5)]
    assert env.has_heads and len(set(rewards)) == 5 and all(type(reward) is float for reward in rewards)
    ends: Any = make(checkpoint=with_heads(tmp_path / "off", bias=30.0)).unwrapped
    ends.reset(seed=0)
    assert ends.step(np.zeros(6))[2] is True
    with pytest.raises(gym.error.ResetNeeded):
        ends.step(np.zeros(6))
    plain: Any = make().unwrapped
    frames = []
    for each in (env, plain):
        each.reset(seed=3)
        frames.append([each.step(move[0])[0] for move in moves(1, 3)])
    assert np.array_equal(frames[0], frames[1])  # heads read; they change nothing


def test_human_rendering_comes_from_gymnasium() -> None:
    with pytest.warns(UserWarning, match="HumanRendering"):
        env = gym.make(WORLD, render_mode="human", **options_with())
    env.reset(seed=0)
    env.step(env.action_space.sample())
    env.close()


def test_a_source_has_the_spaces_of_its_world_and_its_own_rewards(tmp_path: Path) -> None:
    env = SourceEnv(fake_source.world(), actions=["none", "left", "right"], size=(24, 32), render_mode="rgb_array")
    seen, _ = env.reset(seed=3)
    assert seen.shape == (24, 32, 3) and env.action_space == gym.spaces.Discrete(3)
    moved = env.step(2)[0]
    assert moved[0, 0, 2] == 129 and np.array_equal(env.reset(seed=3)[0], seen)
    results = [env.step(0) for _ in range(70)]
    assert results[-1][2] is True and results[-2][2] is False
    with pytest.raises(gym.error.ResetNeeded):
        env.step(0)
    assert env.reset(options={"map_seed": 7})[0][0, 0, 0] == 7
    env.close()
    env.close()
    with pytest.raises(gym.error.ClosedEnvironmentError):
        env.reset()
