"""A world with learned motion is drawn, observed, restored and shared at the pose that its last latents say."""

import json

import numpy as np
import pytest
import torch

from engine.model import odometry
from engine.model.motion import Motion, MotionConfig
from engine.world import World
from tests.support.models import shaken
from tests.support.worlds import SHAPE, actions, make_world, pictures, play


def make_motion(tokens: int = SHAPE.tokens, snap: bool = False) -> Motion:
    torch.manual_seed(3)
    return shaken(Motion(MotionConfig(tokens, SHAPE.channels, SHAPE.actions, 4, 8, snap=snap)), seed=4, amount=0.3)


def make(batch: int = 1, **options) -> World:
    return make_world(batch=batch, motion=make_motion(), **options)


def test_each_frame_is_drawn_where_its_last_latents_and_the_buttons_lead() -> None:
    world, motion, moves = make(batch=2), make_motion(), actions(6, 2)
    world.reset([1, 2], pictures(2, 1))
    pose = np.zeros((2, 3))
    for move in moves:
        said = motion.step(world.history.latents, torch.from_numpy(move))
        pose = odometry.moved_by(pose, said)
        world.step(move)
        assert np.array_equal(world.history.pose, pose) and said.any()
    assert world.stats()["pose"] == tuple(pose[0])


def test_observed_frames_move_too_and_a_partial_reset_moves_its_own_worlds_alone() -> None:
    world, motion, acted = make(batch=2), make_motion(), actions(8, 4)
    history = pictures(2, 4)
    world.reset([1, 2], history, acted[:4, :2].swapaxes(0, 1))
    poses = world.history.pose.copy()
    latents = world.codec.encode(torch.from_numpy(history))
    expected = np.zeros((2, 3))
    for i in range(1, 4):
        expected = odometry.moved_by(expected, motion.step(latents[:, i - 1], torch.from_numpy(acted[i, :2])))
    assert np.array_equal(poses, expected)
    world.reset([9, 9], pictures(2, 1, seed=5), only=np.array([False, True]))
    assert np.array_equal(world.history.pose, [poses[0], [0, 0, 0]])


@pytest.mark.parametrize("between", [False, True])
def test_a_snapshot_keeps_where_the_worlds_are_through_a_file_too(between: bool) -> None:
    world, moves = make(batch=2), actions(12, 2)
    world.reset([1, 2], pictures(2, 1))
    play(world, moves[:5])
    if between:
        world.render(moves[5])
    meta, tensors = world.snapshot().state()
    kept = world.snapshot_from(json.loads(json.dumps(meta)), tensors)
    if between:
        world.commit()
    expected, pose = play(world, moves[6:]), world.history.pose.copy()
    world.restore(kept)
    if between:
        world.commit()
    assert np.array_equal(play(world, moves[6:]), expected) and np.array_equal(world.history.pose, pose)


def test_adopted_latents_lead_to_the_same_place() -> None:
    world, moves = make(), actions(8, 1)
    world.reset(1, pictures(1, 1))
    latents: list[torch.Tensor] = []
    poses: list[np.ndarray] = []
    for move in moves:
        world.step(move)
        assert world.latents is not None
        latents.append(world.latents)
        poses.append(world.history.pose.copy())
    world.reset(1, pictures(1, 1))
    for move, drawn, pose in zip(moves, latents, poses, strict=True):
        world.adopt(drawn, move)
        world.commit()
        assert np.array_equal(world.history.pose, pose)


def test_a_motion_model_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="the motion model does not fit the generator"):
        make_world(motion=make_motion(tokens=SHAPE.tokens + 1))
