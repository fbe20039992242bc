"""Collecting: whole shards, resumable, the same for any number of workers, clear errors."""

import errno
import json
import re
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from engine.config import WorldConfig
from engine.data import collect, shards
from engine.data.collect import run
from engine.data.options import CollectOptions
from engine.data.shards import collect_episode
from engine.errors import UserError
from engine.sources import make_source
from tests.support.fake_source import world
from tests.support.fake_stairs import LONGEST, TOP, Stairs, stairs


@pytest.fixture(autouse=True)
def square(monkeypatch):
    monkeypatch.setattr(collect, "load_world", lambda name: world())


def args(out: Path, **changes) -> CollectOptions:
    settings = {"frames": 400, "episode_length": 50, "frames_per_shard": 100}
    return CollectOptions(world="square", out=out, **(settings | changes))


def contents(folder: Path) -> dict[str, dict[str, tuple]]:
    """Read all shards; not as bytes, because safetensors orders the header's entries as it likes."""
    paths = folder.glob("*/*.safetensors")
    return {
        str(path.relative_to(folder)): {
            name: (value.dtype, value.shape, value.tobytes()) for name, value in load_file(path).items()
        }
        for path in paths
    }


def test_a_shard_holds_what_the_format_says(tmp_path):
    run(args(tmp_path))
    path = tmp_path / "train" / "shard-00000.safetensors"
    tensors = load_file(path)
    assert {name: (value.dtype.name, value.shape) for name, value in tensors.items()} == {
        "frames": ("uint8", (100, 48, 64, 3)),
        "actions": ("uint8", (100, 2)),
        "poses": ("float32", (100, 4)),
        "episode": ("int32", (100,)),
        "reward": ("float32", (100,)),
        "terminated": ("uint8", (100,)),
        "map_seed": ("int64", (2,)),
    }
    with safe_open(path, framework="numpy") as shard:
        metadata = shard.metadata()
    sums = {f"crc32.{name}": str(zlib.crc32(tensor.tobytes())) for name, tensor in tensors.items()}
    assert metadata == {"format": "loci-shard-1", **sums}
    assert tensors["episode"].tolist() == [0] * 50 + [1] * 50


def test_an_action_stands_beside_the_frame_that_it_led_to(tmp_path):
    run(args(tmp_path, episode_length=70))
    tensors = load_file(tmp_path / "train" / "shard-00000.safetensors")
    place, first = tensors["frames"][:, 0, 0, 2].astype(int), np.diff(tensors["episode"], prepend=-1) > 0
    moved = np.where(tensors["actions"][:, 0] == 1, -1, tensors["actions"][:, 1].astype(int))
    assert not tensors["actions"][first].any()
    assert np.array_equal(np.diff(place)[~first[1:]], moved[1:][~first[1:]])


def test_training_and_validation_walk_on_their_own_maps(tmp_path):
    run(args(tmp_path))
    train = load_file(tmp_path / "train" / "shard-00000.safetensors")["map_seed"]
    validation = load_file(tmp_path / "validation" / "shard-00000.safetensors")
    assert (train < 1_000_000).all()
    assert ((validation["map_seed"] >= 1_000_000) & (validation["map_seed"] < 1_001_000)).all()
    assert len(validation["frames"]) == 20


def test_one_split_can_be_collected_alone(tmp_path):
    run(args(tmp_path, split="test"))
    assert {path.parent.name for path in tmp_path.glob("*/*.safetensors")} == {"test"}


def test_an_episode_that_the_source_ends_is_cut_there(tmp_path):
    run(args(tmp_path, episode_length=100, split="train"))
    tensors = load_file(tmp_path / "train" / "shard-00000.safetensors")
    assert np.bincount(tensors["episode"]).tolist() == [71, 29]


def test_two_workers_make_the_same_files_as_one(tmp_path):
    doom = pytest.importorskip("vizdoom") and pytest.MonkeyPatch()
    from engine.config import load_world

    doom.setattr(collect, "load_world", load_world)
    for workers in (1, 2):
        few = args(tmp_path / str(workers), frames=90, workers=workers, episode_length=20, frames_per_shard=40)
        few.world = "doom-plain"
        run(few)
    doom.undo()
    assert contents(tmp_path / "1") == contents(tmp_path / "2")
    assert len(contents(tmp_path / "1")) == 4


def test_a_stopped_run_goes_on_and_ends_with_the_same_files(tmp_path, monkeypatch):
    run(args(tmp_path / "whole"))
    written, write_whole = [], shards.write_whole

    def stop_at_third(path, data):
        if path.suffix == ".safetensors":
            written.append(path)
            if len(written) == 3:
                raise KeyboardInterrupt
        write_whole(path, data)

    monkeypatch.setattr(shards, "write_whole", stop_at_third)
    with pytest.raises(KeyboardInterrupt):
        run(args(tmp_path / "stopped"))
    assert len(contents(tmp_path / "stopped")) == 2
    monkeypatch.undo()
    monkeypatch.setattr(collect, "load_world", lambda name: world())
    run(args(tmp_path / "stopped"))
    assert contents(tmp_path / "stopped") == contents(tmp_path / "whole")


def test_a_shard_that_was_cut_short_is_made_again(tmp_path):
    run(args(tmp_path))
    before = contents(tmp_path)
    path = tmp_path / "train" / "shard-00001.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    run(args(tmp_path))
    assert contents(tmp_path) == before


def test_more_frames_extend_a_folder_and_fewer_leave_it_alone(tmp_path):
    run(args(tmp_path))
    first = contents(tmp_path)
    run(args(tmp_path, frames=100))
    assert contents(tmp_path) == first
    run(args(tmp_path, frames=800))
    more = contents(tmp_path)
    assert len(more) > len(first)
    assert more["train/shard-00000.safetensors"] == first["train/shard-00000.safetensors"]


def test_a_reward_stands_beside_the_frame_that_it_led_to_and_an_end_is_marked(tmp_path, monkeypatch):
    monkeypatch.setattr(collect, "load_world", lambda name: stairs())
    run(args(tmp_path, frames=2000, frames_per_shard=2000, split="train"))
    tensors = load_file(tmp_path / "train" / "shard-00000.safetensors")
    place, reward = tensors["frames"][:, 0, 0, 2].astype(float), tensors["reward"]
    first = np.flatnonzero(np.diff(tensors["episode"], prepend=-1))
    last = np.append(first[1:], len(place)) - 1
    assert not reward[first].any()
    expected = np.where(np.diff(place) > 0, 2.5, -1.0)
    inside = np.setdiff1d(np.arange(1, len(place)), first)
    assert np.array_equal(reward[inside], expected[inside - 1])
    ended = np.flatnonzero(tensors["terminated"])
    assert set(ended) <= set(last) and np.array_equal(ended, [i for i in last if place[i] == TOP])
    cut = [b - a + 1 for a, b in zip(first, last, strict=True) if place[b] != TOP]
    assert len(ended) > 3 and len(cut) > 3 and set(cut[:-1]) == {LONGEST + 1}  # a truncation is no end


class Told(Stairs):
    """Stairs that tell, in a way of their own or as a source does, which steps went up and which came to the top."""

    events: Any = ("up", "top")

    def __init__(self, render_mode: str | None = "rgb_array", way: str = "source") -> None:
        super().__init__(render_mode)
        self.way = way

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        return super().reset(seed=seed, options=options)[0], self.told(False)

    def step(self, action: int) -> Any:
        place, reward, over, cut, _ = super().step(action)
        return place, reward, over, cut, self.told(int(action) == 2)

    def told(self, up: bool) -> dict[str, Any]:
        found = np.array([up, self.place >= TOP], np.uint8)
        return {
            "events": {"source": found, "texts": ["up"], "floats": found / 2, "more": np.ones(3, np.uint8)}[self.way]
        }


def told(way: str) -> WorldConfig:
    name = "LociTest/Told-v0"
    if name not in gym.registry:
        gym.register(name, entry_point=f"{__name__}:Told")
    return replace(stairs(), source=name, source_options={"way": way})


def test_events_stand_beside_the_frame_that_they_led_to(tmp_path, monkeypatch):
    monkeypatch.setattr(collect, "load_world", lambda name: told("source"))
    run(args(tmp_path, frames=400, frames_per_shard=400, split="train"))
    tensors = load_file(tmp_path / "train" / "shard-00000.safetensors")
    place, events = tensors["frames"][:, 0, 0, 2].astype(int), tensors["events"]
    inside = np.diff(tensors["episode"], prepend=-1) == 0
    assert events.dtype == np.uint8 and events.shape == (400, 2) and not events[~inside].any()
    up = np.diff(place, prepend=0) > 0
    assert np.array_equal(events[:, 0] > 0, up & inside) and np.array_equal(events[:, 1] > 0, (place >= TOP) & inside)
    assert events[:, 1].any()


@pytest.mark.parametrize("way", ["texts", "floats", "more"])
def test_what_an_environment_calls_events_otherwise_is_not_kept(tmp_path, monkeypatch, way):
    monkeypatch.setattr(collect, "load_world", lambda name: told(way))
    run(args(tmp_path, frames=40, split="train"))
    assert "events" not in load_file(tmp_path / "train" / "shard-00000.safetensors")


def test_crafter_tells_its_events(tmp_path, monkeypatch):
    pytest.importorskip("crafter")
    from engine.sources.crafter.source import BUTTONS

    tiny = replace(
        world(), source="crafter", preset="tile", buttons=BUTTONS, exclusive=True, source_options={"area": 24}
    )
    monkeypatch.setattr(collect, "load_world", lambda name: tiny)
    run(args(tmp_path, frames=60, frames_per_shard=60, episode_length=60, split="train"))
    tensors = load_file(tmp_path / "train" / "shard-00000.safetensors")
    assert tensors["events"].shape == (60, 22) and tensors["events"].any()
    first = (np.maximum.accumulate(tensors["events"], 0).sum(1, dtype=int) > 0).argmax()
    assert tensors["reward"][first] > 0.5 and tensors["actions"].sum(1).max() == 1


def test_a_folder_of_an_older_version_is_continued_and_said_to_lack_rewards(tmp_path, capsys):
    run(args(tmp_path))
    assert "no rewards" not in capsys.readouterr().out
    whole = contents(tmp_path)
    path = tmp_path / "train" / "shard-00000.safetensors"
    tensors = load_file(path)
    old = {name: tensors[name] for name in tensors if name not in ("reward", "terminated")}
    save_file(old, path, metadata={"format": "loci-shard-1", **shards.checksums(old)})
    run(args(tmp_path, frames=800))
    out = capsys.readouterr().out
    assert "1 of its 9 shards hold no rewards" in out and str(path) in out
    assert contents(tmp_path)["train/shard-00000.safetensors"].keys() == old.keys()
    path.unlink()
    run(args(tmp_path, frames=800))
    assert contents(tmp_path)["train/shard-00000.safetensors"] == whole["train/shard-00000.safetensors"]


@pytest.mark.parametrize("change", [{"seed": 1}, {"episode_length": 51}, {"frames_per_shard": 99}])
def test_a_folder_made_with_other_settings_is_refused(tmp_path, change):
    run(args(tmp_path))
    before = contents(tmp_path)
    with pytest.raises(UserError, match=f"{next(iter(change))} = .* choose another --out"):
        run(args(tmp_path, **change))
    assert contents(tmp_path) == before


@pytest.mark.parametrize("name", ["frames", "workers", "episode_length", "frames_per_shard"])
@pytest.mark.parametrize("value", [0, -3])
def test_a_number_below_one_is_an_error(tmp_path, name, value):
    with pytest.raises(UserError, match=re.escape(f"--{name.replace('_', '-')} must be 1 or more, not {value}")):
        run(args(tmp_path / "x", **{name: value}))
    assert not (tmp_path / "x").exists()


def test_a_full_disk_is_one_clear_line_and_leaves_nothing_half(tmp_path, monkeypatch):
    def full(self, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UserError, match="no space left .*shard") as error:
        shards.write_whole(tmp_path / "shard", b"x")
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_a_worker_that_fails_hands_its_error_to_the_user(tmp_path, monkeypatch):
    monkeypatch.setattr(collect, "load_world", lambda name: world(source="Nowhere-v0"))
    with pytest.raises(UserError, match="Nowhere"):
        run(args(tmp_path, workers=2))


def test_the_folder_says_how_it_was_made_and_shows_it(tmp_path, capsys):
    run(args(tmp_path))
    note = json.loads((tmp_path / "collect.json").read_text())
    assert note["buttons"] == ["left", "right"] and note["format"] == 1 and note["height"] == 48
    assert json.loads((tmp_path / "stats.json").read_text())["frames_per_second"] > 0
    with Image.open(tmp_path / "contact-sheet.png") as sheet:
        assert sheet.size == (8 * 128, 2 * (96 + 14))
    assert "frames/s" in capsys.readouterr().out


def test_an_episode_is_a_function_of_its_seeds():
    env = make_source(world())
    one, two = (collect_episode(env, 4, 30, np.random.default_rng(1)) for _ in range(2))
    assert all(np.array_equal(one[name], two[name]) for name in one)
    assert one["frames"].shape == (30, 48, 64, 3)
