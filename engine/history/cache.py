"""The key/value cache: folded memory, sink, window, and the tail slot of the frame that is being drawn.

Keys are kept with their place rotated and their time not. Before a frame is drawn, the time part of every key
is rotated by the frame's age, clipped to what training saw; so positions never grow, however long a session is.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from engine.history.cold import RAM_BYTES, ColdStore
from engine.history.folding import Folded, Folding, Pending
from engine.model.generator import GeneratorConfig
from engine.model.layers import rotate_time_part, time_pairs
from engine.model.memory import Memory, MemoryConfig

Mode = Literal["window", "full", "mag"]
MODES: tuple[Mode, ...] = ("window", "full", "mag")
RECALLS = ("relevance", "recent", "random")
GROWTH = 64  # frames by which `full` grows at first; then by half
FEW = 16  # tokens of a frame, up to which the fused kernel is the faster one for a batch on a CPU
BUFFERS = ("keys", "values", "unrotated")


class Cache:
    """Keys and values (layers, B, heads, tokens, head_dim) of one session per world in the batch.

    In order of tokens: folded memory (hot blocks of R tokens), slots of a frame each, the tail. In `window` mode the
    first `sink` frames stay and the last `window` ones go round; in `full` mode every frame stays and the buffers
    grow; in `mag` mode frames that leave the window are folded, and the hot blocks are those folds that are most
    relevant to where the player is, the others being cold. Denoising leaves all as it is: only `write` and `fold`
    change it. Slots are filled from the front, hot blocks from the back, so that with equally long histories
    attention rarely needs a mask.

    memory, budget: shape of the memory model where there is one, and the tokens of hot memory, its own by default.
    recall: `relevance`, `recent` (the newest blocks) or `random`, for comparisons.
    """

    def __init__(
        self,
        config: GeneratorConfig,
        batch: int,
        mode: Mode,
        device: torch.device,
        dtype: torch.dtype,
        memory: MemoryConfig | None = None,
        budget: int | None = None,
        recall: str = "relevance",
    ) -> None:
        self.config, self.batch, self.mode, self.device, self.dtype = config, batch, mode, device, dtype
        self.memory, self.recall = memory, recall
        self.budget = budget if budget is not None or memory is None else memory.budget
        self.read_far = config.far - config.clip // 2  # the middle of the ages at which training saw old frames
        self.count = np.zeros(batch, np.int64)  # frames written since the session began
        self.pose = np.zeros((batch, 3))  # of the last frame written
        self.look = np.zeros((batch, config.columns * config.channels), np.float32)
        self.folding = Folding.of(batch, memory.block, config.window) if memory else None
        self.cold = [ColdStore(self.cold_ram) for _ in range(batch)]
        self.block_tokens = memory.tokens(config) if memory else config.tokens
        if memory is not None and (self.budget or 0) < self.block_tokens:  # in all modes: `mag` is one key away
            raise ValueError(
                f"memory: a budget of {self.budget} tokens is smaller than one folded block, {self.block_tokens}"
            )
        blocks = 0
        if mode == "mag":
            if memory is None:
                raise ValueError("memory: mode mag needs a checkpoint with a memory model")
            blocks = (self.budget or 0) // self.block_tokens
        slots = {"window": config.sink + config.window, "full": GROWTH}.get(mode)
        if slots is None:
            assert memory is not None
            slots = config.sink + config.window + 2 * memory.block  # a block waits, and another comes in meanwhile
        self._allocate(slots, blocks)

    def _allocate(self, slots: int, blocks: int) -> None:
        c = self.config
        self.time = np.full((self.batch, slots), -1, np.int64)  # frame number in a slot, -1 for none
        self.hot = np.full((self.batch, blocks), -1, np.int64)  # number of the block in a hot place, -1 for none
        self.front = blocks * self.block_tokens
        tokens = self.front + slots * c.tokens
        shape = (c.depth, self.batch, c.heads, tokens + c.tokens, c.head_dim)  # + the tail
        self.keys = torch.zeros(shape, device=self.device, dtype=self.dtype)
        self.values = torch.zeros(shape, device=self.device, dtype=self.dtype)
        timed = (*shape[:3], slots * c.tokens, 2 * time_pairs(c.head_dim))
        self.unrotated = torch.zeros(timed, device=self.device, dtype=self.dtype)
        self._bias: Tensor | None = None
        self._begin = self._end = self.front  # tokens in view before the tail
        self._prepared = False

    @property
    def used(self) -> np.ndarray:
        """Frames in slots of each world, (B,)."""
        return (self.time >= 0).sum(1)

    @property
    def tokens_in_view(self) -> int:
        """Tokens that attention reads beside the frame's own."""
        return self._end - self._begin

    @property
    def cold_ram(self) -> int:
        """Bytes of RAM that a world's cold storage may take before it goes to disk."""
        return RAM_BYTES // self.batch

    @property
    def bytes(self) -> int:
        """Bytes of what attention reads, all buffers."""
        return sum(t.numel() * t.element_size() for t in (self.keys, self.values, self.unrotated))

    @property
    def cold_bytes(self) -> int:
        """Bytes of cold storage in RAM."""
        return sum(store.bytes for store in self.cold)

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attention of the current frame, (B, heads, N, head_dim), to everything in view and itself.

        Its own keys and values go to the tail slot, which the next pass overwrites.
        """
        n, begin, end = self.config.tokens, self._begin, self._end
        keys, values = self.keys[layer], self.values[layer]
        keys[:, :, end : end + n] = k
        values[:, :, end : end + n] = v
        keys, values = keys[:, :, begin : end + n], values[:, :, begin : end + n]
        if self.device.type != "cpu" or (self.batch > 1 and n <= FEW):
            return F.scaled_dot_product_attention(q, keys, values, attn_mask=self._bias)
        # On a CPU the plain products beat PyTorch's fused kernel for one world, or many tokens a frame (LOG.md).
        scores = (q * q.shape[-1] ** -0.5) @ keys.transpose(-1, -2)
        if self._bias is not None:
            scores += self._bias
        return torch.softmax(scores, -1) @ values  # the kernel sums bf16 in float32

    def write(
        self, keys: list[Tensor], values: list[Tensor], only: np.ndarray | None = None, pose: np.ndarray | None = None
    ) -> None:
        """Keep a frame's keys and values, per layer (B, heads, N, head_dim), in the worlds `only` (B,) bool.

        pose (B, 3): where it was seen from.
        """
        n = self.config.tokens
        worlds = np.arange(self.batch) if only is None else np.flatnonzero(only)
        if self.mode == "full" and self.used[worlds].max(initial=0) >= self.time.shape[1]:
            self._grow()
        slots = self._free_slots(worlds)
        split = self.unrotated.shape[-1]
        if len(worlds) == self.batch and (slots == slots[0]).all():
            still = slice(int(slots[0]) * n, (int(slots[0]) + 1) * n)
            at = slice(self.front + still.start, self.front + still.stop)
            for layer, (k, v) in enumerate(zip(keys, values, strict=True)):
                self.keys[layer, :, :, at] = k
                self.values[layer, :, :, at] = v
                self.unrotated[layer, :, :, still] = k[..., :split]
        else:
            where = torch.from_numpy(slots[:, None] * n + np.arange(n)).to(self.device)  # (worlds, N)
            chosen = torch.from_numpy(worlds).to(self.device)
            rows = chosen[:, None]
            for layer, (k, v) in enumerate(zip(keys, values, strict=True)):
                k, v = k[chosen].transpose(1, 2), v[chosen].transpose(1, 2)
                self.keys[layer].transpose(1, 2)[rows, self.front + where] = k
                self.values[layer].transpose(1, 2)[rows, self.front + where] = v
                self.unrotated[layer].transpose(1, 2)[rows, where] = k[..., :split]
        self.time[worlds, slots] = self.count[worlds]
        self.count[worlds] += 1
        if pose is not None:
            self.pose[worlds] = pose[worlds]
        self._prepared = False

    def _free_slots(self, worlds: np.ndarray) -> np.ndarray:
        """Where the next frame of each of these worlds goes: the first empty slot, or that of the oldest frame."""
        time, sink = self.time[worlds], self.config.sink
        empty = time < 0
        free = empty.any(1)
        assert self.mode == "window" or free.all(), "a fold missed its deadline"
        return np.where(free, empty.argmax(1), sink + time[:, sink:].argmin(1))

    def _grow(self) -> None:
        slots, time, hot = self.time.shape[1], self.time, self.hot
        larger = slots + max(GROWTH, slots // 2)
        keys, values, unrotated = self.keys, self.values, self.unrotated
        self._allocate(larger, hot.shape[1])
        kept = self.front + slots * self.config.tokens
        self.keys[..., :kept, :] = keys[..., :kept, :]
        self.values[..., :kept, :] = values[..., :kept, :]
        self.unrotated[..., : unrotated.shape[-2], :] = unrotated
        self.time[:, :slots], self.hot = time, hot

    def remember(self, latents: Tensor, action: Tensor, only: np.ndarray | None = None) -> None:
        """Let the memory know what the frame just written was: latents (B, N, C), action (B, A)."""
        if self.folding is None:
            return
        c = self.config
        looks = latents.unflatten(1, (c.rows, c.columns)).mean(1).flatten(1).float().cpu().numpy()
        for b in np.arange(self.batch) if only is None else np.flatnonzero(only):
            self.look[b] = looks[b]
            if self.count[b] > c.sink:
                time = int(self.count[b]) - 1
                self.folding.add(int(b), Pending(time, latents[b], action[b], self.pose[b].copy()))
            if self.mode == "window":
                self.folding.keep_last(int(b), c.window)

    def fold(self, memory: Memory, all_at_once: bool = False, only: np.ndarray | None = None) -> None:
        """One slice of folding, and recall: call it after every frame. all_at_once: until nothing is due.

        only (B,) bool: the worlds that the frame was written in, where it was not written in all. They fold alone and
        at once, and the others notice nothing.
        """
        if self.folding is None or self.mode != "mag":
            return
        worlds = list(range(self.batch)) if only is None else np.flatnonzero(only).tolist()
        layers = -(-self.config.depth // self.folding.block)
        if all_at_once or only is not None:
            while done := self.folding.catch_up(memory, self.count, worlds, None if all_at_once else layers):
                for folded in done:
                    self._keep(folded)
        else:
            offset = self.config.sink + self.config.window
            for folded in self.folding.slice(memory, self.count, layers, offset):
                self._keep(folded)
        for b in worlds:
            self._recall(b)

    def _keep(self, folded: Folded) -> None:
        b, frames = folded.world, folded.frames
        last = frames[-1].latents.unflatten(0, (self.config.rows, self.config.columns)).mean(0).flatten()
        self.cold[b].append(folded.keys, folded.values, frames[-1].pose, last.float().cpu().numpy())
        for frame in frames:
            self.time[b, self.time[b] == frame.time] = -1
        self._prepared = False

    def _recall(self, b: int) -> None:
        """Bring the blocks that are most relevant now into the hot places of world `b`."""
        store, places = self.cold[b], self.hot.shape[1]
        if not len(store):
            return
        if self.recall == "relevance":
            wanted = store.nearest(places, self.pose[b] if self.config.motion else None, self.look[b])
        elif self.recall == "recent":
            wanted = list(range(max(0, len(store) - places), len(store)))
        else:
            pick = np.random.default_rng(int(self.count[b])).permutation(len(store))[:places]
            wanted = [int(i) for i in pick]
        missing = [i for i in wanted if i not in self.hot[b]]
        free = [j for j in range(places) if self.hot[b, j] not in wanted]
        for i, j in zip(missing, free, strict=False):
            self._heat(b, i, j)

    def _heat(self, b: int, block: int, place: int) -> None:
        """Copy a cold block to a hot place, its keys as old as training saw memory."""
        keys, values = (x.to(self.device, self.dtype) for x in self.cold[b].load(block))
        split = self.unrotated.shape[-1]
        position = torch.full((len(keys), keys.shape[2]), -self.read_far, device=self.device)
        keys[..., :split] = rotate_time_part(keys[..., :split], position)
        at = self._hot_span(place)
        self.keys[:, b, :, at], self.values[:, b, :, at] = keys, values
        self.hot[b, place] = block
        self._prepared = False

    def _hot_span(self, place: int) -> slice:
        return slice(self.front - (place + 1) * self.block_tokens, self.front - place * self.block_tokens)

    def prepare(self) -> None:
        """Rotate keys to their ages for the frame to come. Call after writes and before drawing."""
        if self._prepared:
            return
        self._prepared = True
        n = self.config.tokens
        filled = np.flatnonzero((self.time >= 0).any(0))
        last = int(filled[-1]) + 1 if len(filled) else 0
        warm = np.flatnonzero((self.hot >= 0).any(0))
        blocks = int(warm[-1]) + 1 if len(warm) else 0
        if self.batch > 1 and self.mode != "full":
            # Always the whole of it: how a sum is rounded depends on its length, and so would on the neighbours' age.
            last, blocks = self.time.shape[1], self.hot.shape[1]
        self._begin, self._end = self.front - blocks * self.block_tokens, self.front + last * n
        self._mask(last, blocks)
        if not last:
            return
        age = np.minimum(self.count[:, None] - self.time[:, :last], self.read_far)
        first = 0
        if self.mode == "full":  # only frames younger than that have moved since the last time
            if (age == self.read_far).all():
                return
            first = max(0, int((age == self.read_far).all(0).argmin()) - 1)
        position = torch.from_numpy(-age[:, first:]).to(self.device).repeat_interleave(n, 1)  # (B, T)
        at = slice(self.front + first * n, self._end)
        still = self.unrotated[:, :, :, first * n : last * n]
        self.keys[:, :, :, at, : still.shape[-1]] = rotate_time_part(still, position)

    def _mask(self, last: int, blocks: int) -> None:
        """Hide what is empty in some world."""
        slots, places = self.time[:, :last] >= 0, self.hot[:, :blocks][:, ::-1] >= 0
        self._bias = None
        if slots.all() and places.all():
            return
        n = self.config.tokens
        seen = (places.repeat(self.block_tokens, 1), slots.repeat(n, 1), np.ones((self.batch, n), bool))
        hidden = torch.from_numpy(~np.concatenate(seen, 1))[:, None, None]
        bias = torch.zeros(hidden.shape, dtype=self.dtype).masked_fill_(hidden, -torch.inf)
        self._bias = bias.to(self.device)

    def clear(self, only: np.ndarray | None = None) -> None:
        """Forget everything, in all worlds or those of `only` (B,) bool."""
        if only is None and self.mode == "full":
            # Back to the first size: what is drawn from here must not depend on what was played before.
            self._allocate(GROWTH, 0)
        if only is None and self.folding is not None:
            self.folding.clock = 0
        for b in np.arange(self.batch) if only is None else np.flatnonzero(only):
            self.time[b], self.hot[b] = -1, -1
            self.count[b], self.pose[b], self.look[b] = 0, 0.0, 0.0
            self.cold[b] = ColdStore(self.cold_ram)
            if self.folding is not None:
                self.folding.clear(int(b))
        self._prepared = False

    def converted(self, mode: Mode) -> Cache:
        """Copy in another mode: what still is in view stays in view, what is gone stays gone.

        Folded blocks stay cold in `window` mode, and all are in view in `full` mode. After a change to `mag`, call
        `fold` with `all_at_once`.
        """
        other = Cache(self.config, self.batch, mode, self.device, self.dtype, self.memory, self.budget, self.recall)
        sink, window = self.config.sink, self.config.window
        keep: list[np.ndarray] = []
        for b in range(self.batch):
            order = np.argsort(self.time[b], kind="stable")
            order = order[self.time[b, order] >= 0]
            if mode == "window" and len(order) > sink + window:
                order = np.concatenate((order[:sink], order[len(order) - window :]))
            keep.append(order)
        slots = max(other.time.shape[1], max(map(len, keep)))
        if mode == "full":
            other._allocate(slots, max(map(len, self.cold)))
        elif mode == "mag":
            other._allocate(slots, other.hot.shape[1])  # larger where frames still have to be folded
        for b, order in enumerate(keep):
            source = torch.from_numpy((order[:, None] * self.config.tokens + np.arange(self.config.tokens)).reshape(-1))
            source = source.to(self.device)
            size = len(source)
            other.keys[:, b, :, other.front : other.front + size] = self.keys[:, b, :, self.front + source]
            other.values[:, b, :, other.front : other.front + size] = self.values[:, b, :, self.front + source]
            other.unrotated[:, b, :, :size] = self.unrotated[:, b, :, source]
            other.time[b, : len(order)] = self.time[b, order]
        other.count, other.pose, other.look = self.count.copy(), self.pose.copy(), self.look.copy()
        other.cold = [store.copy() for store in self.cold]
        if self.folding is not None:
            other.folding = self.folding.copy()
            if mode == "window":
                for b in range(self.batch):
                    other.folding.keep_last(b, window)
        if mode == "full":
            for b, store in enumerate(other.cold):
                for i in range(len(store)):
                    other._heat(b, i, i)
        elif mode == "mag":
            for b in range(self.batch):
                other._recall(b)
        other.prepare()
        return other

    def copy(self) -> Cache:
        """Independent copy of all that is filled."""
        other = Cache.__new__(Cache)
        other.__dict__.update(self.__dict__)
        for name in BUFFERS:
            setattr(other, name, getattr(self, name).clone())
        for name in ("time", "hot", "count", "pose", "look"):
            setattr(other, name, getattr(self, name).copy())
        other.cold = [store.copy() for store in self.cold]
        other.folding = self.folding.copy() if self.folding is not None else None
        return other
