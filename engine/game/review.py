"""Opens the browser on a recorded session, and what the player chose there."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine.errors import UserError
from engine.game.browser import Browser
from engine.game.resume import free_folder, parent_of
from engine.sessions.info import is_world_name
from engine.sessions.reader import Session, open_session
from engine.sessions.recorder import SessionRecorder, branch_info
from engine.sessions.replay import Pictures, Replayer, open_world_of
from engine.sessions.tree import sessions_in


class Review:
    """A recorded session to look at; options are those of `engine.sessions.replay.open_world_of`."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.session = open_session(folder)
        self.options = options

    @property
    def world_name(self) -> str:
        """The world that the session names. Raises UserError where that is not a world's name."""
        if not is_world_name(self.session.info.world):
            raise UserError(f"the session's world {self.session.info.world[:60]!r} is not a world's name; name one")
        return self.session.info.world

    @functools.cached_property
    def _world(self) -> Any:
        return open_world_of(self.session.info, **self.options)[0] if self.session.info.source == "world" else None

    @functools.cached_property
    def _replayer(self) -> Replayer:
        return Replayer(self.session, self._world)

    def pictures(self) -> Pictures:
        """The session's pictures; frames that a crash took are drawn anew."""
        if self._world is None:
            return Pictures(self.session, None)
        return Pictures(self.session, self._world.codec, lambda: self._replayer)

    def family(self, first: Path | None = None) -> list[Callable[[], Pictures]]:
        """The other sessions beside this one that share its root, `first` in front. Raises UserError."""
        found: list[Session] = []
        if first is not None:
            found.append(self._fitting(open_session(first)))
        for path in sessions_in(self.session.folder.absolute().parent):
            try:
                other = open_session(path)
            except UserError:
                continue  # `tree` says why
            known = {self.session.info.id, *(session.info.id for session in found)}
            if other.info.id not in known and other.root.info.id == self.session.root.info.id:
                found.append(other)
        codec = self._world.codec if self._world is not None else None
        return [functools.partial(Pictures, session, codec) for session in found]

    def _fitting(self, other: Session) -> Session:
        mine, its = self.session.info, other.info
        for name in ("source", "height", "width", "tokens", "channels", "weights"):
            if getattr(mine, name) != getattr(its, name):
                raise UserError(f"--compare {other.folder}: it has another {name} than {self.session.folder}")
        return other

    def trim(self, frame: int) -> Path:
        """Keep the frames up to `frame` as a session of its own, which shares them; returns its folder."""
        state = None
        if self._world is not None:
            self._replayer.go_to(frame)
            state = self._world.snapshot()
        info = branch_info(self.session.info, parent_of(self.session, frame), steps=self.session.steps_after(frame))
        if state is not None:
            info = branch_info(info, info.parent, memory=self._world.mode)
        recorder = SessionRecorder(free_folder(self.session), info, state=state, video=False)
        recorder.close()
        return recorder.folder

    def browser(self, at: int, compare: Path | None) -> Browser:
        """The window. Raises UserError for a frame that is not there."""
        self.session.owner(at)
        others = self.family(compare)
        return Browser(self.pictures(), others, at=at, compare=compare is not None, trim=self.trim)
