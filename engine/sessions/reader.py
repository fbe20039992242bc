"""A session: the log of a world's life in a folder. Format version 1; docs/session-format.md describes the files.

This module reads. Frame 0 is the start; frame i >= 1 is what the i-th action led to. A branch has a parent, which
lies beside it, and owns only the frames after the one that it left it at.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engine.errors import UserError
from engine.sessions.info import MAX_FRAMES, MAX_SWITCHES, SessionInfo, read_info
from engine.sessions.store import (
    LOG,
    MAX_CHUNK_BYTES,
    MAX_KEYFRAME_BYTES,
    START,
    chunk_name,
    keyframe_name,
    keyframes_in,
    parse_table,
    read_lines,
    read_tensors,
)

CHECK_EVERY = 32  # frames between two checksums
MAX_ANCESTORS = 1000


@dataclass
class _Log:
    """What ``actions.ndjson`` says, for the session's own frames."""

    actions: np.ndarray  # uint8 (n, A)
    changes: dict[int, tuple[tuple[str, ...], int]]  # memory modes and steps that were set before a frame; 0: as before
    checks: dict[int, tuple[int, int | None]]  # CRC-32 of frames and latents since the check before
    results: dict[int, tuple[float, bool, bool]]  # reward, terminated, truncated
    ended: bool


class Session:
    """A session that was recorded, or is just being recorded; use `open_session`.

    first: the last frame that is shared with the parent, 0 without one. last: the last frame. The log decides which
    frames there are; after a crash the latents of the last second may be missing. Pictures that a crash took cannot be
    drawn anew: `last` is then the last frame whose picture is stored.
    """

    def __init__(self, folder: Path, info: SessionInfo, log: _Log, parent: Session | None) -> None:
        self.folder, self.info, self.parent = folder, info, parent
        self.first = info.parent.frame if info.parent else 0
        self.last = self.first + len(log.actions)
        self.changes, self.checks, self.ended, self.results = log.changes, log.checks, log.ended, log.results
        self._actions = log.actions
        self._chunk = functools.lru_cache(maxsize=4)(self._read_chunk)
        if info.source == "frames" and not log.ended and self.last > self.first:
            newest = self.first + 1 + (self.last - self.first - 1) // info.chunk * info.chunk
            chunk = self._chunk(newest)
            self.last = min(self.last, newest - 1 + (len(chunk) if chunk is not None else 0))

    def owner(self, frame: int) -> Session:
        """The session in this one's line of ancestors whose log holds `frame`, 0 to last."""
        if not 0 <= frame <= self.last:
            raise UserError(f"session {self.folder} has frames 0 to {self.last}, not {frame}")
        session = self
        while frame <= session.first and session.parent is not None:
            session = session.parent
        return session

    @property
    def root(self) -> Session:
        """The first ancestor, which has the start frames."""
        return self.owner(0)

    def action(self, frame: int) -> np.ndarray:
        """The action uint8 (A,) that led to `frame` >= 1."""
        owner = self.owner(frame)
        return owner._actions[frame - owner.first - 1]

    def actions(self, first: int, last: int) -> np.ndarray:
        """The actions uint8 (last - first + 1, A) that led to these frames."""
        return np.stack([self.action(i) for i in range(first, last + 1)])

    def change(self, frame: int) -> tuple[tuple[str, ...], int]:
        """Memory modes that were set just before `frame` was drawn, in order, and the steps (0: as before)."""
        return self.owner(frame).changes.get(frame, ((), 0))

    def steps_after(self, frame: int) -> int:
        """Passes a frame that were in force when `frame` had been drawn, or at a branch's beginning."""
        if frame < self.first and self.parent is not None:
            return self.parent.steps_after(frame)
        set_at = [at for at, (_, steps) in self.changes.items() if steps and at <= frame]
        return self.changes[max(set_at)][1] if set_at else self.info.steps

    def start(self) -> tuple[np.ndarray, np.ndarray]:
        """The real frames uint8 (n, H, W, 3) that the root began from, and their actions (n, A)."""
        root, info = self.root, self.root.info
        _, tensors = read_tensors(root.folder, START, MAX_CHUNK_BYTES)
        frames, actions = tensors.get("frames"), tensors.get("actions")
        shape = (len(frames) if frames is not None and frames.dim() else 0, info.height, info.width, 3)
        if frames is None or actions is None or frames.dtype != torch.uint8 or tuple(frames.shape) != shape:
            raise UserError(f"session {root.folder}: {START} does not hold uint8 frames {shape[1:]}")
        if not shape[0] or tuple(actions.shape) != (shape[0], len(info.buttons)) or actions.dtype != torch.uint8:
            raise UserError(f"session {root.folder}: {START} does not hold an action for each frame")
        return frames.numpy(), actions.numpy()

    def stored(self, frame: int) -> Tensor | None:
        """What is stored of `frame` >= 1: latents float32 (N, C), or a picture uint8 (H, W, 3); None if lost."""
        owner = self.owner(frame)
        number = (frame - owner.first - 1) // owner.info.chunk
        chunk = owner._chunk(owner.first + 1 + number * owner.info.chunk)
        index = (frame - owner.first - 1) % owner.info.chunk
        if chunk is None or index >= len(chunk):
            return None
        return chunk[index].float() if owner.info.source == "world" else chunk[index]

    def _read_chunk(self, first: int) -> Tensor | None:
        name = chunk_name(first)
        if not (self.folder / name).is_symlink() and not (self.folder / name).exists():
            if first + self.info.chunk <= self.last:
                raise UserError(f"session {self.folder}: {name} is missing; copy the whole folder again")
            return None  # its last second was lost
        _, tensors = read_tensors(self.folder, name, MAX_CHUNK_BYTES)
        if self.info.source == "world":
            found, inner = tensors.get("latents"), (self.info.tokens, self.info.channels)
            fits = found is not None and found.is_floating_point()
        else:
            found, inner = tensors.get("frames"), (self.info.height, self.info.width, 3)  # type: ignore[assignment]
            fits = found is not None and found.dtype == torch.uint8
        if not fits or found is None or tuple(found.shape[1:]) != inner or len(found) > self.info.chunk:
            raise UserError(f"session {self.folder}: {name} does not hold {self.info.source} of shape {inner}")
        if first + self.info.chunk <= self.last and len(found) < self.info.chunk:
            raise UserError(f"session {self.folder}: {name} holds {len(found)} frames, not {self.info.chunk}")
        if first + len(found) - 1 > self.last and self.ended:
            raise UserError(f"session {self.folder}: {name} holds more frames than {LOG}")
        return found

    def keyframe_before(self, frame: int) -> tuple[Session, int] | None:
        """The newest stored state of the world at or before `frame`: who has it and of which frame it is."""
        session: Session | None = self  # and not the owner: a branch has the state of the frame that it begins after
        while session is not None:
            found = [at for at in keyframes_in(session.folder) if session.first <= at <= min(frame, session.last)]
            if found:
                return session, found[-1]
            frame, session = min(frame, session.first), session.parent
        return None

    def has_keyframe(self, frame: int) -> bool:
        """Whether this folder itself has the state after `frame`."""
        return (self.folder / keyframe_name(frame)).is_file()

    def keyframe(self, frame: int) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """The world's state after `frame`, as `Snapshot.state` gave it; the session must be the one that has it."""
        meta, tensors = read_tensors(self.folder, keyframe_name(frame), MAX_KEYFRAME_BYTES)
        if meta.get("frame") != frame or not isinstance(meta.get("world"), dict):
            raise UserError(f"session {self.folder}: {keyframe_name(frame)} is of frame {str(meta.get('frame'))[:20]}")
        return meta["world"], tensors


def open_session(folder: str | Path) -> Session:
    """Open the session in a folder, with its ancestors, which lie beside it. Raises UserError."""
    place = Path(folder)
    line = [(place, read_info(place))]
    while (named := line[-1][1].parent) is not None:
        if len(line) > MAX_ANCESTORS:
            raise UserError(f"session {folder} has more than {MAX_ANCESTORS} ancestors")
        beside = place.absolute().parent / named.folder
        if beside.is_symlink() or not beside.is_dir():
            raise UserError(f"session {line[-1][0]}: its parent {named.folder!r} must lie beside it, and does not")
        info = read_info(beside)
        if info.id != named.id:
            raise UserError(f"session {beside} is not the parent that {line[-1][0].name} names (another id)")
        if any(info.id == other.id for _, other in line):
            raise UserError(f"session {beside} is its own ancestor")
        line.append((beside, info))
    session: Session | None = None
    for where, info in reversed(line):
        if session is not None:
            _check_branch(where, info, session)
        session = Session(where, info, _read_log(where, info), session)
    assert session is not None
    return session


def _check_branch(folder: Path, info: SessionInfo, parent: Session) -> None:
    assert info.parent is not None
    if not parent.first <= info.parent.frame <= parent.last:
        raise UserError(f"session {folder} leaves its parent at frame {info.parent.frame}, which it does not have")
    for name in ("source", "buttons", "height", "width", "tokens", "channels"):
        if getattr(parent.info, name) != getattr(info, name):
            raise UserError(f"session {folder} has another {name} than its parent")


def _read_log(folder: Path, info: SessionInfo) -> _Log:
    """Read the log; a last line that was never finished is left out. Raises UserError for a wrong line."""
    first, count, buttons = (info.parent.frame if info.parent else 0), 0, len(info.buttons)
    packed = bytearray()
    log = _Log(np.zeros((0, buttons), np.uint8), {}, {}, {}, False)
    started = False
    for number, line in read_lines(folder):
        where = f"session {folder}: {LOG} line {number}"
        if log.ended:
            raise UserError(f"{where} comes after the session's end")
        entry = parse_table(line, where)
        kind = entry.get("type")
        if kind != "session_start" and not started:
            raise UserError(f"{where} comes before session_start")
        if kind == "session_start":
            if started or entry.get("id") != info.id or entry.get("frame") != first:
                raise UserError(f"{where}: the log is not that of this session")
            started = True
        elif kind == "frame_input":
            count += 1
            if entry.get("frame") != first + count or first + count > MAX_FRAMES:
                raise UserError(f"{where}: expected frame {first + count}, got {str(entry.get('frame'))[:20]}")
            packed += _action(entry.get("action"), buttons, where)
            _extras(entry, first + count, log, where)
        elif kind == "session_end":
            if entry.get("frame") != first + count:
                raise UserError(f"{where}: the session ends at {str(entry.get('frame'))[:20]}, its log at {count}")
            _extras(entry, first + count, log, where)
            log.ended = True
        else:
            raise UserError(f"{where}: unknown type {str(kind)[:30]!r}")
    if not started:
        raise UserError(f"session {folder}: {LOG} has no session_start; copy the whole folder again")
    log.actions = np.frombuffer(bytes(packed), np.uint8).reshape(count, buttons)
    return log


def _action(value: Any, buttons: int, where: str) -> bytes:
    if (
        not isinstance(value, list)
        or len(value) != buttons
        or any(type(v) is not int or v not in (0, 1) for v in value)
    ):
        raise UserError(f"{where}: an action is a list of {buttons} zeros and ones")
    return bytes(value)


def _extras(entry: Mapping[str, Any], frame: int, log: _Log, where: str) -> None:
    """Note what a line says beside the action."""
    modes, steps = entry.get("memory", []), entry.get("steps", 0)
    if not isinstance(modes, list) or len(modes) > MAX_SWITCHES or not all(isinstance(mode, str) for mode in modes):
        raise UserError(f"{where}: memory is a list of names")
    if type(steps) is not int or not 0 <= steps <= 64:
        raise UserError(f"{where}: steps is a number from 1 to 64")
    if modes or steps:
        log.changes[frame] = (tuple(modes), steps)
    if "frames_crc32" in entry:
        pixels, latents = entry["frames_crc32"], entry.get("latents_crc32")
        if type(pixels) is not int or (latents is not None and type(latents) is not int):
            raise UserError(f"{where}: a checksum is a whole number")
        log.checks[frame] = (pixels, latents)
    if "reward" in entry:
        reward, over, cut = entry["reward"], entry.get("terminated", False), entry.get("truncated", False)
        number = type(reward) is float or (type(reward) is int and abs(reward) < 2**63)
        if not number or type(over) is not bool or type(cut) is not bool:
            raise UserError(f"{where}: reward is a number, terminated and truncated are true or false")
        log.results[frame] = (float(reward), over, cut)
