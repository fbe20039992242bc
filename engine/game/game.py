"""A world in play: its start frames, restarts, and the snapshots that saving and rewinding go back to."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.actions import encode
from engine.errors import UserError, unknown
from engine.game.contracts import Log, Playable
from engine.game.revisit import RevisitMeter
from engine.inputs import counted

STEPS = (1, 2, 4)
# Rewinding goes back in strides of 4 frames, at most 120 of them, and holds no more than about 256 MiB. Where
# that is not even 8 moments of a large memory, none is kept: copying it so often would make the game stutter.
REWIND_STRIDE = 4
REWIND_SLOTS = 120
REWIND_FEWEST = 8
REWIND_BYTES = 256 * 2**20


@dataclass(frozen=True)
class _Moment:
    snapshot: Any
    frame: np.ndarray
    index: int
    start: str
    seed: int
    origin: Origin | None
    mark: Any  # where the log was then
    over: bool


@dataclass(frozen=True)
class Origin:
    """A moment of a recorded session that a game goes on from.

    parent: what a branch's ``session.json`` says of it. over: whether the player's life ended with its frame.
    """

    parent: Any
    snapshot: Any
    frame: np.ndarray
    index: int
    over: bool = False


class Game:
    """One world, played by one thread at a time.

    Where the world tells that the player's life has ended, `over` turns true. What would be drawn from there is like
    nothing that the model was trained on, so whoever plays begins anew (`restart`), goes back, or says `go_on`.

    Args:
        world: the world, of one (B = 1).
        starts: start frames by name, uint8 (H, W, 3); at least one.
        seed: of the world's noise, >= 0.
        start: name of the first start frame; None lets the seed choose one.
        log: is told of everything that the frames depend on.
        origin: the moment that the game begins at, instead of the start, and comes back to by `restart`.
    """

    def __init__(
        self,
        world: Playable,
        starts: Mapping[str, np.ndarray],
        *,
        seed: int = 0,
        start: str | None = None,
        log: Log | None = None,
        origin: Origin | None = None,
    ) -> None:
        self.world = world
        self.starts = dict(starts)
        self.seed = seed
        self.start = choose_start(self.starts, seed, start)
        self.index = 0  # frames since the start
        self.frame = self.starts[self.start]  # what is shown
        self.meter = RevisitMeter()
        self.log, self.origin = log, origin
        self.action = np.zeros(len(world.buttons), np.uint8)
        """What counted of the buttons for the frame that was drawn last, uint8 (A,)."""
        self.over = False
        """Whether the player's life ended with the frame that is shown, and nobody said that play goes on."""
        self.ends = 0
        """How often a life ended so far."""
        self._goes_on = False  # until the world no longer says that it is over
        self._saved: _Moment | None = None
        self._past: deque[_Moment] = deque()

    def restart(self, other: bool = False) -> np.ndarray:
        """Begin again: here, or at the next start (after the last one, at the first with the next seed).

        Returns the first frame, uint8 (H, W, 3).
        """
        if other:
            names = list(self.starts)
            place = (names.index(self.start) + 1) % len(names)
            self.start = names[place]
            self.seed += place == 0
            self.origin = None
        if self.origin is None:
            self.frame = self.world.reset(self.seed, self.starts[self.start][None, None], None)[0]
            self.index = 0
        else:
            self.world.restore(self.origin.snapshot)
            self.frame, self.index = self.origin.frame, self.origin.index
        self.over, self._goes_on = self.origin is not None and self.origin.over, False
        self._past.clear()
        self.meter.forget()
        if self.log is not None:
            self.log.restarted(self)
        if self._slots():
            self._remember(self.world.snapshot())
        return self.frame

    def render(self, pressed: Iterable[str]) -> np.ndarray:
        """Draw the next frame, uint8 (H, W, 3), with these buttons held; `commit` must follow."""
        held = encode(self.world.buttons, pressed)
        self.action = counted(held, getattr(self.world, "exclusive", False))
        self.frame = self.world.render(self.action[None])[0]
        self.index += 1
        return self.frame

    def commit(self) -> None:
        """Write the frame that was drawn into the world's memory, and see whether the player's life ended with it."""
        self.world.commit()
        self._look_for_an_end()
        self.meter.see(self.world.stats().get("pose"), self.frame, self.index)
        kept, logged = self.index % REWIND_STRIDE == 0 and self._slots() > 0, self.log and self.log.wants_state()
        snapshot = self.world.snapshot() if kept or logged else None
        if self.log is not None:
            self.log.drawn(self, self.action, snapshot if logged else None)
        if kept:
            self._remember(snapshot)

    def live_again(self) -> np.ndarray:
        """Begin anew where nobody plays: at the same start with the next seed, or the same keys led to the same end.

        Returns the first frame, uint8 (H, W, 3).
        """
        self.seed += self.origin is None  # a recorded moment has a seed of its own
        return self.restart()

    def go_on(self) -> None:
        """Play on after a life has ended. What is told of the same end in the frames to come is not heard."""
        self.over, self._goes_on = False, True

    def _look_for_an_end(self) -> None:
        told = getattr(self.world, "ended", None)
        ended = told is not None and bool(told[0])
        self._goes_on &= ended
        self.over = ended and not self._goes_on
        self.ends += self.over

    @property
    def can_load(self) -> bool:
        """Whether something was saved."""
        return self._saved is not None

    def save(self) -> None:
        """Keep this moment, in place of the one kept before."""
        self._saved = self._now()

    def load(self) -> np.ndarray:
        """Go back to the moment that was saved; returns its frame."""
        if self._saved is None:
            raise UserError("nothing is saved yet: F5 saves")
        self._past.clear()
        self._past.append(self._saved)
        return self._return_to(self._saved)

    def rewind(self, frames: int = 1) -> np.ndarray | None:
        """Go at least so many frames back, or as far as is kept; returns that frame, or None where the past ends."""
        while self._past and self._past[-1].index > self.index - frames and len(self._past) > 1:
            self._past.pop()
        if not self._past or self._past[-1].index >= self.index:
            return None
        return self._return_to(self._past[-1])

    def stats(self) -> dict[str, Any]:
        """The world's, and "revisit": a `Revisit` where an old view has come back, else None."""
        return {**self.world.stats(), "revisit": self.meter.last}

    def set_mode(self, mode: str) -> None:
        """Switch the memory mode, one of the world's; moments to go back to are then continued in it, too."""
        if self.log is not None and not self.log.may_switch():
            raise UserError("so many switches of the memory cannot be recorded; play a frame first")
        self.world.set_mode(mode)
        if self.log is not None:
            self.log.switched(mode)

    def _now(self, snapshot: Any = None) -> _Moment:
        mark = self.log.mark() if self.log is not None else None
        snapshot = self.world.snapshot() if snapshot is None else snapshot
        return _Moment(snapshot, self.frame, self.index, self.start, self.seed, self.origin, mark, self.over)

    def _slots(self) -> int:
        """How many moments may be kept; none where copying a large memory so often would make the game stutter."""
        held = int(self.world.stats()["memory_bytes"])  # 0: a simulator, which cannot be copied
        slots = min(REWIND_SLOTS, REWIND_BYTES // held) if held else 0
        if slots >= REWIND_FEWEST:
            return slots
        self._past.clear()
        return 0

    def _remember(self, snapshot: Any) -> None:
        while len(self._past) >= self._slots():
            self._past.popleft()
        self._past.append(self._now(snapshot))

    def _return_to(self, moment: _Moment) -> np.ndarray:
        mode = self.world.stats()["mode"]
        self.world.restore(moment.snapshot)  # with the mode of that time
        if self.log is not None:
            self.log.went_back(moment.mark, moment.snapshot)
        if self.world.stats()["mode"] != mode and (self.log is None or self.log.may_switch()):
            self.set_mode(mode)
        self.frame, self.index = moment.frame, moment.index
        self.start, self.seed, self.origin = moment.start, moment.seed, moment.origin
        self.over, self._goes_on = moment.over, False
        self.meter.forget(after=moment.index)
        return self.frame


def choose_start(starts: Iterable[str], seed: int, start: str | None) -> str:
    """The start's name, checked, or the one that the seed picks."""
    names = list(starts)
    if not names:
        raise UserError("this world has no start frames; give one with --image FILE")
    if start is None:
        return names[seed % len(names)]
    if start not in names:
        shown = names if len(names) <= 8 else [*names[:8], f"... ({len(names)} in all)"]
        near = unknown("start", start, names).partition("; nearest: ")[2]
        hint = f"; nearest: {near}" if near else ""
        raise UserError(f"unknown start {start!r}; known: {', '.join(shown)}{hint}")
    return start
