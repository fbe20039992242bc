"""Records a session on a thread of its own, so that play never waits and a crash loses less than a second."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from engine.errors import UserError
from engine.files import is_full
from engine.sessions.info import Parent, SessionInfo
from engine.sessions.store import is_folder_name
from engine.sessions.writer import Drawn, SessionWriter

CAPACITY = 1024  # frames that may wait for the disk
KEYFRAME_EVERY = 128  # frames, at least
KEYFRAME_BYTES = 8192  # that keyframes may cost a frame: a large state is kept less often


class SessionRecorder:
    """Writes one session. All methods return at once; what goes wrong is told once, and the rest is left out.

    Args:
        folder: must not exist, or be empty; its name must be fit for a folder everywhere.
        start: real frames uint8 (n, H, W, 3) and actions (n, A) of a root; None for a branch.
        state: the Snapshot that a branch begins at.
        fail: takes one line, on any thread, when the recording ends before its time.
        video: whether to make a ``video.mp4`` as well.
        wait: raise UserError here where the folder cannot be made, instead of telling `fail` later.
        after: the parent's recorder, where that may still be writing: the branch is made when its parent is whole.
    """

    def __init__(
        self,
        folder: Path,
        info: SessionInfo,
        *,
        start: tuple[np.ndarray, np.ndarray] | None = None,
        state: Any = None,
        fail: Callable[[str], None] = lambda message: None,
        video: bool = True,
        wait: bool = True,
        after: SessionRecorder | None = None,
    ) -> None:
        if not is_folder_name(folder.name):
            raise UserError(f"{folder}: choose a name of letters, digits, '-', '_' and '.' for a session's folder")
        self.folder, self.info = folder, info
        self.first = info.parent.frame if info.parent else 0
        self.frame = self.first  # the last one that was added
        self.error: str | None = None
        self.saved: Path | None = None  # the video
        self._fail, self._wants_video = fail, video
        self._start, self._state = start, state
        self._queue: queue.Queue[Drawn | None] = queue.Queue(CAPACITY)
        self._writer: SessionWriter | None = None
        self._made, self._written = threading.Event(), threading.Event()
        self._after = after
        self._closed = False
        self._next_state = self.first
        self._state_bytes = 0
        self._thread = threading.Thread(target=self._run, name="session", daemon=True)
        self._thread.start()
        if wait:
            self._made.wait()
            if self.error is not None:
                self.end()
                raise UserError(self.error)

    @property
    def made(self) -> bool:
        """Whether the session's folder is there."""
        return self._writer is not None

    def wants_state(self, frame: int) -> bool:
        """Whether a snapshot after `frame` should be given along, as a keyframe."""
        return frame >= self._next_state + max(KEYFRAME_EVERY, self._state_bytes // KEYFRAME_BYTES)

    def add(self, drawn: Drawn) -> None:
        """Take in the next frame. Its arrays must not be written to afterwards."""
        if self.error is not None or self._closed:
            return
        self.frame += 1
        if drawn.state is not None:
            self._next_state = self.frame
        try:
            self._queue.put_nowait(drawn)
        except queue.Full:
            self._tell(f"{self.folder}: the disk is too slow; the recording ends at frame {self.frame - 1}")

    def end(self) -> None:
        """End the session; what is waiting is still written, by the thread."""
        if not self._closed:
            self._closed = True
            with contextlib.suppress(queue.Full):  # then the thread ends when it has written what waits
                self._queue.put_nowait(None)

    def close(self, timeout: float | None = 60.0) -> None:
        """End the session, and wait until it is written and its video made. Calling it again does nothing.

        A video that is not made after `timeout` seconds is left out; None waits for it.
        """
        self.end()
        self._thread.join(timeout)
        if self._thread.is_alive() and self._written.is_set() and self._writer is not None:
            self._writer.give_up_video()
            self._thread.join(5)

    # --- the writer's thread ---

    def _tell(self, message: str) -> None:
        if self.error is None:
            self.error = message
            self._fail(message)

    def _run(self) -> None:
        writer: SessionWriter | None = None
        try:
            self._wait_for_parent()
            try:
                writer = SessionWriter(self.folder, self.info, self._start, self._state, self._wants_video)
            finally:
                self._start = self._state = None
            self._writer = writer
            self._made.set()
            while self._step(writer):
                pass
        except UserError as error:
            self._tell(str(error))
        except OSError as error:
            why = "no space left on the disk" if is_full(error) else error.strerror or str(error)
            self._tell(f"{self.folder}: {why}; the recording ends here")
        except Exception as error:  # a frame of another size, say: nobody else would tell of it
            why = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            self._tell(f"{self.folder}: {why}; the recording ends here")
        finally:
            self._made.set()
            self._written.set()
            if self.error is not None:
                self._drain()
            if writer is not None:
                self.saved = writer.end_video()

    def _wait_for_parent(self) -> None:
        after, self._after = self._after, None
        if after is not None:
            after._written.wait()
            if after.error is not None:
                raise UserError(after.error)

    def _step(self, writer: SessionWriter) -> bool:
        try:
            drawn = self._queue.get(timeout=max(0.0, writer.due - time.monotonic()))
        except queue.Empty:
            if not self._closed or not self._queue.empty():
                writer.flush()
                return True
            drawn = None
        if drawn is None:
            writer.end()
            return False
        writer.write(drawn)
        if drawn.state is not None:
            self._state_bytes = writer.state_bytes
        if time.monotonic() >= writer.due:
            writer.flush()
        return True

    def _drain(self) -> None:
        while not self._closed or not self._queue.empty():
            try:
                if self._queue.get(timeout=0.2) is None:
                    return
            except queue.Empty:
                continue


def branch_info(info: SessionInfo, parent: Parent | None, **changes: Any) -> SessionInfo:
    """The info of a branch: its parent's, with a new id, and `changes`."""
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return replace(info, id=uuid.uuid4().hex, created=created, parent=parent, **changes)
