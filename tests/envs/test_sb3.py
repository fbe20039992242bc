"""The adapter to Stable-Baselines3: its conventions, and a training that runs."""

import warnings

import numpy as np
import pytest
from gymnasium.wrappers import TimeLimit

pytest.importorskip("stable_baselines3")

from stable_baselines3 import PPO
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import VecMonitor, VecTransposeImage

from engine.envs.sb3 import LociVecEnv
from tests.support.environments import NAME, make, make_vec, moves, options_with


def opened(count: int = 2, **options) -> LociVecEnv:
    return LociVecEnv(NAME, count, **options_with(horizon=3, **options))


def test_episodes_end_as_stable_baselines_expects() -> None:
    env, same = opened(), make_vec(2, autoreset_mode="SameStep", horizon=3)
    env.seed(7)
    assert np.array_equal(env.reset(), same.reset(seed=7)[0])
    assert env.reset_infos[0]["start"].startswith("map-")
    for step, move in enumerate(moves(2, 4)):
        seen, rewards, dones, infos = env.step(move)
        expected, _, _, truncated, other = same.step(move)
        assert (
            np.array_equal(np.asarray(seen), expected)
            and np.array_equal(dones, truncated)
            and dones.all() == (step == 2)
        )
        assert rewards.dtype == np.float32 and [info["TimeLimit.truncated"] for info in infos] == dones.tolist()
        for b in range(2):
            assert ("terminal_observation" in infos[b]) == bool(dones[b])
            assert not dones[b] or np.array_equal(infos[b]["terminal_observation"], other["final_obs"][b])
    env.close()
    env.close()


def test_seeds_and_options_count_for_one_reset() -> None:
    env = opened()
    env.seed(3)
    first = env.reset()
    assert not np.array_equal(env.reset(), first)
    env.seed(3)
    assert np.array_equal(env.reset(), first) and np.array_equal(first[1], make().reset(seed=4)[0])
    env.set_options({"start": "map-2000003"})
    env.reset()
    assert [info["start"] for info in env.reset_infos] == ["map-2000003"] * 2
    env.set_options([{"start": "map-2000003"}, {}])
    with pytest.raises(ValueError, match="same options for all"):
        env.reset()


def test_attributes_are_those_of_the_batch() -> None:
    env = opened(render_mode="rgb_array")
    env.reset()
    assert env.get_attr("buttons", indices=[1]) == [env.env.buttons] and env.has_attr("has_heads")
    assert not env.has_attr("nonsense") and env.env_is_wrapped(TimeLimit) == [False, False]
    shown = env.render()
    assert shown is not None and shown.shape == (96, 64, 3)
    with pytest.raises(ValueError, match="whole batch"):
        env.set_attr("render_mode", None, indices=0)
    with pytest.raises(NotImplementedError, match=r"call env\.snapshot"):
        env.env_method("snapshot")


def test_ppo_learns_in_a_batch_without_a_warning() -> None:
    env = VecTransposeImage(VecMonitor(opened(actions="discrete")))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = PPO("CnnPolicy", env, n_steps=4, batch_size=4, n_epochs=1, seed=0, device="cpu")
        model.set_logger(Logger(folder=None, output_formats=[]))  # its own would leave a temporary folder
        model.learn(8)
    assert model.num_timesteps == 8 and len(model.ep_info_buffer or []) == 2
