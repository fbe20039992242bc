import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest

from engine.errors import UserError
from engine.game.controls import Controls
from engine.game.game import Game
from engine.game.worker import Shown, Worker
from tests.support.fake_world import BUTTONS, KEYS, STARTS, FakeWorld

Make = Callable[..., tuple[Worker, FakeWorld, Controls]]


@pytest.fixture
def make() -> Iterator[Make]:
    workers = []

    def build(
        world: FakeWorld | None = None, rate: float = 200, record: Path | None = None, held: str = "", **options: Any
    ) -> Any:
        world = world or FakeWorld()
        controls = Controls(KEYS, BUTTONS)
        worker = Worker(lambda: Game(world, STARTS), controls, rate=rate, **options)
        workers.append(worker)
        controls.press(held)
        if record is not None:
            worker.record(record, 12)
        worker.start()
        return worker, world, controls

    yield build
    for worker in workers:
        assert worker.stop(5.0), "the thread did not end"


def until(true: Callable[[], Any], seconds: float = 20.0) -> Any:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        value = true()
        if value:
            return value
        time.sleep(0.002)
    raise AssertionError("it did not happen in time")


def test_it_shows_the_start_first_and_then_frames(make: Make) -> None:
    shown: list[Shown] = []
    gate = threading.Event()
    worker, _, _ = make(notify=lambda: gate.set())
    until(lambda: worker.ready)
    until(lambda: shown.append(new) if (new := worker.newest()) else len(shown) >= 3)
    assert gate.is_set() and [s.index for s in shown] == sorted({s.index for s in shown})
    assert shown[-1].began is not None and shown[-1].stats["mode"] == "window"


def test_the_keys_are_those_that_are_down_when_a_frame_begins(make: Make) -> None:
    worker, world, controls = make(FakeWorld(seconds=0.05), rate=0)
    until(lambda: worker.timings.frames >= 1)
    controls.press("w")
    controls.press("left")
    controls.release("w")
    until(lambda: ("forward", "turn_left") in world.actions)
    until(lambda: world.actions[-1] == ("turn_left",))
    assert world.actions.count(("forward", "turn_left")) == 1
    # The frame before may only now be handed over.
    shown = until(lambda: new if (new := worker.newest()) and new.taken.buttons == ("turn_left",) else None)
    assert shown.taken.keys == ("left",)


def test_a_frame_is_handed_over_before_it_is_committed(make: Make) -> None:
    class Slow(FakeWorld):
        committing = threading.Event()

        def commit(self) -> None:
            self.committing.set()
            time.sleep(0.3)
            super().commit()

    world = Slow()
    worker, _, _ = make(world, rate=0)
    until(world.committing.is_set)
    assert until(worker.newest, 0.2).index == 1 and world.time == 0


def test_a_press_that_fell_on_an_unseen_frame_is_handed_to_the_next(make: Make) -> None:
    worker, _, controls = make()
    until(lambda: worker.timings.frames >= 1)
    worker.newest()
    at = time.perf_counter()
    controls.press("w", at)
    n = worker.timings.frames
    until(lambda: worker.timings.frames >= n + 5)
    shown = worker.newest()
    assert shown is not None and shown.taken.pressed_at == at
    assert until(worker.newest).taken.pressed_at is None


def test_it_keeps_to_the_rate_and_zero_is_no_limit(make: Make) -> None:
    slow, _, _ = make(rate=50)
    fast, _, _ = make(rate=0)
    until(lambda: slow.timings.frames >= 20)
    assert 20 < slow.timings.rate() < 51  # a busy machine may be slower, and is never faster
    until(lambda: fast.timings.frames >= 20)
    assert fast.timings.rate() > 60


def test_pause_stops_step_draws_one_and_going_on_goes_on(make: Make) -> None:
    worker, world, controls = make()
    until(lambda: worker.timings.frames >= 2)
    worker.pause(True)
    time.sleep(0.1)  # the frame that is being drawn may end
    before = world.time
    time.sleep(0.1)
    assert world.time == before
    worker.step()
    worker.step()
    until(lambda: world.time == before + 2)
    controls.press("s")
    worker.step()
    until(lambda: world.time == before + 3)
    time.sleep(0.05)
    assert world.time == before + 3 and world.actions[-1] == ("back",) and worker.paused
    worker.pause(False)
    until(lambda: world.time > before + 5)


def test_commands_run_between_frames_and_an_error_is_a_message(make: Make) -> None:
    worker, world, _ = make(rate=20)
    until(lambda: worker.timings.frames >= 1)
    worker.pause(True)
    worker.do(lambda game: game.restart(True))
    shown = until(lambda: (new := worker.newest()) and new.start == "hall" and new)
    assert shown.index == 0 and np.array_equal(shown.frame, STARTS["hall"])
    worker.do(lambda game: game.load())
    assert "nothing is saved" in until(worker.message)
    worker.do(lambda game: game.set_mode("full"))
    until(lambda: world.mode == "full")
    worker.check()


def test_rewinding_runs_back_to_the_start_and_play_goes_on_from_there(make: Make) -> None:
    worker, world, _ = make()
    until(lambda: world.time >= 20)
    worker.rewind(True)
    until(lambda: (new := worker.newest()) and new.index == 0)
    assert world.time == 0
    worker.rewind(False)
    until(lambda: world.time >= 3)


def test_a_script_plays_first_and_keys_add_to_it(make: Make) -> None:
    script = np.zeros((3, 4), np.uint8)
    script[:, 2] = 1
    worker, world, _ = make(script=script, limit=5, held="w")
    until(lambda: worker.finished)
    time.sleep(0.05)
    assert world.actions == [("forward", "turn_left")] * 3 + [("forward",)] * 2


@pytest.mark.parametrize("error", [UserError("the weights are gone"), RuntimeError("a mistake")])
def test_an_error_while_drawing_is_raised_where_it_is_asked_for(make: Make, error: Exception) -> None:
    worker, _, _ = make(FakeWorld(fail_at=3, error=error))
    with pytest.raises(type(error), match=str(error)):
        until(worker.check)


def test_an_error_while_opening_is_raised_too() -> None:
    def fail() -> Game:
        raise UserError("no checkpoint")

    worker = Worker(fail, Controls(KEYS, BUTTONS), rate=10)
    worker.start()
    with pytest.raises(UserError, match="no checkpoint"):
        until(worker.check)
    assert worker.stop(5.0) and not worker.ready


def test_it_stops_at_once_also_while_pausing_or_waiting_for_the_rate(make: Make) -> None:
    for rate, pause in ((0, False), (0.05, False), (100, True)):
        worker, world, _ = make(rate=rate)
        until(lambda world=world: "commit" in world.calls)  # type: ignore[misc]
        worker.pause(pause)
        assert worker.stop(3.0)  # far less than the 20 seconds of a frame, with room for a busy machine


def test_a_recording_holds_the_frames_from_the_one_shown_on(make: Make, tmp_path: Path) -> None:
    worker, world, _ = make(limit=12, record=tmp_path / "a.mp4")
    until(lambda: worker.finished)
    assert worker.recorder.on
    worker.stop_recording()
    assert "saved" in until(worker.message) and worker.recorder.saved == [tmp_path / "a.mp4"]
    assert not worker.recorder.on
    assert len(iio.imread(tmp_path / "a.mp4", plugin="pyav")) == 13


def test_a_recording_survives_an_error_and_a_stop(make: Make, tmp_path: Path) -> None:
    broken = FakeWorld(fail_at=5, error=RuntimeError("a mistake"))
    failing, _, _ = make(broken, record=tmp_path / "failed.mp4")
    stopped, _, _ = make(record=tmp_path / "stopped.mp4")
    until(lambda: stopped.recorder.on and stopped.timings.frames > 5)
    assert failing.stop(10.0) and stopped.stop(10.0)
    assert len(iio.imread(tmp_path / "failed.mp4", plugin="pyav")) == 6
    assert len(iio.imread(tmp_path / "stopped.mp4", plugin="pyav")) > 5


def test_a_recording_that_cannot_be_written_is_told_and_play_goes_on(make: Make, tmp_path: Path) -> None:
    worker, world, _ = make()
    worker.record(tmp_path / "nowhere" / "a.mp4", 12)
    assert "there is no folder" in until(worker.message)
    n = world.time
    until(lambda: world.time > n + 3)
    worker.check()


def over(worker: Worker, world: FakeWorld, at: int = 6) -> None:
    """Wait for the end of a life, after which no frame is drawn."""
    until(lambda: worker.over)
    time.sleep(0.05)
    assert world.time == at and worker.newest() is not None


def test_after_the_end_of_a_life_no_frame_is_drawn_until_the_player_says_how_to_go_on(make: Make) -> None:
    worker, world, controls = make(FakeWorld(ends_at=(6,)))
    over(worker, world)
    worker.step()
    controls.press("w")
    controls.release("w")
    time.sleep(0.05)
    assert world.time == 6 and not worker.paused
    worker.go_on()
    until(lambda: world.time > 9)
    assert not worker.over and ("forward",) not in world.actions, "what was pressed meanwhile is not meant for it"


def test_a_restart_or_going_back_ends_the_wait_and_a_held_key_still_counts(make: Make) -> None:
    worker, world, controls = make(FakeWorld(ends_at=(6,)))
    over(worker, world)
    controls.press("w")
    controls.press("s")
    controls.release("s")
    worker.do(lambda game: game.restart(True))
    until(lambda: worker.over and len(world.actions) == 12)
    assert set(world.actions[6:]) == {("forward",)}
    worker.rewind(True)
    until(lambda: not worker.over)
    worker.rewind(False)
    until(lambda: worker.over)
    worker.check()


def test_where_frames_are_counted_nobody_is_waited_for(make: Make) -> None:
    worker, world, _ = make(FakeWorld(ends_at=(6,)), limit=20)
    until(lambda: worker.finished)
    assert worker.timings.frames == 20 and world.time == 2 and world.calls.count("reset") == 4
