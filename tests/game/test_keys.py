"""What the help says."""

from engine.game.keys import help_of, key_label

ARROWS = {"up": "up", "left": "left", "down": "down", "right": "right"}
LETTERS = {"w": "up", "a": "left", "s": "down", "d": "right"}
BUTTONS = ("left", "right", "up", "down", "do", "place_stone")


def test_keys_are_written_as_on_a_keyboard() -> None:
    assert [key_label(key) for key in ("w", "left", "left shift", "/")] == ["W", "Left", "Left Shift", "/"]


def test_every_button_is_named_with_its_first_key_in_the_order_of_the_buttons() -> None:
    keys = {"1": "place_stone", "space": "do", "return": "do"}
    assert help_of(keys, BUTTONS) == [("Space", "do"), ("1", "place stone")]


def test_four_arrows_that_do_what_they_are_called_are_one() -> None:
    others = {"space": "do"}
    assert help_of({**LETTERS, **ARROWS, **others}, BUTTONS) == [("Arrows or WASD", "move"), ("Space", "do")]
    assert help_of({**ARROWS, **others}, BUTTONS) == [("Arrows", "move"), ("Space", "do")]
    assert help_of({**ARROWS, "w": "do"}, BUTTONS) == [("Arrows", "move"), ("W", "do")]
    turned = {"up": "forward", "left": "turn_left"}
    assert help_of(turned, ("forward", "turn_left")) == [("Up", "forward"), ("Left", "turn left")]
