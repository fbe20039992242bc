"""Errands: walks that leave a place and come back, scored in worlds that draw right, wrong, or from a lost place."""

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("crafter")

from engine.bench.options import RevisitOptions
from engine.bench.revisit import chart
from engine.bench.revisit import run as revisit
from engine.bench.revisit.errand import RETURN, SETTLE, ErrandTime, fault
from engine.bench.revisit.errands import Errands
from engine.bench.revisit.play import Played, play, scores
from engine.bench.revisit.tasks import REAL
from engine.bench.revisit.truth import Visits
from engine.bench.tiles.atlas import overlap, tiles_of
from engine.bench.tiles.reader import TileReader
from engine.config import load_world
from engine.errors import UserError
from engine.measures import BEST_PSNR, mean_seen
from engine.sources.crafter.source import BUTTONS, CrafterEnv
from tests.support.fake_room import write_room
from tests.support.simulated_world import SimulatedWorld
from tests.support.tile_world import remembering, write_tiles

AREA = 40
TIME = ErrandTime(24, 2)


@lru_cache
def errands() -> Errands:
    return Errands(TileReader(), BUTTONS, seed=0)


@lru_cache
def walks() -> Visits:
    return next(errands().visits(CrafterEnv(area=AREA, length=0), TIME, 2, 2))


def played(history: str, given: bool = False, **world: Any) -> tuple[Played, dict[str, float], SimulatedWorld]:
    """Play the errands in a simulated world; returns the means of what was scored, too."""
    visits = walks()
    stand_in: Any = SimulatedWorld(2, AREA, well=True, **world)
    player = errands().walkers(visits) if history == "generated" else None
    found = play(stand_in, "fresh", visits, history, 0, lambda frames: None, player, given)  # type: ignore[arg-type]
    walked = None if player is None else player.tiles
    scored = scores(visits, found, history) | chart.scores(errands().reader, visits, found, walked)
    return found, {name: float(mean_seen(values.ravel())) for name, values in scored.items()}, stand_in


def test_a_walk_leaves_the_place_by_a_real_way_with_steps_that_are_blocked_and_comes_back() -> None:
    visits = walks()
    assert visits.frames.shape == (2, TIME.length, 144, 144, 3) and TIME.begin - TIME.away == TIME.gap
    assert len(set(visits.map_seeds.tolist())) == 2
    blocked = steps = 0
    for e in range(2):
        tiles = tiles_of(visits.poses[e])
        assert fault(TIME, tiles) is None
        home = tiles[SETTLE]
        assert not any(overlap(home, tile) for tile in [*tiles[:REAL], *tiles[TIME.away : TIME.begin]])
        assert {tiles[t] for t in (*TIME.seen, *TIME.back)} == {home}
        pressed = visits.actions[e, 1:, :4].any(1)
        steps += pressed.sum()
        blocked += (pressed & (np.array(tiles[1:]) == np.array(tiles[:-1])).all(1)).sum()
        assert len(set(tiles[TIME.away : TIME.begin])) > 3
    assert 0.03 * steps < blocked < 0.6 * steps


def test_the_same_seed_gives_the_same_errand() -> None:
    again = next(errands().visits(CrafterEnv(area=AREA, length=0), TIME, 1, 1))
    assert np.array_equal(again.actions[0], walks().actions[0])
    assert np.array_equal(again.frames[0, TIME.begin], walks().frames[0, TIME.begin])


@pytest.mark.parametrize("history", ["truth", "generated"])
def test_a_world_that_draws_the_simulator_is_found_perfect(history: str) -> None:
    found, scored, _ = played(history)
    assert scored["map_consistency"] == 1.0 and scored["finished"] > 0
    if history == "truth":
        assert scored["pose_exact"] == scored["pose_exact_back"] == 1.0 and scored["psnr"] == pytest.approx(BEST_PSNR)
        assert min(found.frames) >= TIME.begin - 6
    else:
        assert np.isnan(scored["pose_exact"]) and min(found.frames) == SETTLE


def test_wrong_tiles_are_found_and_so_is_a_lost_pose() -> None:
    _, scored, _ = played("truth", wrong=0.2)
    assert 0.7 < scored["map_consistency"] < 0.9 and scored["pose_exact"] == 1.0
    _, scored, _ = played("truth", lost=1.0)
    assert scored["pose_exact"] == scored["pose_exact_back"] == 0.0
    _, scored, _ = played("generated", wrong=0.1)
    assert np.isnan(scored["map_consistency"]) or scored["map_consistency"] < 0.95


def test_a_world_of_places_that_draws_what_it_remembers_is_consistent_and_knows_where_it_is() -> None:
    scored = {}
    for memory in ("full", "window"):
        visits = walks()
        world = remembering(errands().reader.named, 2, memory)
        found = play(world, world.snapshot(), visits, "truth", 0, lambda frames: None)
        scored[memory] = chart.scores(errands().reader, visits, found, None)
    assert scored["full"]["pose_exact"].mean() == 1.0
    assert scored["full"]["map_consistency"].mean() == 1.0
    assert scored["window"]["map_consistency"].mean() < 0.8
    told = play(world, world.snapshot(), visits, "truth", 0, lambda frames: None, given=True)
    assert chart.scores(errands().reader, visits, told, None)["pose_exact"].mean() == 1.0


def test_true_poses_are_told_where_that_is_asked_for() -> None:
    *_, world = played("truth", given=True)
    told = np.concatenate(world.poses_told, 1)
    assert told.shape[1] == TIME.begin and not told[:, 0].any()
    assert np.array_equal(np.round(told[0, :, :2]), np.array(tiles_of(walks().poses[0])[: TIME.begin]))
    *_, world = played("truth")
    assert world.poses_told == []


def test_a_picture_of_the_place_as_it_was_somewhere_else_is_not_consistent() -> None:
    visits, reader = walks(), errands().reader
    elsewhere = Played({TIME.length - 1: visits.frames[:, TIME.begin - 1]}, [0.0], 0.0)
    assert np.nanmean(chart.scores(reader, visits, elsewhere, None)["map_consistency"]) < 0.9
    here = Played({TIME.length - 1: visits.frames[:, TIME.length - 1]}, [0.0], 0.0)
    assert np.nanmean(chart.scores(reader, visits, here, None)["map_consistency"]) == 1.0


def test_a_walk_that_does_not_keep_to_its_timetable_is_told_why() -> None:
    tiles = tiles_of(walks().poses[0])
    home = tiles[SETTLE]
    away = TIME.away + 3
    assert fault(TIME, tiles[:-1]) == f"{TIME.length - 1} frames instead of {TIME.length}"
    assert fault(TIME, [*tiles[:away], home, *tiles[away + 1 :]]) == "the place is in sight while it should be away"
    assert fault(TIME, [home, *tiles[1:]]) == "the place was in sight in the first frames"
    assert fault(TIME, [*tiles[:-1], (99, 99)]) == "the player does not stand at the place"
    assert TIME.back[0] == TIME.begin + RETURN and len(TIME.kept) == len(set(TIME.kept))


def test_the_bench_runs_errands_of_a_world_of_random_weights(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = RevisitOptions(
        str(write_tiles(tmp_path, AREA)),
        threads=1,
        gaps="16",
        modes="window",
        history="truth,generated",
        episodes=1,
        scored=2,
        json=tmp_path / "r.json",
        sheet=tmp_path / "sheet.png",
        video=tmp_path / "film.mp4",
    )
    revisit.run(options)
    assert "map consistency" in capsys.readouterr().out
    found = json.loads((tmp_path / "r.json").read_text())
    cells = {cell["history"]: cell for cell in found["cells"]}
    truth = cells["truth"]
    assert truth["task"] == "errand" and 0 <= truth["map_consistency"] < 0.9 and truth["finished"] == 1.0
    assert truth["pose_exact"] in (0.0, 1.0) and truth["pose_exact_back"] in (0.0, 1.0)
    own = cells["generated"]
    assert own["psnr_truth"] is None and own["pose_exact"] is None
    assert own["finished"] == 1.0 or own["psnr"] is None  # who does not come back has nothing to compare
    assert all((tmp_path / name).stat().st_size > 1000 for name in ("r.png", "sheet.png", "film.mp4"))


def test_a_world_that_attends_to_no_frames_plays_all_walks_of_a_group_at_once(tmp_path: Path) -> None:
    options = RevisitOptions(str(write_tiles(tmp_path)), threads=1)
    worlds = revisit.Worlds(options, load_world(options.world))
    assert worlds.batch("full", 16, 100_000) == worlds.batch("window", 16, 100_000) == 16


def test_a_world_without_tiles_has_no_errands(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no world of tiles, which the task errand needs"):
        revisit.run(RevisitOptions(str(write_room(tmp_path)), tasks="spin,errand"))
