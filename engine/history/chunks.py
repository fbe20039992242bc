"""The map of one world in chunks that are never changed: a copy is a copy of a dict, whatever the map holds.

What is far from the player goes to a temporary file, once the map takes more RAM than it may; it comes back when he
does.
"""

from __future__ import annotations

import os
import tempfile
import threading
import weakref
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

SIDE = 16
"""Tiles along the side of a chunk."""

At = tuple[int, int]
"""A chunk's column and row."""


@dataclass(frozen=True)
class Chunk:
    """A square of tiles, never changed: bits of latents (256, C), frame number of each sight int64 (256,), or -1."""

    latents: np.ndarray
    time: np.ndarray

    @classmethod
    def changed(cls, old: Chunk, cells: np.ndarray, bits: np.ndarray, time: np.ndarray | int) -> Chunk:
        """A chunk like another one, but for some cells (K,): bits of latents (K, C), seen at `time`."""
        latents, times = old.latents.copy(), old.time.copy()
        latents[cells], times[cells] = bits, time
        return cls(latents, times)

    @classmethod
    def empty(cls, channels: int, bits: np.dtype) -> Chunk:
        """A chunk of which nothing is known."""
        return cls(np.zeros((SIDE * SIDE, channels), bits), np.full(SIDE * SIDE, -1, np.int64))


class Spill:
    """A temporary file of chunks of one size; it goes with the last map that has it.

    A place in it is free again when no map knows the chunk any more: so it grows with what is known, and not with how
    often a player comes and goes.
    """

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="loci-places-")  # noqa: SIM115  (closed with its last owner)
        self._lock = threading.Lock()  # a map is written to disk by another thread than the one that plays
        self._free: list[int] = []

    @property
    def bytes(self) -> int:
        """Of the file."""
        return os.fstat(self._file.fileno()).st_size

    def put(self, chunk: Chunk) -> Stored:
        """Keep a chunk."""
        with self._lock:
            at = self._free.pop() if self._free else self._file.seek(0, os.SEEK_END)
            self._file.seek(at)
            self._file.write(chunk.time.tobytes() + chunk.latents.tobytes())
            self._file.flush()
        stored = Stored(self, at)
        weakref.finalize(stored, self._free.append, at).atexit = False
        return stored

    def get(self, at: int, channels: int, bits: np.dtype) -> Chunk:
        """The chunk that was put there."""
        cells = SIDE * SIDE
        with self._lock:
            self._file.seek(at)
            data = self._file.read(cells * (8 + channels * bits.itemsize))
        latents = np.frombuffer(data, bits, cells * channels, 8 * cells).reshape(cells, channels)
        return Chunk(latents, np.frombuffer(data, np.int64, cells))


@dataclass(frozen=True, eq=False)
class Stored:
    """A chunk in a file, and where; maps share it."""

    spill: Spill
    at: int


class Map:
    """Chunks by column and row, of latents of `channels` numbers that numpy keeps as `bits`.

    ram_bytes: above which chunks go to disk. tiles: how many were seen. bytes, disk_bytes: of the chunks in RAM, and on
    disk.
    """

    def __init__(self, channels: int, bits: np.dtype, ram_bytes: int) -> None:
        self.channels, self.bits, self.ram_bytes = channels, bits, ram_bytes
        self._each = chunk_bytes(channels, bits)
        self.tiles = self._stored = 0
        self._chunks: dict[At, Chunk | Stored] = {}
        self._spill: Spill | None = None

    @property
    def bytes(self) -> int:
        return (len(self._chunks) - self._stored) * self._each

    @property
    def disk_bytes(self) -> int:
        return self._stored * self._each

    @property
    def file_bytes(self) -> int:
        """Bytes of the file, which copies of the map have a part in."""
        return self._spill.bytes if self._spill is not None else 0

    def get(self, at: At) -> Chunk | None:
        """The chunk there, if anything of it was seen."""
        found = self._chunks.get(at)
        return self._read(found) if isinstance(found, Stored) else found

    def put(self, at: At, cells: np.ndarray, bits: np.ndarray, time: np.ndarray | int) -> None:
        """Know of some cells (K,), no two the same, of the chunk there: bits of latents (K, C), seen at `time`."""
        old = self.get(at) or Chunk.empty(self.channels, self.bits)
        self._stored -= isinstance(self._chunks.get(at), Stored)
        self._chunks[at] = Chunk.changed(old, cells, bits, time)
        self.tiles += int((old.time[cells] < 0).sum())
        if self.bytes > self.ram_bytes:
            self._spill_from(at)

    def items(self) -> Iterator[tuple[At, Chunk]]:
        """All chunks, in the order of columns and rows."""
        for at in sorted(self._chunks):
            found = self._chunks[at]
            yield at, self._read(found) if isinstance(found, Stored) else found

    def copy(self) -> Map:
        """Independent copy; chunks are shared."""
        other = Map.__new__(Map)
        other.__dict__.update(self.__dict__)
        other._chunks = self._chunks.copy()
        return other

    def _read(self, stored: Stored) -> Chunk:
        return stored.spill.get(stored.at, self.channels, self.bits)

    def _spill_from(self, here: At) -> None:
        """Bring that half of the chunks to disk which is farther from here."""
        if self._spill is None:
            self._spill = Spill()
        warm = [at for at, chunk in self._chunks.items() if isinstance(chunk, Chunk)]
        warm.sort(key=lambda at: max(abs(at[0] - here[0]), abs(at[1] - here[1])))
        for at in warm[max(1, len(warm) // 2) :]:
            chunk = self._chunks[at]
            assert isinstance(chunk, Chunk)
            self._chunks[at] = self._spill.put(chunk)
            self._stored += 1


def chunk_bytes(channels: int, bits: np.dtype) -> int:
    """Bytes of a chunk."""
    return SIDE * SIDE * (channels * bits.itemsize + 8)
