"""Reward and termination: learned from sparse events, resumable, calibrated, read in play."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save

from engine import checkpoint
from engine.cli import ship
from engine.cli.options import ShipOptions
from engine.config import Geometry, load_world
from engine.data.clips import Latents, read_shard, shard_paths
from engine.data.shards import checksums
from engine.data.signals import Signals, SignalSampler, load_signals
from engine.envs.env import LociEnv
from engine.errors import UserError
from engine.loading import open_world
from engine.model.heads import Heads, HeadsConfig
from engine.train.options import HeadsOptions
from engine.train.scores import best_threshold, events_scores, scores_of
from engine.train.stages import heads as stage
from tests.support import training


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return training.write_data(tmp_path_factory.mktemp("data") / "shards")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return training.write_world(tmp_path_factory.mktemp("world"))


def args(data: Path, run: Path, world: Path, **options: Any) -> HeadsOptions:
    small: dict[str, Any] = {"batch": 8, "threads": 1, "steps": 2, "drawn": 0.0, "hidden": 32} | options
    return HeadsOptions(data, run, world=str(world), validation_frames=small.pop("validation_frames", 300), **small)


@pytest.fixture(scope="module")
def trained(data: Path, world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("run")
    stage.run(args(data, run, world, steps=250, batch=16, warmup=20, lr=5e-3, validation_frames=2000))
    return run


def test_rare_ends_and_a_large_reward_are_found_on_held_out_episodes(trained: Path) -> None:
    report = json.loads((trained / "heads.json").read_text())
    real = report["real"]
    assert real["ends"] >= 8 and real["frames"] > 20 * real["ends"] / 2
    assert real["precision"] >= 0.8 and real["recall"] >= 0.8
    assert real["event_mae"] < 20 and real["reward_mae"] < 0.5 * real["usual_mae"]
    assert abs(real["calibration"]) < 0.02  # though half of the batches' clips end with an event


def test_events_are_learned_beside_a_reward_that_does_not_hold_their_first_times(world: Path, tmp_path: Path) -> None:
    folder = training.write_data(tmp_path / "data", events=True)
    options = {"steps": 300, "batch": 16, "warmup": 20, "lr": 5e-3, "validation_frames": 2000}
    stage.run(args(folder, tmp_path / "run", world, **options))
    report = json.loads((tmp_path / "run" / "heads.json").read_text())
    crossed, reached, never = report["real_events"]["each"]
    assert crossed["happened"] >= 8 and crossed["precision"] >= 0.8 and crossed["recall"] >= 0.8
    assert reached["happened"] >= 8 and reached["precision"] >= 0.8 and reached["recall"] >= 0.8
    assert (never["happened"], never["called"], never["recall"]) == (0, 0, None)
    assert report["real"]["event_mae"] < 20 and report["drawn_events"]["happened"] == report["real_events"]["happened"]
    config = checkpoint.read_config(tmp_path / "run")
    assert config["heads"]["events"] == 3
    with pytest.raises(UserError, match="begun with kinds = 3"):
        stage.run(args(training.write_data(tmp_path / "other", 8), tmp_path / "run", world, **options))
    env = LociEnv(world, checkpoint=tmp_path / "run", threads=1, image=np.full((48, 64, 3), 30, np.uint8))
    env.reset(seed=0)
    assert env.step(np.array([0, 1]))[4]["events"].shape == (3,)


def test_heads_are_read_off_a_generator_that_sees_the_past_by_sights_alone(tmp_path: Path) -> None:
    geometry = Geometry(view="top", step=10.0, snap=True, player=(1, 2))
    world = training.write_world(tmp_path / "world", geometry, sights=True)
    data, run = training.write_data(tmp_path / "data", events=True), tmp_path / "run"
    options: dict[str, Any] = {"batch": 64, "warmup": 20, "lr": 5e-3, "validation_frames": 2000, "drawn": 0.1}
    stage.run(args(data, run, world, steps=300, **options))
    report = json.loads((run / "heads.json").read_text())
    crossed, reached, _ = report["real_events"]["each"]
    assert min(crossed["precision"], crossed["recall"], reached["precision"], reached["recall"]) >= 0.8
    assert report["real"]["precision"] >= 0.8 and report["real"]["recall"] >= 0.8
    bare = training.write_world(tmp_path / "bare", sights=True)
    with pytest.raises(UserError, match=r"takes sights, which need the \[geometry\]"):
        stage.run(args(data, tmp_path / "other", bare))


def test_what_happens_for_the_first_time_is_taken_out_of_the_reward(tmp_path: Path) -> None:
    whole, bare = training.write_data(tmp_path / "a", 6, events=True), training.write_data(tmp_path / "b", 6)
    told, plain = load_signals(whole, "train"), load_signals(bare, "train")
    assert told.events is not None and told.events.shape == (len(told.reward), 3) and plain.events is None
    torch.testing.assert_close(told.reward, plain.reward)
    raw = read_shard(shard_paths(whole, "train")[0], ("reward",))["reward"]
    assert (raw - told.reward).sum() > 5
    shutil.copy(shard_paths(bare, "train")[0], whole / "train" / "shard-00001.safetensors")
    mixed = load_signals(whole, "train")  # a part of it is older
    assert mixed.events is None and torch.equal(mixed.reward, torch.cat((raw, plain.reward)))


def test_heads_without_events_are_those_that_they_were() -> None:
    torch.manual_seed(0)
    plain = Heads(HeadsConfig((0,), hidden=8, buckets=5), 8).state_dict()
    torch.manual_seed(0)
    told = Heads(HeadsConfig((0,), hidden=8, buckets=5, events=3), 8)
    more = told.state_dict()
    assert more.keys() - plain.keys() == {"events.weight", "events.bias"} and plain.keys() <= more.keys()
    assert all(torch.equal(weight, more[name]) for name, weight in plain.items())
    assert [tuple(part.shape) for part in told(torch.randn(2, 4, 6, 8))] == [(2, 4, 5), (2, 4), (2, 4, 3)]
    assert Heads(HeadsConfig((0,)), 8)(torch.randn(2, 6, 8))[2].shape == (2, 0)
    with pytest.raises(ValueError, match="events must be from 0"):
        HeadsConfig((0,), events=-1)


def test_a_world_with_heads_rewards_and_ends_and_one_without_does_not(trained: Path, world: Path) -> None:
    made = open_world(load_world(world), checkpoint=trained, threads=1, batch=2, dtype="fp32")
    far, near = np.full((2, 1, 48, 64, 3), 30, np.uint8)
    far[..., 2], near[..., 2] = 90, 210
    made.reset(0, np.stack((far, near)))
    assert made.reward is None
    codec = made.codec
    made.adopt(codec.encode(torch.from_numpy(np.stack((far[0], near[0])))), np.array([0, 1], np.uint8))
    made.commit()
    assert made.reward is not None and made.termination is not None
    assert made.reward.dtype == made.termination.dtype == np.float32
    assert made.reward[0] < 5 and made.reward[1] > 50 and made.termination[0] < 0.5 < made.termination[1]
    plain = open_world(load_world(world), threads=1)
    plain.reset(0, far[None])
    plain.step(np.array([0, 1]))
    assert plain.heads is None and plain.reward is None and plain.termination is None


def test_an_environment_uses_the_heads(trained: Path, world: Path, tmp_path: Path) -> None:
    ship.run(ShipOptions(trained, tmp_path / "shipped"))
    env = LociEnv(world, checkpoint=tmp_path / "shipped", threads=1, image=np.full((48, 64, 3), 30, np.uint8))
    env.reset(seed=0)
    assert env.has_heads and isinstance(env.step(np.array([0, 1]))[1], float)


def test_two_legs_give_the_losses_of_one_and_keep_what_they_began_with(data: Path, world: Path, tmp_path: Path) -> None:
    for run, steps in (("whole", 4), ("legs", 2), ("legs", 4)):
        stage.run(args(data, tmp_path / run, world, steps=steps, drawn=0.5))
    one, two = ((tmp_path / run / "heads-losses.csv").read_text() for run in ("whole", "legs"))
    assert one == two and len(one.splitlines()) == 4
    before, after = (checkpoint.load(folder)[1] for folder in (world.parent / "square", tmp_path / "legs"))
    assert {*after} == {*before, "heads"}
    assert all(torch.equal(after[part][name], x) for part in before for name, x in before[part].items())
    stages = checkpoint.read_config(tmp_path / "legs")["notes"]["stages"]
    assert [entry["stage"] for entry in stages] == ["heads"] and stages[0]["steps"] == 4
    with pytest.raises(UserError, match="begun with seed = 0, now it is 1"):
        stage.run(args(data, tmp_path / "legs", world, seed=1, drawn=0.5))


def test_data_without_the_signals_says_so_in_a_line(world: Path, tmp_path: Path) -> None:
    for number, (without, says) in enumerate(
        ((("reward", "terminated"), "has no reward and no terminated"), (("terminated",), "has no terminated"))
    ):
        folder = training.write_data(tmp_path / str(number), 4, without)
        with pytest.raises(UserError, match=f"{says}: it was collected before these were kept"):
            stage.run(args(folder, tmp_path / "run", world))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"layers": "6"}, "the generator has layers 0 to 1"),
        ({"layers": "two"}, "expected numbers such as 2,5"),
        ({"events": 2.0}, "--events must be from 0 to 1"),
        ({"buckets": 1}, "buckets >= 2"),
    ],
)
def test_options_that_make_no_sense_are_named(
    data: Path, world: Path, tmp_path: Path, options: dict[str, Any], says: str
) -> None:
    with pytest.raises(UserError, match=says):
        stage.run(args(data, tmp_path, world, **options))


def test_what_never_ends_and_always_pays_the_same_cannot_be_learned(world: Path, tmp_path: Path) -> None:
    folder = training.write_data(tmp_path / "data", 4)
    for split in ("train", "validation"):
        path = folder / split / "shard-00000.safetensors"
        signals = load_signals(folder, split)
        length = len(signals.reward)
        tensors: dict[str, np.ndarray] = {
            "frames": np.zeros((length, 48, 64, 3), np.uint8),
            "actions": np.zeros((length, 2), np.uint8),
            "poses": np.zeros((length, 4), np.float32),
            "episode": np.arange(length, dtype=np.int32) // 30,
            "reward": np.zeros(length, np.float32),
            "terminated": np.zeros(length, np.uint8),
        }
        path.write_bytes(save(tensors, metadata=checksums(tensors)))
    with pytest.raises(UserError, match="nothing to learn: the reward is always 0, and no episode terminates"):
        stage.run(args(folder, tmp_path / "run", world))


def test_a_checkpoint_with_half_of_its_heads_is_named(trained: Path, world: Path, tmp_path: Path) -> None:
    config, tensors = checkpoint.load(trained)
    whole = {name: value for name, value in config.items() if name not in ("files", "format")}
    for number, (parts, weights, says) in enumerate(
        (
            ({**whole, "heads": {"layers": [9]}}, tensors, "the weights do not fit|which the generator has not"),
            ({**whole, "heads": {"layers": []}}, tensors, "layers must name one layer"),
            (whole, {name: part for name, part in tensors.items() if name != "heads"}, "has no heads"),
            ({name: value for name, value in whole.items() if name != "heads"}, tensors, "has no heads"),
        )
    ):
        checkpoint.save(tmp_path / str(number), parts, weights)
        with pytest.raises(UserError, match=says):
            open_world(load_world(world), checkpoint=tmp_path / str(number), threads=1)


def test_the_buckets_mean_is_the_reward_again() -> None:
    heads = Heads(HeadsConfig((0,), low=-0.7, high=4.7, buckets=31), 8)
    reward = torch.tensor([-1.0, 0.0, 0.37, 100.0, -0.99])
    shares = heads.two_hot(reward)
    assert ((shares > 0).sum(-1) <= 2).all()
    torch.testing.assert_close(heads.expected(shares.clamp_min(1e-30).log()), reward, atol=1e-3, rtol=1e-3)
    beyond = heads.expected(heads.two_hot(torch.tensor([-50.0, 1e6])).clamp_min(1e-30).log())
    torch.testing.assert_close(beyond, heads.centers[[0, -1]], atol=1e-3, rtol=1e-3)


def test_every_frame_but_the_first_is_asked_about_once() -> None:
    start = np.array([0, 3, 4, 40, 53, 66])
    data = Latents(torch.zeros(66, 1, 1), torch.zeros(66, 2), start)
    sampler = SignalSampler(data, Signals(torch.zeros(66), torch.zeros(66) > 0), 13, 4, 32, (), 0.5)
    asked = np.zeros(66, int)
    for index, ask, number in sampler.windows(1000):
        assert (np.diff(index) == 1).all() and not ask[:, 0].any()
        np.add.at(asked, index[ask], 1)
        first = start[number]
        assert (index[:, 0] >= first).all() and (index[:, -1] < start[number + 1]).all()
    firsts = start[:-1]
    assert (np.delete(asked, firsts) == 1).all() and (asked[firsts] == 0).all()


def test_clips_of_one_frame_are_of_all_frames_but_the_first_and_bring_their_sights() -> None:
    start = np.array([0, 3, 4, 40])

    def sights(frames: torch.Tensor) -> torch.Tensor:
        return frames[:, None, None].float()

    data = Latents(torch.zeros(40, 1, 1), torch.zeros(40, 2), start, sights)
    signals = Signals(torch.zeros(40), torch.zeros(40) > 0)
    sampler = SignalSampler(data, signals, 1, 0, 32, (), 0.5)
    asked = np.zeros(40, int)
    for index, ask, _ in sampler.windows(1000):
        assert index.shape[1] == 1 and ask.all()
        np.add.at(asked, index[:, 0], 1)
    assert asked[start[:-1]].tolist() == [0, 0, 0] and (np.delete(asked, start[:-1]) == 1).all()
    drawn = [sampler.batch(16, 0, step) for step in range(20)]
    for clip, index in drawn:
        assert clip.sights is not None and clip.sights[:, 0, 0, 0].tolist() == index[:, 0].tolist()
    assert not set(np.concatenate([index[:, 0] for _, index in drawn])) & set(start[:-1].tolist())


def test_clips_end_at_events_as_often_as_asked_and_stay_in_their_episode() -> None:
    start = np.arange(0, 401, 20)
    reward = torch.full((400,), -1.0)
    reward[[19, 59, 207]] = 10.0
    data = Latents(torch.arange(400).half()[:, None, None], torch.zeros(400, 2), start)
    sampler = SignalSampler(data, Signals(reward, torch.zeros(400) > 0), 6, 3, 32, (), 0.5)
    assert sampler.usual == -1.0 and np.flatnonzero(sampler.event).tolist() == [19, 59, 207]
    hits = count = 0
    for step in range(60):
        clip, index = sampler.batch(16, 0, step)
        again, other = sampler.batch(16, 0, step)
        assert np.array_equal(index, other) and torch.equal(clip.latents, again.latents)
        frames = clip.latents[:, :, 0, 0].long().numpy()
        assert (frames // 20 == frames[:, :1] // 20).all() and (np.diff(frames) > 0).all()
        hits += int((reward[torch.from_numpy(index[:, -1])] > 0).sum())
        count += len(index)
    assert 0.4 < hits / count < 0.6


def test_each_kind_of_event_is_drawn_as_often_however_rare_it_is() -> None:
    start = np.arange(0, 4001, 20)
    events = torch.zeros(4000, 3, dtype=torch.bool)
    events[5::20, 0], events[777, 1] = True, True  # in each episode, once, and never
    data = Latents(torch.zeros(4000, 1, 1), torch.zeros(4000, 2), start)
    signals = Signals(torch.zeros(4000), torch.zeros(4000) > 0, events)
    sampler = SignalSampler(data, signals, 4, 2, 32, (), 0.5)
    last = np.concatenate([sampler.batch(32, 0, step)[1][:, -1] for step in range(60)])
    often, once = (last % 20 == 5).mean(), (last == 777).mean()
    assert 0.2 < often < 0.36 and 0.2 < once < 0.3
    reward, ended, told = sampler.labels(np.array([[777, 5], [6, 7]]))
    assert told.tolist() == [[[False, True, False], [True, False, False]], [[False] * 3] * 2]
    assert reward.shape == ended.shape == (2, 2)


def test_events_are_scored_together_and_each() -> None:
    told = np.array([[0.9, 0.1], [0.8, 0.2], [0.2, 0.3]])
    scores = events_scores(told, np.array([[True, False], [False, False], [True, True]]))
    assert (scores["happened"], scores["called"], scores["hits"]) == (3, 2, 1)
    assert (scores["precision"], scores["recall"]) == (1 / 2, 1 / 3)
    assert scores["each"][1] == {"happened": 1, "called": 0, "hits": 0, "precision": None, "recall": 0.0}


def test_the_threshold_is_the_one_with_the_best_f1_and_scores_count_what_is_called() -> None:
    probability = np.array([0.9, 0.8, 0.3, 0.2, 0.2, 0.1])
    ended = np.array([True, True, False, True, False, False])
    assert best_threshold((probability, ended)) == pytest.approx(0.55)
    assert best_threshold((probability, np.zeros(6, bool))) == 0.5
    assert best_threshold((np.array([0.9, 0.9, 0.9]), np.array([True, False, False]))) < 0.9
    junk = np.full(6, 0.99), ended  # the same for every frame: it says nothing, and changes nothing
    assert best_threshold((probability, ended), junk) == pytest.approx(0.55)
    found = {"probability": probability, "ended": ended, "reward": np.zeros(6), "real": np.array([9, 0, 0, 9, 0, 0.0])}
    scores = scores_of(found, 0.25, 0.0)
    assert (scores["precision"], scores["recall"], scores["called"]) == (2 / 3, 2 / 3, 3)
    assert (scores["reward_mae"], scores["event_mae"], scores["usual_mae"]) == (3.0, 9.0, 3.0)
    nothing = scores_of({name: values[:0] for name, values in found.items()}, 0.5, 0.0)
    assert nothing["precision"] is None and nothing["reward_mae"] is None
