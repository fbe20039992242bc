"""Training: resumable after a kill with the same losses, checked inputs, checkpoints that open."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("vizdoom")

from engine.config import load_world, project_root
from engine.data import collect
from engine.data.clips import ClipSampler, Latents, check_data, load_latents, read_shard
from engine.data.options import CollectOptions
from engine.errors import UserError
from engine.loading import load_codec, open_world
from engine.measures import mean_psnr
from engine.model import odometry
from engine.train.options import CodecOptions, GeneratorOptions
from engine.train.stages import codec as codec_stage
from engine.train.stages import generator as generator_stage

WORLD = "doom-plain"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    collect.run(CollectOptions(WORLD, 1200, folder, episode_length=60, frames_per_shard=300))
    return folder


@pytest.fixture(scope="module")
def run_folder(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    codec_stage.run(CodecOptions(data, folder, world=WORLD, steps=3, batch=4, threads=1))
    return folder


def generator_args(data: Path, run: Path, codec: Path, **options) -> GeneratorOptions:
    return GeneratorOptions(data, run, world=WORLD, codec=codec, batch=2, threads=1, **options)


def losses(run: Path) -> list[str]:
    return (run / "generator-losses.csv").read_text().splitlines()


def test_two_legs_give_the_losses_of_one(data: Path, run_folder: Path, tmp_path: Path) -> None:
    generator_stage.run(generator_args(data, tmp_path / "whole", run_folder, steps=5))
    generator_stage.run(generator_args(data, tmp_path / "legs", run_folder, steps=2))
    generator_stage.run(generator_args(data, tmp_path / "legs", run_folder, steps=5))
    assert len(losses(tmp_path / "whole")) == 5
    assert losses(tmp_path / "legs") == losses(tmp_path / "whole")
    world = open_world(load_world(WORLD), checkpoint=tmp_path / "legs", threads=1)
    frame = world.reset(0, np.full((1, 1, 48, 64, 3), 90, np.uint8))
    assert world.step(np.zeros(6, np.uint8)).shape == frame.shape == (1, 48, 64, 3)


def test_a_killed_run_goes_on_with_the_same_losses(data: Path, run_folder: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "engine", "train", "generator", WORLD, "--data", str(data)]
    command += ["--codec", str(run_folder), "--batch", "2", "--threads", "1", "--steps", "6", "--save-every", "0"]
    killed = [*command, "--run", str(tmp_path / "killed")]
    with subprocess.Popen(killed, cwd=project_root(), stderr=subprocess.DEVNULL) as process:
        config, began = tmp_path / "killed" / "generator" / "config.json", time.monotonic()
        while time.monotonic() - began < 60 and not (config.exists() and json.loads(config.read_text())["step"] >= 2):
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
    assert 2 <= json.loads(config.read_text())["step"] < 6
    for run in (killed, [*command, "--run", str(tmp_path / "whole")]):
        subprocess.run(run, cwd=project_root(), check=True, capture_output=True)
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")
    assert len(losses(tmp_path / "killed")) == 6


def test_a_run_can_begin_with_the_weights_of_another(data: Path, run_folder: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    generator_stage.run(generator_args(data, first, run_folder, steps=12, lr=0.02))
    generator_stage.run(generator_args(data, second, run_folder, steps=1, init=first))
    fresh, begun = (float(losses(run)[0].split(",")[1]) for run in (first, second))
    assert begun < fresh
    with pytest.raises(UserError, match="has no generator"):
        generator_stage.run(generator_args(data, tmp_path / "third", run_folder, steps=1, init=run_folder))


def test_a_run_refuses_other_settings(data: Path, run_folder: Path, tmp_path: Path) -> None:
    generator_stage.run(generator_args(data, tmp_path, run_folder, steps=1))
    with pytest.raises(UserError, match=r"begun with seed = 0, now it is 1"):
        generator_stage.run(generator_args(data, tmp_path, run_folder, steps=2, seed=1))


def test_the_codec_beats_its_linear_part_or_equals_it_at_the_start(data: Path, run_folder: Path) -> None:
    codec, config = load_codec(run_folder)
    frames = read_shard(next(iter(sorted((data / "validation").glob("*.safetensors")))))["frames"]
    decoded = codec.decode(codec.encode(frames))
    assert mean_psnr(frames, decoded) > 24
    assert config["preset"] == "nano" and decoded.dtype == torch.uint8


def test_a_broken_shard_is_named(data: Path, tmp_path: Path) -> None:
    whole = next(iter(sorted((data / "train").glob("*.safetensors")))).read_bytes()
    path = tmp_path / "shard-00000.safetensors"
    for broken in (whole[:-100], b"\x80\x04nonsense", b"", whole[:5000] + b"\x00\xff" * 50 + whole[5100:]):
        path.write_bytes(broken)
        with pytest.raises(UserError, match=r"shard-00000\.safetensors is (broken|altered)"):
            read_shard(path)


def test_data_of_another_world_is_refused(data: Path, tmp_path: Path) -> None:
    config = load_world(WORLD)
    check_data(data, config, 48, 64)
    with pytest.raises(UserError, match="48x64 pixels; expected 96x128"):
        check_data(data, config, 96, 128)
    with pytest.raises(UserError, match="no collected data"):
        check_data(tmp_path, config, 48, 64)
    (tmp_path / "collect.json").write_text("[]")
    with pytest.raises(UserError, match="not what collect writes"):
        check_data(tmp_path, config, 48, 64)


def test_batches_are_a_function_of_seed_and_step(data: Path, run_folder: Path) -> None:
    codec, _ = load_codec(run_folder)
    sampler = ClipSampler(load_latents(data, "train", codec, "test"), 6, 3, 20)
    again = ClipSampler(load_latents(data, "train", codec, "test"), 6, 3, 20)
    for step in range(4):
        one, two, other = sampler.batch(4, 0, step), again.batch(4, 0, step), sampler.batch(4, 1, step)
        assert torch.equal(one.latents, two.latents) and torch.equal(one.position, two.position)
        assert not (one.latents.shape == other.latents.shape and torch.equal(one.latents, other.latents))


def test_clips_stay_inside_their_episode() -> None:
    frames = np.arange(30)
    latents = Latents(
        torch.from_numpy(frames).half()[:, None, None], torch.zeros(30, 2, dtype=torch.uint8), np.array([0, 12, 30])
    )
    sampler = ClipSampler(latents, 5, 3, 9)
    for step in range(40):
        clip = sampler.batch(8, 0, step)
        number = clip.latents[:, :, 0, 0].long().numpy()
        assert ((number < 12).all(1) | (number >= 12).all(1)).all()
        assert (np.diff(number) > 0).all() and (np.diff(number[:, clip.old :]) == 1).all()
        expected = np.maximum(number - number[:, clip.old : clip.old + 1], -4)
        assert (clip.position.numpy() == expected).all()


def test_an_episode_shorter_than_a_clip_is_shown_to_its_end_after_its_first_frame_repeated() -> None:
    starts = np.array([0, 2, 3, 15, 18])  # of 2, 1, 12 and 3 frames
    number = torch.arange(18)
    actions = (number + 1)[:, None].to(torch.uint8).repeat(1, 2)
    actions[starts[:-1]] = 0
    sampler = ClipSampler(Latents(number.half()[:, None, None], actions, starts), 5, 3, 9)
    seen = set()
    for step in range(60):
        clip = sampler.batch(8, 0, step)
        for frames, held, position in zip(clip.latents[:, :, 0, 0].long(), clip.actions, clip.position, strict=True):
            recent = frames[clip.old :].tolist()
            seen.add(tuple(recent))
            assert position[clip.old :].tolist() == [0, 1, 2, 3, 4]
            assert held[clip.old :, 0].tolist() == [0 if i in starts else i + 1 for i in recent]
    assert {(0, 0, 0, 0, 1), (15, 15, 15, 16, 17)} <= seen
    assert {clip for clip in seen if clip[0] in (0, 2, 15)} == {(0, 0, 0, 0, 1), (15, 15, 15, 16, 17)}
    assert len(seen) == 2 + 8
    short = ClipSampler(Latents(number[:2].half()[:, None, None], actions[:2], np.array([0, 2])), 5, 3, 9)
    assert short.batch(2, 0, 0).latents[:, :, 0, 0].tolist() == [[0, 0, 0, 0, 1]] * 2
    with pytest.raises(UserError, match="no episode is 3 frames long"):
        short.blocks(2, 3, 0, 0)
    with pytest.raises(UserError, match="no episode is two frames long"):
        ClipSampler(Latents(number[:2].half()[:, None, None], actions[:2], np.array([0, 1, 2])), 5, 3, 9)


def test_returns_are_those_that_comparing_all_views_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    random, motion = np.random.default_rng(0), ((1.0, 0.0, 0.0), (0.0, 0.0, 45.0))
    actions = torch.from_numpy(random.integers(0, 2, (150, 2), dtype=np.uint8))
    data = Latents(torch.zeros(150, 1, 1), actions, np.array([0, 90, 150]))
    monkeypatch.setattr(ClipSampler, "ROWS", 7)
    sampler = ClipSampler(data, 5, 2, 20, motion)
    expected = [
        i
        for i in sampler.with_past
        for a in [0 if i < 90 else 90]
        if any(odometry.cost(sampler.pose[i], sampler.pose[j]) < 0.35 for j in range(a, i - 15))
    ]
    assert sampler.returns.tolist() == expected and 10 < len(expected) < 130


def test_episodes_just_long_enough_for_few_blocks_give_clips_with_few_blocks() -> None:
    data = Latents(torch.zeros(60, 1, 1), torch.zeros(60, 2, dtype=torch.uint8), np.array([0, 20, 40, 60]))
    sampler = ClipSampler(data, 13, 2, 32)
    for step in range(60):
        clip, blocks = sampler.with_blocks(2, 0, step, 8, 3, 2)
        assert clip.latents.shape[1] == 15 and 1 <= blocks.position.shape[1] <= 2


def test_latents_of_a_shard_that_has_grown_are_made_anew(run_folder: Path, tmp_path: Path) -> None:
    codec, _ = load_codec(run_folder)
    for frames in (40, 120):
        collect.run(CollectOptions("doom-plain", frames, tmp_path, episode_length=20))
        assert len(load_latents(tmp_path, "train", codec, "tag")) == round(0.95 * frames)
