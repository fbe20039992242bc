"""Gamepads: their directions and buttons stand for keys, so that a world needs to know only keys."""

from __future__ import annotations

import pygame
from pygame._sdl2 import controller  # SDL's own mapping, so that "left stick" is the left stick on every pad

from engine.game.controls import Controls

# Each gamepad direction or button stands for the first of these keys that the world uses.
PAD_KEYS: dict[str, tuple[str, ...]] = {
    "stick_up": ("w", "up"),
    "stick_down": ("s", "down"),
    "stick_left": ("a", "left"),
    "stick_right": ("d", "right"),
    "look_left": ("left", "a"),
    "look_right": ("right", "d"),
    "look_up": ("up",),
    "look_down": ("down",),
    "dpad_up": ("up", "w"),
    "dpad_down": ("down", "s"),
    "dpad_left": ("left", "a"),
    "dpad_right": ("right", "d"),
    "a": ("space", "return"),
    "b": ("left ctrl", "left shift", "1"),
    "x": ("e",),
    "y": ("left shift", "2"),
    "shoulder_left": ("q", "3"),
    "shoulder_right": ("f", "4"),
    "trigger_left": ("5",),
    "trigger_right": ("8",),
    "stick_left_in": ("6",),
    "stick_right_in": ("9",),
    "back": ("7",),
}
# The stick's way, as a share of full deflection, at which it counts as pressed, and as released again.
STICK_ON, STICK_OFF = 0.5, 0.35

_AXES = {
    pygame.CONTROLLER_AXIS_LEFTX: ("stick_left", "stick_right"),
    pygame.CONTROLLER_AXIS_LEFTY: ("stick_up", "stick_down"),
    pygame.CONTROLLER_AXIS_RIGHTX: ("look_left", "look_right"),
    pygame.CONTROLLER_AXIS_RIGHTY: ("look_up", "look_down"),
    pygame.CONTROLLER_AXIS_TRIGGERLEFT: ("", "trigger_left"),  # which moves one way only
    pygame.CONTROLLER_AXIS_TRIGGERRIGHT: ("", "trigger_right"),
}
_BUTTONS = {
    pygame.CONTROLLER_BUTTON_DPAD_UP: "dpad_up",
    pygame.CONTROLLER_BUTTON_DPAD_DOWN: "dpad_down",
    pygame.CONTROLLER_BUTTON_DPAD_LEFT: "dpad_left",
    pygame.CONTROLLER_BUTTON_DPAD_RIGHT: "dpad_right",
    pygame.CONTROLLER_BUTTON_A: "a",
    pygame.CONTROLLER_BUTTON_B: "b",
    pygame.CONTROLLER_BUTTON_X: "x",
    pygame.CONTROLLER_BUTTON_Y: "y",
    pygame.CONTROLLER_BUTTON_LEFTSHOULDER: "shoulder_left",
    pygame.CONTROLLER_BUTTON_RIGHTSHOULDER: "shoulder_right",
    pygame.CONTROLLER_BUTTON_LEFTSTICK: "stick_left_in",
    pygame.CONTROLLER_BUTTON_RIGHTSTICK: "stick_right_in",
    pygame.CONTROLLER_BUTTON_BACK: "back",
}
# What the pad does in a menu, as the keys that do it there.
MENU_KEYS = {
    pygame.CONTROLLER_BUTTON_DPAD_UP: "up",
    pygame.CONTROLLER_BUTTON_DPAD_DOWN: "down",
    pygame.CONTROLLER_BUTTON_DPAD_LEFT: "left",
    pygame.CONTROLLER_BUTTON_DPAD_RIGHT: "right",
    pygame.CONTROLLER_BUTTON_A: "return",
    pygame.CONTROLLER_BUTTON_B: "escape",
    pygame.CONTROLLER_BUTTON_START: "escape",
}


class Pad:
    """Turns gamepad events into presses and releases of the world's keys."""

    def __init__(self, controls: Controls) -> None:
        self._controls = controls
        self._pushed: set[str] = set()

    def key(self, part: str) -> str | None:
        """The key that a part of the gamepad stands for in this world, or None."""
        return next((key for key in PAD_KEYS.get(part, ()) if key in self._controls.keys), None)

    def set(self, part: str, down: bool) -> None:
        """A part (a name in `PAD_KEYS`) is pushed or let go."""
        if down == (part in self._pushed):
            return
        key = self.key(part)
        if down:
            self._pushed.add(part)
            if key is not None:
                self._controls.press(key)
        else:
            self._pushed.discard(part)
            if key is not None and all(self.key(other) != key for other in self._pushed):
                self._controls.release(key)

    def axis(self, negative: str, positive: str, value: float) -> None:
        """A stick moved along one axis to `value` in -1..1."""
        for part, way in ((negative, -value), (positive, value)):
            self.set(part, way > (STICK_OFF if part in self._pushed else STICK_ON))

    def release_all(self) -> None:
        """Let go of everything that is pushed."""
        for part in list(self._pushed):
            self.set(part, False)


class Gamepads:
    """Opens the gamepads that are there or come later, and reads their events into a `Pad`."""

    def __init__(self, pad: Pad) -> None:
        self.pad = pad
        self._open: dict[int, controller.Controller] = {}

    def start(self) -> None:
        """Begin to listen; pads that are there already report as added."""
        controller.init()

    def close(self) -> None:
        """Let go of the pads, before pygame ends."""
        self._open.clear()

    def handle(self, event: pygame.event.Event) -> None:
        """Take in one event, whatever its kind."""
        if event.type == pygame.CONTROLLERDEVICEADDED:
            pad = controller.Controller(event.device_index)
            self._open[pad.id] = pad
        elif event.type == pygame.CONTROLLERDEVICEREMOVED:
            self._open.pop(event.instance_id, None)
            self.pad.release_all()
        elif event.type == pygame.CONTROLLERAXISMOTION and event.axis in _AXES:
            self.pad.axis(*_AXES[event.axis], event.value / 32768)
        elif event.type in (pygame.CONTROLLERBUTTONDOWN, pygame.CONTROLLERBUTTONUP):
            part = _BUTTONS.get(event.button)
            if part is not None:
                self.pad.set(part, event.type == pygame.CONTROLLERBUTTONDOWN)
