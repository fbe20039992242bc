"""A game as sessions: one for each start, and a branch for each way that is taken from an old moment."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from engine.game.game import Game
from engine.sessions.info import MAX_SWITCHES, Parent, SessionInfo
from engine.sessions.recorder import SessionRecorder, branch_info
from engine.sessions.store import free_name
from engine.sessions.writer import Drawn


@dataclass(frozen=True)
class Mark:
    """A moment of a recorded game."""

    recorder: SessionRecorder
    frame: int
    switches: tuple[str, ...] = ()  # memory modes that had been set since that frame


class SessionLog:
    """Records a game into `folder`, and into folders beside it for further starts and branches.

    Args:
        folder: of the first session; FOLDER-2, FOLDER-3, ... are the others.
        info: what a session of this game says, as it is now.
        video: whether each session gets a video as well.
    """

    def __init__(
        self,
        folder: Path,
        info: Callable[[Game], SessionInfo],
        *,
        video: bool = True,
    ) -> None:
        self.folder, self.video = folder, video
        self.say: Callable[[str], None] = lambda message: None
        self.failed: str | None = None
        self._info = info
        self._now: SessionRecorder | None = None
        self._all: list[SessionRecorder] = []
        self._back: tuple[Mark, Any] | None = None  # where the player went, until a frame is drawn from there
        self._switches: list[str] = []
        self._steps = 0

    @property
    def on(self) -> bool:
        """Whether frames are being recorded."""
        return self._now is not None and self.failed is None

    @property
    def sessions(self) -> list[Path]:
        """Folders of the sessions so far."""
        return [recorder.folder for recorder in self._all]

    def restarted(self, game: Game) -> None:
        """The game begins anew: so does a session."""
        info, origin = self._info(game), game.origin
        self._back = None
        self._switches.clear()
        if origin is not None:
            self._begin(game, branch_info(info, origin.parent), state=origin.snapshot)
        else:
            start = (game.frame[None].copy(), np.zeros((1, len(game.world.buttons)), np.uint8))
            self._begin(game, info, start=start)

    def wants_state(self) -> bool:
        """Whether the next `drawn` should bring a snapshot."""
        return self.on and self._now is not None and self._now.wants_state(self._now.frame + 1)

    def drawn(self, game: Game, action: np.ndarray, state: Any) -> None:
        """A frame was drawn and committed."""
        if self._back is not None:
            self._branch(game)
        if not self.on or self._now is None:
            return
        stats, latents = game.world.stats(), getattr(game.world, "latents", None)
        steps, self._steps = int(stats["steps"]) if stats["steps"] != self._steps else 0, int(stats["steps"])
        switches, self._switches = tuple(self._switches), []
        kept = None if latents is None else latents[0]
        self._now.add(Drawn(action, game.frame, kept, memory=switches, steps=steps, state=state))

    def switched(self, mode: str) -> None:
        """The memory mode was set."""
        self._switches.append(mode)

    def may_switch(self) -> bool:
        """Whether the memory mode may be set once more before the next frame."""
        return not self.on or len(self._switches) < MAX_SWITCHES

    def mark(self) -> Mark | None:
        """The present moment, to come back to."""
        if self._back is not None:
            return self._back[0]
        return Mark(self._now, self._now.frame, tuple(self._switches)) if self._now is not None else None

    def went_back(self, mark: Mark | None, snapshot: Any) -> None:
        """The game is at an old moment again; a frame that is drawn from there begins a branch."""
        self._switches.clear()
        self._back = None
        if mark is not None and mark.recorder is self._now and mark.frame == self._now.frame:
            self._switches.extend(mark.switches)  # back at where it was: the session goes on
        elif mark is not None:
            self._back = (mark, snapshot)  # whose history has been switched already

    def finish(self, timeout: float | None = 8.0) -> None:
        """End all recordings and wait until they are written; videos that take longer are left out."""
        for recorder in self._all:
            recorder.end()
        for recorder in self._all:
            recorder.close(timeout)
        if self.video and self.failed is None and any(recorder.saved is None for recorder in self._all):
            self.say("a video was not ready and is left out; make it with: python -m engine replay SESSION --out FILE")
        if self._all and self.failed is None:
            self.say(f"saved {', '.join(map(str, self.sessions))}")

    def _branch(self, game: Game) -> None:
        assert self._back is not None
        (mark, snapshot), self._back = self._back, None
        parent = Parent(folder=mark.recorder.folder.name, id=mark.recorder.info.id, frame=mark.frame)
        mode = snapshot.mode if hasattr(snapshot, "mode") else game.world.stats()["mode"]
        info = branch_info(mark.recorder.info, parent, memory=mode, steps=int(game.world.stats()["steps"]))
        self._begin(game, info, state=snapshot, after=mark.recorder)

    def _begin(self, game: Game, info: SessionInfo, **options: Any) -> None:
        if self._now is not None:
            self._now.end()
        if self.failed is not None:
            return
        self._steps = info.steps
        folder = free_name(self.folder, self.sessions)
        self._now = SessionRecorder(folder, info, fail=self._fail, video=self.video, wait=not self._all, **options)
        self._all.append(self._now)

    def _fail(self, message: str) -> None:
        if self.failed is None:
            self.failed = message
            self.say(message)
