from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine.bench import truth
from engine.config import load_world
from engine.errors import UserError
from engine.sources.splits import SPLITS
from tests.support.fake_scroll import BUTTONS, write_world

DOOM = ("forward", "back", "turn_left", "turn_right", "strafe_left", "strafe_right")


def test_buttons_make_axes_and_single_buttons() -> None:
    axes = truth.axes_of(("fire", "back", "forward", "jump"))
    assert [axis.name for axis in axes] == ["forward/back", "fire", "jump"]
    actions = np.array([[0, 0, 1, 0], [1, 1, 0, 0], [0, 1, 1, 1]])
    assert truth.directions(axes, ("fire", "back", "forward", "jump"), actions).tolist() == [
        [1, 0, 0],
        [-1, 1, 0],
        [0, 0, 1],
    ]


def test_pressed_is_the_inverse_of_directions() -> None:
    axes = truth.axes_of(DOOM)
    random = np.random.default_rng(0)
    for _ in range(50):
        chosen = truth.held_directions(random, axes)
        assert truth.directions(axes, DOOM, truth.pressed(axes, DOOM, chosen)).tolist() == chosen


def test_motion_is_seen_from_the_player() -> None:
    poses = np.array([[0, 0, 0, 90], [0, 24, 0, 90], [-24, 24, 0, 90], [-24, 24, 0, 345], [-24, 24, 0, 0]], float)
    expected = [[24, 0, 0], [0, 24, 0], [0, 0, -105], [0, 0, 15]]
    assert truth.motion(poses) == pytest.approx(np.array(expected, float), abs=1e-6)


def test_steps_into_a_wall_and_along_it_are_not_free() -> None:
    axes = truth.axes_of(DOOM)
    actions = np.zeros((6, 6), np.uint8)
    actions[:, 0] = 1  # forward
    poses = np.zeros((7, 4))
    poses[:, 0] = [0, 24, 48, 72, 72, 80, 104]  # the 4th is stopped, the 5th slides
    poses[5:, 1] = 15
    wanted = truth.directions(axes, DOOM, actions)
    assert truth.free_steps(axes, wanted, poses).tolist() == [True, True, True, False, False, True]


def test_without_poses_every_step_counts() -> None:
    axes = truth.axes_of(BUTTONS)
    wanted = np.ones((3, 5, 2), np.int8)
    assert truth.free_steps(axes, wanted, np.zeros((3, 6, 4))).all()


def test_maps_are_different_ones_of_their_split_and_depend_on_the_seed() -> None:
    maps = truth.pick_maps("test", 100, 0)
    assert len(set(maps.tolist())) == 100 and all(int(m) in SPLITS["test"] for m in maps)
    assert maps.tolist() == truth.pick_maps("test", 100, 0).tolist() != truth.pick_maps("test", 100, 1).tolist()
    with pytest.raises(UserError, match="from 1 to 1000 maps"):
        truth.pick_maps("test", 1001, 0)


@pytest.mark.parametrize("how", ["walk", "held"])
def test_episodes_are_a_function_of_map_and_seed(tmp_path: Path, how: str) -> None:
    config = load_world(write_world(tmp_path))
    one = truth.play_episodes(config, (48, 64), [5, 6], 20, 0, how)
    two = truth.play_episodes(config, (48, 64), [6], 20, 0, how)
    assert one.frames.shape == (2, 20, 48, 64, 3) and one.there.all()
    assert (one.frames[1] == two.frames[0]).all() and (one.actions[1] == two.actions[0]).all()
    assert not (one.actions[0] == one.actions[1]).all() and not one.actions[:, 0].any()


def test_an_episode_that_ends_early_is_filled_up_and_marked(tmp_path: Path) -> None:
    config = load_world(write_world(tmp_path, ends=6))
    played = truth.play_episodes(config, (48, 64), [1, 2], 10, 0, "held")
    assert played.lengths.tolist() == [7, 7] and played.there.sum(1).tolist() == [7, 7]
    assert (played.frames[:, 7:] == played.frames[:, 6:7]).all() and not played.actions[:, 7:].any()


def test_a_part_of_episodes_knows_what_of_it_is_real(tmp_path: Path) -> None:
    config = load_world(write_world(tmp_path, ends=6))
    played = truth.play_episodes(config, (48, 64), [1, 2], 10, 0, "held")
    later = played.part(4, 5)
    assert (later.frames == played.frames[:, 4:9]).all() and (later.actions == played.actions[:, 4:9]).all()
    assert later.lengths.tolist() == [3, 3] and played.part(0, 4).there.all()


def test_held_play_in_doom_mostly_moves_freely_and_in_all_directions() -> None:
    pytest.importorskip("vizdoom")
    config = replace(load_world("doom-plain"), source="doom")
    played = truth.play_episodes(config, (48, 64), [3, 4, 5], 60, 0, "held")
    axes = truth.axes_of(config.buttons)
    wanted = truth.directions(axes, config.buttons, played.actions)[:, 1:]
    free = truth.free_steps(axes, wanted, played.poses)
    assert 0.6 < free.mean() < 1
    for k in range(3):
        assert {-1, 0, 1} <= set(wanted[free][:, k].tolist())
