"""Cold storage: every folded block of one world, in 8 bits a number, in RAM and then on disk; recall by relevance."""

from __future__ import annotations

import os
import tempfile
from typing import IO

import numpy as np
import torch
from torch import Tensor

from engine.model import odometry

RAM_BYTES = 512 * 2**20
"""Folded blocks beyond this go to a temporary file, which the system deletes with the process."""
SAME = 0.25
"""Views that are closer than this (see `odometry.cost`) count as one: the oldest of them is recalled first."""


class ColdStore:
    """Blocks in order of time: keys and values (layers, heads, R, head_dim) with the pose and look of the last frame.

    A copy shares what is stored: blocks are never changed.
    """

    def __init__(self, ram_bytes: int = RAM_BYTES) -> None:
        self.ram_bytes, self.bytes, self.disk_bytes = ram_bytes, 0, 0
        self._blocks: list[np.ndarray | int] = []  # packed bytes, or where they begin in the file
        self._shape: tuple[int, ...] = ()
        self._where = np.zeros((0, 3))
        self._looks = np.zeros((0, 0), np.float32)
        self._file: IO[bytes] | None = None
        self._shared = False

    def __len__(self) -> int:
        return len(self._blocks)

    @property
    def poses(self) -> np.ndarray:
        """Poses (n, 3) of the blocks."""
        return self._where[: len(self)]

    def append(self, keys: Tensor, values: Tensor, pose: np.ndarray, look: np.ndarray) -> None:
        """Keep a block: keys, values (layers, heads, R, head_dim); pose (3,); look (D,): what it looks like."""
        self._shape = tuple(keys.shape)
        packed = np.concatenate([part for tensor in (keys, values) for part in _quantized(tensor)])
        n = len(self)
        if self._shared or n == len(self._where):
            room = max(64, n + n // 2)
            self._where = np.concatenate((self._where[:n], np.zeros((room, 3))))
            looks = self._looks[:n] if n else np.zeros((0, len(look)), np.float32)
            self._looks = np.concatenate((looks, np.zeros((room, len(look)), np.float32)))
            self._shared = False
        self._where[n], self._looks[n] = pose, look / max(1e-6, float(np.linalg.norm(look)))
        if self.bytes + packed.nbytes <= self.ram_bytes:
            self._blocks.append(packed)
            self.bytes += packed.nbytes
        else:
            self._blocks.append(self._spilled(packed))
            self.disk_bytes += packed.nbytes

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
        packed = self._blocks[index]
        if isinstance(packed, int):
            assert self._file is not None
            packed = np.frombuffer(os.pread(self._file.fileno(), 2 * (count + 4 * scales), packed), np.uint8)
        parts = np.split(packed, [count, count + 4 * scales, 2 * count + 4 * scales])
        numbers = [torch.from_numpy(part.view(np.int8).reshape(self._shape).copy()) for part in parts[::2]]
        factors = [torch.from_numpy(part.view(np.float32).reshape(*self._shape[:-1], 1).copy()) for part in parts[1::2]]
        return numbers[0] * factors[0], numbers[1] * factors[1]

    def nearest(self, count: int, pose: np.ndarray | None, look: np.ndarray) -> list[int]:
        """Up to `count` blocks, the most relevant first: by pose (3,), or by look (D,) where there is no pose.

        Views that are nearly the same as a better one's come last, for they would say nothing new.
        """
        n = len(self)
        if not n or not count:
            return []
        if pose is not None:
            costs = odometry.cost(self._where[:n], pose)
        else:
            costs = 1 - self._looks[:n] @ (look / max(1e-6, float(np.linalg.norm(look))))
        few = min(n, 8 * count)
        order = np.argpartition(costs, few - 1)[:few] if few < n else np.arange(n)
        order = order[np.lexsort((order, np.round(costs[order], 2)))]  # the oldest of equals first
        chosen: list[int] = []
        spare: list[int] = []
        for i in order:
            if pose is not None and chosen and odometry.cost(self._where[chosen], self._where[i]).min() < SAME:
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
        other._blocks = list(self._blocks)
        self._shared = other._shared = True
        return other


def _quantized(tensor: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Bytes of int8 numbers (...) and of their float32 scales (..., 1), one for each head and token."""
    tensor = tensor.detach().float().cpu()
    scale = tensor.abs().amax(-1, keepdim=True).clamp_min(1e-8) / 127
    numbers = (tensor / scale).round().to(torch.int8).contiguous().numpy()
    return numbers.reshape(-1).view(np.uint8), scale.contiguous().numpy().reshape(-1).view(np.uint8)
