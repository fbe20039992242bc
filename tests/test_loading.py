"""Opening worlds, pictures and checkpoints, whole and broken."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine.config import Geometry, WorldConfig, load_world
from engine.errors import UserError
from engine.loading import fitted, load_codec, load_starts, open_world
from engine.model.heads import HeadsConfig
from engine.model.motion import MotionConfig
from tests.support.tiles import write_world
from tests.support.weights import CHANNELS, write_weights

CONFIG = load_world("doom-plain")


def write_checkpoint(folder: Path, **changes) -> Path:
    return write_weights(folder, CONFIG.buttons, **changes)


def test_a_checkpoint_opens_as_a_world_that_plays(tmp_path: Path) -> None:
    world = open_world(CONFIG, checkpoint=write_checkpoint(tmp_path), threads=1, batch=2, memory="full", steps=1)
    world.reset(0, np.zeros((2, 1, 48, 64, 3), np.uint8))
    assert world.step(np.zeros(6, np.uint8)).shape == (2, 48, 64, 3)
    assert (world.mode, world.steps) == ("full", 1)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"buttons": ["fire"]}, r"trained for buttons \['fire'\]"),
        ({"generator": None}, "has no generator"),
        ({"codec": 3}, "has no codec"),
        ({"generator": {"dim": 7}}, "generator"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_named(tmp_path: Path, changes: dict, says: str) -> None:
    with pytest.raises(UserError, match=says):
        open_world(CONFIG, checkpoint=write_checkpoint(tmp_path, **changes), threads=1)


def test_weights_that_do_not_fit_their_config_are_named(tmp_path: Path) -> None:
    write_checkpoint(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["generator"]["depth"] = 7
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="generator: blocks.2.* is missing"):
        open_world(CONFIG, checkpoint=tmp_path, threads=1)
    config["codec"]["channels"] = 32
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"codec: the weights do not fit: basis: expected \(768, 32\)"):
        load_codec(tmp_path)


def test_a_world_with_geometry_needs_a_motion_model_that_fits(tmp_path: Path) -> None:
    config = replace(CONFIG, geometry=Geometry(view="first-person", step=24.0))
    with pytest.raises(UserError, match=r"has no motion, which the \[geometry\] of doom-plain needs; make one with"):
        open_world(config, checkpoint=write_checkpoint(tmp_path / "none"), threads=1)
    for tokens, says in ((12, ""), (13, "its motion model does not fit its generator")):
        folder = write_checkpoint(tmp_path / str(tokens), steps=MotionConfig(tokens, CHANNELS, 6, hidden=8))
        if says:
            with pytest.raises(UserError, match=says):
                open_world(config, checkpoint=folder, threads=1)
            continue
        for found in (config, CONFIG):  # a world without geometry takes it all the same
            world = open_world(found, checkpoint=folder, threads=1)
            world.reset(0, np.zeros((1, 1, 48, 64, 3), np.uint8))
            world.step(np.ones(6, np.uint8))
            assert world.posed and world.history.pose.any()
    damaged = json.loads((folder / "config.json").read_text())
    del damaged["motion"]["channels"]
    (folder / "config.json").write_text(json.dumps(damaged))
    with pytest.raises(UserError, match="motion: missing 'channels'"):
        open_world(config, checkpoint=folder, threads=1)


def test_a_world_with_places_remembers_without_a_memory_model(tmp_path: Path) -> None:
    config = write_world(tmp_path)
    for memory, mode in (("auto", "mag"), ("window", "window"), ("full", "full")):
        world = open_world(config, threads=1, memory=memory)
        assert world.mode == mode and world.modes == ("window", "full", "mag")
        world.reset(0, np.zeros((1, 1, 144, 144, 3), np.uint8))
        assert world.step(np.eye(4, dtype=np.uint8)[0]).shape == (1, 144, 144, 3)
        assert world.stats()["tiles"] >= 62


@pytest.mark.parametrize(
    ("geometry", "options", "says"),
    [
        (None, {}, r"trained for a world that is seen from above; tiles has no \[geometry\] with view = 'top'"),
        (Geometry(view="first-person"), {}, r"seen from above; tiles has no \[geometry\] with view = 'top'"),
        (
            Geometry(view="top", player=(3, 3), still_rows=1),
            {},
            r"with the player at \[3, 4\] and 2 still rows, the \[geometry\] of tiles says \[3, 3\] and 1",
        ),
        (Geometry(view="top", player=(3, 4), still_rows=2), {"steps": None}, "has no motion"),
        (
            Geometry(view="top", player=(3, 4), still_rows=2, snap=False),
            {},
            r"has a motion of whole steps, the \[geometry\] of tiles says snap = false",
        ),
    ],
)
def test_places_that_do_not_fit_the_geometry_are_named(
    tmp_path: Path, geometry: Geometry | None, options: dict, says: str
) -> None:
    config = replace(write_world(tmp_path, **options), geometry=geometry)
    with pytest.raises(UserError, match=says) as caught:
        open_world(config, threads=1)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("part", "name", "value"),
    [
        *[("generator", name, value) for name in ("dim", "heads", "depth", "rows", "mlp") for value in (0, 10**9)],
        ("generator", "window", 10**9),
        *[("codec", name, value) for name in ("patch", "height", "deblock") for value in (-16, 10**9)],
        *[("motion", name, value) for name in ("hidden", "features") for value in (0, 10**9)],
        *[("heads", name, value) for name in ("hidden", "buckets") for value in (0, 10**9)],
    ],
)
def test_a_network_whose_file_claims_a_nonsense_size_is_not_built(
    tmp_path: Path, part: str, name: str, value: int
) -> None:
    config = write_world(tmp_path, heads=(HeadsConfig((0, 1)), 0.0))
    path = config.checkpoint_path / "config.json"
    damaged = json.loads(path.read_text())
    damaged[part][name] = value
    path.write_text(json.dumps(damaged))
    with pytest.raises(UserError, match=f"{part}: .*{name}") as caught:
        open_world(config, threads=1)
    assert "\n" not in str(caught.value)


def test_a_world_is_opened_in_the_preset_of_its_checkpoint(tmp_path: Path) -> None:
    rich = load_world("doom")
    folder = write_checkpoint(tmp_path)
    with pytest.raises(UserError, match="draws 48x64 pixels, doom has 96x128"):
        open_world(rich, checkpoint=folder, threads=1)
    world = open_world(fitted(rich, folder), checkpoint=folder, threads=1)
    assert (world.height, world.width) == (48, 64)
    assert fitted(rich, None) == rich


def test_a_missing_checkpoint_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="none"):
        open_world(CONFIG, checkpoint=tmp_path / "none", threads=1)


def test_every_world_has_start_frames() -> None:
    for name in ("doom", "doom-plain"):
        config = load_world(name)
        starts = load_starts(config)
        shape = (config.shape.height, config.shape.width, 3)
        assert len(starts) >= 16 and all(frame.shape == shape for frame in starts.values())
        assert list(starts) == sorted(starts)


def test_a_world_without_start_frames_asks_for_a_picture() -> None:
    bare: WorldConfig = replace(CONFIG, starts="")
    with pytest.raises(UserError, match="--image"):
        load_starts(bare)
