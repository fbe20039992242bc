"""Where frames of a world with places are seen from: told, or found by what was seen before."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.support.tiles import MOVING, SHAPE, STEPS, Country, begun, by_keys, make_world, play, pressed, random_actions

C = SHAPE.channels


BLOCKED = [(0, 0), (1, 0), (1, 0), (1, 0), (2, 0), (2, 1), (2, 1), (1, 1)]
KEYS = ("", "east", "east", "east", "east", "north", "north", "west")


def test_observed_frames_are_found_where_they_were_seen_from_when_motion_is_wrong() -> None:
    world = make_world()  # whose motion believes that nothing ever stops the player
    world.reset(0, Country().frames(BLOCKED), pressed(*KEYS))
    assert np.array_equal(world.history.pose, [[1, 1, 0]])
    for i in range(1, len(BLOCKED)):
        world.reset(0, Country().frames(BLOCKED[:i]), pressed(*KEYS[:i]))
        world.observe(Country().frames(BLOCKED[i : i + 1]), pressed(KEYS[i]))
        assert tuple(world.history.pose[0, :2]) == BLOCKED[i]


def test_the_usual_step_is_found_where_motion_says_that_the_way_is_blocked() -> None:
    motion = by_keys()
    with torch.no_grad():
        motion.leave.weight.zero_()
    world = make_world(motion=motion)
    path = [(0, 0), (1, 0), (1, 1), (1, 1), (0, 1)]
    world.reset(0, Country().frames(path), pressed("", "east", "north", "north", "west"))
    assert np.array_equal(world.history.pose, [[0, 1, 0]])


def test_a_creature_that_walks_along_does_not_take_the_player_with_it() -> None:
    country = Country()
    for x in range(-9, 9):
        for y in range(-9, 9):
            country.changes[x, y] = 5  # a field
    world = make_world()
    country.changes[1, 1] = 7
    world.reset(0, country.frames([(0, 0)]))
    country.changes[1, 1], country.changes[2, 1] = 5, 7
    world.observe(country.frames([(1, 0)]), pressed("east"))
    assert np.array_equal(world.history.pose, [[1, 0, 0]])


def test_in_the_dark_frames_are_where_motion_says_and_the_map_stays() -> None:
    world, country = make_world(), Country()
    world.reset(0, country.frames([(0, 0), (1, 0)]), pressed("", "east"))
    bright = world.history.sights(world.history.pose)
    dark = np.stack([country.frame(1, 0, dark=True), country.frame(2, 0, dark=True)])[None]
    world.observe(dark, pressed("", "east"))
    assert np.array_equal(world.history.pose, [[2, 0, 0]])
    after = world.history.sights(np.array([[1.0, 0, 0]]))
    assert bright is not None and after is not None
    assert torch.equal(after[0, MOVING, :C], bright[0, MOVING, :C])


@pytest.mark.parametrize("width", [3, 4])
def test_true_poses_are_taken_as_they_are_told(width: int) -> None:
    path = [(3, 4), (4, 4), (9, 9), (9, 10)]
    poses = np.zeros((1, 4, width))
    poses[0, :, :2] = path
    frames = Country().frames(path)
    world = make_world()
    world.reset(0, frames[:, :2], pressed("", "west"), poses=poses[:, :2])
    assert np.array_equal(world.history.pose, [[1, 0, 0]])
    saved = world.snapshot_from(*world.snapshot().state())
    for _ in range(2):
        world.observe(frames[:, 2:3], pressed("west"), poses[:, 2:3])
        world.observe(frames[:, 3:], pressed("west"), poses[:, 3:])
        assert np.array_equal(world.history.pose, [[6, 6, 0]])
        world.restore(saved)
    world.reset(0, frames[:, :1])  # nobody told; from here on somebody does
    world.observe(frames[:, 1:2], pressed("east"), poses[:, 1:2])
    world.observe(frames[:, 2:3], pressed("east"), poses[:, 2:3])
    assert np.array_equal(world.history.pose, [[6, 5, 0]])


def test_true_poses_of_worlds_in_a_batch_have_origins_of_their_own() -> None:
    world, country = make_world(2), Country()
    frames = np.concatenate([country.frames([(0, 0), (1, 0)]), country.frames([(5, 5), (5, 6)])])
    poses = np.array([[[0, 0, 0], [1, 0, 0]], [[5, 5, 0], [5, 6, 0]]], np.float64)
    world.reset(0, frames, pressed("", "east", batch=2), poses=poses)
    assert np.array_equal(world.history.pose, [[1, 0, 0], [0, 1, 0]])
    moved = poses + np.array([100, 100, 0])
    moved[1] = np.nan  # of the world that goes on nothing is told
    world.reset(0, frames, pressed("", "east", batch=2), np.array([True, False]), moved)
    assert np.array_equal(world.history.pose, [[1, 0, 0], [0, 1, 0]])
    told = np.array([[[102, 100, 0]], [[5, 7, 0]]], np.float64)
    world.observe(frames[:, 1:], pressed("east", batch=2), told)
    assert np.array_equal(world.history.pose, [[2, 0, 0], [0, 2, 0]])


@pytest.mark.parametrize("bad", ["shape", "width", "nan", "far"])
def test_true_poses_that_cannot_be_are_refused_and_nothing_is_lost(bad: str) -> None:
    world = begun()
    expected = world.snapshot().state()[1]
    poses = {
        "shape": np.zeros((1, 2, 3)),
        "width": np.zeros((1, 1, 2)),
        "nan": np.full((1, 1, 3), np.nan),
        "far": np.full((1, 1, 3), 1e12),
    }[bad]
    with pytest.raises(ValueError, match="world: "):
        world.reset(0, Country().frames([(0, 0)]), poses=poses)
    found = world.snapshot().state()[1]
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_keys_alone_serve_where_there_is_no_motion() -> None:
    steps = tuple((x, y, 0.0) for x, y in STEPS)
    shape = replace(SHAPE, dim=64, motion=steps)
    world = make_world(shape=shape, motion=None)
    world.reset(0, Country().frames(BLOCKED), pressed(*KEYS))
    assert np.array_equal(world.history.pose, [[1, 1, 0]])
    play(world, random_actions(5))
