"""Reward and termination of collected frames, and batches in which what is rare is not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from engine.data.clips import Latents, clip_of, read_shard, reckoned, shard_paths
from engine.data.shards import header_of
from engine.errors import UserError
from engine.model import odometry
from engine.model.generator import Clip

FULL_CLIPS = 0.7
"""Share of the batches whose clips are as long as they can be; the others show what a frame early on sees."""


@dataclass(frozen=True)
class Signals:
    """Of every frame of a split: reward float32 (T,) of the step that led to it, terminated bool (T,).

    events: bool (T, E), which of the source's events happened in the step; None where it tells none. The reward is then
    without the 1 that a source gives for what happens for the first time: that is no property of a frame.
    """

    reward: Tensor
    terminated: Tensor
    events: Tensor | None = None


def load_signals(data: Path, split: str) -> Signals:
    """Read them, in the order of `load_latents`. UserError where the data has none, or they are no numbers.

    Events are left out where a shard has none: an older version did not keep them.
    """
    rewards, ends, events = [], [], []
    paths = shard_paths(data, split)
    all_tell = all("events" in header_of(path) for path in paths)
    for path in paths:
        try:
            with safe_open(path, framework="np") as file:
                lacking = {"reward", "terminated"} - {*file.keys()}
        except (SafetensorError, OSError):
            lacking = set()  # `read_shard` says what is wrong
        if lacking:
            raise UserError(
                f"{path} has no {' and no '.join(sorted(lacking))}: it was collected before these were kept;"
                " collect again into another folder"
            )
        found = read_shard(path, ("episode", "reward", "terminated"))
        if not bool(torch.isfinite(found["reward"].float()).all()):
            raise UserError(f"{path} holds a reward that is no finite number; collect again into another folder")
        rewards.append(found["reward"].float())
        ends.append(found["terminated"] > 0)
        if all_tell:
            told = read_shard(path, ("episode", "events"))
            events.append(told["events"] > 0)
            rewards[-1] = rewards[-1] - first_times(told["events"].numpy() > 0, told["episode"].numpy())
    if not all_tell:
        return Signals(torch.cat(rewards), torch.cat(ends))
    if len({told.shape[1] for told in events}) > 1:
        raise UserError(f"the {split} shards of {data} tell different events; collect again into another folder")
    return Signals(torch.cat(rewards), torch.cat(ends), torch.cat(events))


def first_times(events: np.ndarray, episode: np.ndarray) -> Tensor:
    """Where one of the events, bool (T, E), happens for the first time in its episode (T,): float32 (T,), 1 or 0."""
    found = np.zeros(len(events), np.float32)
    bounds = np.flatnonzero(np.diff(episode, prepend=episode[:1] - 1, append=episode[-1:] + 1))
    for begin, end in pairwise(bounds):
        so_far = np.maximum.accumulate(events[begin:end], axis=0)
        found[begin:end] = (np.diff(so_far.sum(1), prepend=0) > 0).astype(np.float32)
    return torch.from_numpy(found)


class SignalSampler:
    """Draws clips that end at an event, or anywhere: an event is a termination, or another reward than the usual one.

    Where the source tells events, each of them is one, too, and each kind is drawn as often as the others, or what is
    rarest would hardly be seen.

    A clip's first frame is not asked about, for it may be an episode's first, which no step has led to. Clips of one
    frame, for a generator without a window, are of the other frames alone.

    data, signals: of one split. length: consecutive frames of a clip, fewer where episodes are shorter. old: the most
    earlier frames that it may see; far, motion: as those of the generator. poses: true ones (T, 3), if any are.
    """

    def __init__(
        self,
        data: Latents,
        signals: Signals,
        length: int,
        old: int,
        far: int,
        motion: odometry.Motion,
        share: float,
        poses: np.ndarray | None = None,
    ) -> None:
        if len(signals.reward) != len(data):
            raise UserError("the data's rewards and frames are not equally many; collect again into another folder")
        self.data, self.signals, self.old, self.far, self.share = data, signals, old, far, share
        begin, end = data.start[:-1], data.start[1:]
        self.start_of = np.repeat(begin, end - begin)
        self.before = np.arange(len(data)) - self.start_of
        longest = int(self.before.max(initial=0)) + 1
        self.length, self.skipped = min(length, longest), int(length > 1)
        self.oldest = far - length  # the greatest age of an old frame, as the generator's training had it
        if longest < 2:
            raise UserError("no episode is two frames long; collect longer ones")
        self.pose = poses if poses is not None else reckoned(data, motion)
        reward = signals.reward.numpy()
        values, counts = np.unique(reward[self.before > 0], return_counts=True)
        self.usual = float(values[counts.argmax()])
        self.event = ((reward != self.usual) | signals.terminated.numpy()) & (self.before > 0)
        self.kinds = [] if signals.events is None else self._kinds(reward, signals.events.numpy())

    def _kinds(self, reward: np.ndarray, events: np.ndarray) -> list[np.ndarray]:
        """The frames of each kind of event that happens at all."""
        kinds = [reward != self.usual, self.signals.terminated.numpy(), *events.T]
        found = [np.flatnonzero(happened & (self.before > 0)) for happened in kinds]
        return [frames for frames in found if len(frames)]

    def batch(self, size: int, seed: int, step: int, rank: int = 0) -> tuple[Clip, np.ndarray]:
        """A batch, a function of the arguments alone, and the numbers (size, L) of its consecutive frames."""
        index, past = self._drawn(size, seed, step, rank)
        return self.clip(index, past), index

    def _drawn(self, size: int, seed: int, step: int, rank: int = 0) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng([seed, step, rank, 23])
        full = rng.random() < FULL_CLIPS
        length = self.length if full or self.length == 1 else int(rng.integers(2, self.length + 1))
        old = int(rng.integers(0, self.old + 1)) if full else 0
        pool = np.flatnonzero(self.before >= max(1, length - 1 + old))
        if not len(pool):
            old, pool = 0, np.flatnonzero(self.before >= length - 1)
        last = rng.choice(pool, size)
        events = pool[self.event[pool]]
        kinds = [frames[self.before[frames] >= length - 1 + old] for frames in self.kinds]
        kinds = [frames for frames in kinds if len(frames)]
        if kinds:
            of = rng.integers(len(kinds), size=size)
            rare = np.array([rng.choice(kinds[kind]) for kind in of])
            last = np.where(rng.random(size) < self.share, rare, last)
        elif len(events):
            last = np.where(rng.random(size) < self.share, rng.choice(events, size), last)
        index = last[:, None] + np.arange(1 - length, 1)
        past = np.zeros((size, old), np.int64)
        for i, first in enumerate(index[:, 0]):
            begin = self.start_of[first]
            sink = min(2, old)
            rest = rng.choice(np.arange(begin + sink, first), old - sink, replace=False)
            past[i] = np.sort(np.concatenate((begin + np.arange(sink), rest)))
        return index, past

    def clip(self, index: np.ndarray, past: np.ndarray | None = None) -> Clip:
        """Frames `index` (B, L) of the data, after the frames `past` (B, M)."""
        whole = index if past is None else np.concatenate((past, index), 1)
        return clip_of(self.data, self.pose, whole, index[:, 0], whole.shape[1] - index.shape[1], self.oldest)

    def labels(self, index: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        """Rewards and terminations of frames `index`, in its shape, and events (..., E); E may be 0."""
        at, events = torch.from_numpy(index), self.signals.events
        told = torch.zeros(*index.shape, 0, dtype=torch.bool) if events is None else events[at]
        return self.signals.reward[at], self.signals.terminated[at], told

    def typical(self, size: int, seed: int, batches: int = 64) -> np.ndarray:
        """Frames that so many batches would show and be asked about: what the batches' own shares are."""
        frames = [self._drawn(size, seed, step)[0][:, self.skipped :] for step in range(batches)]
        return np.concatenate([found.reshape(-1) for found in frames])

    def windows(self, frames: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Cover whole episodes, evenly chosen, of about `frames` frames in all, by clips of equal lengths.

        Yields indices (n, L), which of the frames to ask about, bool (n, L), and the number (n,) of each one's
        episode. Every frame but an episode's first is asked about once.
        """
        begin, end = self.data.start[:-1], self.data.start[1:]
        count = max(2, min(len(begin), round(len(begin) * frames / max(1, len(self.data)))))
        chosen = np.unique(np.linspace(0, len(begin) - 1, count).round().astype(int))
        found: dict[int, list[tuple[np.ndarray, np.ndarray, int]]] = {}
        for number, episode in enumerate(chosen):
            a, b = int(begin[episode]), int(end[episode])
            length, asked = min(self.length, b - a), a + 1
            while asked < b:
                last = min(b, max(asked + length - self.skipped, a + length))
                index = np.arange(last - length, last)
                found.setdefault(length, []).append((index, index >= asked, number))
                asked = last
        for rows in found.values():
            for i in range(0, len(rows), 64):
                index, ask, number = zip(*rows[i : i + 64], strict=True)
                yield np.stack(index), np.stack(ask), np.array(number)
