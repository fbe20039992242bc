"""Environments over a world with places: what happens to some worlds changes no bit of the others."""

from typing import Any

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from engine.config import WorldConfig
from engine.envs.env import LociEnv
from engine.envs.vector import LociVectorEnv
from tests.support.tiles import BUTTONS, write_world

START = np.random.default_rng(1).integers(0, 256, (144, 144, 3), np.uint8)
ONE = np.array([False, True, False])


@pytest.fixture(scope="module", params=[0, 3], ids=["places alone", "with a window"])
def config(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> WorldConfig:
    return write_world(tmp_path_factory.mktemp("tiles"), window=request.param)


def make_vec(config: WorldConfig, count: int = 3, **options: Any) -> LociVectorEnv:
    return LociVectorEnv(count, config, threads=1, device="cpu", image=START, **{"horizon": None, **options})


def moves(count: int, steps: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 2, (steps, count, len(BUTTONS)), np.uint8)


@pytest.mark.parametrize("dtype", ["bf16", "fp32"])
def test_a_neighbour_s_reset_changes_no_bit(config: WorldConfig, dtype: str) -> None:
    env, plan, runs = make_vec(config, dtype=dtype), moves(3, 24), []
    history = np.random.default_rng(0).integers(0, 256, (6, 144, 144, 3), np.uint8)
    plans: list[dict[int, dict[str, Any]]] = [{}, {5: {}, 11: {"frames": history}, 17: {}}]
    for resets in plans:
        env.reset(seed=2)
        seen = []
        for t, move in enumerate(plan):
            if t in resets:
                env.reset(options={"reset_mask": ONE, **resets[t]})
            seen.append(env.step(move)[0])
        runs.append(np.stack(seen))
    assert np.array_equal(runs[0][:, [0, 2]], runs[1][:, [0, 2]])
    assert not np.array_equal(runs[0][:, 1], runs[1][:, 1])


def test_episodes_that_end_begin_with_an_empty_map(config: WorldConfig) -> None:
    env = make_vec(config, 2, horizon=6)
    env.reset(seed=2)
    world = env._worlds.world  # type: ignore[union-attr]
    first = [env.step(move)[0] for move in moves(2, 6)]
    assert world.history.count.tolist() == [7, 7]
    env.step(moves(2, 1)[0])  # begins anew
    assert world.history.count.tolist() == [1, 1] and world.stats()["tiles"] == 62
    env.reset(seed=2)
    assert all(np.array_equal(env.step(move)[0], seen) for move, seen in zip(moves(2, 6), first, strict=True))


def test_a_moment_of_all_worlds_can_be_gone_back_to(config: WorldConfig) -> None:
    env, plan = make_vec(config), moves(3, 16)
    env.reset(seed=4)
    for move in plan[:6]:
        env.step(move)
    moment = env.snapshot()
    expected = [env.step(move)[0] for move in plan[6:]]
    env.restore(moment)
    assert all(np.array_equal(env.step(move)[0], seen) for move, seen in zip(plan[6:], expected, strict=True))


def test_the_single_environment_keeps_gymnasium_s_rules(config: WorldConfig) -> None:
    env = LociEnv(config, threads=1, device="cpu", image=START, horizon=20)
    check_env(env, skip_render_check=True)
    env.close()
