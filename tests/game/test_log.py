"""A recorded game: each way that the player took is a session, and each is drawn again bit for bit."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.errors import UserError
from engine.game.game import Game
from engine.game.headless import play
from engine.game.log import SessionLog
from engine.game.resume import ends_at
from engine.model.heads import Heads, HeadsConfig
from engine.sessions.info import MAX_SWITCHES, SessionInfo
from engine.sessions.reader import open_session
from engine.sessions.replay import Pictures, Replayer, verify
from engine.world import World
from tests.support.sessions import info_for, moves, record
from tests.support.worlds import BUTTONS, SHAPE, actions, make_world, pictures


class Player:
    """Plays a recorded game, and keeps what it saw of each session."""

    def __init__(self, folder: Path) -> None:
        self.world = make_world()
        starts = {"cave": pictures(1, 1)[0, 0], "hall": pictures(1, 1, 4)[0, 0]}
        self.log = SessionLog(folder, lambda game: info_for(game.world), video=False)  # type: ignore[arg-type]
        self.game = Game(self.world, starts, seed=3, start="cave", log=self.log)
        self.rng = np.random.default_rng(0)
        self.seen: dict[str, dict[int, np.ndarray]] = {}

    def play(self, frames: int) -> None:
        for _ in range(frames):
            pressed = [button for button in BUTTONS if self.rng.random() < 0.4]
            frame = self.game.render(pressed)
            self.game.commit()
            self.seen.setdefault(self.log.sessions[-1].name, {})[self.game.index] = frame

    def check(self) -> None:
        self.log.finish()
        assert self.log.failed is None
        again = make_world()
        for path in self.log.sessions:
            session = open_session(path)
            assert session.ended and verify(session, again).differs is None, path
            shown, seen = Pictures(session, again.codec), self.seen.get(path.name, {})
            assert sorted(seen) == list(range(session.first + 1, session.last + 1))
            assert all(np.array_equal(shown.frame(index), frame) for index, frame in seen.items())


def begun(folder: Path, frames: int) -> Player:
    """A recorded game that has been played so far."""
    player = Player(folder)
    player.game.restart()
    player.play(frames)
    return player


def test_going_back_makes_branches_and_restarting_makes_sessions(tmp_path: Path) -> None:
    player = begun(tmp_path / "walk", 30)
    game = player.game
    game.save()
    player.play(7)
    game.load()
    player.play(5)  # walk-2, from 30
    assert game.rewind(20) is not None and game.index == 30  # no older moment is kept after F8
    game.set_mode("full")
    player.play(9)  # walk-3, from walk at 30
    game.rewind()
    game.rewind()
    at = game.index
    game.world.set_steps(1)
    player.play(6)  # walk-4, from walk-3
    game.save()
    game.restart(other=True)
    player.play(12)  # walk-5, a root
    game.load()
    game.load()
    player.play(4)  # walk-6, from walk-4's end
    game.save()
    game.load()
    player.play(4)  # it never left: no branch
    player.check()
    names = [path.name for path in player.log.sessions]
    assert names == ["walk", *(f"walk-{n}" for n in range(2, 7))]
    parents = {path.name: open_session(path).info.parent for path in player.log.sessions}
    found = {name: (parent.folder, parent.frame) if parent else None for name, parent in parents.items()}
    assert found == {
        "walk": None,
        "walk-2": ("walk", 30),
        "walk-3": ("walk", 30),
        "walk-4": ("walk-3", at),
        "walk-5": None,
        "walk-6": ("walk-4", at + 6),
    }
    assert open_session(tmp_path / "walk-6").last == at + 6 + 8


def test_a_mode_that_changed_before_saving_and_after_loading_is_drawn_again(tmp_path: Path) -> None:
    player = begun(tmp_path / "walk", 20)
    player.game.set_mode("full")
    player.game.save()
    player.play(10)
    player.game.set_mode("window")
    player.game.load()
    player.play(10)
    player.check()


def test_ten_seconds_are_gone_back_in_no_time(tmp_path: Path) -> None:
    player = begun(tmp_path / "walk", 150)
    player.game.rewind(120)
    assert player.game.index == 28
    player.play(3)
    player.check()
    assert open_session(tmp_path / "walk-2").info.parent is not None


def test_a_recording_that_fails_is_told_once_and_play_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    player, said = Player(tmp_path / "walk"), list[str]()
    player.log.say = said.append
    player.game.restart()
    player.play(10)

    def fail(self: object, *arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("engine.sessions.writer.SessionWriter.write", fail)
    player.play(3)
    while not said:
        pass
    player.game.rewind()
    player.play(3)
    player.game.restart()
    player.play(3)
    player.log.finish()
    assert len(said) == 1 and "no space left" in said[0] and not player.log.on
    assert open_session(tmp_path / "walk").last >= 1


def test_what_was_recorded_can_be_gone_on_from_by_another_game(tmp_path: Path) -> None:
    player = begun(tmp_path / "walk", 40)
    player.check()
    replayer = Replayer(open_session(tmp_path / "walk"), make_world())
    assert np.array_equal(replayer.go_to(33), player.seen["walk"][33])


@pytest.mark.parametrize("before", ["saved", "loaded", "both"])
def test_a_mode_that_was_set_where_the_player_saved_and_came_back_is_in_the_log(tmp_path: Path, before: str) -> None:
    player = begun(tmp_path / "walk", 20)
    game = player.game
    game.set_mode("full")
    if before != "loaded":
        game.set_mode("window")  # what is gone stays gone: the way counts, and not only its end
        game.set_mode("full")
    game.save()
    if before != "saved":
        game.set_mode("window")
    game.load()
    player.play(20)
    player.check()
    expected = {"saved": ("full", "window", "full"), "loaded": ("full", "window"), "both": ("full", "window", "full")}
    assert open_session(tmp_path / "walk").change(21)[0][: len(expected[before])] == expected[before]
    assert player.log.sessions == [tmp_path / "walk"]


def test_modes_set_at_an_old_moment_are_in_the_branch_alone(tmp_path: Path) -> None:
    player = begun(tmp_path / "walk", 20)
    game = player.game
    game.save()
    player.play(5)
    game.load()
    game.set_mode("full")
    game.save()  # at frame 20 of walk, where a branch would begin
    game.set_mode("window")
    player.play(6)  # walk-2
    game.load()
    player.play(6)  # walk-3
    player.check()
    assert [open_session(path).info.memory for path in player.log.sessions] == ["window", "window", "full"]
    assert [open_session(path).change(21)[0] for path in player.log.sessions] == [(), ("full", "window"), ("window",)]


def test_no_more_modes_are_set_before_a_frame_than_a_session_may_hold(tmp_path: Path) -> None:
    player = begun(tmp_path / "walk", 12)
    game = player.game
    for number in range(MAX_SWITCHES):
        game.set_mode(("full", "window")[number % 2])
    game.save()
    with pytest.raises(UserError, match="play a frame first"):
        game.set_mode("full")
    assert game.world.stats()["mode"] == "window"
    game.load()
    with pytest.raises(UserError, match="play a frame first"):
        game.set_mode("full")
    player.play(4)
    game.set_mode("full")
    game.load()
    player.play(4)
    player.check()
    assert len(open_session(tmp_path / "walk").change(13)[0]) == MAX_SWITCHES


def mortal(frames: int, share: float) -> World:
    """A world in which about this share of the first frames of random play are told to be the end of a life."""
    torch.manual_seed(0)
    heads = Heads(HeadsConfig((0, 1), hidden=16, buckets=9), SHAPE.dim)
    with torch.no_grad():
        heads.termination.weight.add_(torch.randn_like(heads.termination.weight))
    world = make_world(heads=heads)
    world.reset(3, pictures(1, 1))
    told = []
    for held in actions(frames):
        world.step(held)
        assert world.termination is not None
        told.append(float(world.termination[0]))
    heads.config = replace(heads.config, threshold=float(np.quantile(told, 1 - share)))
    return world


def test_a_life_that_ends_and_begins_anew_is_a_session_each_and_drawn_again(tmp_path: Path) -> None:
    world = mortal(40, 0.1)

    def info(game: Game) -> SessionInfo:
        return replace(info_for(world), seed=game.seed)

    log = SessionLog(tmp_path / "walk", info, video=False)
    game = Game(world, {"cave": pictures(1, 1)[0, 0]}, seed=3, log=log)
    seen = list[np.ndarray]()
    play(game, actions(40)[:, 0], on_frame=seen.append)
    log.finish()
    sessions = [open_session(path) for path in log.sessions]
    assert 1 <= game.ends <= 20 and len(sessions) == game.ends + 1 - game.over
    assert sum(session.last for session in sessions) == 40
    shown = [Pictures(s, world.codec).frame(i) for s in sessions for i in range(1, s.last + 1)]
    assert np.array_equal(shown, seen[1:])
    assert all(verify(session, mortal(1, 0.1)).differs is None for session in sessions)


def test_whether_a_life_ends_with_a_recorded_frame_is_found_also_where_its_state_was_stored(tmp_path: Path) -> None:
    world = mortal(132, 0.5)
    record(tmp_path / "walk", 132, world=world)
    session = open_session(tmp_path / "walk")
    world.reset(3, pictures(1, 1))
    told = [False]
    for held in moves(132):
        world.step(held)
        told.append(bool(world.ended[0]))
    assert session.has_keyframe(128) and 10 < sum(told) < 123
    for frame in (0, 1, 127, 128, 129, 132):
        Replayer(session, world).go_to(frame)
        assert ends_at(session, world, frame) == told[frame]
