"""Buttons, actions and keys for environments of all kinds."""

import enum
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from engine.errors import UserError
from engine.sources.gymnasium.buttons import Buttons, buttons_for, keys_for
from engine.sources.gymnasium.source import ActionTable

SPACES = gym.spaces


class Fake(gym.Env[Any, Any]):
    """An environment that has these attributes beside its action space."""

    def __init__(self, space: gym.Space[Any], **attributes: Any) -> None:
        self.action_space = space
        for name, value in attributes.items():
            setattr(self, name, value)


def meanings(*names: str) -> Fake:
    return Fake(SPACES.Discrete(len(names)), get_action_meanings=lambda: list(names))


def test_atari_names_are_taken_apart_into_buttons_held_together() -> None:
    found = buttons_for(meanings("NOOP", "FIRE", "UP", "RIGHT", "UPRIGHT", "UPRIGHTFIRE"))
    assert found.names == ("fire", "up", "right") and found.idle == 0 and not found.idle_is_first
    assert found.actions == {"fire": 1, "up": 2, "right": 3, "up+right": 4, "fire+up+right": 5}


def test_buttons_that_are_only_there_together_are_one_button() -> None:
    found = buttons_for(meanings("NOOP", "RIGHT", "LEFT", "RIGHTFIRE", "LEFTFIRE"))
    assert found.names == ("right", "left", "right_fire", "left_fire")
    assert found.actions == {"right": 1, "left": 2, "right_fire": 3, "left_fire": 4}


def test_without_names_the_first_action_is_none_and_the_others_are_numbered() -> None:
    found = buttons_for(Fake(SPACES.Discrete(3)))
    assert found == Buttons(("action_1", "action_2"), {"action_1": 1, "action_2": 2}, 0)
    shifted = buttons_for(Fake(SPACES.Discrete(3, start=5)))
    assert shifted.idle == 5 and list((shifted.actions or {}).values()) == [6, 7]
    assert ActionTable(SPACES.Discrete(3, start=5), shifted.names, shifted.actions, 5).action([0, 1]) == 7


def test_names_without_a_known_idle_all_become_buttons() -> None:
    found = buttons_for(meanings("LEFT", "RIGHT"))
    assert found == Buttons(("left", "right"), {"left": 0, "right": 1}, 0, idle_is_first=True)


def test_the_kinds_of_an_enumeration_are_names() -> None:
    kinds = enum.IntEnum("kinds", {"left": 0, "right": 1, "toggle": 2, "done": 3})
    found = buttons_for(Fake(SPACES.Discrete(4), actions=kinds))
    assert found.names == ("left", "right", "toggle") and found.idle == 3


def test_dooms_rows_of_buttons_are_names() -> None:
    game = SimpleNamespace(
        get_available_buttons=lambda: [SimpleNamespace(name=n) for n in ("MOVE_LEFT", "ATTACK", "LOOK_UP_DOWN_DELTA")]
    )
    rows = [np.array(row) for row in ([0, 0], [1, 0], [0, 1], [1, 1])]
    found = buttons_for(Fake(SPACES.Discrete(4), game=game, button_map=rows))
    assert found.names == ("strafe_left", "attack")
    assert found.actions == {"strafe_left": 1, "attack": 2, "strafe_left+attack": 3}
    assert buttons_for(Fake(SPACES.MultiBinary(2), game=game)).names == ("strafe_left", "attack")


def test_names_can_be_given() -> None:
    found = buttons_for(Fake(SPACES.Discrete(4)), ("jump", "none", "duck", "jump+duck"))
    assert found == Buttons(("jump", "duck"), {"jump": 0, "duck": 2, "jump+duck": 3}, 1)
    assert buttons_for(Fake(SPACES.MultiBinary(2)), ("a", "b")) == Buttons(("a", "b"), None, 0)
    with pytest.raises(UserError, match="expected 4 names, one for each action of Discrete.4., got 2"):
        buttons_for(Fake(SPACES.Discrete(4)), ("a", "b"))
    with pytest.raises(UserError, match="names can only be given for"):
        buttons_for(Fake(SPACES.MultiDiscrete([2])), ("a",))


@pytest.mark.parametrize(
    ("space", "names"),
    [
        (SPACES.MultiBinary(2), ("action_1", "action_2")),
        (SPACES.MultiDiscrete([3, 2]), ("axis_1_1", "axis_1_2", "axis_2")),
        (SPACES.MultiDiscrete([2, 2], start=[4, -1]), ("axis_1", "axis_2")),
        (SPACES.Box(-1, 1, (2,)), ("axis_1_low", "axis_1_high", "axis_2_low", "axis_2_high")),
        (
            SPACES.Box(np.array([-1, 0], np.float32), np.array([1, 1], np.float32)),
            ("axis_1_low", "axis_1_high", "axis_2_high"),
        ),
        (SPACES.Box(2.0, 4.0, ()), ("axis_1_low", "axis_1_high")),
        (SPACES.Box(0, 255, (1, 2), np.uint8), ("axis_1_high", "axis_2_high")),
    ],
)
def test_every_combination_of_an_arrays_buttons_is_in_its_space(space: gym.Space[Any], names: tuple[str, ...]) -> None:
    found = buttons_for(Fake(space))
    assert found.names == names
    table = ActionTable(space, found.names, found.actions, found.idle)
    seen = set()
    for number in range(2 ** len(names)):
        action = table.action([(number >> i) & 1 for i in range(len(names))])
        assert space.contains(action)
        seen.add(np.asarray(action).tobytes())
    assert len(seen) >= 2 ** len(space.shape or ()) and len(seen) > len(names) - 1


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (SPACES.Discrete(1), "need 0 buttons"),
        (SPACES.Discrete(1000), "need 999 buttons; a world has 1 to 64"),
        (SPACES.MultiDiscrete([100, 100]), "need 99 buttons"),
        (SPACES.Box(-np.inf, np.inf, (2,)), "have no bounds"),
        (SPACES.Box(0, 1, (100,)), "need 100 buttons"),
        (SPACES.Dict({"a": SPACES.Discrete(2)}), "cannot be made of buttons: expected Discrete.*got Dict"),
        (SPACES.Tuple((SPACES.Discrete(2),)), "cannot be made of buttons"),
        (SPACES.Text(3), "cannot be made of buttons"),
        (SPACES.MultiBinary([2, 2]), "cannot be made of buttons"),
    ],
)
def test_a_space_that_buttons_cannot_make_is_one_clear_line(space: gym.Space[Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        buttons_for(Fake(space))
    assert "\n" not in str(error.value)


def test_keys_are_the_environments_own_then_the_usual_ones_then_any() -> None:
    env = meanings("NOOP", "LEFT", "RIGHT", "WARP")
    env.get_keys_to_action = lambda: {(None,): 0, (ord("x"),): 1, ("y",): 2, ("x", "y"): 3, ("m",): 2}  # type: ignore[attr-defined]
    keys = keys_for(env, buttons_for(env), {"m", "r"})
    assert keys == {"x": "left", "y": "right", "left": "left", "right": "right", "a": "left", "d": "right", "1": "warp"}


def test_a_key_named_as_a_button_presses_that_button() -> None:
    found = buttons_for(meanings("NOOP", "A", "LEFT", "UP", "W"))
    keys = keys_for(Fake(SPACES.Discrete(5)), found)
    assert keys["left"] == "left" and keys["up"] == "up"
    assert keys.get("a", "a") == "a" and keys.get("w", "w") == "w"
    assert set(keys.values()) == set(found.names)


def test_two_ways_to_the_left_get_keys_of_their_own() -> None:
    found = Buttons(("turn_left", "strafe_left", "attack"), None, 0)
    keys = keys_for(Fake(SPACES.MultiBinary(3)), found)
    assert keys == {"left": "turn_left", "a": "strafe_left", "space": "attack"}
