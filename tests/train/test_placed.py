"""Training of a world whose only history is places: every stage that it goes through, and what comes out."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engine import checkpoint
from engine.cli import ship
from engine.cli.options import ShipOptions
from engine.config import Geometry, load_world
from engine.errors import UserError
from engine.loading import open_world
from engine.presets import PRESETS, TILE
from engine.train.loop import run_leg, train
from engine.train.options import STAGES as OPTIONS
from engine.train.stages.codec import CodecStage
from engine.train.stages.distill_placed import DistillPlacedStage
from engine.train.stages.generator import GeneratorStage
from engine.train.stages.heads import HeadsStage
from engine.train.stages.motion import MotionStage
from tests.support import training

SPECK = replace(TILE, name="speck", height=48, width=64, channels=24, dim=32, depth=2, heads=2)
CLASSES: dict[str, Any] = {
    "codec": CodecStage,
    "motion": MotionStage,
    "generator": GeneratorStage,
    "distill": DistillPlacedStage,
    "heads": HeadsStage,
}
OWN: dict[str, dict[str, Any]] = {
    "codec": {"preset": "speck"},
    "motion": {"hidden": 16, "features": 4, "batch": 16},
    "generator": {"preset": "speck", "own_frames": 1.0, "batch": 4},
    "distill": {"preset": "speck", "teacher_steps": 4, "stretches": 1, "batch": 8},
    "heads": {"hidden": 16, "validation_frames": 100},
}
DRAWING = ["generator", "distill"]


@pytest.fixture(scope="module", autouse=True)
def speck() -> Iterator[None]:
    """A size as small as tests need."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, "speck", SPECK)
        patch.setattr("engine.train.stages.generator.OWN_FRAMES_FROM", 1)
        yield


class Runs:
    def __init__(self, root: Path) -> None:
        self.root, self.data = root, training.write_data(root / "data", 12, stripes=40)
        self.world = training.write_world(root / "world", Geometry(view="top", step=10.0, snap=True, player=(1, 2)))

    def options(self, name: str, run: str | Path, **changes: Any) -> Any:
        given: dict[str, Any] = {"batch": 2, "threads": 1, "steps": 2, **OWN[name]}
        before = list(CLASSES)[list(CLASSES).index(name) - 1]
        if name in DRAWING:
            given["dtype"] = "float32"
        if name == "generator":
            given["codec"] = self.root / before
        elif name != "codec":
            given["init"] = self.root / before
        return OPTIONS[name](self.data, self.root / run, world=str(self.world), **(given | changes))

    def stage(self, name: str, run: str | Path = "nowhere", **changes: Any) -> Any:
        return CLASSES[name](self.options(name, run, **changes), load_world(self.world), torch.device("cpu"))

    def train(self, name: str, run: str | Path, **changes: Any) -> None:
        train(self.stage(name, run, **changes), self.options(name, run, **changes), 0, 1)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """All stages, two steps each, every one begun from the one before."""
    found = Runs(tmp_path_factory.mktemp("placed"))
    for name, make in CLASSES.items():
        begin: Any = (lambda stage: stage.export(0)) if name in ("motion", "heads") else None
        run_leg(found.options(name, name), make, begin)
    return found


@pytest.mark.parametrize("name", DRAWING)
def test_the_loss_is_a_function_of_the_step_alone(runs: Runs, name: str) -> None:
    stage = runs.stage(name)
    found = [float(stage.loss(step, 0)[0].detach()) for step in (0, 1, 5)]  # with own frames from step 1 on
    torch.manual_seed(123)
    assert [float(stage.loss(step, 0)[0].detach()) for step in (5, 1, 0)] == found[::-1]
    assert float(stage.loss(0, 1)[0].detach()) != found[0]


@pytest.mark.parametrize("name", DRAWING)
def test_a_run_in_two_legs_equals_one_in_one(runs: Runs, tmp_path: Path, name: str) -> None:
    runs.train(name, tmp_path / "whole", steps=4)
    runs.train(name, tmp_path / "legs", steps=2)
    runs.train(name, tmp_path / "legs", steps=4)
    losses = [(tmp_path / run / f"{name}-losses.csv").read_text() for run in ("whole", "legs")]
    assert losses[0] == losses[1] and len(losses[0].splitlines()) == 4
    for folder in ("", name):
        one, two = (checkpoint.read_config(tmp_path / run / folder) for run in ("whole", "legs"))
        assert one == two


def test_what_comes_out_plays_from_places_and_tells_rewards(runs: Runs) -> None:
    world = open_world(load_world(runs.world), checkpoint=runs.root / "heads", threads=1)
    c = world.generator.config
    assert (c.sights, c.window, c.player, c.still_rows) == (True, 0, 6, 0)
    assert world.motion is not None and world.heads is not None and world.mode == "mag"
    world.reset(0, np.full((1, 1, 48, 64, 3), 80, np.uint8))
    frames = [world.step(np.array([0, 1])) for _ in range(3)]
    assert frames[0].shape == (1, 48, 64, 3) and world.reward is not None
    assert [done["stage"] for done in checkpoint.read_config(runs.root / "heads")["notes"]["stages"]] == [
        "motion",
        "generator",
        "distill",
        "heads",
    ]


@pytest.mark.parametrize("name", DRAWING)
def test_a_validation_scores_and_changes_nothing(runs: Runs, tmp_path: Path, name: str) -> None:
    stage = runs.stage(name, tmp_path)
    scores = stage.validate(2, tmp_path)
    assert scores == stage.validate(2, tmp_path) and all(np.isfinite(list(scores.values())))
    assert len(list(tmp_path.iterdir())) == 1 and "\n" not in stage.report(2, scores)


def test_sights_are_learned_from(runs: Runs) -> None:
    stage = runs.stage("generator", batch=16, own_frames=0.0)
    with torch.no_grad():
        for name in ("leave.weight", "modulate.weight", "final.weight"):  # which begin at zero
            stage.trained["generator"][name].normal_(0, 0.1)
    stage.loss(0, 0)[0].backward()
    gradient = stage.trained["generator"]["enter.weight"].grad
    of_sights, of_masks, of_ages = gradient.split((2 * SPECK.channels, 1, 1), 1)
    assert of_sights[:, SPECK.channels :].abs().max() > 0 and of_masks.abs().max() > 0 and of_ages.abs().max() > 0


def test_a_preset_of_places_needs_a_geometry(runs: Runs, tmp_path: Path) -> None:
    plain = training.write_world(tmp_path / "plain")
    options = runs.options("generator", tmp_path / "run", init=None)
    options.world = str(plain)
    with pytest.raises(UserError, match="preset speck draws from places, which need a"):
        GeneratorStage(options, load_world(plain), torch.device("cpu"))


@pytest.mark.parametrize("name", ["memory", "joint"])
def test_there_is_nothing_to_fold_without_a_window(runs: Runs, tmp_path: Path, name: str) -> None:
    from engine.train.stages.joint import JointStage
    from engine.train.stages.memory import MemoryStage

    options: Any = OPTIONS[name]
    options = options(runs.data, tmp_path / "run", world=str(runs.world), preset="speck", init=runs.root / "generator")
    make: Any = {"memory": MemoryStage, "joint": JointStage}[name]
    with pytest.raises(UserError, match="remembers by places, and has no folds to train"):
        make(options, load_world(runs.world), torch.device("cpu"))


def test_a_small_checkpoint_plays_with_nearly_the_same_weights(runs: Runs, tmp_path: Path) -> None:
    ship.run(ShipOptions(runs.root / "heads", tmp_path / "whole"))
    ship.run(ShipOptions(runs.root / "heads", tmp_path / "small", small=True))
    sizes = [sum(p.stat().st_size for p in (tmp_path / name).glob("*.safetensors")) for name in ("small", "whole")]
    assert sizes[0] < 0.8 * sizes[1]
    worlds = [open_world(load_world(runs.world), checkpoint=tmp_path / name, threads=1) for name in ("small", "whole")]
    for one, other in zip(*(world.generator.parameters() for world in worlds), strict=True):
        assert (one - other).float().abs().max() <= 0.02 * other.float().abs().max() + 1e-6
