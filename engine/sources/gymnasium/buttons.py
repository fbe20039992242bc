"""Buttons for any Gymnasium environment: names, what they do, and the keys that press them."""

import enum
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np

from engine.errors import UserError

MOST = 64
"""Buttons that a world may have here; a person has no more keys."""
IDLE = ("noop", "no_op", "nop", "none", "idle", "nothing", "do_nothing", "stay", "wait", "still", "done")
"""Names of the action that does nothing; MiniGrid calls it "done"."""
PARTS = re.compile(r"(?:up|down|left|right|fire)+")
"""Atari's names of several buttons at once, such as UPRIGHTFIRE."""
DOOM = {"move_left": "strafe_left", "move_right": "strafe_right", "move_forward": "forward", "move_backward": "back"}
"""ViZDoom's names of buttons: the names that walks know."""
KEYS = {
    "left": ("left", "a"),
    "right": ("right", "d"),
    "up": ("up", "w"),
    "down": ("down", "s"),
    "forward": ("w", "up"),
    "back": ("s", "down"),
    "turn_left": ("left",),
    "turn_right": ("right",),
    "strafe_left": ("a", "left"),
    "strafe_right": ("d", "right"),
    "fire": ("space",),
    "attack": ("space",),
    "shoot": ("space",),
    "jump": ("space",),
    "use": ("e",),
    "toggle": ("e", "space"),
    "pickup": ("q",),
    "drop": ("f",),
}
SPARE = "1234567890abcdefghijklnopqstuvwxyz"  # without m and r, which the window uses


@dataclass(frozen=True)
class Buttons:
    """Buttons of an environment; `actions` (None: in the order of the buttons) and `idle` as its source takes them."""

    names: tuple[str, ...]
    actions: Mapping[str, Any] | None
    idle: Any
    idle_is_first: bool = False
    """Whether no action is known to do nothing, so that without a button the first one is taken."""


def buttons_for(env: gym.Env[Any, Any], named: Sequence[str] = ()) -> Buttons:
    """Find buttons for the environment's actions.

    named: one name for each action of a Discrete space ("none" for the one that does nothing, "up+fire" for two
    buttons at once) or for each bit of a MultiBinary one; by default what the environment itself says. UserError
    where the space, or the names, do not fit.
    """
    space = env.action_space
    if isinstance(space, gym.spaces.Discrete):
        found = _of_discrete(env, space, named)
    elif isinstance(space, gym.spaces.MultiBinary) and len(space.shape) == 1:
        count = int(space.shape[0])
        _check_named(named, count, space)
        found = Buttons(tuple(named or _bits(env, count) or _numbered(range(1, count + 1))), None, 0)
    elif named:
        raise UserError(f"names can only be given for Discrete and MultiBinary actions, not for {space}")
    elif isinstance(space, gym.spaces.MultiDiscrete | gym.spaces.Box):
        found = _of_axes(space)
    else:
        raise UserError(
            f"its actions cannot be made of buttons: expected Discrete, MultiDiscrete, MultiBinary (in a row) or a"
            f" bounded Box, got {space}"
        )
    if not 1 <= len(found.names) <= MOST:
        raise UserError(f"its actions need {len(found.names)} buttons; a world has 1 to {MOST}")
    return found


def _check_named(named: Sequence[str], count: int, space: gym.Space[Any]) -> None:
    if named and len(named) != count:
        raise UserError(f"expected {count} names, one for each action of {space}, got {len(named)}")


def _of_discrete(env: gym.Env[Any, Any], space: gym.spaces.Discrete, named: Sequence[str]) -> Buttons:
    count, first = int(space.n), int(space.start)
    _check_named(named, count, space)
    meanings = [tuple(name.split("+")) for name in named] or _meanings(env, count)
    if meanings is None:  # as the source does it without a table
        names = tuple(_numbered(range(first + 1, first + count)))
        return Buttons(names, {name: first + i for i, name in enumerate(names, 1)}, first)
    spelled = [tuple(part for part in parts if part not in IDLE) for parts in meanings]
    idle = min((i for i, parts in enumerate(spelled) if not parts), default=None)
    buttons = list(dict.fromkeys(parts[0] for parts in spelled if len(parts) == 1))
    actions: dict[str, Any] = {}
    for number, parts in enumerate(spelled, first):
        strange = [part for part in parts if part not in buttons]
        if strange:  # only there together with others
            buttons.append("_".join(parts))
            parts = (buttons[-1],)
        if parts:
            actions.setdefault("+".join(sorted(parts, key=buttons.index)), number)
    return Buttons(tuple(buttons), actions, first + (idle or 0), idle is None)


def _meanings(env: gym.Env[Any, Any], count: int) -> list[tuple[str, ...]] | None:
    """For each Discrete action the buttons that it holds, where the environment says it."""
    inner: Any = env.unwrapped
    rows = getattr(inner, "button_map", None)  # ViZDoom's: for each action which buttons are held
    names = _doom_names(inner)
    if rows is not None and names and len(rows) == count and all(len(row) == len(names) for row in rows):
        return [tuple(name for name, held in zip(names, row, strict=True) if held) for row in rows]
    found: Any = None
    if callable(getattr(inner, "get_action_meanings", None)):
        found = inner.get_action_meanings()
    elif isinstance(kinds := getattr(inner, "actions", None), enum.EnumMeta):
        members: dict[str, Any] = dict(kinds.__members__)
        by_number = {member.value: name for name, member in members.items()}
        found = [by_number.get(number, f"action_{number}") for number in range(count)]
    if not isinstance(found, list | tuple) or len(found) != count:
        return None
    words = [_word(str(name), number) for number, name in enumerate(found)]
    return [tuple(re.findall("up|down|left|right|fire", word)) if PARTS.fullmatch(word) else (word,) for word in words]


def _bits(env: gym.Env[Any, Any], count: int) -> list[str] | None:
    """Names of a MultiBinary space's bits, where the environment says them."""
    names: Any = _doom_names(env.unwrapped) or getattr(env.unwrapped, "buttons", None)
    if not isinstance(names, list | tuple) or len(names) != count:
        return None
    words = [_word(str(name), number) for number, name in enumerate(names, 1)]
    return words if len(set(words)) == count else None


def _doom_names(inner: Any) -> list[str] | None:
    game: Any = getattr(inner, "game", None)
    if not callable(getattr(game, "get_available_buttons", None)):
        return None
    words = [_word(str(button.name), 0) for button in game.get_available_buttons() if not button.name.endswith("DELTA")]
    return [DOOM.get(word, word) for word in words]


def _of_axes(space: gym.spaces.MultiDiscrete | gym.spaces.Box) -> Buttons:
    """Each entry of the array is an axis: its other values, or its ends, are buttons."""
    idle: Any
    steps: dict[str, tuple[tuple[int, ...], Any]] = {}
    if isinstance(space, gym.spaces.Box):
        if not space.is_bounded():
            raise UserError(f"its actions have no bounds, so that no button can stand for their ends: {space}")
        low, high = space.low, space.high
        idle = np.where((low <= 0) & (high >= 0), 0, low + (high - low) / 2).astype(space.dtype)
        for axis, at in enumerate(np.ndindex(space.shape), 1):
            for end, value in (("low", low[at]), ("high", high[at])):
                if value != idle[at]:
                    steps[f"axis_{axis}_{end}"] = at, value
    else:
        idle = np.array(space.start)
        for axis, at in enumerate(np.ndindex(space.nvec.shape), 1):
            for value in range(1, int(space.nvec[at])):
                steps[f"axis_{axis}" + (f"_{value}" if space.nvec[at] > 2 else "")] = at, idle[at] + value
            if len(steps) > MOST:
                break
    actions = {}
    for name, (at, value) in steps.items():
        action = idle.copy()
        action[at] = value
        actions[name] = action.tolist()
    return Buttons(tuple(steps), actions, idle.tolist())


def _numbered(numbers: Iterable[int]) -> list[str]:
    return [f"action_{number}" for number in numbers]


def _word(name: str, number: int) -> str:
    """A name as buttons have them: lower case, letters, digits and ``_``."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_") or f"action_{number}"


def keys_for(env: gym.Env[Any, Any], buttons: Buttons, reserved: Iterable[str] = ()) -> dict[str, str]:
    """Keys for the buttons: the environment's own, the usual ones for such names, and then any that are free.

    reserved: keys that must not be used.
    """
    taken: dict[str, str] = {}
    free = set(reserved).isdisjoint

    def take(key: str, button: str) -> None:
        # A key named as a button must press that one.
        if free({key}) and key not in taken and (key == button or key not in buttons.names):
            taken[key] = button

    inner: Any = env.unwrapped
    if callable(getattr(inner, "get_keys_to_action", None)):
        by_number = {number: name for name, number in (buttons.actions or {}).items() if isinstance(number, int)}
        for keys, action in (inner.get_keys_to_action() or {}).items():
            named = [_key(key) for key in (keys if isinstance(keys, tuple | list) else (keys,))]
            button = by_number.get(int(action)) if isinstance(action, int | np.integer) else None
            if len(named) == 1 and named[0] and button in buttons.names:
                take(named[0], str(button))
    for place in (0, 1):
        for button in buttons.names:
            usual = KEYS.get(button, ())
            if place < len(usual):
                take(usual[place], button)
    for button in buttons.names:
        if button not in taken.values():
            spare = next((key for key in SPARE if key not in taken and free({key}) and key not in buttons.names), None)
            if spare is not None:
                take(spare, button)
    return taken


def _key(key: Any) -> str:
    """A key of Gymnasium's play tool, a letter or its code, as pygame names it; empty where there is none."""
    if isinstance(key, int):
        key = chr(key) if 0 < key < 128 else ""
    return "space" if key == " " else str(key or "").lower()
