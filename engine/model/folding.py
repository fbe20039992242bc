"""The fold's schedule: blocks that have left the window are folded in slices, some layers after every frame.

A block of T frames is due once its last frame is older than the window. Its frames stay in view until its fold is
done, T frames later at most, and then make room all at once; so nothing is missed and no frame pays for a fold.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from engine.model.memory import FoldState, Memory


@dataclass(frozen=True)
class Pending:
    """A frame of one world that is not folded yet: its number, latents (N, C), action (A,) and pose (3,)."""

    time: int
    latents: Tensor
    action: Tensor
    pose: np.ndarray


@dataclass
class Job:
    """Blocks of some worlds that are being folded together."""

    worlds: list[int]  # of the state's rows; -1: forgotten since
    blocks: list[list[Pending]]
    state: FoldState


@dataclass
class Folded:
    """A block that is done: the world, its frames, keys and values (layers, heads, R, head_dim)."""

    world: int
    frames: list[Pending]
    keys: Tensor
    values: Tensor


@dataclass
class Folding:
    """What waits to be folded and what is being folded, in B worlds."""

    block: int
    window: int
    pending: list[list[Pending]]
    jobs: list[Job] = field(default_factory=list)

    @staticmethod
    def of(batch: int, block: int, window: int) -> Folding:
        """Nothing to fold yet."""
        return Folding(block, window, [[] for _ in range(batch)])

    def add(self, world: int, frame: Pending) -> None:
        """Take in a frame that was just committed (and is no sink)."""
        self.pending[world].append(frame)

    def clear(self, world: int) -> None:
        """Forget what this world had to fold."""
        self.pending[world] = []
        for job in self.jobs:
            job.worlds = [-1 if b == world else b for b in job.worlds]

    def keep_last(self, world: int, frames: int) -> None:
        """Let all but the last `frames` frames go; what is being folded goes on."""
        if len(self.pending[world]) > frames:
            self.pending[world] = self.pending[world][-frames:]

    def _due(self, world: int, count: int) -> list[Pending] | None:
        """The next block of this world that is older than its window, where `count` frames were committed."""
        frames, size = self.pending[world], self.block
        while len(frames) >= size and frames[size - 1].time - frames[0].time != size - 1:
            del frames[0]  # after a gap (some frames were let go), a block begins anew
        if len(frames) < size or frames[size - 1].time >= count - self.window:
            return None
        self.pending[world] = frames[size:]
        return frames[:size]

    def slice(self, memory: Memory, counts: np.ndarray, layers: int) -> list[Folded]:
        """Begin what is due, do `layers` layers of everything that is being folded, return what is done.

        counts (B,): frames committed.
        """
        busy = {world for job in self.jobs for world in job.worlds}
        due = {b: block for b in range(len(counts)) if b not in busy and (block := self._due(b, int(counts[b])))}
        if due:
            self.jobs.append(Job(list(due), list(due.values()), self.begun(memory, list(due.values()))))
        done = []
        for job in self.jobs:
            job.state = memory.advance(job.state, layers)
            if job.state.layer == memory.net.config.depth:
                done.append(job)
        self.jobs = [job for job in self.jobs if job.state.layer < memory.net.config.depth]
        return [folded for job in done for folded in self._finished(job)]

    @staticmethod
    def begun(memory: Memory, due: list[list[Pending]]) -> FoldState:
        """The fold of some blocks, before its first layer."""
        latents = torch.stack([torch.stack([f.latents for f in block]) for block in due])
        actions = torch.stack([torch.stack([f.action for f in block]) for block in due])
        poses = torch.from_numpy(np.stack([[f.pose for f in block] for block in due]))
        return memory.begin(latents, actions, poses.to(latents.device))

    @staticmethod
    def _finished(job: Job) -> list[Folded]:
        keys = torch.stack([k for k, _ in job.state.folded])  # (layers, worlds at the beginning, heads, R, head_dim)
        values = torch.stack([v for _, v in job.state.folded])
        rows = enumerate(zip(job.worlds, job.blocks, strict=True))
        return [Folded(b, block, keys[:, i], values[:, i]) for i, (b, block) in rows if b >= 0]

    def copy(self) -> Folding:
        """Independent copy; frames and tensors are shared, for they never change."""
        jobs = [Job(list(job.worlds), list(job.blocks), job.state.copy()) for job in self.jobs]
        return Folding(self.block, self.window, [list(frames) for frames in self.pending], jobs)
