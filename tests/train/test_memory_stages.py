"""Stages memory, joint and distill: each goes on from the last one's folder and makes a world that plays.

What they have in common with all stages, such as going on with a run, is in `test_stage_contract`.
"""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("vizdoom")

from engine import checkpoint
from engine.cli import ship
from engine.cli.options import ShipOptions
from engine.config import load_world
from engine.data import collect
from engine.data.clips import ClipSampler, Latents
from engine.data.options import CollectOptions
from engine.errors import UserError
from engine.loading import open_world
from engine.model import odometry
from engine.train.options import STAGES as OPTIONS_OF
from engine.train.options import CodecOptions, GeneratorOptions
from engine.train.stages import codec as codec_stage
from engine.train.stages import distill, joint
from engine.train.stages import generator as generator_stage
from engine.train.stages import memory as memory_stage

pytestmark = pytest.mark.timeout(400)  # the stages' first run counts for the test that asks first
WORLD = "doom-plain"
STAGES: dict[str, Any] = {"memory": memory_stage, "joint": joint, "distill": distill}
OPTIONS: dict[str, dict[str, Any]] = {
    "joint": {"rollouts": 0.6, "stretches": 3},
    "distill": {"teacher_steps": 4, "stretches": 2},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    collect.run(CollectOptions(WORLD, 900, folder, episode_length=60, frames_per_shard=300))
    return folder


def args(stage: str, data: Path, run: Path, init: Path, **options: Any) -> Any:
    small = {"batch": 2, "threads": 1, "steps": 2} | options
    kind: Any = OPTIONS_OF[stage]
    return kind(data, run, world=WORLD, codec=init, init=init, **small)


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of all stages after two steps each, every one begun from the one before."""
    root = tmp_path_factory.mktemp("runs")
    codec_stage.run(CodecOptions(data, root / "codec", world=WORLD, steps=2, batch=4, threads=1))
    first = GeneratorOptions(data, root / "generator", world=WORLD, codec=root / "codec", batch=2, threads=1, steps=2)
    generator_stage.run(first)
    last = root / "generator"
    for name, stage in STAGES.items():
        stage.run(args(name, data, root / name, last, **OPTIONS.get(name, {})))
        last = root / name
    return {name: root / name for name in ("codec", "generator", *STAGES)}


@pytest.mark.parametrize("stage", list(STAGES))
def test_a_stage_s_folder_is_a_world_that_plays_in_all_modes(trained: dict[str, Path], stage: str) -> None:
    world = open_world(load_world(WORLD), checkpoint=trained[stage], threads=1)
    assert world.mode == "mag" and world.modes == ("window", "full", "mag")
    world.reset(0, np.full((1, 1, 48, 64, 3), 90, np.uint8))
    for mode in ("mag", "window", "mag", "full", "mag"):
        world.set_mode(mode)
        for _ in range(8):
            frame = world.step(np.array([1, 0, 1, 0, 0, 0], np.uint8))
    assert frame.shape == (1, 48, 64, 3)
    stats = world.stats()
    assert stats["frames"] == 41 and stats["hot"] + stats["cold"] + stats["gone"] == 41
    assert stats["gone"] <= 8  # what the window lost while it was the mode


def test_the_smallest_preset_goes_through_all_stages(data: Path, trained: dict[str, Path], tmp_path: Path) -> None:
    # Its clips are five frames long: a rollout's stretches overlap by fewer frames.
    small: dict[str, Any] = {"preset": "pico", "steps": 1, "batch": 2, "threads": 1, "codec": trained["codec"]}
    generator_stage.run(GeneratorOptions(data, tmp_path / "generator", world=WORLD, **small))
    last = tmp_path / "generator"
    for name, stage in STAGES.items():
        options = OPTIONS.get(name, {}) | ({"rollouts": 1.0} if name == "joint" else {})
        stage.run(args(name, data, tmp_path / name, last, preset="pico", **options))
        last = tmp_path / name
    scores = (tmp_path / "joint" / "joint-losses.csv").read_text().splitlines()
    assert len(scores) == 2 and all(float(row.split(",")[1]) > 0 for row in scores)


def test_two_processes_do_the_same_kind_of_step_and_count_all_frames(
    data: Path, trained: dict[str, Path], tmp_path: Path
) -> None:
    # Steps with and without folded history: ranks that disagreed would send gradients of unequal size.
    options = "--batch 2 --threads 1 --steps 4 --folded-share 0.5 --rollouts 0.5 --stretches 2 --block 3"
    command: list[Any] = [sys.executable, *"-m torch.distributed.run --nproc-per-node 2 --log-dir".split()]
    command += [
        tmp_path / "logs",
        *"-m -- engine train joint".split(),
        WORLD,
        "--data",
        data,
        "--codec",
        trained["memory"],
        "--init",
        trained["memory"],
    ]
    command += ["--run", tmp_path / "run", *options.split()]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert len((tmp_path / "run" / "joint-losses.csv").read_text().splitlines()) == 4
    frames = checkpoint.read_config(tmp_path / "run")["notes"]["stages"][-1]["frames"]
    assert frames > 4 * 26  # more than one process can make: both count


def test_a_run_goes_on_without_being_told_what_it_began_with(
    data: Path, trained: dict[str, Path], tmp_path: Path
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    memory_stage.run(args("memory", data, whole, trained["generator"], steps=3))
    memory_stage.run(args("memory", data, parts, trained["generator"], steps=1))
    options = args("memory", data, parts, trained["generator"], steps=3)
    options.init = None
    memory_stage.run(options)
    assert (parts / "memory-losses.csv").read_text() == (whole / "memory-losses.csv").read_text()
    first, second = (checkpoint.load(folder) for folder in (whole, parts))
    assert torch.equal(first[1]["generator"]["enter.weight"], second[1]["generator"]["enter.weight"])
    assert first[0]["notes"]["stages"] == second[0]["notes"]["stages"]


def test_a_low_rank_memory_and_registers_are_stored_small_and_play(
    data: Path, trained: dict[str, Path], tmp_path: Path
) -> None:
    options = {"block": 4, "readout": "registers", "registers": 5, "rank": 4, "budget": 20}
    memory_stage.run(args("memory", data, tmp_path, trained["generator"], **options))
    sizes = {path.name.partition("-")[0]: path.stat().st_size for path in tmp_path.glob("*.safetensors")}
    assert sizes["memory"] < sizes["generator"] / 8
    joint.run(args("joint", data, tmp_path / "joint", tmp_path, **options))
    world = open_world(load_world(WORLD), checkpoint=tmp_path / "joint", threads=1)
    world.reset(0, np.full((1, 1, 48, 64, 3), 90, np.uint8))
    for _ in range(40):
        world.step(np.array([1, 0, 0, 0, 0, 0], np.uint8))
    assert world.stats()["hot"] > 30 and world.history.buffers.hot.shape == (1, 4)


def test_what_makes_no_sense_is_one_line(data: Path, trained: dict[str, Path], tmp_path: Path) -> None:
    wrong: list[tuple[str, dict[str, Any], str]] = [
        ("memory", {"block": 0}, "block must be from 1 to 64"),
        ("memory", {"block": 14}, "--block must be at most 13"),
        ("memory", {"readout": "mean"}, "readout must be one of last-frame, registers"),
        ("memory", {"registers": 3}, "makes no sense"),
        ("memory", {"budget": 5}, "--budget 5 is smaller than one fold, which has 12 tokens"),
        ("joint", {"old": -1}, "--old must be from 0 to 64"),
        ("memory", {"play_steps": 0}, "--play-steps must be from 1 to 64"),
        ("joint", {"blocks": 0}, "--blocks must be from 1"),
        ("joint", {"rollouts": 1.5}, "--rollouts must be from 0 to 1"),
        ("distill", {"stretches": 0}, "--stretches must be from 1"),
        ("distill", {"teacher_steps": 0}, "--teacher-steps must be from 1"),
        ("distill", {"play_steps": 3}, "--teacher-steps must be a multiple"),
    ]
    for name, options, message in wrong:
        with pytest.raises(UserError, match=message):
            STAGES[name].run(args(name, data, tmp_path / "run", trained["generator"], **options))
    with pytest.raises(UserError, match="ask for the same"):
        joint.run(args("joint", data, tmp_path / "other", trained["memory"], block=4))
    with pytest.raises(UserError, match="smaller than one folded block"):
        open_world(load_world(WORLD), checkpoint=trained["joint"], threads=1, memory_budget=5)
    with pytest.raises(UserError, match="needs a checkpoint with a memory model"):
        open_world(load_world(WORLD), checkpoint=trained["generator"], threads=1, memory="mag")


def test_weights_are_trained_on_with_their_own_codec(data: Path, trained: dict[str, Path], tmp_path: Path) -> None:
    options = args("joint", data, tmp_path / "run", trained["memory"])
    options.codec = None  # that of --init, not the world's
    joint.run(options)
    mine, theirs = (checkpoint.load(folder)[1]["codec"] for folder in (tmp_path / "run", trained["codec"]))
    assert torch.equal(mine["basis"], theirs["basis"])
    options = args("joint", data, tmp_path / "other", trained["memory"])
    options.codec = load_world(WORLD).checkpoint_path
    with pytest.raises(UserError, match="belongs to another codec"):
        joint.run(options)


def test_held_out_blocks_come_from_shards_of_any_length(trained: dict[str, Path], tmp_path: Path) -> None:
    collect.run(CollectOptions(WORLD, 300, tmp_path / "data", episode_length=5, frames_per_shard=100))
    memory_stage.run(args("memory", tmp_path / "data", tmp_path / "run", trained["generator"], steps=1))
    with pytest.raises(UserError, match="no episode is 6 frames long"):
        memory_stage.run(args("memory", tmp_path / "data", tmp_path / "six", trained["generator"], steps=1, block=6))


def test_a_folder_of_training_state_is_not_shipped(trained: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="expected a checkpoint with codec and generator"):
        ship.run(ShipOptions(trained["joint"] / "joint", tmp_path / "shipped"))
    ship.run(ShipOptions(trained["joint"], tmp_path / "shipped"))
    assert open_world(load_world(WORLD), checkpoint=tmp_path / "shipped", threads=1).mode == "mag"


def test_clips_that_begin_with_a_return_have_an_old_frame_of_the_same_view() -> None:
    turns = np.zeros((120, 2), np.uint8)
    turns[:, 1] = 1  # turns on the spot: every view comes back after 24 frames
    data = Latents(torch.zeros(120, 1, 1), torch.from_numpy(turns), np.array([0, 120]))
    sampler = ClipSampler(data, 5, 4, 20, ((1.0, 0.0, 0.0), (0.0, 0.0, 15.0)), returns=1.0)
    assert sampler.returns.min() == 23  # one step short of the circle is the same view, too
    near = 0
    for step in range(30):
        clip = sampler.batch(8, 0, step)
        for i in range(8 if clip.old else 0):
            views = odometry.cost(clip.pose[i, : clip.old].numpy(), clip.pose[i, clip.old :, None].numpy())
            near += views.min() < 0.4
    assert near > 0.5 * 30 * 8 * 0.8
    clip, blocks = sampler.with_blocks(8, 0, 0, 3, 4, 2)
    assert clip.old == 2 and blocks.latents.shape[1] == 4 and blocks.position.shape[0] == 8
    assert (np.diff(blocks.pose[:, :, 2].numpy(), axis=1) > 0).all()


def test_dead_reckoning_follows_turns_and_steps() -> None:
    motion = ((1.0, 0.0, 0.0), (0.0, 0.0, 90.0))
    actions = np.array([[1, 1], [1, 0], [0, 1], [1, 0], [1, 0], [1, 0]], np.uint8)
    poses = odometry.integrate(actions, [0, 4], motion)
    np.testing.assert_allclose(
        poses[:4], np.array([[0, 0, 0], [1, 0, 0], [1, 0, np.pi / 2], [1, 1, np.pi / 2]]), atol=1e-12
    )
    np.testing.assert_allclose(poses[4:], [[0, 0, 0], [1, 0, 0]], atol=1e-12)
    pose = np.zeros(3)
    for action in actions[1:4]:
        pose = odometry.advance(pose, action, motion)
    np.testing.assert_allclose(pose, poses[3], atol=1e-12)
