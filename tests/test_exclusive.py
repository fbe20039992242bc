"""Of several held buttons only the last counts: one rule, and the same for all who press or keep buttons."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest

from engine.config import WorldConfig, load_world
from engine.data import collect
from engine.data.clips import read_shard
from engine.data.importing import run as import_data
from engine.data.options import CollectOptions, ImportOptions
from engine.envs.env import LociEnv
from engine.envs.record import RecordSession
from engine.envs.source import SourceEnv
from engine.envs.vector import LociVectorEnv
from engine.errors import UserError
from engine.game.game import Game
from engine.sessions.reader import open_session
from engine.sources import make_source
from engine.sources.playable import SourceWorld
from engine.toml import to_toml
from tests.support.environments import NAME, moves, options_with
from tests.support.fake_stairs import stairs
from tests.support.fake_world import STARTS, FakeWorld

BOTH, LAST = np.ones(2, np.uint8), np.array([0, 1], np.uint8)
DOOM = replace(load_world(NAME), exclusive=True)


def exclusive() -> WorldConfig:
    """Stairs, a world of the buttons down and up: both held together go up."""
    return replace(stairs(), exclusive=True)


def heights(source: Any, action: np.ndarray) -> list[int]:
    """Where one comes by holding buttons for three steps."""
    source.reset(seed=0)
    return [int(source.step(action)[0][0, 0, 2]) for _ in range(3)]


def both(frame: np.ndarray, info: Any, rng: Any) -> np.ndarray:
    """A policy that holds both buttons."""
    return BOTH


def last_of(held: np.ndarray) -> np.ndarray:
    """Of each row (n, A) the last button."""
    found = np.zeros_like(held)
    for row, chosen in zip(held, found, strict=True):
        chosen[np.flatnonzero(row)[-1:]] = 1
    return found


def test_a_simulator_heeds_the_last_button() -> None:
    for open_source in (make_source, SourceEnv):
        assert heights(open_source(exclusive()), BOTH) == heights(open_source(stairs()), LAST)
        assert heights(open_source(stairs()), BOTH) != heights(open_source(stairs()), LAST)
    with pytest.raises(UserError, match="source_options must not name 'exclusive'"):
        make_source(replace(stairs(), source_options={"exclusive": True}))


def test_doom_heeds_the_last_button() -> None:
    pytest.importorskip("vizdoom")
    one, other = make_source(DOOM), make_source(replace(DOOM, exclusive=False))
    actions = np.array([[1, 0, 1, 0, 0, 0], [0, 0, 1, 0, 0, 0]], np.uint8)
    for source in (one, other):
        source.reset(options={"map_seed": 0})
    assert np.array_equal(one.step(actions[0])[0], other.step(actions[1])[0])
    one.close()
    other.close()


def test_data_that_is_collected_holds_what_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = CollectOptions(world="stairs", out=tmp_path, frames=40, policy=f"{__name__}:both", split="train")
    monkeypatch.setattr(collect, "load_world", lambda name: exclusive())
    collect.run(options)
    found = read_shard(tmp_path / "train" / "shard-00000.safetensors", ("actions", "episode"))
    inside = found["episode"][1:] == found["episode"][:-1]
    assert (found["actions"][1:][inside].numpy() == LAST).all()
    monkeypatch.setattr(collect, "load_world", lambda name: stairs())
    with pytest.raises(UserError, match="was collected with exclusive = True, now it is False"):
        collect.run(options)


def test_play_that_is_imported_holds_what_counted(tmp_path: Path) -> None:
    (tmp_path / "stairs.toml").write_text(to_toml(exclusive()))
    iio.imwrite(tmp_path / "a.mp4", np.zeros((6, 48, 64, 3), np.uint8), plugin="pyav", codec="libx264", fps=12)
    rows = [["down", "up"], ["down"], [1, 1], [0, 0], ["up", "down"], ["up"]]
    (tmp_path / "a.actions.ndjson").write_text("\n".join(map(json.dumps, rows)))
    import_data(ImportOptions((tmp_path,), world=str(tmp_path / "stairs.toml"), out=tmp_path / "data"))
    found = read_shard(tmp_path / "data" / "train" / "shard-00000.safetensors", ("actions",))["actions"]
    assert found.tolist() == [[0, 1], [1, 0], [0, 1], [0, 0], [0, 1], [0, 1]]


def test_a_game_draws_with_and_logs_what_counted() -> None:
    world = FakeWorld()
    world.exclusive = True  # type: ignore[attr-defined]
    game = Game(world, STARTS)
    game.restart()
    game.render(("forward", "turn_left"))
    assert world.actions == [("turn_left",)] and game.action.tolist() == [0, 0, 1, 0]
    simulator = Game(SourceWorld(make_source(exclusive())), {"start": np.zeros((48, 64, 3), np.uint8)})
    simulator.restart()
    simulator.render(("down", "up"))
    assert simulator.action.tolist() == [0, 1]


def test_environments_draw_with_what_counted_alone_and_in_a_batch() -> None:
    held = moves(2, 4)
    env, plain = LociEnv(DOOM, **options_with()), LociEnv(NAME, **options_with())
    many, plainly = (LociVectorEnv(2, world, **options_with()) for world in (DOOM, NAME))
    for one in (env, plain, many, plainly):
        one.reset(seed=3)
    for action in held:
        assert np.array_equal(env.step(action[0])[0], plain.step(last_of(action)[0])[0])
        assert np.array_equal(many.step(action)[0], plainly.step(last_of(action))[0])
    assert env.exclusive and many.exclusive and not plain.exclusive and not plainly.exclusive


def test_a_recorded_environment_keeps_what_counted(tmp_path: Path) -> None:
    for env in (LociEnv(DOOM, **options_with()), SourceEnv(exclusive())):
        folder = tmp_path / type(env).__name__
        recorded = RecordSession(env, folder)
        recorded.reset(seed=0)
        count = len(env.buttons)
        recorded.step(np.ones(count, np.int8))
        recorded.close()
        assert open_session(folder).action(1).tolist() == [0] * (count - 1) + [1]
