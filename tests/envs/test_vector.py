"""Many worlds in one batch: each as it would be alone, whatever becomes of its neighbours."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from engine.envs.vector import LociVectorEnv
from tests.support.environments import NAME, make, make_vec, moves, options_with, with_heads

ONE = np.array([False, True, False])


def test_make_vec_gives_the_native_environment() -> None:
    env = make_vec(3)
    assert isinstance(env.unwrapped, LociVectorEnv) and env.num_envs == 3
    assert env.metadata["autoreset_mode"] == AutoresetMode.NEXT_STEP and env.metadata["render_fps"] == 12
    assert env.single_action_space == gym.spaces.MultiBinary(6)
    seen, infos = env.reset(seed=1)
    assert env.observation_space.contains(seen) and infos["_start"].all()
    seen, rewards, terminated, truncated, infos = env.step(env.action_space.sample())
    assert env.observation_space.contains(seen) and infos == {}
    assert (rewards.dtype, terminated.dtype, truncated.dtype) == (np.float64, bool, bool)
    assert rewards.shape == terminated.shape == truncated.shape == (3,) and not env.has_heads
    env.close()
    env.close()
    with pytest.raises(gym.error.ClosedEnvironmentError):
        env.reset()


@pytest.mark.parametrize("memory", ["window", "full", "mag"])
def test_one_world_is_the_single_environment_frame_by_frame(memory: str) -> None:
    single, vector = make(memory=memory, horizon=19), make_vec(1, memory=memory, horizon=19)
    assert np.array_equal(single.reset(seed=3)[0], vector.reset(seed=3)[0][0])
    over = False
    for move in moves(1, 24):
        seen, rewards, terminated, truncated, _ = vector.step(move)
        if over:
            expected: tuple[Any, ...] = (single.reset()[0], 0.0, False, False)
        else:
            expected = single.step(move[0])[:4]
        over = expected[2] or expected[3]
        assert np.array_equal(seen[0], expected[0])
        assert (rewards[0], terminated[0], truncated[0]) == expected[1:]


def test_each_world_of_a_batch_is_what_it_would_be_alone() -> None:
    many = make_vec(3, dtype="fp32")
    first, infos = many.reset(seed=[7, 11, 7])
    alone = make(dtype="fp32")
    seen, info = alone.reset(seed=11)
    assert np.array_equal(first[1], seen) and infos["world_seed"][1] == info["world_seed"]
    assert np.array_equal(first[0], first[2])
    for move in moves(3, 16):
        move[2] = move[0]
        batch, one = many.step(move)[0].astype(int), alone.step(move[1])[0]
        assert abs(batch[1] - one).max() <= 3  # sums are taken in another order
        assert abs(batch[0] - batch[2]).max() <= 3


@pytest.mark.parametrize(("memory", "dtype"), [("window", "bf16"), ("mag", "bf16"), ("mag", "fp32")])
def test_a_neighbour_s_reset_changes_no_bit(memory: str, dtype: str) -> None:
    env, plan, runs = make_vec(3, memory=memory, dtype=dtype, horizon=None), moves(3, 32), []
    history = np.random.default_rng(0).integers(0, 256, (18, 48, 64, 3), np.uint8)
    plans: list[dict[int, dict[str, Any]]] = [{}, {5: {}, 15: {}, 16: {"frames": history}, 27: {}}]
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


def test_a_partial_reset_begins_as_a_whole_one_does_and_leaves_the_rest() -> None:
    env = make_vec(3)
    fresh, _ = env.reset(seed=[1, 2, 3])
    for move in moves(3, 4):
        before = env.step(move)[0]
    mask = {"reset_mask": ONE}
    seen, infos = env.reset(seed=[8, 2, 9], options=mask)
    assert list(mask) == ["reset_mask"]  # the caller's options stay whole
    assert np.array_equal(seen[1], fresh[1]) and np.array_equal(seen[[0, 2]], before[[0, 2]])
    assert infos["_start"].tolist() == ONE.tolist()
    assert env.np_random_seed == (1, 2, 3)


def ends(mode: AutoresetMode | str) -> Any:
    """Three worlds whose episodes of 4 steps end one after the other: world 1 begins anew at step 2."""
    env = make_vec(3, autoreset_mode=mode, horizon=4)
    env.reset(seed=5)
    for move in moves(3, 2):
        env.step(move)
    env.reset(options={"reset_mask": ONE})
    return env


def test_next_step_resets_in_the_step_after_an_end() -> None:
    env, plan = ends(AutoresetMode.NEXT_STEP), moves(3, 6)
    _, _, _, truncated, infos = env.step(plan[0])
    assert not truncated.any() and infos == {}
    last, _, _, truncated, infos = env.step(plan[1])
    assert truncated.tolist() == [True, False, True] and "final_obs" not in infos
    seen, rewards, terminated, truncated, infos = env.step(plan[2])
    assert not truncated.any() and not terminated.any() and (rewards == 0).all()
    assert infos["_start"].tolist() == [True, False, True] and not np.array_equal(seen[0], last[0])
    assert env.step(plan[3])[3].tolist() == [False, True, False]
    assert env.step(plan[4])[4]["_start"].tolist() == [False, True, False]


def test_same_step_gives_the_last_observation_beside_the_next_one() -> None:
    env, twin, plan = ends("SameStep"), ends("Disabled"), moves(3, 6)
    env.step(plan[0])
    twin.step(plan[0])
    seen, _, _, truncated, infos = env.step(plan[1])
    last = twin.step(plan[1])[0]
    assert truncated.tolist() == [True, False, True] and infos["_final_obs"].tolist() == [True, False, True]
    assert np.array_equal(infos["final_obs"][0], last[0]) and infos["final_obs"][1] is None
    assert np.array_equal(seen[1], last[1]) and not np.array_equal(seen[0], last[0])
    assert infos["_start"].tolist() == infos["_final_info"].tolist() == [True, False, True]
    assert env.step(plan[2])[3].tolist() == [False, False, False]
    assert env.step(plan[3])[3].tolist() == [False, True, False]


def test_disabled_waits_for_a_reset_with_a_mask() -> None:
    env, plan = ends("Disabled"), moves(3, 6)
    env.step(plan[0])
    seen, _, _, truncated, _ = env.step(plan[1])
    assert truncated.tolist() == [True, False, True]
    with pytest.raises(gym.error.ResetNeeded, match="over in worlds 0, 2"):
        env.step(plan[2])
    fresh, _ = env.reset(options={"reset_mask": truncated})
    assert np.array_equal(fresh[1], seen[1]) and not np.array_equal(fresh[0], seen[0])
    assert env.step(plan[2])[3].tolist() == [False, False, False]


def test_the_modes_show_the_same_episodes() -> None:
    shown: dict[str, list[np.ndarray]] = {}
    for mode in ("NextStep", "SameStep"):
        env = make_vec(2, autoreset_mode=mode, horizon=3)
        frames = [env.reset(seed=1)[0]]
        while len(frames) < 9:
            move = np.ones((2, 6))
            seen, _, _, truncated, infos = env.step(move)
            frames += [np.stack(infos["final_obs"]), seen] if "final_obs" in infos else [seen]
        shown[mode] = frames[:8]
    assert np.array_equal(shown["NextStep"], shown["SameStep"])


def test_seeds_are_one_for_all_or_one_for_each() -> None:
    env = make_vec(3)
    one, _ = env.reset(seed=4)
    assert np.array_equal(one, env.reset(seed=[4, 5, 6])[0]) and env.np_random_seed == (4, 5, 6)
    assert len(env.np_random) == 3
    env.reset(seed=[4, None, None])
    for bad, says in (([1, 2], "list of 3"), ([1, 2, 3, 4], "list of 3")):
        with pytest.raises(ValueError, match=says):
            env.reset(seed=bad)
    with pytest.raises(gym.error.Error):
        env.reset(seed=-5)


@pytest.mark.parametrize(
    "mask", [np.zeros(3, bool), np.ones(2, bool), np.ones(3, int), [True, False, True], np.ones((3, 1), bool)]
)
def test_a_mask_that_does_not_fit_is_refused(mask: Any) -> None:
    env = make_vec(3)
    env.reset(seed=1)
    with pytest.raises(ValueError, match=r"reset_mask"):
        env.reset(options={"reset_mask": mask})


def test_mistakes_are_named() -> None:
    env = make_vec(3, actions="discrete")
    with pytest.raises(gym.error.ResetNeeded):
        env.step(np.zeros(3, int))
    with pytest.raises(gym.error.ResetNeeded, match="reset all worlds"):
        env.reset(options={"reset_mask": ONE})
    env.reset(seed=0)
    for actions in (np.zeros(2, int), np.full(3, 7), np.zeros((3, 6)), None, 0):
        with pytest.raises(ValueError, match=r"expected 3 actions, each in Discrete\(7\)"):
            env.step(actions)
    before = env.np_random_seed
    with pytest.raises(ValueError, match="unknown reset option"):
        env.reset(seed=9, options={"sart": 1})
    assert env.np_random_seed == before
    bad: list[dict[str, Any]] = [{"num_envs": 0}, {"autoreset_mode": "Never"}, {"render_mode": "human"}, {"horizon": 0}]
    for options in bad:
        with pytest.raises(ValueError, match="must be"):
            LociVectorEnv(**options_with(**{"num_envs": 2, "world": NAME, **options}))


def test_gymnasium_s_own_limit_of_steps_counts_too() -> None:
    env = make_vec(2, max_episode_steps=2, render_mode="rgb_array")
    env.reset(seed=0)
    move = np.zeros((2, 6), np.int8)
    assert [env.step(move)[3].all() for _ in range(3)] == [False, True, False]
    shown = env.render()
    assert len(shown) == 2 and shown[0].shape == (48, 64, 3)


def test_a_snapshot_of_all_worlds_can_be_gone_back_to() -> None:
    env = make_vec(2, memory="mag")
    env.reset(seed=0)
    for move in moves(2, 19):
        seen = env.step(move)[0]
    env.reset(options={"reset_mask": np.array([True, False])})
    kept, ways = env.snapshot(), []
    for _ in range(2):
        assert np.array_equal(env.restore(kept)[1], seen[1])
        ways.append(np.stack([env.step(move)[0] for move in moves(2, 20, seed=1)]))
    assert np.array_equal(ways[0], ways[1])


class Counting:
    """What an episode's events are worth, counted apart from the environment."""

    def __init__(self) -> None:
        self.seen: set[int] = set()

    def worth(self, happened: np.ndarray) -> float:
        new = set(np.flatnonzero(happened).tolist()) - self.seen
        self.seen |= new
        return float(bool(new))


EVENTS = 24


def worth_of(env: Any, rewards: np.ndarray) -> np.ndarray:
    """What of the rewards of a step is for events: the rest is what the heads say of the frame."""
    return rewards - env._worlds.world.reward


def test_each_event_is_rewarded_once_an_episode_and_told_every_time(tmp_path: Path) -> None:
    env = make_vec(3, checkpoint=with_heads(tmp_path, bias=-30.0, events=EVENTS), autoreset_mode="Disabled")
    _, infos = env.reset(seed=1)
    assert infos["events"].shape == (3, EVENTS) and infos["events"].dtype == np.uint8 and not infos["events"].any()
    counts, told = [Counting() for _ in range(3)], []
    for step, move in enumerate(moves(3, 12)):
        _, rewards, *_, infos = env.step(move)
        happened = env._worlds.world.events > 0.5
        assert np.array_equal(infos["events"], happened)
        expected = [count.worth(row) for count, row in zip(counts, happened, strict=True)]
        assert worth_of(env, rewards) == pytest.approx(expected, abs=1e-6)
        told.append(happened)
        if step == 7:  # one of them begins anew, and the others go on
            _, infos = env.reset(options={"reset_mask": ONE})
            assert infos["_events"].tolist() == ONE.tolist()
            counts[int(ONE.argmax())] = Counting()
    seen = np.stack(told)
    assert (seen.sum(0) > 1).any() and not seen.all() and any(len(count.seen) > 1 for count in counts)


def test_a_snapshot_remembers_which_events_were_rewarded(tmp_path: Path) -> None:
    env: Any = make(checkpoint=with_heads(tmp_path, bias=-30.0, events=EVENTS)).unwrapped
    env.reset(seed=0)
    played = moves(1, 12)[:, 0]
    env.step(played[0])
    kept, ways = env.snapshot(), []
    for _ in range(2):
        ways.append([round(float(worth_of(env, env.step(move)[1])[0]), 4) for move in played])
        env.restore(kept)
    assert ways[0] == ways[1] and set(ways[0]) == {0.0, 1.0}


@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
def test_events_of_an_episode_that_ends_are_told_and_the_next_one_counts_anew(tmp_path: Path, mode: str) -> None:
    env = make_vec(2, checkpoint=with_heads(tmp_path, bias=-30.0, events=EVENTS), autoreset_mode=mode, horizon=2)
    env.reset(seed=1)
    move = np.zeros((2, 6), np.int8)
    env.step(move)
    _, _, _, truncated, infos = env.step(move)
    last = env._worlds.world.events if mode == "NextStep" else None
    assert truncated.all()
    if last is not None:
        assert np.array_equal(infos["events"], last > 0.5)
        _, rewards, _, _, infos = env.step(move)
        assert not rewards.any()
    else:
        assert infos["final_info"]["events"].shape == (2, EVENTS) and infos["final_info"]["events"].any()
    assert not infos["events"].any() and "start" in infos
    _, rewards, _, _, infos = env.step(move)
    assert np.array_equal(worth_of(env, rewards).round(4), infos["events"].any(1))


def test_heads_reward_and_end_each_world(tmp_path: Path) -> None:
    env = make_vec(2, checkpoint=with_heads(tmp_path, bias=-30.0), dtype="fp32")
    alone = make(checkpoint=tmp_path, dtype="fp32")
    env.reset(seed=[3, 4])
    alone.reset(seed=4)
    for move in moves(2, 4):
        _, rewards, terminated, _, _ = env.step(move)
        assert rewards[1] == pytest.approx(alone.step(move[1])[1], abs=0.02)
        assert rewards[0] != rewards[1] and not terminated.any() and env.has_heads
    ended = make_vec(2, checkpoint=with_heads(tmp_path / "ends", bias=30.0))
    ended.reset(seed=0)
    assert ended.step(np.zeros((2, 6)))[2].all()
    assert not ended.step(np.zeros((2, 6)))[2].any()
