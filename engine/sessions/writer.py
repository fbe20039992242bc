"""The files of a session while it is recorded; see `engine.sessions.recorder` for the thread that calls this."""

from __future__ import annotations

import errno
import json
import os
import time
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engine.errors import UserError
from engine.files import new_folder, replace_file
from engine.sessions.info import MAX_SWITCHES, SessionInfo
from engine.sessions.reader import CHECK_EVERY
from engine.sessions.store import INFO, LOG, MAX_KEYFRAME_BYTES, START, VIDEO, chunk_name, keyframe_name, write_tensors
from engine.video import VideoWriter

FLUSH_SECONDS = 0.5
VIDEO_BYTES = 2**28  # frames that may wait for the encoder, in bytes


@dataclass(frozen=True)
class Drawn:
    """One frame of a world, as it came: what was pressed, what came of it, and what else changed before it.

    action uint8 (A,), frame uint8 (H, W, 3), latents (N, C) or None. memory: modes that were set since the frame
    before, in order; steps: passes, 0 where they stayed. result: reward, terminated, truncated of an environment.
    """

    action: np.ndarray
    frame: np.ndarray
    latents: Tensor | None = None
    memory: tuple[str, ...] = ()
    steps: int = 0
    result: tuple[float, bool, bool] | None = None
    state: Any = None  # an engine.world.Snapshot after this frame, to be kept as a keyframe


class SessionWriter:
    """The files of a session while it is written; every method may raise OSError."""

    def __init__(
        self, folder: Path, info: SessionInfo, start: tuple[np.ndarray, np.ndarray] | None, state: Any, video: bool
    ) -> None:
        self.folder, self.info = folder, info
        self.first = self.frame = info.parent.frame if info.parent else 0
        self.state_bytes = 0
        self.due = time.monotonic() + FLUSH_SECONDS
        self._began = time.monotonic()
        self._chunk: list[Tensor] = []
        self._chunk_at = self.first + 1
        self._unsaved = False
        self._crc = [0, 0]
        self._checked = self.first
        self._video: VideoWriter | None = None
        self._make(start, state)
        self._log = os.open(folder / LOG, os.O_WRONLY | os.O_APPEND)
        if video:
            waiting = max(64, VIDEO_BYTES // (info.height * info.width * 3))
            self._video = VideoWriter(folder / VIDEO, info.frame_rate, capacity=waiting, background=True)
            if start is not None:
                self._video.add(start[0][-1])

    def _make(self, start: tuple[np.ndarray, np.ndarray] | None, state: Any) -> None:
        """Make the folder so that it is there whole or not at all."""
        if self.folder.exists() and (not self.folder.is_dir() or next(self.folder.iterdir(), None) is not None):
            raise UserError(f"{self.folder} is there already; choose another name for the recording")
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        with new_folder(self.folder) as made:
            if start is not None:
                frames, actions = (torch.from_numpy(np.ascontiguousarray(part)) for part in start)
                write_tensors(made / START, {"frames": frames, "actions": actions}, {})
            if state is not None:
                self._keep(made, self.first, state)
            replace_file(made / INFO, (json.dumps(self.info.table(), indent=1) + "\n").encode())
            first = {"type": "session_start", "id": self.info.id, "frame": self.first, "format": self.info.format}
            replace_file(made / LOG, _line(first))

    def write(self, drawn: Drawn) -> None:
        """Write a frame's line, and keep its latents until the next flush."""
        assert len(drawn.memory) <= MAX_SWITCHES, "no reader takes so many modes before one frame"
        self.frame += 1
        entry: dict[str, Any] = {"type": "frame_input", "frame": self.frame, "action": drawn.action.tolist()}
        entry["ms"] = round(1000 * (time.monotonic() - self._began))
        if drawn.memory:
            entry["memory"] = list(drawn.memory)
        if drawn.steps:
            entry["steps"] = drawn.steps
        if drawn.result is not None:
            entry |= dict(zip(("reward", "terminated", "truncated"), drawn.result, strict=True))
        kept = torch.from_numpy(drawn.frame) if drawn.latents is None else drawn.latents.cpu()
        self._crc[0] = zlib.crc32(drawn.frame.tobytes(), self._crc[0])
        if drawn.latents is not None:
            self._crc[1] = zlib.crc32(kept.float().numpy().tobytes(), self._crc[1])
        if self.frame % CHECK_EVERY == 0:
            entry |= self._check()
        self._chunk.append(kept)
        self._unsaved = True
        self._append(entry)
        if len(self._chunk) == self.info.chunk:
            self._save_chunk()
            self._chunk, self._chunk_at = [], self.frame + 1
        if drawn.state is not None:
            self._keep(self.folder, self.frame, drawn.state)
        if self._video is not None:
            self._film(drawn.frame)

    def flush(self) -> None:
        """Bring everything to the disk."""
        self._save_chunk()
        os.fsync(self._log)
        self.due = time.monotonic() + FLUSH_SECONDS

    def end(self) -> None:
        """Write the last line."""
        self.flush()
        entry: dict[str, Any] = {"type": "session_end", "frame": self.frame}
        if self.frame > self._checked:
            entry |= self._check()
        self._append(entry)
        os.fsync(self._log)

    def end_video(self) -> Path | None:
        """Close all files; the video, if it could be made."""
        os.close(self._log)
        if self._video is None:
            return None
        try:
            self._video.close()
        except Exception:  # whatever ails the encoder
            return None  # a by-product: `replay --out` makes it anew
        return self._video.path if self._video.saved else None

    def give_up_video(self) -> None:
        """Leave the video out; may be called from another thread, while `end_video` waits for the encoder."""
        if self._video is not None:
            self._video.discard()

    def _check(self) -> dict[str, int]:
        crc, self._crc, self._checked = self._crc, [0, 0], self.frame
        return {"frames_crc32": crc[0]} | ({"latents_crc32": crc[1]} if self.info.source == "world" else {})

    def _append(self, entry: dict[str, Any]) -> None:
        data = _line(entry)
        while data:  # a nearly full disk takes a part, and refuses the rest
            data = data[os.write(self._log, data) :]

    def _save_chunk(self) -> None:
        if not self._unsaved:
            return
        name, kept = "frames", torch.stack(self._chunk)
        if self.info.source == "world":
            name = "latents"
            short = kept.to(torch.bfloat16)
            if torch.equal(short.float(), kept):  # drawn in bf16: half the bytes hold the same numbers
                kept = short
        write_tensors(self.folder / chunk_name(self._chunk_at), {name: kept}, {"first": self._chunk_at})
        self._unsaved = False

    def _keep(self, folder: Path, frame: int, state: Any) -> None:
        meta, tensors = state.state()
        size = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
        if size > MAX_KEYFRAME_BYTES - 2**20:
            self.state_bytes = size
            return  # too large to be read back safely; a replay takes the latents from the keyframe before
        self.state_bytes = write_tensors(folder / keyframe_name(frame), tensors, {"frame": frame, "world": meta})

    def _film(self, frame: np.ndarray) -> None:
        assert self._video is not None
        if self._video.waiting >= VIDEO_BYTES // frame.nbytes:
            video, self._video = self._video, None  # the encoder cannot follow; `replay --out` makes it anew
            video.discard()
            return
        try:
            self._video.add(frame)
        except UserError as error:
            raise OSError(getattr(error.__cause__, "errno", errno.EIO) or errno.EIO, str(error)) from error


def _line(entry: dict[str, Any]) -> bytes:
    return json.dumps(entry, separators=(",", ":")).encode() + b"\n"
