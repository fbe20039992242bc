"""What B worlds remember, behind one door: `append` a frame, then `attend` to what was seen.

The parts: buffers (what attention reads), a policy (what the mode keeps in them), the schedule of folding, cold
storage, recall and places. Who draws frames knows none of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from engine.history.buffers import Buffers
from engine.history.cold import RAM_BYTES, ColdStore
from engine.history.folding import FoldedBlock, Folding, Pending
from engine.history.frame import Frame, clean_pass, looks_of
from engine.history.modes import GROWTH, Policy, policy_of
from engine.history.places import Places
from engine.history.recall import RECALLS, Moment, changes
from engine.model.generator import Generator
from engine.model.memory import Memory


class History:
    """The history of B worlds that share weights.

    generator: whose clean pass makes a frame's keys and values. mode: see `engine.history.modes`. memory: the memory
    model, where there is one; `mag` needs it, or places. budget: tokens of hot memory, the memory model's own number by
    default. recall: `relevance`, `recent` (the newest blocks) or `random`, for comparisons. posed: whether poses mean
    something; by default where the generator knows how keys move the player.

    count (B,): frames since each world began. pose (B, 3), latents (B, N, C): of the last frame. look (B, D): what it
    looks like, by which memory is recalled where there are no poses. places: what was seen where, for a generator that
    takes sights; else None.

    Raises ValueError for an unknown mode, for `mag` with nothing that remembers, and for a budget below one fold.
    """

    def __init__(
        self,
        generator: Generator,
        batch: int,
        mode: str,
        device: torch.device,
        dtype: torch.dtype,
        memory: Memory | None = None,
        budget: int | None = None,
        recall: str = "relevance",
        posed: bool | None = None,
    ) -> None:
        c = generator.config
        self.generator, self.config, self.memory = generator, c, memory
        self.batch, self.device, self.dtype, self.recall = batch, device, dtype, recall
        shape = memory.config if memory is not None else None
        self.budget = budget if budget is not None or shape is None else shape.budget
        self.posed = bool(c.motion) if posed is None else posed
        self.read_far = c.far - c.clip // 2  # the middle of the ages at which training saw old frames
        self.count = np.zeros(batch, np.int64)
        self.pose = np.zeros((batch, 3))
        self.latents = torch.zeros(batch, c.tokens, c.channels, device=device)
        self.look = np.zeros((batch, c.columns * c.channels), np.float32)
        self.folding = Folding.of(batch, shape.block, c.window) if shape is not None else None
        self.cold = [ColdStore(self.cold_ram) for _ in range(batch)]
        self.block_tokens = shape.tokens(c) if shape is not None else c.tokens
        if shape is not None and (self.budget or 0) < self.block_tokens:  # in all modes: `mag` is one key away
            raise ValueError(
                f"world: a memory budget of {self.budget} tokens is smaller than one folded block, {self.block_tokens}"
            )
        if recall not in RECALLS:
            raise ValueError(f"world: recall must be one of {', '.join(RECALLS)}, got {recall!r}")
        self.places = Places(c, batch, device, dtype) if c.sights else None
        self.policy = self._policy(mode)
        self.buffers = self._new_buffers(self.policy.slots(), self.policy.hot_slots(0))
        self._rotated = False

    def _policy(self, mode: str) -> Policy:
        return policy_of(mode, self.config, self.memory.config if self.memory is not None else None, self.budget)

    def _new_buffers(self, slots: int, hot_slots: int) -> Buffers:
        return Buffers(self.config, self.batch, slots, hot_slots, self.block_tokens, self.device, self.dtype)

    @property
    def mode(self) -> str:
        """How the worlds remember: window, full or mag."""
        return self.policy.name

    @property
    def cold_ram(self) -> int:
        """Bytes of RAM that a world's cold storage may take before it goes to disk."""
        return RAM_BYTES // self.batch

    @property
    def bytes(self) -> int:
        """Bytes of all that attention may read."""
        return self.buffers.bytes

    @property
    def bytes_of_a_frame(self) -> int:
        """Bytes that a frame of one world takes in what attention may read."""
        return self.buffers.bytes_of_a_frame

    @property
    def cold_bytes(self) -> int:
        """Bytes of cold storage in RAM."""
        return sum(store.bytes for store in self.cold)

    @property
    def tokens_in_view(self) -> int:
        """Tokens that attention reads beside the frame's own."""
        return self.buffers.tokens_in_view

    def counts(self, world: int) -> dict[str, int]:
        """Frames of a world: all, `hot` (attended to, whole or folded), `cold` (kept aside) and `gone`."""
        block = self.memory.config.block if self.memory is not None else 0
        frames, whole = int(self.count[world]), int(self.buffers.used[world])
        hot, kept = block * int((self.buffers.hot[world] >= 0).sum()), block * len(self.cold[world])
        return {"frames": frames, "hot": whole + hot, "cold": kept - hot, "gone": frames - whole - kept}

    @torch.inference_mode()
    def append(self, frame: Frame, only: np.ndarray | None = None, outputs: list[Tensor] | None = None) -> None:
        """Remember a frame and be ready for the next one: a clean pass of the generator, and a slice of folding.

        Where nothing attends to history there is no pass, but for `outputs`.

        Args:
            frame: of all worlds.
            only: (B,) bool: the worlds that it is a frame of; the others notice nothing.
            outputs: a list that each layer's output of the pass, (B, 1, N, d), is appended to.
        """
        keys: list[Tensor] = []
        values: list[Tensor] = []
        if self.config.window or outputs is not None:
            seen = frame if frame.sights is not None else replace(frame, sights=self.sights(frame.pose))
            keys, values = clean_pass(self.generator, seen, self.attend, outputs)
        self.keep(frame, keys, values, only)
        self.make_ready()

    def keep(
        self, frame: Frame, keys: Sequence[Tensor], values: Sequence[Tensor], only: np.ndarray | None = None
    ) -> None:
        """What `append` does once the pass is made: keep a frame whose keys and values are known.

        keys, values: of each layer (B, heads, N, head_dim), their place rotated and their time not.
        """
        worlds = self._worlds(only)
        if self.config.window:
            self._write(keys, values, worlds)
        self.count[worlds] += 1
        self.pose[worlds] = frame.pose[worlds]
        self._rotated = False
        self._remember(frame, only)
        self._fold(only)

    def sights(self, pose: np.ndarray) -> Tensor | None:
        """What is known of what frames show that are seen from poses (B, 3), float32 (B, N, C + 2).

        None where the generator takes no sights. The mode says how old they may be.
        """
        if self.places is None:
            return None
        return self.places.sights(pose, self.count, self.latents, only_last=self.mode == "window")

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attention of a frame that is being drawn to all that is in view and to itself, in one layer.

        q, k, v: of the frame, (B, heads, N, head_dim), their place rotated and their time not. Returns the same shape.
        """
        self.make_ready()
        return self.buffers.attend(layer, q, k, v)

    def changed(self) -> None:
        """Say that frames have other numbers or slots than before."""
        self._rotated = False

    def make_ready(self) -> None:
        """Bring keys to their ages for the frame to come, where that is not done yet."""
        if not self._rotated:
            self._rotated = True
            self.buffers.rotate(self.count, self.read_far, self.policy.grows)

    def _worlds(self, only: np.ndarray | None) -> np.ndarray:
        return np.arange(self.batch) if only is None else np.flatnonzero(only)

    def _write(self, keys: Sequence[Tensor], values: Sequence[Tensor], worlds: np.ndarray) -> None:
        """Keep a frame's keys and values, of each layer (B, heads, N, head_dim), in some worlds."""
        buffers = self.buffers
        if self.policy.grows and buffers.used[worlds].max(initial=0) >= buffers.slots:
            buffers = self.buffers = buffers.grown(max(GROWTH, buffers.slots // 2))
        slots = self.policy.next_slots(buffers.time[worlds])
        buffers.write(keys, values, worlds, slots, self.count[worlds])

    def _remember(self, frame: Frame, only: np.ndarray | None) -> None:
        """Keep what the frame was, for those that need more of it than keys and values."""
        c, latents = self.config, frame.latents
        if only is None:
            self.latents = latents
        else:
            chosen = torch.from_numpy(np.asarray(only, bool)).to(self.device)
            self.latents = torch.where(chosen[:, None, None], latents, self.latents)
        if self.places is not None:
            self.places.record(frame.pose, self.count - 1, latents, self._worlds(only))
        if self.folding is None:
            return
        looks = looks_of(latents, c.rows, c.columns)
        for b in self._worlds(only):
            self.look[b] = looks[b]
            if self.count[b] > c.sink:
                number = int(self.count[b]) - 1
                self.folding.add(int(b), Pending(number, latents[b], frame.action[b], self.pose[b].copy()))
            if (most := self.policy.to_fold()) is not None:
                self.folding.keep_last(int(b), most)

    def _fold(self, only: np.ndarray | None) -> None:
        """One slice of folding, and recall.

        Worlds of `only` fold alone and at once, and the others notice nothing.
        """
        if self.folding is None or self.memory is None or not self.policy.folds:
            return
        worlds = self._worlds(only).tolist()
        layers = -(-self.config.depth // self.folding.block)
        if only is not None:
            while done := self.folding.catch_up(self.memory, self.count, worlds, layers):
                self._store(done)
        else:
            offset = self.config.sink + self.config.window
            self._store(self.folding.slice(self.memory, self.count, layers, offset))
        for b in worlds:
            self._recall(b)

    def _store(self, done: Iterable[FoldedBlock]) -> None:
        """Take blocks that are folded into cold storage, and free the slots of their frames."""
        for folded in done:
            b, frames = folded.world, folded.frames
            look = looks_of(frames[-1].latents[None], self.config.rows, self.config.columns)[0]
            self.cold[b].append(folded.keys, folded.values, frames[-1].pose, look)
            self.buffers.free(b, [frame.time for frame in frames])
            self._rotated = False

    def _recall(self, b: int) -> None:
        """Bring the blocks that are most relevant now into the hot slots of world `b`."""
        store, hot = self.cold[b], self.buffers.hot
        if not len(store):
            return
        moment = Moment(int(self.count[b]), self.pose[b] if self.posed else None, self.look[b])
        for block, slot in changes(RECALLS[self.recall](store, hot.shape[1], moment), hot[b]):
            self._heat(b, block, slot)

    def _heat(self, b: int, block: int, slot: int) -> None:
        """Copy a cold block to a hot slot, its keys as old as training saw memory."""
        self.buffers.heat(b, slot, block, *self.cold[b].load(block), self.read_far)
        self._rotated = False

    def clear(self, only: np.ndarray | None = None) -> None:
        """Forget everything, in all worlds or those of `only` (B,) bool."""
        if only is None and self.policy.grows:
            # Back to the first size: what is drawn from here must not depend on what was played before.
            self.buffers = self._new_buffers(self.policy.slots(), self.policy.hot_slots(0))
        if only is None and self.folding is not None:
            self.folding.clock = 0
        if self.places is not None:
            self.places.clear(self._worlds(only))
        self.latents = self.latents.clone()
        for b in self._worlds(only):
            self.buffers.empty(b)
            self.count[b], self.pose[b], self.look[b], self.latents[b] = 0, 0.0, 0.0, 0.0
            self.cold[b] = ColdStore(self.cold_ram)
            if self.folding is not None:
                self.folding.clear(int(b))
        self._rotated = False

    @torch.inference_mode()
    def set_mode(self, mode: str) -> None:
        """Remember in another way from here: what still is in view stays in view, what is gone stays gone.

        Folds stay cold in `window`, and all are in view in `full`. At a switch to `mag` all that is due is folded at
        once, in this history itself: a copy made before is what it was. Raises ValueError as the constructor does, and
        then changes nothing.
        """
        policy = self._policy(mode)
        if mode == self.mode:
            return
        if policy.folds and self.folding is not None and self.memory is not None:
            while done := self.folding.catch_up(self.memory, self.count, range(self.batch)):
                self._store(done)
        kept = [policy.stays(order) for order in self.buffers.filled()]
        slots, blocks = max(policy.slots(), *map(len, kept)), max(map(len, self.cold))
        self.buffers = self.buffers.resized(slots, policy.hot_slots(blocks), kept)
        self.policy = policy
        for b, store in enumerate(self.cold):
            if self.folding is not None and (most := policy.to_fold()) is not None:
                self.folding.keep_last(b, most)
            if policy.folds:
                self._recall(b)
            elif policy.grows:
                for i in range(len(store)):
                    self._heat(b, i, i)
        self._rotated = False
        self.make_ready()

    def copy(self) -> History:
        """Independent copy; what is never changed in place is shared."""
        other = History.__new__(History)
        other.__dict__.update(self.__dict__)
        other.buffers = self.buffers.copy()
        for name in ("count", "pose", "look"):
            setattr(other, name, getattr(self, name).copy())
        other.cold = [store.copy() for store in self.cold]
        other.folding = self.folding.copy() if self.folding is not None else None
        other.places = self.places.copy() if self.places is not None else None
        return other
