"""Frames to films: mp4, gif and (animated) png, written on a thread of their own.

A file appears under its name only when it is whole, by :meth:`VideoWriter.close`.
"""

from __future__ import annotations

import itertools
import math
import os
import queue
import sys
import threading
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from engine.errors import UserError
from engine.files import NewFile, check_path, write_error
from engine.pictures import magnify, scale_for

EXTENSIONS = (".mp4", ".gif", ".png")
# Small frames are magnified by whole pixels up to at least this height; a png keeps the frames as they are.
WATCHABLE_HEIGHT = {".mp4": 480, ".gif": 240, ".png": 1}


def prepare() -> None:
    """Load the encoders now, so that the first recording does not make a game stutter."""
    import av  # noqa: F401
    from PIL import Image  # noqa: F401


class VideoWriter:
    """Writes frames to `path` (.mp4: H.264, .gif, .png: animated and lossless) without holding up the caller.

    Args:
        path: where the video goes; its folder must exist, a file of that name is replaced.
        fps: frames a second, > 0.
        scale: magnification in whole pixels; None makes small frames watchable (mp4 at least 480 pixels high,
            gif 240, png as they are).
        capacity: frames that may wait; :meth:`add` waits when so many do, so that none is ever dropped.
        background: let every other thread go first, where the system can (Linux).

    A failed write (a full disk) raises `UserError` from the next :meth:`add` or from :meth:`close`.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        fps: float,
        scale: int | None = None,
        *,
        capacity: int = 64,
        background: bool = False,
    ) -> None:
        self.path = check_path(path, EXTENSIONS)
        if not (math.isfinite(fps) and fps > 0):
            raise UserError(f"a video needs a rate above 0 frames a second, not {fps}")
        if scale is not None and scale < 1:
            raise UserError(f"a video's scale is a whole number from 1 up, not {scale}")
        self.fps = float(fps)
        self.scale = scale
        self.frames = 0
        self.saved = False  # the file is there, whole
        self._background = background
        self._shape: tuple[int, ...] | None = None
        self._queue: queue.Queue[np.ndarray | None] = queue.Queue(capacity)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="video", daemon=True)
        self._closed = False
        prepare()
        try:
            self._file = NewFile(self.path)
        except OSError as error:
            raise write_error(self.path, error) from error
        self._thread.start()

    def add(self, frame: np.ndarray) -> None:
        """Append one frame, uint8 (H, W, 3); all frames of a video have one size."""
        if self._closed:
            raise UserError(f"{self.path}: this video is closed")
        self._raise_error()
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
            raise UserError(f"a video takes frames of uint8 (height, width, 3), not {frame.dtype} {frame.shape}")
        if self._shape is None:
            self._shape = frame.shape
        elif frame.shape != self._shape:
            raise UserError(f"{self.path}: the video's frames are {self._shape}, this one is {frame.shape}")
        self._queue.put(frame.copy())  # the caller may draw into its buffer again
        self.frames += 1

    def close(self) -> None:
        """Finish the file and give it its name. Calling it again does nothing."""
        if self._closed:
            return
        self._closed = True
        self._queue.put(None)
        self._thread.join()
        try:
            self._raise_error()
            if self.frames:
                self._file.keep()
                self.saved = True
        except OSError as error:
            raise write_error(self.path, error) from error
        finally:
            self._file.drop()

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def waiting(self) -> int:
        """Frames that were added and not taken up by the encoder so far."""
        return self._queue.qsize()

    def discard(self) -> None:
        """End without a file, at once but for the frame in hand; also while another thread is in `close`."""
        self.frames = 0
        with self._queue.mutex:
            self._queue.queue.clear()
            self._queue.not_full.notify_all()
        if self._closed:
            self._queue.put(None)  # the one that `close` had put there is gone
        else:
            self.close()

    # --- the writer's thread ---

    def _run(self) -> None:
        if self._background and sys.platform == "linux":
            thread = threading.get_native_id()  # on Linux a priority is of one thread
            os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + 5)
        frames = _QueueFrames(self._queue, self.path.suffix.lower(), self.scale)
        try:
            first = next(frames, None)
            if first is not None:
                write = {".mp4": _write_mp4, ".png": _write_png, ".gif": _write_gif}
                write[self.path.suffix.lower()](self._file.temporary, self.fps, first, frames)
        except BaseException as error:  # handed to the caller's thread by _raise_error
            self._error = error
            for _ in frames:  # keep the queue moving, so that a waiting add() wakes up and sees the error
                pass

    def _raise_error(self) -> None:
        error = self._error
        if error is None:
            return
        if isinstance(error, OSError):
            raise write_error(self.path, error) from error
        raise error


class _QueueFrames(Iterator[np.ndarray]):
    """The queue's frames, magnified, until its None. Unlike a generator, it outlives its reader's error."""

    def __init__(self, frames: queue.Queue[np.ndarray | None], extension: str, scale: int | None) -> None:
        self._queue, self._extension, self._scale = frames, extension, scale
        self._ended = False

    def __next__(self) -> np.ndarray:
        frame = None if self._ended else self._queue.get()
        if frame is None:
            self._ended = True
            raise StopIteration
        return magnify(frame, self._scale or scale_for(frame.shape[0], WATCHABLE_HEIGHT[self._extension]))


def _write_mp4(path: Path, fps: float, first: np.ndarray, rest: Iterator[np.ndarray]) -> None:
    def even(frame: np.ndarray) -> np.ndarray:  # 4:2:0 colour has no odd sizes: repeat the last row or column
        height, width, _ = frame.shape
        return np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")

    # "veryfast" leaves the processor to the model; an index in front lets a browser begin at once
    _encode(
        path,
        "mp4",
        "libx264",
        "yuv420p",
        fps,
        even(first),
        map(even, rest),
        {"movflags": "+faststart"},
        {"preset": "veryfast", "crf": "18"},
    )


def _write_png(path: Path, fps: float, first: np.ndarray, rest: Iterator[np.ndarray]) -> None:
    _encode(path, "apng", "apng", "rgb24", fps, first, rest, {"plays": "0"}, {})


def _encode(
    path: Path,
    container: str,
    codec: str,
    pixels: str,
    fps: float,
    first: np.ndarray,
    rest: Iterator[np.ndarray],
    container_options: dict[str, str],
    codec_options: dict[str, str],
) -> None:
    import av  # and not imageio around it, which turns a full disk into an unclear error

    height, width, _ = first.shape
    with av.open(str(path), "w", format=container, options=container_options) as file:
        stream: Any = file.add_stream(codec, rate=Fraction(fps).limit_denominator(65535), options=codec_options)
        stream.width, stream.height, stream.pix_fmt = width, height, pixels
        for frame in itertools.chain([first], rest):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        file.mux(stream.encode(None))


def _write_gif(path: Path, fps: float, first: np.ndarray, rest: Iterator[np.ndarray]) -> None:
    from PIL import Image  # it picks 256 colours for each frame, FFmpeg the same 256 for all

    # Times are hundredths of a second; below two of them viewers fall back to ten.
    duration = max(20, round(100 / fps) * 10)
    images = (Image.fromarray(frame) for frame in rest)
    Image.fromarray(first).save(path, "GIF", save_all=True, append_images=images, duration=duration, loop=0)
