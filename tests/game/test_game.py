import numpy as np
import pytest

from engine.errors import UserError
from engine.game.game import REWIND_SLOTS, REWIND_STRIDE, Game, Origin, choose_start
from engine.game.headless import default_walk, pad_script, play
from engine.game.timings import Timings
from tests.support.fake_world import BUTTONS, STARTS, FakeWorld


def advance(game: Game, frames: int, *pressed: str) -> np.ndarray:
    for _ in range(frames):
        game.render(pressed)
        game.commit()
    return game.frame


def test_the_seed_picks_the_start_and_a_name_overrules_it() -> None:
    assert [choose_start(STARTS, seed, None) for seed in range(3)] == ["cave", "hall", "cave"]
    assert choose_start(STARTS, 0, "hall") == "hall"


def test_an_unknown_start_names_some_known_ones_and_the_nearest() -> None:
    names = [f"room-{i:02d}" for i in range(30)] + ["great-hall"]
    with pytest.raises(UserError, match=r"known: room-00, .*31 in all.*nearest: 'great-hall'") as caught:
        choose_start(names, 0, "great-hal")
    assert len(str(caught.value)) < 200
    with pytest.raises(UserError, match="no start frames"):
        choose_start([], 0, None)


def test_restarting_shows_the_same_start_or_the_next_and_a_new_seed_after_the_last() -> None:
    game = Game(FakeWorld(), STARTS, seed=0)
    assert np.array_equal(game.restart(), STARTS["cave"])
    advance(game, 3, "forward")
    game.restart(other=True)
    assert (game.start, game.seed, game.index) == ("hall", 0, 0)
    assert np.array_equal(game.frame, STARTS["hall"])
    game.restart(other=True)
    assert (game.start, game.seed) == ("cave", 1)
    game.restart()
    assert (game.start, game.seed) == ("cave", 1)


def test_loading_goes_back_to_the_saved_frame_and_on_from_there() -> None:
    game = Game(FakeWorld(), STARTS)
    game.restart()
    with pytest.raises(UserError, match="nothing is saved"):
        game.load()
    saved = advance(game, 5, "forward").copy()
    game.save()
    expected = advance(game, 3, "turn_left").copy()
    advance(game, 20, "back")
    assert np.array_equal(game.load(), saved) and game.index == 5
    assert np.array_equal(advance(game, 3, "turn_left"), expected)


def test_rewinding_shows_the_past_backwards_until_the_start() -> None:
    game = Game(FakeWorld(), STARTS)
    game.restart()
    seen = {0: game.frame.copy()}
    for i in range(1, 19):
        seen[i] = advance(game, 1, "forward").copy()
    indices = []
    while (frame := game.rewind()) is not None:
        assert np.array_equal(frame, seen[game.index])
        indices.append(game.index)
    assert indices == [16, 12, 8, 4, 0]
    assert np.array_equal(advance(game, 1, "forward"), seen[1])


def test_the_past_is_bounded_in_number_and_in_bytes() -> None:
    world = FakeWorld()
    game = Game(world, STARTS)
    game.restart()
    advance(game, (REWIND_SLOTS + 50) * REWIND_STRIDE)
    steps = 0
    while game.rewind() is not None:
        steps += 1
    assert steps == REWIND_SLOTS - 1

    class Huge(FakeWorld):
        def stats(self) -> dict[str, object]:
            return {**super().stats(), "memory_bytes": 100 * 2**20}

    game = Game(Huge(), STARTS)
    game.restart()
    advance(game, 40)
    assert game.rewind() is None


def test_going_back_keeps_the_memory_mode_that_the_player_chose() -> None:
    game = Game(FakeWorld(), STARTS)
    game.restart()
    game.save()
    advance(game, 8)
    game.set_mode("full")
    advance(game, 1)
    assert game.rewind() is not None and game.world.stats()["mode"] == "full"
    game.load()
    assert game.world.stats()["mode"] == "full"


def test_headless_play_draws_one_frame_for_each_action_and_measures_each() -> None:
    world, frames = FakeWorld(seconds=0.002), list[np.ndarray]()
    actions = pad_script(np.eye(4, dtype=np.uint8)[[0, 0, 2]], 6)
    timings = play(Game(world, STARTS), actions, on_frame=frames.append)
    assert world.actions == [("forward",), ("forward",), ("turn_left",), (), (), ()]
    assert world.calls == ["reset", *(["render", "commit"] * 6)]
    assert len(frames) == 7 and np.array_equal(frames[0], STARTS["cave"])
    figures = timings.summary()
    assert figures["frames"] == 6 and figures["key_to_frame_ms_p50"] >= 2
    assert figures["frame_ms_max"] >= figures["frame_ms_p50"] and 0 < figures["fps"] < 500


def test_headless_play_keeps_to_a_rate() -> None:
    timings = play(Game(FakeWorld(), STARTS), default_walk(BUTTONS, 11), rate=20)
    assert 3 < timings.summary()["fps"] < 25  # never faster; a busy machine may be slower


def test_the_default_walk_uses_what_buttons_there_are() -> None:
    walk = default_walk(("gas", "brake"), 30)
    assert walk.shape == (30, 2) and (walk.sum(1) == 1).all() and walk.sum(0).min() > 0
    walk = default_walk(BUTTONS, 48)
    assert walk.sum(0).tolist() == [24, 0, 12, 12]


def test_timings_leave_out_the_time_that_a_game_stood_still() -> None:
    timings = Timings()
    assert timings.summary()["fps"] is None and timings.rate() == 0
    timings.frame(0.0, 0.05)
    timings.frame(0.1, 0.15)
    timings.interrupt()
    timings.frame(9.0, 9.05)
    timings.frame(9.1, 9.15)
    assert timings.summary()["fps"] == pytest.approx(10) and timings.rate() == pytest.approx(10)


def test_percentiles_are_measured_values_and_presses_count_from_the_press() -> None:
    timings = Timings()
    for i in range(1, 101):
        timings.shown(began=10.0, pressed_at=None, seen=10.0 + i / 1000)
    timings.shown(began=10.0, pressed_at=9.8, seen=10.0)
    figures = timings.summary()
    assert figures["key_to_frame_ms_p50"] == pytest.approx(51)
    assert figures["key_to_frame_ms_p95"] == pytest.approx(96)
    assert figures["press_to_frame_ms_p50"] == pytest.approx(200)


def test_loading_after_a_restart_brings_back_the_start_and_the_seed_of_that_time() -> None:
    game = Game(FakeWorld(), STARTS, seed=1)
    game.restart()
    advance(game, 5, "forward")
    game.save()
    game.restart(other=True)
    assert (game.start, game.seed) == ("cave", 2)
    advance(game, 3)
    game.load()
    assert (game.start, game.seed, game.index) == ("hall", 1, 5)
    assert np.array_equal(game.restart(), STARTS["hall"]) and game.seed == 1


def test_loading_after_a_restart_brings_back_the_moment_that_the_game_went_on_from() -> None:
    world = FakeWorld()
    world.reset(0, STARTS["hall"][None, None])
    origin = Origin(None, world.snapshot(), np.full((48, 64, 3), 7, np.uint8), 33)
    game = Game(world, STARTS, origin=origin)
    game.restart()
    advance(game, 2)
    game.save()
    game.restart(other=True)
    assert game.origin is None and game.index == 0
    game.load()
    assert np.array_equal(game.restart(), origin.frame) and game.index == 33


def test_a_life_ends_where_the_world_says_so_and_restarting_begins_another() -> None:
    game = Game(FakeWorld(ends_at=(5, 7)), STARTS)
    game.restart()
    advance(game, 4)
    assert not game.over
    advance(game, 1)
    assert game.over and game.ends == 1
    assert np.array_equal(game.restart(), STARTS["cave"]) and not game.over
    advance(game, 5)
    assert game.over and game.ends == 2


def test_who_goes_on_after_an_end_is_told_of_the_next_one_but_not_of_the_same_again() -> None:
    game = Game(FakeWorld(ends_at=(3, 4, 5, 9)), STARTS)
    game.restart()
    advance(game, 3)
    game.go_on()
    over = [game.over]
    for _ in range(6):
        advance(game, 1)
        over.append(game.over)
    assert over == [False] * 6 + [True] and game.ends == 2
    game.restart()
    advance(game, 3)
    assert game.over, "a new life knows nothing of how the old one went on"


def test_rewinding_leads_back_into_the_life_and_a_saved_end_stays_one() -> None:
    game = Game(FakeWorld(ends_at=(8,)), STARTS)
    game.restart()
    advance(game, 8)
    game.save()
    assert game.over and game.rewind() is not None
    assert (game.index, game.over) == (4, False)
    advance(game, 1)
    game.load()
    assert (game.index, game.over) == (8, True)
    game.go_on()
    advance(game, 4)
    assert not game.over


def test_a_game_that_goes_on_from_the_end_of_a_life_begins_there() -> None:
    world = FakeWorld()
    world.reset(0, STARTS["hall"][None, None])
    origin = Origin(None, world.snapshot(), STARTS["hall"], 33, over=True)
    game = Game(world, STARTS, origin=origin)
    game.restart()
    assert game.over and game.ends == 0
    game.live_again()
    assert game.over and (game.index, game.seed) == (33, 0), "there is one life from a recorded moment"
    game.restart(other=True)
    assert not game.over


def test_headless_play_begins_anew_from_the_same_start_after_each_end() -> None:
    world, frames = FakeWorld(ends_at=(4,)), list[np.ndarray]()
    game = Game(world, STARTS, start="hall", seed=3)
    timings = play(game, pad_script(np.eye(4, dtype=np.uint8), 10), on_frame=frames.append)
    assert timings.summary()["frames"] == 10 and len(frames) == 11
    assert game.ends == 2 and (game.start, game.seed, game.index) == ("hall", 5, 2), "each life has a seed of its own"
    assert world.calls == ["reset", *["render", "commit"] * 4] * 2 + ["reset", *["render", "commit"] * 2]
