"""The contract between the training loop and its stages (`engine.train.loop.Stage`), which every stage keeps."""

import json
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from engine import checkpoint
from engine.config import Geometry, load_world
from engine.errors import UserError
from engine.loading import load_codec, open_world
from engine.train.loop import Stage, run_leg, train
from engine.train.options import STAGES as OPTIONS
from engine.train.options import RunOptions
from engine.train.stages.codec import CodecStage
from engine.train.stages.distill import DistillStage
from engine.train.stages.generator import GeneratorStage
from engine.train.stages.heads import HeadsStage
from engine.train.stages.joint import JointStage
from engine.train.stages.memory import MemoryStage
from engine.train.stages.motion import MotionStage
from tests.support import training

pytestmark = pytest.mark.timeout(400)  # the stages' first runs count for the test that asks first
CLASSES: dict[str, Callable[..., Any]] = {
    "codec": CodecStage,
    "motion": MotionStage,
    "generator": GeneratorStage,
    "memory": MemoryStage,
    "joint": JointStage,
    "distill": DistillStage,
    "heads": HeadsStage,
}
OWN: dict[str, dict[str, Any]] = {
    "codec": {"preset": "pico", "batch": 4},
    "motion": {"hidden": 16, "features": 4, "batch": 16},
    "generator": {"preset": "pico"},
    "memory": {"preset": "pico", "budget": 40},
    "joint": {"preset": "pico", "rollouts": 0.5, "own_frames": 0.5, "stretches": 2},
    "distill": {"preset": "pico", "teacher_steps": 4, "stretches": 2},
    "heads": {"hidden": 16, "validation_frames": 100},
}
PICTURES = {
    "codec": "codec.png",
    "motion": "motion.png",
    "generator": "next-frame.png",
    "memory": "unfolded.png",
    "joint": "joint.png",
    "distill": "rollout.png",
    "heads": "heads.json",
}
NO_MORE: dict[str, dict[str, Any]] = {
    "memory": {"old": 6, "context_noise": 0.4, "own_frames": 0.25, "returns": 0.5},
    "distill": {"context_noise": 0.4, "own_frames": 0.35, "rollouts": 0.0},
}
"""Settings that runs were once held to, of options that did nothing."""


class Killed(Exception):
    """What ends a run without a chance to save."""


class Runs:
    """Makes options and stages for runs in `root`, all on the same data; each stage begins with the one before."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.data = training.write_data(root / "data", 12, stripes=40)
        self.world = training.write_world(root / "world", Geometry(view="top", step=10.0, snap=True, player=(1, 2)))

    def options(self, name: str, run: str | Path, **changes: Any) -> Any:
        given: dict[str, Any] = {"batch": 2, "threads": 1, "steps": 2, "dtype": "float32", **OWN[name]}
        before = list(CLASSES)[list(CLASSES).index(name) - 1]
        if name in ("codec", "motion"):
            del given["dtype"]
        if name == "generator":
            given["codec"] = self.root / before
        elif name != "codec":
            given["init"] = self.root / before
        return OPTIONS[name](self.data, self.root / run, world=str(self.world), **(given | changes))

    def stage(self, name: str, run: str | Path = "nowhere", **changes: Any) -> Any:
        options = self.options(name, run, **changes)
        return CLASSES[name](options, load_world(options.world), torch.device("cpu"))

    def train(self, name: str, run: str | Path, **changes: Any) -> None:
        """A leg without its last validation."""
        train(self.stage(name, run, **changes), self.options(name, run, **changes), 0, 1)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """All stages, two steps each, every one begun from the one before."""
    found = Runs(tmp_path_factory.mktemp("runs"))
    for name, make in CLASSES.items():
        begin: Any = (lambda stage: stage.export(0)) if name in ("motion", "heads") else None
        run_leg(found.options(name, name), make, begin)
    return found


def take_step(stage: Stage, step: int) -> float:
    loss, parts = stage.loss(step, 0)
    loss.backward()
    for optimizer in stage.optimizers:
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    stage.after_step(step)
    assert loss.dim() == 0 and all(isinstance(value, float) for value in parts.values())
    return float(loss.detach())


def copied(stage: Stage) -> dict[str, dict[str, Tensor]]:
    return {group: {name: t.detach().clone() for name, t in own.items()} for group, own in stage.tensors().items()}


def assert_equal(one: dict[str, dict[str, Tensor]], two: dict[str, dict[str, Tensor]]) -> None:
    assert {group: [*own] for group, own in one.items()} == {group: [*own] for group, own in two.items()}
    for group, own in one.items():
        for name, tensor in own.items():
            assert torch.equal(tensor, two[group][name]), f"{group}: {name}"


def losses(run: Path, stage: str) -> str:
    return (run / f"{stage}-losses.csv").read_text()


@pytest.mark.parametrize("name", CLASSES)
def test_a_stage_inherits_no_other(name: str) -> None:
    made: Any = CLASSES[name]
    assert made.__mro__ == (made, object) and made.name == name


@pytest.mark.parametrize("name", CLASSES)
def test_the_loss_is_a_function_of_the_step_and_the_state(runs: Runs, name: str) -> None:
    stage = runs.stage(name)
    found = [float(stage.loss(step, 0)[0].detach()) for step in (0, 1, 5)]
    torch.manual_seed(123)  # what else is drawn in this process does not matter, nor in which order steps are asked for
    assert [float(stage.loss(step, 0)[0].detach()) for step in (5, 1, 0)] == found[::-1]
    again = runs.stage(name)
    assert [float(again.loss(step, 0)[0].detach()) for step in (0, 1, 5)] == found
    assert float(again.loss(0, 1)[0].detach()) != found[0]  # another rank has frames of its own
    assert json.loads(json.dumps(stage.state)) == stage.state


@pytest.mark.parametrize("name", CLASSES)
def test_what_is_restored_goes_on_as_if_it_had_never_stopped(runs: Runs, name: str) -> None:
    stage = runs.stage(name)
    take_step(stage, 0)
    saved = copied(stage)
    other = runs.stage(name)
    other.restore(saved)
    assert_equal(copied(other), saved)
    assert take_step(stage, 1) == take_step(other, 1)
    assert_equal(copied(other), copied(stage))


@pytest.mark.parametrize("name", CLASSES)
def test_weights_that_do_not_fit_are_named(runs: Runs, name: str) -> None:
    stage = runs.stage(name)
    saved = copied(stage)
    missing = next(iter(saved["model"]))
    del saved["model"][missing]
    with pytest.raises(UserError, match=f"the weights do not fit: {missing}: expected"):
        stage.restore(saved)
    if name == "codec":
        return
    with pytest.raises(UserError, match="the saved state has no ema"):
        stage.restore({group: own for group, own in copied(stage).items() if group != "ema"})
    with pytest.raises(UserError, match="of the optimizers does not fit: 9.0.exp_avg"):
        stage.restore(copied(stage) | {"optimizer": {"9.0.exp_avg": torch.zeros(1)}})


@pytest.mark.parametrize("name", CLASSES)
def test_a_killed_run_that_goes_on_equals_one_that_never_stopped(runs: Runs, tmp_path: Path, name: str) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    runs.train(name, whole, steps=4, save_every=0.0)
    stage = runs.stage(name, killed, steps=4, save_every=0.0)
    loss = stage.loss

    def dies(step: int, rank: int) -> Any:
        if step == 2:
            raise Killed
        return loss(step, rank)

    stage.loss = dies
    with pytest.raises(Killed):
        train(stage, runs.options(name, killed, steps=4, save_every=0.0), 0, 1)
    assert checkpoint.read_config(killed / name)["step"] == 2
    runs.train(name, killed, steps=4, save_every=0.0)
    assert losses(killed, name) == losses(whole, name) and len(losses(whole, name).splitlines()) == 4
    for folder in ("", name):  # the checkpoint and the saved state
        one, two = (checkpoint.read_config(run / folder) for run in (whole, killed))
        assert one == two  # with the checksums of all weights


def test_a_run_that_goes_on_without_its_beginning_keeps_the_budget_that_it_had_from_it(
    runs: Runs, tmp_path: Path
) -> None:
    runs.train("joint", tmp_path, steps=1, budget=None)
    config = checkpoint.read_config(tmp_path)
    assert config["memory"]["budget"] == checkpoint.read_config(runs.root / "memory")["memory"]["budget"] == 40
    runs.train("joint", tmp_path, steps=2, init=None)
    assert checkpoint.read_config(tmp_path)["memory"]["budget"] == 40
    runs.train("joint", tmp_path, steps=3, init=None, budget=52)  # until another one is asked for
    assert checkpoint.read_config(tmp_path)["memory"]["budget"] == 52


@pytest.mark.parametrize("name", CLASSES)
def test_the_run_s_folder_is_a_checkpoint_that_loads(runs: Runs, name: str) -> None:
    folder = runs.root / name
    codec, config = load_codec(folder)
    assert codec.config.height == 48 and config["world"] == "square" and config["buttons"] == ["left", "right"]
    if name == "codec":
        assert config["notes"]["codec_steps"] == 2
        return
    before = list(CLASSES)[1 : list(CLASSES).index(name) + 1]
    assert [(done["stage"], done["steps"]) for done in config["notes"]["stages"]] == [(stage, 2) for stage in before]
    if name == "motion":
        assert config["motion"]["snap"] is True
        return
    world = open_world(load_world(runs.world), checkpoint=folder, threads=1)
    assert world.motion is not None  # handed on from stage to stage
    assert world.mode == ("window" if name == "generator" else "mag")
    assert (world.heads is not None) == (name == "heads")


@pytest.mark.parametrize("name", CLASSES)
def test_a_validation_leaves_something_to_look_at_and_changes_no_weight(runs: Runs, tmp_path: Path, name: str) -> None:
    stage = runs.stage(name, tmp_path)
    before = copied(stage)
    scores = stage.validate(2, tmp_path)
    assert scores == stage.validate(2, tmp_path) and all(float(x) == float(x) for x in scores.values())
    assert [path.name for path in tmp_path.iterdir()] == [PICTURES[name]]
    assert (runs.root / name / PICTURES[name]).exists()
    assert_equal(copied(stage), before)
    line = stage.report(2, scores)
    assert line.startswith("2 steps") and "\n" not in line


@pytest.mark.parametrize("name", CLASSES)
def test_a_run_is_held_to_its_settings_and_to_no_others(runs: Runs, tmp_path: Path, name: str) -> None:
    runs.train(name, tmp_path, steps=1)
    path = tmp_path / name / "config.json"
    config = json.loads(path.read_text())
    assert not NO_MORE.get(name, {}).keys() & config["settings"].keys()
    config["settings"] |= {"no_such_option": 3, **NO_MORE.get(name, {})}  # as an older version wrote it
    path.write_text(json.dumps(config))
    runs.train(name, tmp_path, steps=2)
    assert len(losses(tmp_path, name).splitlines()) == 2
    with pytest.raises(UserError, match="was begun with seed = 0, now it is 1; give the same, or another --run"):
        runs.train(name, tmp_path, steps=3, seed=1)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"stage": "other"}))
    with pytest.raises(UserError, match=f"is no run of stage {name}; choose another --run"):
        runs.train(name, tmp_path, steps=3)


@pytest.mark.parametrize("name", CLASSES)
def test_a_stage_reads_every_option_that_it_has(runs: Runs, tmp_path: Path, name: str) -> None:
    options = runs.options(name, tmp_path, steps=1)
    read: set[str] = set()

    class Recording(type(options)):  # type: ignore[misc]
        def __getattribute__(self, option: str) -> Any:
            # Being checked, or noted among the settings of the run, is not being used.
            if sys._getframe(1).f_code.co_name not in ("check", "chosen", "settings"):
                read.add(option)
            return super().__getattribute__(option)

    def make(*given: Any) -> Stage:
        stage: Stage = CLASSES[name](*given)
        for step in (1000, 1001, 1002, 1003):  # of several kinds, and late enough for all of them
            stage.loss(step, 0)
        return stage

    options.__class__ = Recording
    run_leg(options, make)
    assert {field.name for field in fields(OPTIONS[name])} - read == set()


def test_every_stage_has_options_of_its_own() -> None:
    assert [*OPTIONS] == [*CLASSES]
    assert all(issubclass(options, RunOptions) for options in OPTIONS.values())
    for options in OPTIONS.values():
        others = set(OPTIONS.values()) - {options}
        assert not others & set(options.__mro__)
