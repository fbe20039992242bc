"""Named buttons and the action vectors that they make: uint8 (A,), 1 where a button is held."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from engine.config import WorldConfig
from engine.errors import UserError, nearest, unknown

MAX_FRAMES = 1_000_000
NONE = "none"


def encode(buttons: Sequence[str], pressed: Iterable[str]) -> NDArray[np.uint8]:
    """Return the action uint8 (A,) that holds the `pressed` of these `buttons`.

    Contrary buttons held together stay both held. Raises UserError for a button that is not there.
    """
    action = np.zeros(len(buttons), np.uint8)
    for button in pressed:
        if button not in buttons:
            raise UserError(unknown("button", button, buttons))
        action[buttons.index(button)] = 1
    return action


def decode(buttons: Sequence[str], vector: ArrayLike) -> tuple[str, ...]:
    """Return the names of the buttons that an action (A,) holds, in the order of `buttons`.

    Raises UserError where the vector is not one 0 or 1 a button.
    """
    action = np.asarray(vector)
    if action.shape != (len(buttons),) or not np.isin(action, (0, 1)).all():
        raise UserError(f"an action here is {len(buttons)} zeros or ones, not {action.tolist()!r}")
    return tuple(button for button, held in zip(buttons, action, strict=True) if held)


def key_names(config: WorldConfig) -> dict[str, tuple[str, ...]]:
    """Return for each button, in the world's order, the names of the keys that press it (perhaps none)."""
    return {button: tuple(key for key, target in config.keys.items() if target == button) for button in config.buttons}


def parse_keys(
    text: str, keys: Mapping[str, str], buttons: Sequence[str], *, where: str = "--keys"
) -> NDArray[np.uint8]:
    """Return the actions uint8 (n, A) that a text such as ``w-40, left-24, w+left-8, none-5`` describes.

    Each part is a key of the world or a button, several joined by ``+``, and for how many frames it is held
    (1 where no number stands); ``none`` holds nothing. Raises UserError, opened by `where`, for an unknown
    name, a number that is not 1 or more, and a text that is empty or longer than a million frames in total.
    """
    if not text.strip():
        raise UserError(f"{where}: empty; expected for example 'w-40, none-5'")
    rows: list[NDArray[np.uint8]] = []
    counts: list[int] = []
    for part in (entry.strip() for entry in text.split(",")):
        if not part:
            raise UserError(f"{where}: nothing between two commas in {text!r}; expected for example 'w-40, none-5'")
        names, dash, number = part.rpartition("-")
        if not dash:
            names, number = part, "1"
        counts.append(_count(number.strip(), part, where))
        if sum(counts) > MAX_FRAMES:
            raise UserError(f"{where}: more than {MAX_FRAMES:,} frames in total; ask for fewer")
        rows.append(encode(buttons, _resolve(names, part, keys, buttons, where)))
    return np.repeat(np.stack(rows), counts, axis=0)


def _count(number: str, part: str, where: str) -> int:
    if not (number.isascii() and number.isdigit()) or not number.strip("0"):
        raise UserError(f"{where}: {number!r} in {part!r} is not a number of frames; expected 1 or more, as in 'w-40'")
    # Python refuses to read thousands of digits, so the length is looked at first.
    return int(number) if len(number.lstrip("0")) <= len(str(MAX_FRAMES)) else MAX_FRAMES + 1


def _resolve(names: str, part: str, keys: Mapping[str, str], buttons: Sequence[str], where: str) -> list[str]:
    """Return the buttons that ``w+left`` presses."""
    pressed = []
    for name in (entry.strip() for entry in names.split("+")):
        if name == NONE:
            continue
        if name not in keys and name not in buttons:
            known = [*keys, *(button for button in buttons if button not in keys), NONE]
            guess = nearest(name, known)
            hint = f"; nearest: {guess!r}" if guess is not None else ""
            raise UserError(f"{where}: unknown button {name!r} in {part!r}; known: {', '.join(known)}{hint}")
        pressed.append(keys.get(name, name))
    return pressed
