"""Any Gymnasium environment as a source."""

import gymnasium as gym
import numpy as np
import pytest

from engine.errors import UserError
from engine.sources import make_source
from engine.sources.gymnasium_source import GymnasiumSource, shrink
from tests.train.fake_source import Square, world


def wrap(**options):
    return GymnasiumSource(Square(), ("left", "right"), 24, 32, **options)


def test_frames_are_the_rendered_pictures_in_the_asked_size():
    frame, _ = wrap().reset(seed=3)
    assert frame.shape == (24, 32, 3) and frame.dtype == np.uint8
    assert frame[0, 0].tolist() == [3, 0, 128]


def test_buttons_are_actions_in_order_and_the_first_held_counts():
    source = wrap()
    source.reset(seed=0)
    for action, place in (([0, 1], 129), ([1, 0], 128), ([0, 0], 128), ([1, 1], 127)):
        frame, *_ = source.step(np.array(action))
        assert frame[0, 0, 2] == place


def test_named_actions_are_used():
    source = wrap(actions={"left": 2, "right": 1})
    source.reset(seed=0)
    assert source.step(np.array([1, 0]))[0][0, 0, 2] == 129


def test_map_seed_is_the_seed():
    source = wrap()
    assert np.array_equal(source.reset(options={"map_seed": 9})[0], source.reset(seed=9)[0])


def test_buttons_that_do_not_fit_are_an_error():
    with pytest.raises(UserError, match="'right'"):
        wrap(actions={"left": 1})
    with pytest.raises(UserError, match="7"):
        wrap(actions={"left": 7, "right": 1})


def test_an_unknown_source_is_an_error():
    with pytest.raises(UserError, match="cannot be opened"):
        make_source(world(source="Dooom-v0"))


def test_make_source_opens_a_registered_environment():
    env = make_source(world())
    assert env.reset(seed=1)[0].shape == (48, 64, 3)
    assert isinstance(env.action_space, gym.spaces.MultiBinary)
    env.close()


def test_a_picture_shrinks_to_the_mean_and_grows_by_the_nearest():
    picture = np.array([[0, 10, 20], [20, 30, 40]], np.uint8)[..., None].repeat(3, 2)
    assert shrink(picture, 1, 1)[0, 0].tolist() == [20, 20, 20]
    assert shrink(picture, 2, 2)[..., 0].tolist() == [[0, 15], [20, 35]]
    assert shrink(picture, 4, 3)[:, 0, 0].tolist() == [0, 0, 20, 20]
