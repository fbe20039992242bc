"""Sessions of worlds with places: drawn again bit for bit, rewound, branched, and as compact as others."""

from pathlib import Path

import numpy as np
import pytest
import torch

from engine.errors import UserError
from engine.game.game import Game
from engine.model.generator import GeneratorConfig
from engine.sessions.reader import open_session
from engine.sessions.replay import Replayer, verify
from engine.sessions.store import chunk_name, keyframe_name, read_tensors, write_tensors
from engine.world import World
from tests.support.sessions import branch, record
from tests.support.tiles import SHAPE, WITH_WINDOW, Country, make_world

START = Country().frames([(0, 0)])
SHAPES = pytest.mark.parametrize("shape", [SHAPE, WITH_WINDOW], ids=["places alone", "with a window"])


@SHAPES
@pytest.mark.parametrize("memory", ["window", "mag"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_session_is_drawn_again_bit_for_bit_from_any_frame(
    tmp_path: Path, shape: GeneratorConfig, memory: str, dtype: torch.dtype
) -> None:
    def opened() -> World:
        return make_world(memory=memory, shape=shape, dtype=dtype)

    def switched(i: int) -> tuple[str, ...]:
        return {40: ("full",), 90: ("window", "mag")}.get(i, ())

    _, seen = record(tmp_path / "walk", 170, world=opened(), start=START, before=switched)
    session, world = open_session(tmp_path / "walk"), opened()
    assert session.has_keyframe(128)
    assert verify(session, world).differs is None
    assert verify(session, world, 77, 150).frames == 74
    replayer = Replayer(session, world)
    for index in (145, 3, 128, 95, 169):
        assert np.array_equal(replayer.go_to(index), seen[index])
        assert np.array_equal(replayer.step(), seen[index + 1])


def test_latents_take_two_bytes_a_number_where_two_are_computed_with(tmp_path: Path) -> None:
    record(tmp_path / "walk", 20, world=make_world(dtype=torch.bfloat16), start=START)
    _, tensors = read_tensors(tmp_path / "walk", chunk_name(1), 2**28)
    assert tensors["latents"].dtype == torch.bfloat16


def test_a_branch_goes_on_from_the_map_of_its_moment(tmp_path: Path) -> None:
    world = make_world()
    recorder, _ = record(tmp_path / "walk", 60, world=world, start=START)
    replayer = Replayer(open_session(tmp_path / "walk"), world)
    replayer.go_to(33)
    own = branch(tmp_path / "walk-2", recorder, world, 33, 25, seed=8)
    session, other = open_session(tmp_path / "walk-2"), make_world()
    assert verify(session, other).differs is None
    assert np.array_equal(Replayer(session, other).go_to(58), own[-1])


def test_rewinding_and_loading_forget_what_was_seen_since() -> None:
    world = make_world()
    game = Game(world, {"start": START[0, 0]}, seed=3)
    game.restart()
    plan = [("east",), ("north",), ("west",), ("dig",), ()] * 4

    def play(steps: list[tuple[str, ...]]) -> list[np.ndarray]:
        frames = []
        for held in steps:
            frames.append(game.render(held))
            game.commit()
        return frames

    play(plan)
    game.save()
    tiles, expected = world.stats()["tiles"], play(plan[3:])
    assert world.stats()["tiles"] > tiles
    game.load()
    assert world.stats()["tiles"] == tiles
    assert np.array_equal(play(plan[3:]), expected)
    game.rewind(10)
    at, moment = game.index, world.snapshot()
    once = play(plan)
    game.rewind(game.index - at)
    assert game.index == at and world.stats()["tiles"] <= tiles + 40
    world.restore(moment)
    assert np.array_equal(play(plan), once)


def test_a_damaged_map_in_a_keyframe_is_one_line(tmp_path: Path) -> None:
    _, seen = record(tmp_path / "walk", 130, world=make_world(), start=START)
    session, name = open_session(tmp_path / "walk"), keyframe_name(128)
    meta, tensors = read_tensors(tmp_path / "walk", name, 2**28)
    tensors["cache.places.0.tiles"][0, 2] = 5000
    write_tensors(tmp_path / "walk" / name, tensors, meta)
    with pytest.raises(UserError, match=r"the state of frame 128 does not fit \(history: the frame numbers in the map"):
        Replayer(session, make_world()).go_to(129)
    assert np.array_equal(Replayer(session, make_world()).go_to(100), seen[100]), "what lies before it is not lost"
