"""Any Gymnasium environment as a source."""

import sys
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest

from engine.errors import UserError
from engine.sources import make_source
from engine.sources.gymnasium.source import ActionTable, GymnasiumSource, part_of
from tests.support.fake_source import Square, world
from tests.support.fake_stairs import TOP, Stairs

SPACES = gym.spaces


def wrap(**options):
    return GymnasiumSource(Square(), ("left", "right"), 24, 32, **options)


def pressed(table: ActionTable, *names: str):
    return table.action(np.array([name in names for name in table.buttons]))


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


def test_frames_that_are_skipped_hold_the_button_and_their_rewards_are_summed():
    source = GymnasiumSource(Stairs(), ("down", "up"), 24, 32, frame_skip=3)
    source.reset(seed=0)
    frame, reward, terminated, truncated, _ = source.step(np.array([0, 1]))
    assert frame[0, 0, 2] == 123 and reward == 7.5 and not (terminated or truncated)
    assert source.step(np.array([1, 0]))[1] == -3.0


def test_skipping_stops_at_the_end_of_the_episode():
    source = GymnasiumSource(Stairs(), ("down", "up"), 24, 32, frame_skip=8)
    source.reset(seed=0)
    assert source.step(np.array([0, 1]))[1:4] == (20.0, False, False)
    frame, reward, terminated, truncated, _ = source.step(np.array([0, 1]))
    assert (frame[0, 0, 2], reward, terminated, truncated) == (TOP, 5.0, True, False)
    source.reset(seed=0)
    for _ in range(2):
        source.step(np.array([0, 0]))
    assert source.step(np.array([0, 0]))[1:4] == (-4.0, False, True)


@pytest.mark.parametrize("skip", [0, -1, 1.5, True, "4", 10**9])
def test_a_skip_that_makes_no_sense_is_an_error(skip):
    with pytest.raises(UserError, match="frame_skip must be a number from 1"):
        wrap(frame_skip=skip)


def test_buttons_held_together_take_the_action_that_has_most_of_them():
    actions = {"up": 1, "fire": 2, "left": 3, "up+fire": 5, "fire+left": 6}
    table = ActionTable(SPACES.Discrete(8), ("up", "fire", "left"), actions, 0)
    assert [pressed(table), pressed(table, "up"), pressed(table, "fire", "up"), pressed(table, "left", "fire")] == [
        0,
        1,
        5,
        6,
    ]
    assert pressed(table, "up", "left") == 1 and pressed(table, "up", "fire", "left") == 5
    for number in (0, 1, 2, 3, 5, 6):
        assert table.action(table.buttons_of(number)) == number
    with pytest.raises(UserError, match="no button of this world makes .* 7"):
        table.buttons_of(7)


@pytest.mark.parametrize(
    ("space", "actions", "idle"),
    [
        (SPACES.MultiDiscrete([3, 2]), {"slow": [1, 0], "fast": [2, 0], "jump": [0, 1]}, [0, 0]),
        (SPACES.MultiBinary(3), {"slow": [1, 0, 0], "fast": [1, 1, 0], "jump": [0, 0, 1]}, 0),
        (SPACES.Box(-1, 1, (2,)), {"slow": [0.5, 0], "fast": [1, 0], "jump": [0, -1]}, [0.0, 0.0]),
    ],
)
def test_buttons_of_an_array_change_their_own_entries(space, actions, idle):
    table = ActionTable(space, ("slow", "fast", "jump"), actions, idle)
    assert np.array_equal(pressed(table), np.zeros(space.shape))
    both = pressed(table, "slow", "jump")
    assert np.array_equal(both, np.add(actions["slow"], actions["jump"])) and space.contains(both)
    assert np.array_equal(pressed(table, "jump", "fast"), np.add(actions["fast"], actions["jump"]))
    assert np.array_equal(table.buttons_of(np.array(actions["jump"])), [0, 0, 1])
    assert not table.buttons_of(pressed(table)).any()


def test_the_first_of_two_buttons_of_one_axis_counts():
    table = ActionTable(SPACES.Box(-1, 1, (1,)), ("low", "high"), {"high": [1], "low": [-1]}, [0])
    assert pressed(table, "low", "high") == [-1]


@pytest.mark.parametrize(
    ("space", "actions", "message"),
    [
        (SPACES.Discrete(3), {"left": 1, "right": 3}, "3 of 'right' is not in the environment's Discrete"),
        (SPACES.Discrete(3), {"left": 1, "right": 1.5}, "1.5 of 'right'"),
        (SPACES.Discrete(3), {"left": 1, "right": "up"}, "'up' of 'right'"),
        (SPACES.Discrete(3), {"left": 1, "right": 2, "left+jump": 0}, "'left.jump' is no button"),
        (SPACES.MultiDiscrete([2, 2]), {"left": [1, 0], "right": [0, 2]}, "of 'right' is not in"),
        (SPACES.MultiDiscrete([2, 2]), {"left": [1, 0], "right": [1]}, "of 'right' is not in"),
        (SPACES.MultiDiscrete([2, 2]), None, "must give an action for the button 'left'"),
        (SPACES.MultiBinary(5), None, "has .5,. buttons, the world 2"),
        (SPACES.Box(-np.inf, np.inf, (2,)), {}, "cannot be made of buttons; expected Discrete"),
        (SPACES.Dict({"a": SPACES.Discrete(2)}), {}, "actions Dict cannot be made of buttons"),
        (SPACES.Text(4), None, "actions Text cannot be made of buttons"),
    ],
)
def test_actions_that_do_not_fit_are_one_clear_line(space, actions, message):
    with pytest.raises(UserError, match=message) as error:
        ActionTable(space, ("left", "right"), actions, 0)
    assert "\n" not in str(error.value)


def test_a_way_to_fit_that_there_is_not_is_an_error():
    with pytest.raises(UserError, match="fit must be one of stretch, pad, crop, not 'squeeze'"):
        wrap(fit="squeeze")


def test_a_part_of_the_picture_can_be_shown():
    picture = np.arange(12, dtype=np.uint8).reshape(3, 4, 1)
    assert part_of(picture, (0.5, 1 / 3, 1, 1))[..., 0].tolist() == [[6, 7], [10, 11]]
    assert part_of(picture, (0, 0, 1, 1)) is picture
    assert part_of(picture, (0.999, 0.999, 1, 1)).tolist() == [[[11]]]
    source = wrap(region=[0, 0.5, 0.25, 1])
    assert source.reset(seed=3)[0].shape == (24, 32, 3)


@pytest.mark.parametrize("region", [[0, 0, 0, 1], [0, 0.5, 1, 0.2], [0, 0, 1], [0, 0, 1, 2], "all", None, 3])
def test_a_part_that_is_none_is_an_error(region):
    with pytest.raises(UserError, match="region must be .left, top, right, bottom."):
        wrap(region=region)


class Pixels(Stairs):
    """Shows its picture as the observation, and renders nothing."""

    metadata = {"render_modes": ["ansi"]}  # noqa: RUF012
    observation_space: gym.Space = SPACES.Box(0, 255, (10, 12), np.uint8)  # type: ignore[assignment]

    def __init__(self, render_mode=None):
        super().__init__(render_mode)

    def reset(self, **options):
        super().reset(**options)
        return np.full((10, 12), self.place, np.uint8), {}

    def step(self, action):
        _, *rest = super().step(action)
        return np.full((10, 12), self.place, np.uint8), *rest


class Words(Pixels):
    observation_space = SPACES.Discrete(4)


class Fails(Stairs):
    def render(self):
        return None


def register(name, kind):
    if name not in gym.registry:
        gym.register(name, entry_point=kind, disable_env_checker=True)
    return name


def test_an_environment_that_only_observes_pictures_is_a_source():
    env = make_source(world(source=register("LociTest/Pixels-v0", Pixels)))
    frame, _ = env.reset(seed=2)
    assert frame.shape == (48, 64, 3) and (frame == 122).all()
    assert (env.step(np.array([0, 1]))[0] == 123).all()


def test_environments_without_pictures_are_errors():
    with pytest.raises(UserError, match="shows no pictures: it renders ansi, not rgb_array"):
        make_source(world(source=register("LociTest/Words-v0", Words)))
    env = make_source(world(source=register("LociTest/Fails-v0", Fails)))
    with pytest.raises(UserError, match="shows a NoneType where a picture"):
        env.reset(seed=0)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("CartPol-v1", "nearest: 'CartPole-v1'"),
        ("CartPole-v99", "nearest: 'CartPole-v"),
        ("CartPole", "nearest: 'CartPole-v"),
        ("no_such_module:CartPole-v1", "needs the package 'no_such_module'"),
        ("", "cannot be opened"),
        ("a b c", "cannot be opened"),
        (":CartPole-v1", "cannot be opened"),
    ],
)
def test_an_id_that_is_not_there_is_one_clear_line(name, message):
    with pytest.raises(UserError, match=message) as error:
        make_source(replace(world(), source=name or " "))
    assert "\n" not in str(error.value)


def test_a_missing_package_is_named_with_the_extra_that_installs_it(monkeypatch):
    for module in ("ale_py", "minigrid"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match=r"needs the package ale-py: pip install ale-py .*\[envs\]"):
        make_source(world(source="ALE/Pong-v5"))
    with pytest.raises(UserError, match="needs the package minigrid"):
        make_source(world(source="MiniGrid-Empty-8x8-v0"))


def test_options_that_the_environment_does_not_take_are_an_error():
    with pytest.raises(UserError, match="cannot be opened: .*gravity"):
        make_source(replace(world(), source_options={"make": {"gravity": 3}}))
    with pytest.raises(UserError, match="make must be a table, not 3"):
        make_source(replace(world(), source_options={"make": 3}))
