"""The thread that draws frames, so that the window never waits for the model."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from engine import video
from engine.actions import decode
from engine.errors import UserError
from engine.game.contracts import Log
from engine.game.controls import Controls, Taken
from engine.game.game import Game
from engine.game.recorder import Recorder
from engine.game.timings import Timings

NOTHING = Taken((), (), None)


@dataclass(frozen=True)
class Shown:
    """A frame for the window, with what it was drawn from."""

    frame: np.ndarray  # uint8 (H, W, 3)
    index: int  # frames since the start
    began: float | None  # time.perf_counter() when its keys were taken; None: not drawn just now
    taken: Taken
    start: str
    seed: int
    stats: dict[str, Any] = field(default_factory=dict)  # of the world, after the last commit


Command = Callable[[Game], "np.ndarray | None"]


class Worker:
    """Opens a game and plays it on a thread of its own, with the keys that are down when a frame begins.

    Each frame is rendered, handed over, and then committed. Where a life ends, no frame is drawn until the player
    begins anew, goes back or says `go_on`. All methods may be called from any thread and return at once, except
    :meth:`stop`.

    Args:
        open_game: makes the game; runs on the thread, because it may take long.
        controls: the keys.
        rate: the largest number of frames a second, 0 for no limit.
        script: actions uint8 (n, A) that are held for the first frames as if by keys.
        limit: frames after which the game ends, in which nobody is waited for: after the end of a life it begins anew
            by itself. None plays on.
        notify: called after each change that the window should show.
    """

    def __init__(
        self,
        open_game: Callable[[], Game],
        controls: Controls,
        *,
        rate: float,
        script: np.ndarray | None = None,
        limit: int | None = None,
        notify: Callable[[], None] = lambda: None,
    ) -> None:
        self._open_game = open_game
        self._controls = controls
        self._period = 1 / rate if rate > 0 else 0.0
        self._script = script
        self._limit = limit
        self._notify = notify
        self._change = threading.Condition()
        self._commands: deque[Command] = deque()
        self._shown: Shown | None = None
        self._unseen = False
        self._messages: deque[str] = deque()
        self._error: BaseException | None = None
        self._stop = self._paused = self._rewinding = False
        self._steps = 0
        self._stats: dict[str, Any] = {}
        self._game: Game | None = None
        self._thread = threading.Thread(target=self._run, name="world", daemon=True)
        self.timings = Timings()
        self.ready = False  # the game is open
        self.finished = False  # the limit is reached
        self.recorder = Recorder(self._say)
        self.log: Log | None = None

    # --- for the window's thread ---

    def start(self) -> None:
        """Begin opening the game, and then play it."""
        self._thread.start()

    def stop(self, timeout: float = 10.0) -> bool:
        """End the thread after the frame that it is drawing, and finish a recording. False: still busy."""
        self._set(_stop=True)
        if self._thread.ident is not None:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def check(self) -> None:
        """Raise here what went wrong on the thread."""
        if self._error is not None:
            raise self._error

    def do(self, command: Command) -> None:
        """Run this between two frames; a frame that it returns is shown. A UserError becomes a message."""
        with self._change:
            self._commands.append(command)
            self._change.notify_all()

    def pause(self, paused: bool) -> None:
        """Stop drawing frames, or go on."""
        self._set(_paused=paused, _steps=0)

    def step(self) -> None:
        """Draw one frame while paused; nothing where a life has ended."""
        if self.over:
            return
        with self._change:
            self._paused = True
            self._steps += 1
            self._change.notify_all()

    def go_on(self) -> None:
        """Draw frames again, though the life has ended."""

        def go_on(game: Game) -> None:
            game.go_on()

        self.do(go_on)
        self.pause(False)

    def rewind(self, on: bool) -> None:
        """While on, frames come from the past instead of the model."""
        self._set(_rewinding=on)

    def jump_back(self, seconds: float, rate: float) -> None:
        """Go so much of play back at once, or as far as is kept."""

        def jump(game: Game) -> np.ndarray | None:
            return game.rewind(max(1, round(seconds * rate)))

        self.do(jump)

    @property
    def recording(self) -> bool:
        """Whether a video or a session is being written."""
        return self.recorder.on or (self.log is not None and self.log.on)

    @property
    def paused(self) -> bool:
        """Whether `pause` or `step` holds the game."""
        return self._paused

    @property
    def over(self) -> bool:
        """Whether a life has ended, and nobody has said how to go on."""
        return self._game is not None and self._game.over

    @property
    def rewinding(self) -> bool:
        """Whether the game runs backwards."""
        return self._rewinding

    def newest(self) -> Shown | None:
        """The newest frame, once: None if it was taken before."""
        with self._change:
            unseen, self._unseen = self._unseen, False
            return self._shown if unseen else None

    def message(self) -> str | None:
        """A line for the player, once."""
        return self._messages.popleft() if self._messages else None

    def record(self, path: Path, fps: float) -> None:
        """Write every frame from the one shown now to this file."""

        def begin(game: Game) -> None:
            self.recorder.start(path, fps)
            self.recorder.add(game.frame)

        self.do(begin)

    def stop_recording(self) -> None:
        """Finish the file."""
        self.do(lambda game: self.recorder.finish())

    def _set(self, **values: Any) -> None:
        with self._change:
            for name, value in values.items():
                setattr(self, name, value)
            self._change.notify_all()

    # --- the thread ---

    def _run(self) -> None:
        try:
            try:
                game = self._game = self._open_game()
                self.log = game.log
                if game.log is not None:
                    game.log.say = self._say
                video.prepare()
                if not self._stop:
                    first = game.restart()
                    self._stats = game.stats()
                    self._show(game, first)
                    self.ready = True
                    self._play(game)
            finally:
                self.recorder.finish()
                if self.log is not None:
                    self.log.finish()
        except BaseException as error:  # raised on the window's thread by check()
            self._error = error
        self._notify()

    def _play(self, game: Game) -> None:
        due = time.perf_counter()
        while True:
            with self._change:
                while not self._stop and not self._commands:
                    wait = None if self._idle() else due - time.perf_counter()
                    if wait is not None and wait <= 0:
                        break
                    if wait is None:
                        self.timings.interrupt()
                    self._change.wait(wait)
                if self._stop:
                    return
                command = self._commands.popleft() if self._commands else None
                rewinding = self._rewinding
                if command is None and not rewinding:
                    self._steps = max(0, self._steps - 1)
            if command is not None:
                self._command(game, command)
                continue
            due = max(due + self._period, time.perf_counter())
            if rewinding:
                self.timings.interrupt()
                was_over, past = game.over, game.rewind()
                if past is not None:
                    self._forget_taps(game, was_over)
                    self._stats = game.stats()
                    self._show(game, past)
                elif not self._period:
                    time.sleep(0.01)  # the past has ended; do not spin until the key is released
            else:
                self._draw(game)

    def _idle(self) -> bool:
        return self.finished or (not self._rewinding and (self.over or (self._paused and not self._steps)))

    def _draw(self, game: Game) -> None:
        taken = self._controls.take()
        began = time.perf_counter()
        n = self.timings.frames
        if self._script is not None and n < len(self._script):
            scripted = decode(game.world.buttons, self._script[n])
            wanted = {*taken.buttons, *scripted}
            taken = replace(taken, buttons=tuple(b for b in game.world.buttons if b in wanted))
        frame = game.render(taken.buttons)
        self._show(game, frame, began, replace(taken, buttons=decode(game.world.buttons, game.action)))
        game.commit()
        self._stats = game.stats()
        self.timings.frame(began, time.perf_counter())
        if self._limit is not None and self.timings.frames >= self._limit:
            self.finished = True
        elif self._limit is not None and game.over:
            self.timings.interrupt()
            first = game.live_again()
            self._stats = game.stats()
            self._show(game, first)
        if self.finished or game.over:
            self._notify()

    def _command(self, game: Game, command: Command) -> None:
        self.timings.interrupt()
        was_over = game.over
        try:
            frame = command(game)
        except UserError as error:
            self._say(str(error))
            return
        self._forget_taps(game, was_over)
        self._stats = game.stats()
        if frame is not None:
            self._show(game, frame)
            return
        with self._change:
            if self._shown is not None:
                self._shown, self._unseen = replace(self._shown, began=None, stats=self._stats), True
        self._notify()

    def _forget_taps(self, game: Game, was_over: bool) -> None:
        """Where a game goes on after the end of a life, what was pressed meanwhile is not meant for it."""
        if was_over and not game.over:
            self._controls.forget_taps()

    def _show(self, game: Game, frame: np.ndarray, began: float | None = None, taken: Taken = NOTHING) -> None:
        shown = Shown(frame, game.index, began, taken, game.start, game.seed, self._stats)
        with self._change:
            # A frame that nobody saw hands its unanswered key press on to this one.
            old = self._shown.taken.pressed_at if self._shown is not None and self._unseen else None
            if old is not None and began is not None:
                shown = replace(shown, taken=replace(taken, pressed_at=old))
            self._shown, self._unseen = shown, True
        self._notify()
        self.recorder.add(frame)

    def _say(self, message: str) -> None:
        self._messages.append(message)
        self._notify()
