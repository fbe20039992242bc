"""Named buttons, action vectors and written key sequences."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.actions import decode, encode, key_names, parse_keys
from engine.config import WorldConfig
from engine.errors import UserError

BUTTONS = ("forward", "back", "turn_left", "turn_right")
KEYS = {
    "w": "forward",
    "s": "back",
    "left": "turn_left",
    "up": "forward",
    "page up": "back",
    "-": "turn_right",
}


def parse(text: str) -> list[tuple[str, ...]]:
    actions = parse_keys(text, KEYS, BUTTONS)
    assert actions.dtype == np.uint8 and actions.shape[1] == len(BUTTONS)
    return [decode(BUTTONS, action) for action in actions]


@given(st.sets(st.sampled_from(BUTTONS)))
def test_encoding_and_decoding_are_inverse(pressed: set[str]) -> None:
    action = encode(BUTTONS, pressed)
    assert action.dtype == np.uint8 and action.shape == (4,)
    assert set(decode(BUTTONS, action)) == pressed


def test_contrary_buttons_stay_both_held() -> None:
    assert encode(BUTTONS, ["back", "forward", "back"]).tolist() == [1, 1, 0, 0]


def test_decoding_follows_the_order_of_the_buttons_and_takes_booleans() -> None:
    assert decode(BUTTONS, np.array([True, False, False, True])) == ("forward", "turn_right")


def test_an_unknown_button_names_the_nearest() -> None:
    with pytest.raises(UserError, match="unknown button 'forwards'; known: .*; nearest: 'forward'"):
        encode(BUTTONS, ["forwards"])


@pytest.mark.parametrize("vector", [[1, 0, 0], [[1, 0, 0, 0]], [2, 0, 0, 0], [0.5, 0, 0, 0]])
def test_a_vector_that_is_no_action_is_refused(vector: list) -> None:
    with pytest.raises(UserError, match="4 zeros or ones"):
        decode(BUTTONS, vector)


def test_a_key_sequence_becomes_one_action_a_frame() -> None:
    expected = [("forward",)] * 3 + [("turn_left",)] * 2 + [("forward", "turn_left")] + [()] * 2
    assert parse("w-3, left-2, w+left-1, none-2") == expected


def test_keys_and_buttons_and_missing_numbers_are_all_understood() -> None:
    assert parse(" turn_right-1,page up , up + left-1,--2") == [
        ("turn_right",),
        ("back",),
        ("forward", "turn_left"),
        ("turn_right",),
        ("turn_right",),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("wsx-4", "--keys: unknown button 'wsx' in 'wsx-4'; known: w, s, .*; nearest: 'w'"),
        ("W-1", "unknown button 'W' .*; nearest: 'w'"),
        ("w-4, forwrd-2", "unknown button 'forwrd' in 'forwrd-2'.*nearest: 'forward'"),
        ("w+-4", "unknown button '' in"),
        ("w-0", "'0' in 'w-0' is not a number of frames; expected 1 or more"),
        ("w-000", "is not a number of frames"),
        ("w-1.5", "'1.5' in 'w-1.5' is not a number"),
        ("w-", "'' in 'w-' is not a number"),
        ("w-٣", "is not a number"),
        ("w-4,,s-2", "nothing between two commas"),
        ("  ", "--keys: empty"),
        ("w-1000001", "more than 1,000,000 frames"),
        ("w-600000,s-600000", "more than 1,000,000 frames"),
        ("w-" + "9" * 10_000, "more than 1,000,000 frames"),
    ],
)
def test_a_wrong_key_sequence_is_one_clear_line(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        parse(text)
    assert "\n" not in str(caught.value)


def test_the_longest_sequence_is_a_million_frames_and_zeros_in_front_do_not_count() -> None:
    assert len(parse_keys("w-600000, s-0400000", KEYS, BUTTONS)) == 1_000_000


def test_the_message_opens_with_what_the_caller_calls_it() -> None:
    with pytest.raises(UserError, match="^script: "):
        parse_keys("x-1", KEYS, BUTTONS, where="script")


def test_each_button_knows_its_keys() -> None:
    world = WorldConfig(title="", preset="nano", source="doom", checkpoint="c", buttons=(*BUTTONS, "use"), keys=KEYS)
    assert key_names(world) == {
        "forward": ("w", "up"),
        "back": ("s", "page up"),
        "turn_left": ("left",),
        "turn_right": ("-",),
        "use": (),
    }
