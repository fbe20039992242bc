import pygame
import pytest

from engine.config import list_worlds, load_world
from engine.errors import UserError
from engine.game.controls import RESERVED, Controls, Taken, check_keys, key_names
from engine.game.gamepad import Gamepads, Pad
from engine.game.keys import help_of
from tests.support.fake_world import BUTTONS, KEYS


@pytest.fixture
def controls() -> Controls:
    return Controls(KEYS, BUTTONS)


def test_a_held_key_counts_in_every_frame_until_it_is_released(controls: Controls) -> None:
    controls.press("w")
    assert controls.take().buttons == ("forward",)
    assert controls.take().buttons == ("forward",)
    controls.release("w")
    assert controls.take().buttons == ()


def test_a_tap_shorter_than_a_frame_counts_exactly_once(controls: Controls) -> None:
    controls.press("left")
    controls.release("left")
    assert controls.take().buttons == ("turn_left",)
    assert controls.take().buttons == ()


def test_keys_combine_and_two_keys_of_one_button_are_one(controls: Controls) -> None:
    for key in ("up", "right", "w"):
        controls.press(key)
    taken = controls.take()
    assert taken.keys == ("right", "up", "w") and taken.buttons == ("forward", "turn_right")
    controls.release("w")
    assert controls.take().buttons == ("forward", "turn_right")


@pytest.fixture
def one() -> Controls:
    """Of a world in which a frame takes one button."""
    return Controls(KEYS, BUTTONS, exclusive=True)


def test_where_a_frame_takes_one_button_the_newest_key_that_is_down_is_it(one: Controls) -> None:
    one.press("w")
    assert one.take().buttons == ("forward",)
    one.press("left")
    assert [one.take().buttons for _ in range(3)] == [("turn_left",)] * 3
    one.release("left")
    assert one.take().buttons == ("forward",)  # which is down still
    one.release("w")
    assert one.take() == Taken((), (), None)


def test_where_a_frame_takes_one_button_each_press_has_a_frame_in_turn(one: Controls) -> None:
    for number, key in enumerate(("w", "left", "w", "s", "left")):
        one.press(key, at=float(number))
        one.release(key)
    taken = [one.take() for _ in range(5)]
    assert [(found.buttons, found.pressed_at) for found in taken] == [
        (("forward",), 0.0),
        (("turn_left",), 1.0),
        (("forward",), 2.0),
        ((), None),  # more than three do not wait: a player would feel it
        ((), None),
    ]
    one.press("w")
    one.release_all()
    assert one.take().buttons == ()


def test_the_time_is_that_of_the_oldest_press_that_no_frame_has_answered(controls: Controls) -> None:
    controls.press("w", at=10.0)
    controls.press("left", at=11.0)
    assert controls.take().pressed_at == 10.0
    assert controls.take().pressed_at is None
    controls.press("w", at=12.0)  # already held: a repeat, not a press
    assert controls.take().pressed_at is None


def test_a_key_that_the_world_does_not_use_changes_nothing(controls: Controls) -> None:
    assert not controls.press("q")
    assert controls.take() == controls.take() and controls.held() == ()


def test_losing_the_keyboard_releases_everything(controls: Controls) -> None:
    controls.press("w")
    controls.release_all()
    taken = controls.take()
    assert taken.buttons == () and taken.pressed_at is None


def test_key_names_are_those_of_pygame_and_case_does_not_matter() -> None:
    assert {"w", "left", "left shift", "space", "f5", "return"} <= key_names()
    assert check_keys({"W": "forward", "Left Shift": "back"}, BUTTONS) == {
        "w": "forward",
        "left shift": "back",
    }


@pytest.mark.parametrize("name", list_worlds())
def test_the_keys_of_every_shipped_world_are_free_and_press_all_its_buttons(name: str) -> None:
    config = load_world(name)
    keys = check_keys(config.keys, config.buttons)
    assert set(keys.values()) == set(config.buttons) and keys == config.keys
    assert len(help_of(keys, config.buttons)) <= len(config.buttons)


def test_every_reserved_name_is_a_key() -> None:
    assert set(RESERVED) <= key_names()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"spacee": "forward"}, r"\[keys\]: unknown key 'spacee'.*nearest: 'space'"),
        ({"w": "forwards"}, "unknown button 'forwards'.*nearest: 'forward'"),
        ({"f9": "forward"}, "'f9' belongs to the window \\(record\\)"),
    ],
)
def test_a_wrong_key_table_is_one_clear_line(keys: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        check_keys(keys, BUTTONS)
    assert "\n" not in str(caught.value)


def stick(axis: int, value: float) -> pygame.event.Event:
    return pygame.event.Event(pygame.CONTROLLERAXISMOTION, axis=axis, value=int(32767 * value))


def test_the_left_stick_walks_and_the_right_one_turns(controls: Controls) -> None:
    pads = Gamepads(Pad(controls))
    pads.handle(stick(pygame.CONTROLLER_AXIS_LEFTY, -0.9))
    pads.handle(stick(pygame.CONTROLLER_AXIS_RIGHTX, 0.8))
    assert controls.take().buttons == ("forward", "turn_right")
    pads.handle(stick(pygame.CONTROLLER_AXIS_LEFTY, -0.4))  # hysteresis: still pushed
    pads.handle(stick(pygame.CONTROLLER_AXIS_RIGHTX, 0.1))
    assert controls.take().buttons == ("forward",)
    pads.handle(stick(pygame.CONTROLLER_AXIS_LEFTY, 0.9))  # straight to the other side
    assert controls.take().buttons == ("back",)


def test_forgotten_taps_reach_no_frame_and_held_keys_stay() -> None:
    for exclusive in (False, True):
        controls = Controls({"w": "forward", "s": "back"}, BUTTONS, exclusive)
        controls.press("w")
        controls.press("s")
        controls.release("s")
        controls.forget_taps()
        taken = controls.take()
        assert taken.buttons == ("forward",) and taken.pressed_at is None


def test_the_directional_pad_falls_back_to_the_keys_that_a_world_has() -> None:
    controls = Controls({"left": "turn_left", "w": "forward"}, BUTTONS)
    pad = Pad(controls)
    assert pad.key("dpad_up") == "w" and pad.key("stick_left") == "left" and pad.key("a") is None
    pads = Gamepads(pad)
    for kind, held in ((pygame.CONTROLLERBUTTONDOWN, ("w",)), (pygame.CONTROLLERBUTTONUP, ())):
        pads.handle(pygame.event.Event(kind, button=pygame.CONTROLLER_BUTTON_DPAD_UP))
        assert controls.held() == held


def test_what_the_shoulders_and_triggers_stand_for_is_there_where_a_world_has_digits() -> None:
    controls = Controls({"3": "forward", "5": "back", "7": "turn_left"}, BUTTONS)
    pads = Gamepads(Pad(controls))
    pads.handle(pygame.event.Event(pygame.CONTROLLERBUTTONDOWN, button=pygame.CONTROLLER_BUTTON_LEFTSHOULDER))
    pads.handle(stick(pygame.CONTROLLER_AXIS_TRIGGERLEFT, 0.9))
    assert controls.take().buttons == ("forward", "back")
    pads.handle(stick(pygame.CONTROLLER_AXIS_TRIGGERLEFT, 0.0))
    pads.handle(pygame.event.Event(pygame.CONTROLLERBUTTONUP, button=pygame.CONTROLLER_BUTTON_LEFTSHOULDER))
    assert controls.take().buttons == () and pads.pad.key("back") == "7"


def test_letting_go_of_one_of_two_parts_for_a_key_keeps_it_down() -> None:
    controls = Controls({"w": "forward"}, BUTTONS)
    pad = Pad(controls)
    pad.set("stick_up", True)
    pad.set("dpad_up", True)
    pad.set("stick_up", False)
    assert controls.held() == ("w",)
    pad.release_all()
    assert controls.held() == ()
