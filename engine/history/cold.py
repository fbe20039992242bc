"""Cold storage: every folded block of one world, in 8 bits a number, in RAM and then on disk; recall by relevance."""

from __future__ import annotations

import os
import tempfile
from typing import IO

import numpy as np
import torch
from torch import Tensor

from engine.model import odometry

RAM_BYTES = 384 * 2**20
"""Folded blocks of a batch's worlds beyond this go to temporary files, which the system deletes with the process."""
SAME = 0.1
"""Views that are closer than this (see `odometry.cost`) count as one: the oldest of them is recalled first.

Below what one step costs (0.125): while the player walks, the view to come is one step from where the last one was, and
must not be taken for it.
"""


class Rows:
    """What the copies of a store share: rows that are appended, never changed. A copy reads those before its own end.

    poses (3, room) float64, a row for each number, for recall reads all of them every frame; looks (room, D); blocks:
    packed bytes, or where they begin in the file. filled: rows that belong to some copy.
    """

    def __init__(self, room: int, look: int) -> None:
        self.poses = np.zeros((3, room))
        self.looks = np.zeros((room, look), np.float32)
        self.blocks: list[np.ndarray | int] = []

    @property
    def filled(self) -> int:
        return len(self.blocks)

    def with_room(self, keep: int) -> Rows:
        """The first `keep` rows, with room for more."""
        other = Rows(max(64, keep + keep // 2), self.looks.shape[1])
        other.poses[:, :keep], other.looks[:keep] = self.poses[:, :keep], self.looks[:keep]
        other.blocks = self.blocks[:keep]
        return other


class ColdStore:
    """Blocks in order of time: keys and values (layers, heads, R, head_dim) with the pose and look of the last frame.

    A copy shares what is stored, and costs nothing: blocks are never changed, and a copy that goes another way takes
    its own rows when it does.
    """

    def __init__(self, ram_bytes: int = RAM_BYTES) -> None:
        self.ram_bytes, self.bytes, self.disk_bytes = ram_bytes, 0, 0
        self._count = 0
        self._rows = Rows(0, 0)
        self._shape: tuple[int, ...] = ()
        self._file: IO[bytes] | None = None

    def __len__(self) -> int:
        return self._count

    @property
    def poses(self) -> np.ndarray:
        """Poses (n, 3) of the blocks."""
        return self._rows.poses[:, : len(self)].T

    @property
    def looks(self) -> np.ndarray:
        """What the blocks look like, (n, D), of length 1."""
        return self._rows.looks[: len(self)]

    def append(self, keys: Tensor, values: Tensor, pose: np.ndarray, look: np.ndarray) -> None:
        """Keep a block: keys, values (layers, heads, R, head_dim); pose (3,); look (D,): what it looks like."""
        self._shape = tuple(keys.shape)
        packed = np.concatenate([part for tensor in (keys, values) for part in _quantized(tensor)])
        self._keep(packed, pose, look / max(1e-6, float(np.linalg.norm(look))))

    def _keep(self, packed: np.ndarray, pose: np.ndarray, look: np.ndarray) -> None:
        n, rows = len(self), self._rows
        if not n:
            rows = self._rows = Rows(64, len(look))
        elif rows.filled != n or n == len(rows.looks):  # another copy has gone on from here, or there is no room
            rows = self._rows = rows.with_room(n)
        rows.poses[:, n], rows.looks[n] = pose, look
        if self.bytes + packed.nbytes <= self.ram_bytes:
            rows.blocks.append(packed)
            self.bytes += packed.nbytes
        else:
            rows.blocks.append(self._spilled(packed))
            self.disk_bytes += packed.nbytes
        self._count += 1

    def _spilled(self, packed: np.ndarray) -> int:
        if self._file is None:
            self._file = tempfile.TemporaryFile(prefix="loci-memory-")  # noqa: SIM115  (closed with the last copy)
        at = self._file.seek(0, os.SEEK_END)
        self._file.write(packed.tobytes())
        self._file.flush()
        return at

    def load(self, index: int) -> tuple[Tensor, Tensor]:
        """Keys and values of a block, float32."""
        count = int(np.prod(self._shape))
        scales = count // self._shape[-1]
        packed = self._packed(index)
        parts = np.split(packed, [count, count + 4 * scales, 2 * count + 4 * scales])
        numbers = [torch.from_numpy(part.view(np.int8).reshape(self._shape).copy()) for part in parts[::2]]
        factors = [torch.from_numpy(part.view(np.float32).reshape(*self._shape[:-1], 1).copy()) for part in parts[1::2]]
        return numbers[0] * factors[0], numbers[1] * factors[1]

    def _packed(self, index: int) -> np.ndarray:
        found = self._rows.blocks[index]
        if isinstance(found, int):
            assert self._file is not None
            found = np.frombuffer(os.pread(self._file.fileno(), _packed_size(self._shape), found), np.uint8)
        return found

    def arrays(self) -> dict[str, np.ndarray]:
        """All blocks, to be kept in a file: blocks uint8 (n, bytes), poses float64 (n, 3), looks float32 (n, D)."""
        blocks = np.stack([self._packed(i) for i in range(len(self))])
        return {"blocks": blocks, "poses": self.poses.copy(), "looks": self.looks.copy()}

    @classmethod
    def of(
        cls, arrays: dict[str, np.ndarray], shape: tuple[int, ...], look: int, ram_bytes: int = RAM_BYTES
    ) -> ColdStore:
        """The store whose `arrays` these are, of blocks (layers, heads, R, head_dim). ValueError where they misfit."""
        blocks, poses, looks = (arrays[name] for name in ("blocks", "poses", "looks"))
        n = len(blocks)
        kinds = (blocks.dtype, poses.dtype, looks.dtype) == (np.uint8, np.float64, np.float32)
        if not kinds or (blocks.shape, poses.shape, looks.shape) != ((n, _packed_size(shape)), (n, 3), (n, look)):
            raise ValueError("cold storage: its arrays do not belong together")
        store = cls(ram_bytes)
        for i in range(n):
            store._keep(blocks[i].copy(), poses[i], looks[i])
        store._shape = shape
        return store

    def nearest(self, count: int, pose: np.ndarray | None, look: np.ndarray) -> list[int]:
        """Up to `count` blocks, the most relevant first: by pose (3,), or by look (D,) where there is no pose.

        Views that are nearly the same as a better one's come last, for they would say nothing new.
        """
        n = len(self)
        if not n or not count:
            return []
        poses = self.poses
        if pose is not None:
            costs = odometry.cost(poses, pose)
        else:
            costs = 1 - self.looks @ (look / max(1e-6, float(np.linalg.norm(look))))
        few = min(n, 8 * count)
        order = np.argpartition(costs, few - 1)[:few] if few < n else np.arange(n)
        order = order[np.lexsort((order, np.round(costs[order], 2)))]  # the oldest of equals first
        chosen: list[int] = []
        spare: list[int] = []
        for i in order:
            if pose is not None and chosen and odometry.cost(poses[chosen], poses[i]).min() < SAME:
                spare.append(int(i))
            else:
                chosen.append(int(i))
            if len(chosen) == count:
                break
        return (chosen + spare)[:count]

    def copy(self) -> ColdStore:
        """A store that can go its own way from here."""
        other = ColdStore.__new__(ColdStore)
        other.__dict__.update(self.__dict__)
        return other


def _packed_size(shape: tuple[int, ...]) -> int:
    """Bytes of a block's keys and values: int8 numbers, and a float32 scale for each head and token."""
    count = int(np.prod(shape))
    return 2 * (count + 4 * (count // shape[-1]))


def _quantized(tensor: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Bytes of int8 numbers (...) and of their float32 scales (..., 1), one for each head and token."""
    tensor = tensor.detach().float().cpu()
    scale = tensor.abs().amax(-1, keepdim=True).clamp_min(1e-8) / 127
    numbers = (tensor / scale).round().to(torch.int8).contiguous().numpy()
    return numbers.reshape(-1).view(np.uint8), scale.contiguous().numpy().reshape(-1).view(np.uint8)
