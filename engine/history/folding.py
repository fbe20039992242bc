"""The fold's schedule: blocks that have left the window are folded in slices, some layers after every frame.

A block of T frames is due once its last frame is older than the window. Its frames stay in view until its fold is
done, T frames later at most, and then make room all at once; so nothing is missed and no frame pays for a fold.

Several worlds fold together, every T frames, whether their blocks are due then or in the frames up to the next time;
a fold that is done early waits. So each world sees what it would see alone, when it would, and what is computed for
it does not depend on how old its neighbours are.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
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

    worlds: list[int]  # of the state's rows; -1: forgotten, given out, or there for the batch's shape alone
    blocks: list[list[Pending]]
    state: FoldState


@dataclass
class FoldedBlock:
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
    clock: int = 0  # slices of all worlds since they began together

    @property
    def together(self) -> bool:
        """Whether worlds fold in common rounds, every `block` frames, ahead of time."""
        return len(self.pending) > 1 and self.window >= self.block - 1

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
        """The next block of this world to fold, where `count` frames were committed.

        It is older than its window, or, where worlds fold together, will be before the next round.
        """
        frames, size = self.pending[world], self.block
        while len(frames) >= size and frames[size - 1].time - frames[0].time != size - 1:
            del frames[0]  # after a gap (some frames were let go), a block begins anew
        ahead = size - 1 if self.together else 0
        if len(frames) < size or frames[size - 1].time >= count - self.window + ahead:
            return None
        self.pending[world] = frames[size:]
        return frames[:size]

    def slice(self, memory: Memory, counts: np.ndarray, layers: int, offset: int = 0) -> list[FoldedBlock]:
        """After a frame of every world: begin what is due, do `layers` layers of all folds, return what is done.

        counts (B,): frames committed. offset: the clock at which the worlds that began together fold.
        """
        self.clock += 1
        if not self.together:
            self._begin(memory, counts, range(len(counts)))
        elif (self.clock - offset) % self.block == 0:
            due = [self._due(b, int(count)) for b, count in enumerate(counts)]
            filler = next((block for block in due if block), None)
            if filler is not None:  # always all rows: how a product is summed may depend on their number
                blocks = [block or filler for block in due]
                worlds = [b if block else -1 for b, block in enumerate(due)]
                self.jobs.append(Job(worlds, blocks, self.begun(memory, blocks)))
        depth = memory.net.config.depth
        for job in self.jobs:
            if job.state.layer < depth:
                job.state = memory.advance(job.state, layers)
        return self._done(depth, counts, -(-depth // layers) if self.together else 1)

    def catch_up(
        self, memory: Memory, counts: np.ndarray, worlds: Collection[int], layers: int | None = None
    ) -> list[FoldedBlock]:
        """Fold what is due in some worlds, alone, and finish it; call it until nothing is returned.

        layers: give a block out no sooner than if so many had been done after each frame; at once by default.
        """
        for b in worlds:
            self._begin(memory, counts, [b])
        depth = memory.net.config.depth
        for job in self.jobs:
            if {*job.worlds} & {*worlds} and job.state.layer < depth:
                job.state = memory.advance(job.state, depth)
        return self._done(depth, counts, -(-depth // layers) if self.together and layers else 1)

    def _begin(self, memory: Memory, counts: np.ndarray, worlds: Iterable[int]) -> None:
        """Begin a fold of those worlds' blocks that are due."""
        busy = set() if self.together else {world for job in self.jobs for world in job.worlds}
        due = {b: block for b in worlds if b not in busy and (block := self._due(b, int(counts[b])))}
        if due:
            self.jobs.append(Job(list(due), list(due.values()), self.begun(memory, list(due.values()))))

    def _done(self, depth: int, counts: np.ndarray, wait: int) -> list[FoldedBlock]:
        """Blocks that are folded, and whose last frame left the window `wait` - 1 frames ago."""
        done: list[FoldedBlock] = []
        for job in self.jobs:
            if job.state.layer < depth:
                continue
            last = [block[-1].time + self.window + wait for block in job.blocks]
            rows = [i for i, b in enumerate(job.worlds) if b >= 0 and counts[b] >= last[i]]
            if rows:
                keys = torch.stack([k for k, _ in job.state.folded])  # (layers, rows, heads, R, head_dim)
                values = torch.stack([v for _, v in job.state.folded])
                done += [FoldedBlock(job.worlds[i], job.blocks[i], keys[:, i], values[:, i]) for i in rows]
                job.worlds = [-1 if i in rows else b for i, b in enumerate(job.worlds)]
        self.jobs = [job for job in self.jobs if max(job.worlds) >= 0]
        return done

    @staticmethod
    def begun(memory: Memory, due: list[list[Pending]]) -> FoldState:
        """The fold of some blocks, before its first layer."""
        latents = torch.stack([torch.stack([f.latents for f in block]) for block in due])
        actions = torch.stack([torch.stack([f.action for f in block]) for block in due])
        poses = torch.from_numpy(np.stack([[f.pose for f in block] for block in due]))
        return memory.begin(latents, actions, poses.to(latents.device))

    def copy(self) -> Folding:
        """Independent copy; frames and tensors are shared, for they never change."""
        jobs = [Job(list(job.worlds), list(job.blocks), job.state.copy()) for job in self.jobs]
        return Folding(self.block, self.window, [list(frames) for frames in self.pending], jobs, self.clock)
