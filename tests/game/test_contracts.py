"""`Playable` and `Log`: what a game counts on, run by every world that can be played and every log."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.errors import UserError
from engine.game.contracts import Log, Playable
from engine.game.game import STEPS, Game
from engine.game.log import SessionLog
from engine.sources import make_source
from engine.sources.doom.source import DoomEnv
from engine.sources.playable import SourceWorld
from tests.support import fake_source, tiles
from tests.support.fake_log import FakeLog
from tests.support.fake_stairs import stairs
from tests.support.fake_world import FakeWorld
from tests.support.sessions import info_for
from tests.support.worlds import make_world

Opened = tuple[Playable, np.ndarray]  # a world, and a frame that it may begin from


def start_of(world: Any, height: int, width: int) -> Opened:
    return world, np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def play_doom() -> Opened:
    pytest.importorskip("vizdoom")
    return start_of(SourceWorld(DoomEnv(height=48, width=64, map_size=[2, 3], textures="plain")), 48, 64)


WORLDS: dict[str, Callable[[], Opened]] = {
    "model, window": lambda: start_of(make_world(), 32, 48),
    "model, full": lambda: start_of(make_world(memory="full"), 32, 48),
    "model, mag": lambda: start_of(make_world(memory="mag"), 32, 48),
    "model, places": lambda: start_of(tiles.make_world(), tiles.HEIGHT, tiles.WIDTH),
    "simulator": lambda: start_of(SourceWorld(make_source(stairs())), 48, 64),
    "simulator without ends": lambda: start_of(SourceWorld(make_source(fake_source.world())), 48, 64),
    "Doom": play_doom,
    "fake": lambda: start_of(FakeWorld(), 48, 64),
}


@pytest.fixture(params=WORLDS)
def opened(request: pytest.FixtureRequest) -> Iterator[Opened]:
    world, start = WORLDS[request.param]()
    yield world, start
    if isinstance(world, SourceWorld):
        world.env.close()


def begin(opened: Opened, seed: int = 3) -> np.ndarray:
    world, start = opened
    return world.reset(seed, start[None, None])


def moves(world: Playable, count: int, seed: int = 0) -> np.ndarray:
    """Random play, uint8 (count, 1, A)."""
    return np.random.default_rng(seed).integers(0, 2, (count, 1, len(world.buttons)), np.uint8)


def walk(world: Playable, count: int, seed: int = 0) -> np.ndarray:
    """The frames of random play, uint8 (count, 1, H, W, 3)."""
    frames = []
    for held in moves(world, count, seed):
        frames.append(world.render(held))
        world.commit()
    return np.stack(frames)


def copies(world: Playable) -> bool:
    return world.stats()["memory_bytes"] > 0


def test_a_world_has_all_that_a_game_calls(opened: Opened) -> None:
    world, _ = opened
    assert isinstance(world, Playable) and str(world.device)
    assert isinstance(world.buttons, tuple) and len(set(world.buttons)) == len(world.buttons) > 0


def test_frames_are_bytes_of_one_size(opened: Opened) -> None:
    world, start = opened
    first, later = begin(opened), walk(world, 3)
    assert first.dtype == later.dtype == np.uint8 and first.shape == later.shape[1:] == (1, *start.shape)


def test_a_model_begins_with_the_frame_that_it_was_given(opened: Opened) -> None:
    world, start = opened
    assert isinstance(world, SourceWorld) or np.array_equal(begin(opened)[0], start)


def test_the_same_seed_and_actions_show_the_same_frames_again(opened: Opened) -> None:
    world, _ = opened
    first, frames = begin(opened), walk(world, 12)
    walk(world, 3, seed=1)
    assert np.array_equal(begin(opened), first) and np.array_equal(walk(world, 12), frames)


def test_what_the_caller_does_to_a_frame_changes_no_other(opened: Opened) -> None:
    world, _ = opened
    begin(opened)
    frames = walk(world, 6)
    begin(opened)[:] = 0
    for held, expected in zip(moves(world, 6), frames, strict=True):
        frame = world.render(held)
        assert np.array_equal(frame, expected)
        frame[:] = 0
        world.commit()


def test_a_frame_that_is_kept_stays_what_it_was(opened: Opened) -> None:
    world, _ = opened
    kept = begin(opened)
    copy = kept.copy()
    walk(world, 4)
    assert np.array_equal(kept, copy)


def test_the_figures_are_there_and_count_the_frames(opened: Opened) -> None:
    world, _ = opened
    begin(opened)
    before = world.stats()
    walk(world, 4)
    after = world.stats()
    assert after["frames"] == before["frames"] + 4
    for stats in (before, after):
        assert type(stats["memory_bytes"]) is int and stats["memory_bytes"] >= 0
        assert stats["mode"] in stats["modes"] and type(stats["steps"]) is int and stats["steps"] >= 0
        assert stats.get("pose") is None or len(stats["pose"]) == 3


def test_every_mode_and_number_of_steps_can_be_set_in_play(opened: Opened) -> None:
    world, _ = opened
    begin(opened)
    for mode in world.stats()["modes"]:
        world.set_mode(mode)
        assert world.stats()["mode"] == mode
        walk(world, 2)
    for steps in STEPS:
        world.set_steps(steps)
        assert world.stats()["steps"] in (steps, 0)
        walk(world, 1)


def test_a_moment_can_be_come_back_to_as_often_as_wanted_or_there_are_none(opened: Opened) -> None:
    world, _ = opened
    begin(opened)
    walk(world, 7)
    if not copies(world):
        for call in (world.snapshot, lambda: world.restore(None)):
            with pytest.raises(UserError, match="cannot be saved"):
                call()
        return
    moment, mode = world.snapshot(), world.stats()["mode"]
    expected = walk(world, 9, seed=1)
    for other in ("window", mode):
        world.set_mode(other)
        walk(world, 3, seed=2)
        world.restore(moment)
        assert world.stats()["mode"] == mode
        assert np.array_equal(walk(world, 9, seed=1), expected)


def test_whether_a_life_has_ended_is_one_truth_value(opened: Opened) -> None:
    world, _ = opened
    begin(opened)
    for _ in range(2):
        ended = getattr(world, "ended", None)
        assert ended is None or (ended.dtype == bool and ended.shape == (1,) and not ended[0])
        walk(world, 2)


def test_a_game_plays_it(opened: Opened) -> None:
    world, start = opened
    game = Game(world, {"start": start})
    first = game.restart()
    for _ in range(9):
        assert game.render(world.buttons[:1]).shape == first.shape
        game.commit()
    assert (game.rewind() is not None) == copies(world)
    game.set_mode(world.stats()["modes"][-1])
    assert np.array_equal(game.restart(), first)


LOGS: dict[str, Callable[[Path], Log]] = {
    "session": lambda folder: SessionLog(folder, lambda game: info_for(game.world), video=False),  # type: ignore[arg-type]
    "session and video": lambda folder: SessionLog(folder, lambda game: info_for(game.world)),  # type: ignore[arg-type]
    "fake": lambda folder: FakeLog(),
}


@pytest.fixture(params=LOGS)
def log(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Log]:
    before = threading.active_count()
    log = LOGS[request.param](tmp_path / "walk")
    yield log
    log.finish()
    assert threading.active_count() <= before


@pytest.fixture
def game(log: Log) -> Game:
    world, start = start_of(make_world(), 32, 48)
    return Game(world, {"cave": start, "hall": start // 2}, log=log)


def advance(game: Game, frames: int) -> None:
    for _ in range(frames):
        game.render(["forward"])
        game.commit()


def test_a_log_has_all_that_a_game_calls(log: Log) -> None:
    assert isinstance(log, Log) and not log.on
    log.say("a line")


def test_a_log_is_on_from_the_first_beginning(log: Log, game: Game) -> None:
    game.restart()
    assert log.on
    advance(game, 3)
    game.restart(other=True)
    advance(game, 3)
    assert log.on and isinstance(log.wants_state(), bool)


def test_a_log_takes_every_way_that_a_player_goes(log: Log, game: Game) -> None:
    said = list[str]()
    log.say = said.append
    game.restart()
    advance(game, 9)
    game.save()
    advance(game, 2)
    game.load()
    advance(game, 2)
    game.set_mode("full")
    advance(game, 5)
    assert game.rewind(4) is not None
    advance(game, 2)
    game.load()
    game.save()
    advance(game, 1)
    game.restart(other=True)
    advance(game, 2)
    assert log.on and said == []


def test_a_log_says_when_the_mode_was_switched_too_often_and_a_frame_allows_it_again(log: Log, game: Game) -> None:
    game.restart()
    advance(game, 1)
    for number in range(1000):
        if not log.may_switch():
            break
        game.set_mode(("full", "window")[number % 2])
    with pytest.raises(UserError, match="play a frame first"):
        game.set_mode("full")
    advance(game, 1)
    assert log.may_switch()


def test_a_log_bears_a_game_that_ends_before_it_begins(log: Log) -> None:
    log.finish(1.0)


def test_a_game_tells_its_log_in_order() -> None:
    log = FakeLog(every=3)
    game = Game(FakeWorld(), {"start": np.zeros((48, 64, 3), np.uint8)}, log=log)
    game.restart()
    advance(game, 2)
    game.save()
    game.set_mode("full")
    advance(game, 1)
    game.load()
    told = [name for name, _ in log.told]
    assert told == ["restarted", "drawn", "drawn", "switched", "drawn", "went back", "switched"]
    assert [index for name, index in log.told if name == "drawn"] == [1, 2, 3] and len(log.frames) == 3
