import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest
import torch
from PIL import Image

from engine import cli
from engine.bench.options import HISTORIES, TASKS, RevisitOptions
from engine.bench.revisit import play as revisit_play
from engine.bench.revisit import run as revisit
from engine.bench.revisit import truth as revisit_truth
from engine.bench.revisit.cells import Cell, compared
from engine.bench.revisit.path import Ground
from engine.bench.revisit.path import Path as Walk
from engine.bench.revisit.tasks import LEAD, PLANNERS, REAL, Timetable, fault
from engine.bench.revisit.truth import Visits, visit, visits
from engine.config import load_world
from engine.errors import UserError
from engine.measures import BEST_PSNR, has_flip, psnr
from engine.model.codec import Codec, CodecConfig
from engine.sources import make_source
from tests.support.environments import weights
from tests.support.fake_room import BUTTONS, STRIDE, write_room

NEEDED = "task mode history gap episodes psnr ssim flip psnr_matched cache_bytes frame_ms_p50".split()


def planned(task: str, time: Timetable, seed: int = 0, half: float = 300.0) -> np.ndarray:
    """Poses (T, 4) of a walk in a square room, as planned."""
    ground = Ground(lambda points: (np.abs(points) <= half).all(1), STRIDE)
    path = Walk(np.array([5.0, -7.0, 0.0, 45.0]), ground, BUTTONS, np.random.default_rng(seed))
    PLANNERS[task](path, time)
    headings = [path.angle]
    for pressed in path.pressed:
        turn = ("turn_left" in pressed) - ("turn_right" in pressed)
        headings.append(headings[-1] + 15.0 * turn)
    places = np.array(path.places)
    assert (np.abs(places) <= half).all()
    return np.column_stack((places, np.zeros(len(places)), np.array(headings) % 360.0))


def arguments(folder: Path, **changes: Any) -> RevisitOptions:
    given = RevisitOptions(
        world=str(write_room(folder)),
        gaps="16",
        modes="window,full",
        history="truth,generated",
        episodes=3,
        scored=2,
        batch=2,
        threads=1,
        json=folder / "out" / "r.json",
    )
    return replace(given, **changes)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(("gap", "scored"), [(16, 1), (16, 12), (17, 8), (64, 8), (257, 5)])
def test_a_walk_leaves_for_just_the_gap_and_comes_back_to_the_same_views(task: str, gap: int, scored: int) -> None:
    time = Timetable(gap, scored)
    for seed in range(3):
        poses = planned(task, time, seed)
        assert fault(task, time, poses) is None
        place = poses[time.back, 3]
        apart = np.abs((poses[:, None, 3] - place + 180.0) % 360.0 - 180.0).min(1)
        assert apart[time.away - 1] < 90 and apart[time.begin] < 90  # in sight just before and just after the gap
        assert (apart[time.away : time.begin] >= 90 - 1e-6).all() and time.begin - time.away == gap
        assert (apart[:REAL] >= 90 - 1e-6).all() and time.seen[0] == LEAD


def test_a_spin_turns_on_the_spot_and_a_way_back_is_the_inverse_and_a_loop_is_closed() -> None:
    time = Timetable(64, 8)
    assert np.ptp(planned("spin", time)[:, :2], axis=0).max() == 0
    poses = planned("there-and-back", time)
    assert np.allclose(poses[time.seen[0] :], poses[time.seen[0] :][::-1])
    poses = planned("loop", time)
    assert np.allclose(poses[time.begin - 1, :2], poses[time.seen[0], :2])
    assert np.hypot(*(poses[:, :2] - poses[time.seen[0], :2]).T).max() > 5 * STRIDE


def test_a_walk_that_does_not_come_back_or_stays_in_sight_is_found() -> None:
    time = Timetable(16, 4)
    good = planned("there-and-back", time)
    slid, turned, near = good.copy(), good.copy(), good.copy()
    slid[time.back[2], 0] += 2.0
    turned[time.back[0], 3] += 15.0
    near[time.away + 5, 3] = good[time.back[0], 3] + 75.0
    assert fault("there-and-back", time, good) is None
    assert fault("there-and-back", time, slid) == fault("there-and-back", time, turned)
    assert "does not" in str(fault("there-and-back", time, slid))
    assert "in sight" in str(fault("there-and-back", time, near))
    assert "frames instead of" in str(fault("there-and-back", time, good[:-1]))


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("told", ["true", "false"])
def test_walls_are_avoided_whether_the_source_tells_them_or_they_are_learned(
    tmp_path: Path, task: str, told: str
) -> None:
    config = load_world(write_room(tmp_path, options=f"half = 100.0\ntold = {told}"))
    time = Timetable(40, 4)
    with make_source(config) as env:
        group = next(visits(env, task, time, 0, 3, 3))
    assert group.frames.shape == (3, time.length, 48, 64, 3) and len(set(group.map_seeds.tolist())) == 3
    assert not group.actions[:, 0].any()
    for frames, poses in zip(group.frames, group.poses, strict=True):
        assert fault(task, time, poses) is None
        assert (psnr(frames[time.back], frames[time.matches(task)]) > 14).all()  # noise that may roll by a pixel
        assert (frames[time.back[0]] != frames[time.begin - 1]).any()


def test_a_walk_is_a_function_of_seed_map_task_and_gap(tmp_path: Path) -> None:
    config = load_world(write_room(tmp_path))
    with make_source(config) as env:

        def play(task: str, gap: int, map_seed: int, seed: int) -> np.ndarray:
            found = visit(env, task, Timetable(gap, 4), map_seed, seed)
            assert found is not None
            return found["actions"]

        first = play("there-and-back", 30, 2_000_001, 0)
        play("spin", 30, 2_000_001, 0)
        assert (play("there-and-back", 30, 2_000_001, 0) == first).all()
        for other in (play("there-and-back", 30, 2_000_002, 0), play("there-and-back", 30, 2_000_001, 1)):
            assert (other != first).any()


class Oracle:
    """A world that shows the simulator's frames, darker, and insists on the right history."""

    posed = False

    def __init__(self, truth: Visits, history: str, darker: int = 0) -> None:
        self.truth, self.batch, self.device = truth, len(truth.frames), torch.device("cpu")
        self.codec = Codec(CodecConfig(48, 64, 16, 24, deblock=0))
        self.real = truth.time.begin if history == "truth" else REAL
        self.darker, self.now = darker, 0

    def restore(self, fresh: Any) -> None:
        assert fresh == "fresh"

    def reset(self, seeds: list[int], frames: np.ndarray, actions: np.ndarray) -> None:
        assert seeds == [7 + int(m) for m in self.truth.map_seeds]
        self.now = 0
        self.observe(frames, actions)

    def observe(self, frames: np.ndarray, actions: np.ndarray) -> None:
        span = slice(self.now, self.now + frames.shape[1])
        assert span.stop <= self.real
        assert (frames == self.truth.frames[:, span]).all() and (actions == self.truth.actions[:, span]).all()
        self.now = span.stop

    def step(self, action: np.ndarray) -> np.ndarray:
        assert self.now >= self.real and (action == self.truth.actions[:, self.now]).all()
        self.now += 1
        return self.truth.frames[:, self.now - 1] // 2 + 127 - self.darker

    def stats(self) -> dict[str, Any]:
        return {"memory_bytes": 100 * self.batch}


def noise_visits(task: str = "spin", gap: int = 20, scored: int = 4) -> Visits:
    """Walks whose pictures are noise, equal where the poses are."""
    time, random = Timetable(gap, scored), np.random.default_rng(0)
    frames = random.integers(0, 256, (2, time.length, 48, 64, 3), np.uint8)
    frames[:, time.back] = frames[:, time.matches(task)]
    actions = random.integers(0, 2, (2, time.length, 6)).astype(np.uint8)
    return Visits(task, time, frames, actions, np.zeros((2, time.length, 4)), np.array([2_000_003, 2_000_001]))


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("history", HISTORIES)
def test_the_return_is_drawn_after_the_right_history_and_met_with_the_right_frames(task: str, history: str) -> None:
    truth, done = noise_visits(task), 0

    def advance(frames: int) -> None:
        nonlocal done
        done += frames

    world: Any = Oracle(truth, history)
    played = revisit_play.play(world, "fresh", truth, history, 7, advance)  # type: ignore[arg-type]
    assert done == truth.time.length and played.bytes == 100
    assert len(played.seconds) == truth.time.length - truth.time.begin
    found = revisit_play.scores(truth, played, history)
    assert all(values.shape == (2, 4) for values in found.values())
    if history == "generated":  # the same as at the first sight, though far from the truth
        assert found["psnr"] == pytest.approx(BEST_PSNR) and found["psnr_matched"] == pytest.approx(BEST_PSNR)
        assert (found["psnr_still"] < 20).all() and (found["psnr_truth"] < 20).all()
    else:
        assert (found["psnr"] < 20).all() and found["psnr"] == pytest.approx(found["psnr_truth"])
        assert (found["psnr_matched"] >= found["psnr"] - 1e-4).all()


def test_the_nearest_match_finds_frames_that_come_too_early_and_the_aligned_score_does_not() -> None:
    truth = noise_visits()
    drawn = {int(t): truth.frames[:, t - 1] for t in truth.time.back}  # one frame late
    found = revisit_play.scores(truth, revisit_play.Played(drawn, [], 0.0), "truth")
    assert found["psnr_matched"] == pytest.approx(BEST_PSNR) and (found["psnr"] < 10).all()


def test_what_fills_a_batch_up_is_cut_off_and_batches_are_joined_in_order() -> None:
    parts = [revisit_play.Played({3: np.full((2, 4, 4, 3), i, np.uint8)}, [float(i)], 5.0 + i) for i in range(2)]
    whole = revisit_play.joined([parts[0], revisit_play.cut(parts[1], 1)])
    assert whole.frames[3][:, 0, 0, 0].tolist() == [0, 0, 1] and whole.seconds == [0.0, 1.0] and whole.bytes == 6.0


def test_comparisons_are_paired_by_episode() -> None:
    """Episodes differ wildly, but in each the FLIP is halved and 0.3 dB are lost: the intervals are narrow."""
    random = np.random.default_rng(0)
    flip, level = random.uniform(0.1, 0.9, (30, 4)), random.uniform(10, 30, (30, 4))

    def cell(flips: np.ndarray, levels: np.ndarray, size: float) -> Cell:
        return Cell([{"psnr": levels, "flip": flips}], [0.01, 0.02, 0.09], size, 4)

    cells = {
        ("spin", "truth", 64, "window"): cell(flip, level - 5, 100.0),
        ("spin", "truth", 64, "full"): cell(flip / 2, level + 0.3, 800.0),
        ("spin", "truth", 64, "mag"): cell(flip / 2, level, 50.0),
        ("loop", "truth", 64, "mag"): cell(flip / 2, level, 50.0),
    }
    rows = {row["mode"]: row for row in compared(cells)}
    assert len(compared(cells)) == 3  # nothing to compare in the loop
    mag = rows["mag"]
    assert mag["flip_reduction_vs_window"] == pytest.approx(0.5) and mag["psnr_minus_full"] == pytest.approx(-0.3)
    assert mag["intervals"]["flip_reduction_vs_window"] == pytest.approx([0.5, 0.5])
    assert mag["intervals"]["psnr_minus_full"] == pytest.approx([-0.3, -0.3])
    assert mag["cache_ratio_to_full"] == 16.0 and "flip_reduction_vs_window" not in rows["window"]
    figures = cells["spin", "truth", 64, "mag"].figures()
    assert figures["frame_ms_p50"] == pytest.approx(20.0) and figures["cache_bytes"] == 50.0
    low, high = figures["intervals"]["psnr"]
    assert high - low > 0.5


def test_a_growing_history_gets_smaller_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    args = arguments(tmp_path)
    worlds = revisit.Worlds(args, load_world(args.world))
    world, _ = worlds.get("full", 1)
    frame = 3 * 2 * 12 * 32 * world.dtype.itemsize
    monkeypatch.setattr(revisit, "FULL_BYTES", int(revisit.FULL_GROWTH * frame * 1000 * 5.5))
    assert worlds.batch("full", 4, 1000) == 4 and worlds.batch("full", 16, 1000) == 4
    assert worlds.batch("full", 16, 10**9) == 1 and worlds.batch("window", 16, 10**9) == 16


def test_it_writes_cells_comparisons_a_plot_a_video_and_a_sheet_and_the_same_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = arguments(tmp_path, tasks="there-and-back", video=tmp_path / "v.mp4", sheet=tmp_path / "s.png")
    revisit.run(args)
    printed = capsys.readouterr().out
    assert "there-and-back" in printed and "FLIP saved" in printed and "matched" in printed
    found = json.loads((tmp_path / "out" / "r.json").read_text())
    assert found["complete"] and "--gaps 16" in found["command"] and found["scored"] == 2
    assert len(found["cells"]) == 2 * 2 and len(found["comparisons"]) == 4
    for cell in found["cells"]:
        assert set(NEEDED) <= cell.keys()
        numbers = [name for name in NEEDED[4:] if has_flip() or name != "flip"]
        assert all(isinstance(cell[name], (int, float)) for name in numbers)
        low, high = cell["intervals"]["psnr"]
        assert low <= cell["psnr"] <= high and cell["episodes"] == 3 and len(cell["by_frame"]["psnr"]) == 2
        assert cell["psnr_truth_repeat"] > 14 and cell["psnr_matched"] >= cell["psnr"] - 1e-5
    by_mode = {(c["task"], c["history"], c["gap"], c["mode"]): c for c in found["cells"]}
    one, two = (by_mode["there-and-back", "truth", 16, mode] for mode in ("window", "full"))
    assert one["psnr_codec"] == two["psnr_codec"] and one["cache_bytes"] < two["cache_bytes"]
    assert one["psnr"] != two["psnr"]
    assert Image.open(tmp_path / "out" / "r.png").size[0] > 800
    assert Image.open(tmp_path / "s.png").size[1] > (3 + 5) * 96  # 3 rows for truth, 5 for generated history
    shot = iio.imread(tmp_path / "v.mp4", index=0, plugin="pyav")
    assert shot.shape[1] > 3 * 64 * 4  # truth, window, full
    revisit.run(replace(args, video=None, sheet=None, history="truth", modes="full"))
    again = json.loads((tmp_path / "out" / "r.json").read_text())
    timed = {"frame_ms_p50": 0}
    assert [by_mode["there-and-back", "truth", 16, "full"] | timed] == [cell | timed for cell in again["cells"]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tasks": "spin,lop"}, "unknown task 'lop'; .*nearest: 'loop'"),
        ({"modes": "ful"}, "unknown memory mode 'ful'; .*nearest: 'full'"),
        ({"history": "true"}, "unknown history 'true'; .*nearest: 'truth'"),
        ({"gaps": "8"}, "--gaps must be from 16"),
        ({"gaps": "sixteen"}, "--gaps: expected whole numbers"),
        ({"episodes": 0}, "--episodes must be from 1 to 1000"),
        ({"episodes": 1001}, "--episodes must be from 1 to 1000, not 1001"),
        ({"scored": 13}, "--scored must be from 1 to 12, not 13"),
        ({"batch": 0}, "--batch must be from 1"),
        ({"seed": -1}, "--seed must be 0 or more"),
        ({"steps": 65}, "--steps must be from 1 to 64"),
        ({"video": Path("v.avi")}, "ends in .mp4, .gif"),
        ({"checkpoint": Path("nowhere")}, "nowhere"),
    ],
)
def test_what_cannot_be_measured_is_one_clear_line(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        revisit.run(arguments(tmp_path, **change))
    assert not (tmp_path / "out" / "r.json").exists()


@pytest.mark.parametrize(
    ("buttons", "options", "message"),
    [
        (BUTTONS[:4], "half = 100.0", "no button 'strafe_left', which the task loop needs; leave it out of --tasks"),
        (BUTTONS, "poses = false", "tells no poses"),
        (BUTTONS, "turn = 30.0", "turns by 30.0 degrees; the revisit walks need 15"),
    ],
)
def test_a_source_that_cannot_be_used_is_one_clear_line(
    tmp_path: Path, buttons: tuple[str, ...], options: str, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        revisit.run(arguments(tmp_path, world=str(write_room(tmp_path / "other", buttons, options))))


def test_maps_that_allow_no_walk_are_left_out_and_too_few_are_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(revisit_truth, "pick_maps", lambda *_: np.arange(2_000_000, 2_000_003))
    with pytest.raises(UserError, match="only 0 test maps allow the task spin at gap 16; ask for fewer --episodes"):
        other = write_room(tmp_path / "other", options="ends = 20")
        revisit.run(arguments(tmp_path, world=str(other), tasks="spin"))


def test_two_outputs_of_one_name_are_found_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"r\.png is named for the plot and for the sheet"):
        revisit.run(arguments(tmp_path, sheet=tmp_path / "out" / "r.png"))


def test_a_bad_gap_on_the_command_line_exits_with_status_two(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["bench", "revisit", str(write_room(tmp_path)), "--gaps", "4"]
    assert cli.guarded(lambda: cli.main(words)) == 2
    assert capsys.readouterr().err == "error: --gaps must be from 16 to 100000 frames, not 4\n"


def test_doom_comes_back_to_the_same_pictures_and_its_world_is_measured(tmp_path: Path) -> None:
    pytest.importorskip("vizdoom")
    options = RevisitOptions("doom-plain", checkpoint=weights(), gaps="24", modes="window", episodes=1, scored=3)
    revisit.run(replace(options, threads=1, json=tmp_path / "d.json"))
    cells = json.loads((tmp_path / "d.json").read_text())["cells"]
    assert [cell["task"] for cell in cells] == list(TASKS)
    for cell in cells:
        assert cell["psnr_truth_repeat"] > 40 and cell["psnr_codec"] > 10
        assert 5 < cell["psnr"] < cell["psnr_codec"]
    assert cells[0]["cache_bytes"] > 0
