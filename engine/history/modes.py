"""The three ways of remembering, a policy each: how much room there is, where a frame goes, and what stays of it.

They can be switched in play, on the same weights: what a mode has forgotten does not come back, and what it still has
stays in view.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from engine.history.names import MODES, Mode
from engine.model.generator import GeneratorConfig
from engine.model.memory import MemoryConfig

GROWTH = 64
"""Frames by which `full` grows at first; then by half."""


class Policy(Protocol):
    """What a mode decides. All numbers are of one world.

    name: of the mode. grows: whether slots are added for ever. folds: whether frames that leave the window are folded.
    """

    name: Mode
    grows: bool
    folds: bool

    def slots(self) -> int:
        """Slots for whole frames, at first."""

    def hot_slots(self, blocks: int) -> int:
        """Hot slots for folded blocks, of which there are `blocks`."""

    def next_slots(self, time: np.ndarray) -> np.ndarray:
        """Where the next frame of each world goes, (W,). time (W, slots): the frames that are there, -1 for none."""

    def stays(self, order: np.ndarray) -> np.ndarray:
        """Which slots are kept when this mode takes over. order: those that are filled, the oldest frame first."""

    def to_fold(self) -> int | None:
        """How many of the newest frames are kept as latents, to be folded one day; None for all."""


def first_empty(time: np.ndarray) -> np.ndarray:
    """The first empty slot of each world, (W,), of time (W, slots). One must be there."""
    empty = time < 0
    assert empty.any(1).all(), "a fold missed its deadline"
    return empty.argmax(1)


class WindowPolicy:
    """The first frames stay as a sink, the last ones go round; all others are forgotten.

    Frames are kept so in `mag`, too, where places remember and nothing folds.
    """

    grows = False
    folds = False

    def __init__(self, config: GeneratorConfig, name: Mode = "window") -> None:
        self.sink, self.window = config.sink, config.window
        self.name: Mode = name

    def slots(self) -> int:
        return self.sink + self.window

    def hot_slots(self, blocks: int) -> int:
        return 0

    def next_slots(self, time: np.ndarray) -> np.ndarray:
        """The first empty slot, or that of the oldest frame that is no sink."""
        empty = time < 0
        return np.where(empty.any(1), empty.argmax(1), self.sink + time[:, self.sink :].argmin(1))

    def stays(self, order: np.ndarray) -> np.ndarray:
        if len(order) <= self.slots():
            return order
        return np.concatenate((order[: self.sink], order[len(order) - self.window :]))

    def to_fold(self) -> int | None:
        return self.window


class FullPolicy:
    """Every frame stays, and the buffers grow; folds that were made in `mag` are all in view."""

    name: Mode = "full"
    grows = True
    folds = False

    def slots(self) -> int:
        return GROWTH

    def hot_slots(self, blocks: int) -> int:
        return blocks

    def next_slots(self, time: np.ndarray) -> np.ndarray:
        return first_empty(time)

    def stays(self, order: np.ndarray) -> np.ndarray:
        return order

    def to_fold(self) -> int | None:
        return None


class MagPolicy:
    """Frames that leave the window are folded, and those folds that are most relevant now are in view (the paper's).

    Raises ValueError where the budget has no room for one fold.
    """

    name: Mode = "mag"
    grows = False
    folds = True

    def __init__(self, config: GeneratorConfig, memory: MemoryConfig, budget: int) -> None:
        self.window_slots = config.sink + config.window
        self.block, self.most_hot = memory.block, budget // memory.tokens(config)

    def slots(self) -> int:
        return self.window_slots + 2 * self.block  # a block waits, and another comes in meanwhile

    def hot_slots(self, blocks: int) -> int:
        return self.most_hot

    def next_slots(self, time: np.ndarray) -> np.ndarray:
        return first_empty(time)

    def stays(self, order: np.ndarray) -> np.ndarray:
        return order

    def to_fold(self) -> int | None:
        return None


class PlacesPolicy:
    """No frame stays, in any mode: the generator attends to none, and reads what was seen from places alone."""

    grows = False
    folds = False

    def __init__(self, name: Mode) -> None:
        self.name: Mode = name

    def slots(self) -> int:
        return 0

    def hot_slots(self, blocks: int) -> int:
        return 0

    def next_slots(self, time: np.ndarray) -> np.ndarray:
        raise AssertionError("no frame is kept")

    def stays(self, order: np.ndarray) -> np.ndarray:
        return order

    def to_fold(self) -> int | None:
        return None


def policy_of(mode: str, config: GeneratorConfig, memory: MemoryConfig | None, budget: int | None) -> Policy:
    """The policy of a mode by its name.

    Raises ValueError for another name, for `mag` with neither a memory model nor places, and for a memory model where
    nothing attends to history.
    """
    known = next((name for name in MODES if name == mode), None)
    if known is None:
        raise ValueError(f"world: memory must be one of {', '.join(MODES)}, got {mode!r}")
    if known == "mag" and not remembers(config, memory is not None):
        raise ValueError("world: memory mag needs a checkpoint with a memory model")
    if not config.window:
        if memory is not None:
            raise ValueError("world: a memory model is of no use to a generator that attends to no history")
        return PlacesPolicy(known)
    if known == "full":
        return FullPolicy()
    if known == "mag" and memory is not None:
        return MagPolicy(config, memory, budget or 0)
    return WindowPolicy(config, known)


def remembers(config: GeneratorConfig, memory: bool) -> bool:
    """Whether a world with such a generator, with or without a memory model, has the mode `mag`."""
    return memory or config.sights
