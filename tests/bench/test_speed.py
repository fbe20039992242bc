import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from engine.bench import speed, work
from engine.bench.options import SpeedOptions
from engine.config import load_world
from engine.errors import UserError
from engine.history.filling import fill
from engine.loading import open_world
from engine.model.heads import Heads, HeadsConfig
from engine.world import World
from tests.support import tiles
from tests.support.fake_scroll import write_world
from tests.support.tile_world import write_tiles

NEEDED = (
    "frames fps key_to_frame_ms_p50 key_to_frame_ms_p95 frame_ms_p50 frame_ms_p95 frame_ms_p99 frame_ms_max "
    "hitch_ratio hitch_ratio_own repeats memory_bytes matmul_share device preset dtype threads cells"
).split()


def arguments(folder: Path, **changes: Any) -> SpeedOptions:
    given = SpeedOptions(
        world=str(write_world(folder)), frames=12, history="5,40", batches="1,3", json=folder / "s.json"
    )
    return replace(given, **changes)


def opened(folder: Path, batch: int = 2, memory: str = "full") -> World:
    return open_world(load_world(write_world(folder)), batch=batch, memory=memory, dtype="fp32")


def test_it_writes_json_and_a_plot(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speed, "copy_rate", lambda device: 1e10)
    speed.run(arguments(tmp_path))
    printed = capsys.readouterr().out
    assert "key to pixels, ms" in printed and "share of the matrix-product rate" in printed
    found = json.loads((tmp_path / "s.json").read_text())
    assert set(NEEDED) <= found.keys() and found["frames"] == 12 and found["preset"] == "nano"
    assert found["key_to_frame_ms_p50"] <= found["frame_ms_p50"] <= found["frame_ms_p95"] <= found["frame_ms_max"]
    assert found["hitch_ratio"] == pytest.approx(found["frame_ms_max"] / found["frame_ms_p50"], rel=1e-3)
    assert 0 < found["matmul_share"] < 1
    cells = {(e["memory"], e["batch"], e["history"]): e for e in found["cells"]}
    assert cells.keys() == {(m, b, h) for b in (1, 3) for m, h in (("window", None), ("full", 5), ("full", 40))}
    assert cells["full", 3, 5]["memory_bytes"] == 3 * cells["full", 1, 5]["memory_bytes"]
    assert Image.open(tmp_path / "s.png").width > 1000


def test_a_history_that_would_not_fit_is_left_out_with_a_note(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speed, "copy_rate", lambda device: 1e10)
    speed.run(arguments(tmp_path, history="9999999", batches="1", memory="full", frames=2))
    assert "left out: needs" in capsys.readouterr().out
    (entry,) = json.loads((tmp_path / "s.json").read_text())["cells"]
    assert "needs" in entry["note"] and "frame_ms_p50" not in entry


def test_statistics_of_known_times() -> None:
    whole = np.full(200, 0.010)
    whole[50] = 0.025
    found = speed.statistics(whole / 2, whole, batch=4)
    assert found["fps"] == pytest.approx(4 * 200 / 2.015)
    assert found["frame_ms_p50"] == pytest.approx(10) and found["frame_ms_max"] == pytest.approx(25)
    assert found["hitch_ratio"] == pytest.approx(2.5) and found["key_to_frame_ms_p95"] == pytest.approx(5)


def test_the_machine_s_own_hitches_fall_out_of_what_is_timed_again() -> None:
    first, second = np.full(20, 0.010), np.full(20, 0.010)
    first[3] = 0.050  # the machine, once
    first[7] = second[7] = 0.014  # the engine, every time
    assert speed.own_hitch([first]) == pytest.approx(5)
    assert speed.own_hitch([first, second]) == pytest.approx(1.4)


def test_a_filled_history_is_as_long_as_it_says(tmp_path: Path) -> None:
    world = opened(tmp_path)
    speed.begin(world, 0)
    fill(world.history, 70)
    assert world.stats()["frames"] == world.stats()["hot"] == 70
    pixels, whole = speed.timed(world, 3, 0, None, "")
    assert world.stats()["frames"] == 73 and (pixels < whole).all()


def test_a_cell_ends_when_its_time_is_up_but_not_before_five_frames(tmp_path: Path) -> None:
    world = opened(tmp_path)
    speed.begin(world, 0)
    assert len(speed.timed(world, 50, 0, 0.0, "")[0]) == 5


def tiles_world(heads: bool, memory: str, window: int = 0) -> World:
    """A world of tiles with places and motion."""
    shape = replace(tiles.SHAPE, window=window, sink=min(window, 1), clip=window + 1)
    found = Heads(HeadsConfig((0, 1), hidden=16), shape.dim) if heads else None
    return tiles.begun(memory=memory, shape=shape, heads=found)


@pytest.mark.parametrize("memory", ["window", "full", "mag"])
@pytest.mark.parametrize(("heads", "window"), [(False, 0), (True, 0), (False, 3), (True, 3)])
def test_the_operations_of_a_frame_of_tiles_are_those_that_torch_counts(heads: bool, window: int, memory: str) -> None:
    world = tiles_world(heads, memory, window)
    world.step(np.zeros(4, np.uint8))
    expected = work.frame_flops(world)
    with FlopCounterMode(display=False) as counter:
        world.step(np.zeros(4, np.uint8))
    assert counter.get_total_flops() == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("heads", [False, True])
def test_a_frame_that_attends_to_no_history_reads_weights_and_sights_alone(heads: bool) -> None:
    world = tiles_world(heads, "mag")
    c = world.generator.config
    weights = sum(p.numel() * 4 for p in world.generator.parameters())
    sights = c.tokens * (c.channels + 2) * 4
    assert work.history_bytes(world) == 0
    assert work.frame_bytes(world) == (world.steps + heads) * (weights + sights)
    tiles.play(world, tiles.random_actions(30))
    assert work.frame_bytes(world) == (world.steps + heads) * (weights + sights)


def test_a_world_of_tiles_is_timed_in_all_modes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "copy_rate", lambda device: 1e10)
    monkeypatch.setattr(speed, "MAX_BYTES", 1)  # nothing that is attended to grows here, so nothing is left out
    options = {"memory": "window,full,mag", "history": "20", "frames": 6, "repeats": 1}
    (tmp_path / "tiles").mkdir()
    speed.run(arguments(tmp_path, world=str(write_tiles(tmp_path / "tiles")), **options))
    found = json.loads((tmp_path / "s.json").read_text())
    assert found["preset"] == "tile" and 0 < found["matmul_share"] < 1 and found["bandwidth_share"] > 0
    cells = {(e["memory"], e["batch"]): e for e in found["cells"]}
    assert cells.keys() == {(m, b) for m in ("window", "full", "mag") for b in (1, 3)}
    assert all("note" not in e and e["tiles"] > 60 and e["places_bytes"] > 0 for e in cells.values())


@pytest.mark.parametrize("history", [4, 30])
def test_the_operations_of_a_frame_are_those_that_torch_counts(tmp_path: Path, history: int) -> None:
    world = opened(tmp_path, batch=1)  # in a batch the fused kernel attends, which torch does not count
    speed.begin(world, 0)
    fill(world.history, history)
    expected = work.frame_flops(world)
    with FlopCounterMode(display=False) as counter:
        world.step(np.zeros(4, np.uint8))
    assert counter.get_total_flops() == pytest.approx(expected, rel=0.01)


def test_the_bytes_of_a_frame_grow_with_the_history_in_view(tmp_path: Path) -> None:
    world = opened(tmp_path)
    speed.begin(world, 0)
    little = work.frame_bytes(world)
    fill(world.history, 21)
    c = world.generator.config
    kept = 2 * c.depth * c.tokens * c.dim * 4  # keys and values, float32
    assert kept <= work.history_bytes(world) < 1.3 * kept
    assert work.frame_bytes(world) - little == (world.steps + 1) * 20 * 2 * work.history_bytes(world)


def test_rates_are_measured(tmp_path: Path) -> None:
    assert 1e6 < work.product_rate(opened(tmp_path), 0.01) < 1e15
    assert 1e7 < work.copy_rate(torch.device("cpu"), 0.01, megabytes=4) < 1e14


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frames": 0}, "--frames must be 1 or more, not 0"),
        ({"repeats": 0}, "--repeats must be 1 or more, not 0"),
        ({"history": "100,x"}, "--history: expected whole numbers"),
        ({"batches": "0"}, "--batches: expected whole numbers of 1 or more"),
        ({"batches": ""}, "--batches: expected whole numbers"),
        ({"memory": "window,mog"}, "unknown memory mode 'mog'"),
        ({"memory": "mag"}, "needs a checkpoint with a memory model"),
        ({"steps": 65}, "--steps must be from 1 to 64"),
        ({"checkpoint": Path("nowhere")}, "nowhere"),
        ({"world": "doomm"}, "unknown world 'doomm'"),
    ],
)
def test_what_cannot_be_timed_is_one_clear_line(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        speed.run(arguments(tmp_path, **change))
