"""Recording a game: which file is being written, which are whole, and what went wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from engine.errors import UserError
from engine.video import VideoWriter


class Recorder:
    """Writes frames to a file while there is one. A failed recording is told; the game goes on.

    Args:
        say: takes a line for the player.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._writer: VideoWriter | None = None
        self.saved: list[Path] = []
        self.failed: list[str] = []

    @property
    def on(self) -> bool:
        """Whether frames are being written."""
        return self._writer is not None

    def start(self, path: Path, fps: float) -> None:
        """Begin a file, after finishing the one before. Raises UserError where it cannot be written."""
        self.finish()
        try:
            self._writer = VideoWriter(path, fps)
        except UserError as error:
            self.failed.append(str(error))
            raise

    def add(self, frame: np.ndarray) -> None:
        """Append a frame, uint8 (H, W, 3), if a file is being written."""
        if self._writer is None:
            return
        try:
            self._writer.add(frame)
        except UserError:
            self.finish()  # which raises the same again

    def finish(self) -> None:
        """Give the file its name, if one is being written."""
        writer, self._writer = self._writer, None
        if writer is None:
            return
        try:
            writer.close()
        except UserError as error:
            self.failed.append(str(error))
            self._say(str(error))
        if writer.saved:
            self.saved.append(writer.path)
            self._say(f"saved {writer.path}")
