"""Who plays while frames are collected: functions and policies of Stable-Baselines3, and mistakes in one line."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from safetensors.numpy import load_file

from engine.data import collect
from engine.data.collect import run
from engine.data.options import CollectOptions
from engine.data.policies import player_for
from engine.data.shards import collect_episode
from engine.errors import UserError
from engine.sources import make_source
from tests.support.fake_stairs import stairs


@pytest.fixture(autouse=True)
def world(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collect, "load_world", lambda name: stairs())


def up(frame: np.ndarray, info: dict[str, Any], rng: np.random.Generator) -> list[str]:
    return ["up"]


def either(frame: np.ndarray, info: dict[str, Any], rng: np.random.Generator) -> np.ndarray:
    assert frame.shape == (48, 64, 3)
    return np.eye(2, dtype=np.int64)[rng.integers(2)]


def three(frame: np.ndarray, info: dict[str, Any], rng: np.random.Generator) -> list[int]:
    return [1, 0, 1]


def left(frame: np.ndarray, info: dict[str, Any], rng: np.random.Generator) -> str:
    return "upp"


def args(out: Path, **changes: Any) -> CollectOptions:
    settings: dict[str, Any] = {"frames": 400, "episode_length": 50, "frames_per_shard": 100, "split": "train"}
    return CollectOptions(world="stairs", out=out, **(settings | changes))


def actions(folder: Path) -> np.ndarray:
    return np.concatenate([load_file(path)["actions"] for path in sorted(folder.glob("*/*.safetensors"))])


def test_a_function_plays(tmp_path: Path) -> None:
    run(args(tmp_path, policy=f"{__name__}:up"))
    first = load_file(tmp_path / "train" / "shard-00000.safetensors")
    begins = np.diff(first["episode"], prepend=-1) > 0
    assert (first["actions"][~begins] == [0, 1]).all() and not first["actions"][begins].any()
    assert first["terminated"].sum() > 5


def test_uniform_play_presses_nothing_or_any_button_equally_often(tmp_path: Path) -> None:
    run(args(tmp_path, frames=2000, frames_per_shard=2000, policy="uniform"))
    shard = load_file(tmp_path / "train" / "shard-00000.safetensors")
    held = shard["actions"][np.diff(shard["episode"], prepend=-1) == 0]
    shares = [(held == row).all(1).mean() for row in ([0, 0], [1, 0], [0, 1])]
    assert np.allclose(shares, 1 / 3, atol=0.05) and sum(shares) == pytest.approx(1)


def test_a_policys_shards_are_a_function_of_the_seed(tmp_path: Path) -> None:
    for name in "ab":
        run(args(tmp_path / name, policy=f"{__name__}:either"))
    run(args(tmp_path / "c", policy=f"{__name__}:either", seed=1))
    assert np.array_equal(actions(tmp_path / "a"), actions(tmp_path / "b"))
    assert not np.array_equal(actions(tmp_path / "a"), actions(tmp_path / "c"))


def test_a_share_of_the_episodes_is_random_play(tmp_path: Path) -> None:
    run(args(tmp_path, frames=3000, frames_per_shard=3000, policy=f"{__name__}:up", random=0.4))
    shard = load_file(tmp_path / "train" / "shard-00000.safetensors")
    steps = np.diff(shard["episode"], prepend=-1) == 0
    by_policy = [
        (shard["actions"][steps & (shard["episode"] == i)] == [0, 1]).all() for i in range(shard["episode"][-1] + 1)
    ]
    assert 0.45 < np.mean(by_policy) < 0.8


def test_a_folder_keeps_its_policy(tmp_path: Path) -> None:
    run(args(tmp_path, policy=f"{__name__}:up"))
    with pytest.raises(UserError, match="collected with policy = .*up'.* choose another --out"):
        run(args(tmp_path))
    with pytest.raises(UserError, match="collected with random = 0.0, now it is 0.5"):
        run(args(tmp_path, policy=f"{__name__}:up", random=0.5))


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ("up", "must be uniform, FILE.zip or module:function, not 'up'"),
        (":up", "must be uniform, FILE.zip or module:function"),
        (".tests:up", "must be uniform, FILE.zip or module:function"),
        ("no_such_module:up", "there is no module 'no_such_module' here"),
        (f"{__name__}:upp", "unknown function 'upp'; .*nearest: 'up'"),
        (f"{__name__}:three", r"answered \[1, 0, 1\]; expected names of buttons, or 2 zeros and ones"),
        (f"{__name__}:left", "unknown button 'upp'.*nearest: 'up'"),
        ("nowhere.zip", "--policy nowhere.zip: no such file"),
        ("broken.zip", "broken.zip is no file of Stable-Baselines3"),
    ],
)
def test_a_policy_that_cannot_play_is_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, policy: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("broken.zip").write_bytes(b"PK nothing")
    with pytest.raises(UserError, match=message) as error:
        run(args(tmp_path / "data", policy=policy))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("random", [-0.1, 1.5])
def test_a_share_that_makes_no_sense_is_an_error(tmp_path: Path, random: float) -> None:
    with pytest.raises(UserError, match="--random must be from 0 to 1"):
        run(args(tmp_path, policy=f"{__name__}:up", random=random))
    with pytest.raises(UserError, match="--random is for --policy"):
        run(args(tmp_path, random=0.5))


class Learner(gym.Env[Any, Any]):
    """An environment with given spaces, in which nothing happens: something to train a policy on."""

    def __init__(self, seen: gym.Space[Any], acts: gym.Space[Any]) -> None:
        self.observation_space, self.action_space = seen, acts

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> Any:
        return self.observation_space.sample(), 0.0, True, False, {}


def picture(channels: int = 3, size: tuple[int, int] = (48, 64)) -> gym.spaces.Box:
    return gym.spaces.Box(0, 255, (*size, channels), np.uint8)


def policy_file(path: Path, seen: gym.Space[Any], acts: gym.Space[Any], kind: str = "PPO") -> str:
    sb3 = pytest.importorskip("stable_baselines3")
    options: dict[str, Any] = {"buffer_size": 10} if kind == "DQN" else {"n_steps": 8}
    network = "CnnPolicy" if len(seen.shape or ()) == 3 else "MlpPolicy"
    getattr(sb3, kind)(network, Learner(seen, acts), device="cpu", seed=0, **options).save(path)
    return str(path)


@pytest.mark.parametrize(
    ("seen", "acts", "kind"),
    [
        (picture(), gym.spaces.MultiBinary(2), "PPO"),
        (picture(9), gym.spaces.Discrete(3), "A2C"),
        (picture(6), gym.spaces.Discrete(3), "DQN"),
        (gym.spaces.Discrete(256), gym.spaces.Discrete(3), "PPO"),  # what the environment itself shows and takes
    ],
)
def test_a_trained_policy_plays(tmp_path: Path, seen: gym.Space[Any], acts: gym.Space[Any], kind: str) -> None:
    import torch

    env = make_source(stairs())
    player = player_for(env, policy_file(tmp_path / "policy.zip", seen, acts, kind))
    state = torch.random.get_rng_state()
    one, two = (collect_episode(env, 3, 15, np.random.default_rng(5), player) for _ in range(2))
    assert np.array_equal(one["actions"], two["actions"]) and np.array_equal(state, torch.random.get_rng_state())
    others = [collect_episode(env, 3, 15, np.random.default_rng(i), player)["actions"] for i in range(3)]
    assert kind == "DQN" or any(not np.array_equal(one["actions"], other) for other in others)
    assert one["actions"].max() <= 1 and (kind != "A2C" or one["actions"].sum(1).max() == 1)


def test_a_number_of_a_discrete_policy_is_none_or_that_button(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    env = make_source(stairs())
    player = player_for(env, policy_file(tmp_path / "policy.zip", picture(), gym.spaces.Discrete(3)))
    numbers = iter([0, 1, 2])
    monkeypatch.setattr("engine.data.policies.sampled", lambda *_: np.array(next(numbers)))
    act = player(np.random.default_rng(0))
    frame = np.zeros((48, 64, 3), np.uint8)
    assert [act(frame, {}).tolist() for _ in range(3)] == [[0, 0], [1, 0], [0, 1]]


def test_a_policy_sees_its_last_frames_stacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    env = make_source(stairs())
    player = player_for(env, policy_file(tmp_path / "policy.zip", picture(9), gym.spaces.MultiBinary(2)))
    seen: list[np.ndarray] = []

    def note(model: Any, observation: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        seen.append(observation)
        return np.zeros(2)

    monkeypatch.setattr("engine.data.policies.sampled", note)
    act = player(np.random.default_rng(0))
    for value in (1, 2, 3, 4):
        act(np.full((48, 64, 3), value, np.uint8), {})
    assert [stack[0, 0, ::3].tolist() for stack in seen] == [[0, 0, 1], [0, 1, 2], [1, 2, 3], [2, 3, 4]]


@pytest.mark.parametrize(
    ("seen", "acts", "message"),
    [
        (picture(3, (84, 84)), gym.spaces.Discrete(3), "was trained on observations .* this source shows"),
        (picture(4), gym.spaces.Discrete(3), "was trained on observations"),
        (picture(), gym.spaces.Discrete(7), "acts in Discrete.7.; this world has the buttons down, up"),
        (picture(), gym.spaces.MultiBinary(3), "acts in MultiBinary.3."),
        (gym.spaces.Discrete(256), gym.spaces.Discrete(2), "the environment takes Discrete.3."),
    ],
)
def test_a_policy_of_another_world_is_one_clear_line(
    tmp_path: Path, seen: gym.Space[Any], acts: gym.Space[Any], message: str
) -> None:
    file = policy_file(tmp_path / "policy.zip", seen, acts)
    with pytest.raises(UserError, match=message) as error:
        run(args(tmp_path / "data", policy=file))
    assert "\n" not in str(error.value) and re.search(message, str(error.value))


def test_the_same_file_under_another_name_is_another_policy(tmp_path: Path) -> None:
    file = policy_file(tmp_path / "policy.zip", picture(), gym.spaces.MultiBinary(2))
    run(args(tmp_path / "data", frames=100, policy=file))
    other = policy_file(tmp_path / "policy.zip", picture(), gym.spaces.MultiBinary(2), "A2C")
    with pytest.raises(UserError, match="collected with policy = 'policy.zip "):
        run(args(tmp_path / "data", frames=200, policy=other))


def test_buttons_are_those_of_the_world_not_of_the_policy(tmp_path: Path) -> None:
    """A policy on the environment's own actions is heard through the world's buttons, whatever their order."""
    config = stairs()
    turned = replace(config, buttons=("up", "down"), source_options={"actions": {"up": 2, "down": 1}})
    env = make_source(turned)
    assert env.get_wrapper_attr("buttons_of")(1).tolist() == [0, 1]
