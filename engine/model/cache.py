"""The key/value cache: sink, memory, window, and the tail slot of the frame that is being drawn.

Keys are kept with their place rotated and their time not. Before a frame is drawn, the time part of every key
is rotated by the frame's age, clipped to what training saw; so positions never grow, however long a session is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from engine.model.generator import GeneratorConfig
from engine.model.layers import rotate_time_part, time_pairs

Mode = Literal["window", "full"]
MODES: tuple[Mode, ...] = ("window", "full")
GROWTH = 64  # frames by which `full` grows at first; then by half
BUFFERS = ("keys", "values", "unrotated")


class Cache:
    """Keys and values (layers, B, heads, slots * N, head_dim) of one session per world in the batch.

    A slot holds a frame. In `window` mode the first `sink` frames stay and the last `window` ones go round; in
    `full` mode every frame stays and the buffers grow. Denoising leaves the slots as they are: only `write` (and,
    one day, a fold into the memory's slots) changes them. Slots are filled from the front, so that with equally
    long histories attention needs no mask.
    """

    def __init__(
        self, config: GeneratorConfig, batch: int, mode: Mode, device: torch.device, dtype: torch.dtype
    ) -> None:
        self.config, self.batch, self.mode, self.device, self.dtype = config, batch, mode, device, dtype
        self.read_far = config.far - config.clip // 2  # the middle of the ages at which training saw old frames
        slots = config.sink + config.window if mode == "window" else GROWTH
        self.time = np.full((batch, slots), -1, np.int64)  # frame number in a slot, -1 for none
        self.count = np.zeros(batch, np.int64)  # frames written since the session began
        self._allocate(slots)

    def _allocate(self, slots: int) -> None:
        c = self.config
        shape = (c.depth, self.batch, c.heads, (slots + 1) * c.tokens, c.head_dim)  # + 1: the tail
        self.keys = torch.zeros(shape, device=self.device, dtype=self.dtype)
        self.values = torch.zeros(shape, device=self.device, dtype=self.dtype)
        timed = (*shape[:3], slots * c.tokens, 2 * time_pairs(c.head_dim))
        self.unrotated = torch.zeros(timed, device=self.device, dtype=self.dtype)
        self._mask: Tensor | None = None
        self._end = 0  # tokens in view before the tail
        self._prepared = False

    @property
    def used(self) -> np.ndarray:
        """Filled slots of each world, (B,)."""
        return (self.time >= 0).sum(1)

    @property
    def bytes(self) -> int:
        """Bytes of all buffers."""
        return sum(t.numel() * t.element_size() for t in (self.keys, self.values, self.unrotated))

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attention of the current frame, (B, heads, N, head_dim), to everything in view and itself.

        Its own keys and values go to the tail slot, which the next pass overwrites.
        """
        n, end = self.config.tokens, self._end
        keys, values = self.keys[layer], self.values[layer]
        keys[:, :, end : end + n] = k
        values[:, :, end : end + n] = v
        keys, values = keys[:, :, : end + n], values[:, :, : end + n]
        if self._mask is not None or self.device.type != "cpu":
            return F.scaled_dot_product_attention(q, keys, values, attn_mask=self._mask)
        # On a CPU the plain products beat PyTorch's fused kernel at these sizes (LOG.md).
        scores = (q * q.shape[-1] ** -0.5) @ keys.transpose(-1, -2)
        return torch.softmax(scores, -1) @ values  # the kernel sums bf16 in float32

    def write(self, keys: list[Tensor], values: list[Tensor], only: np.ndarray | None = None) -> None:
        """Keep a frame's keys and values, per layer (B, heads, N, head_dim), in the worlds `only` (B,) bool."""
        c, n = self.config, self.config.tokens
        worlds = np.arange(self.batch) if only is None else np.flatnonzero(only)
        if self.mode == "full" and self.used[worlds].max(initial=0) >= self.time.shape[1]:
            self._grow()
        slots = np.array([self._free_slot(int(b)) for b in worlds])
        split = 2 * time_pairs(c.head_dim)
        uniform = len(worlds) == self.batch and (slots == slots[0]).all()
        where = slice(slots[0] * n, (slots[0] + 1) * n) if uniform else None
        for layer, (k, v) in enumerate(zip(keys, values, strict=True)):
            if where is not None:
                self.keys[layer, :, :, where] = k
                self.values[layer, :, :, where] = v
                self.unrotated[layer, :, :, where] = k[..., :split]
            else:
                for b, slot in zip(worlds, slots, strict=True):
                    at = slice(slot * n, (slot + 1) * n)
                    self.keys[layer, b, :, at] = k[b]
                    self.values[layer, b, :, at] = v[b]
                    self.unrotated[layer, b, :, at] = k[b, ..., :split]
        self.time[worlds, slots] = self.count[worlds]
        self.count[worlds] += 1
        self._prepared = False

    def _free_slot(self, world: int) -> int:
        time = self.time[world]
        empty = np.flatnonzero(time < 0)
        if len(empty):
            return int(empty[0])
        return int(self.config.sink + time[self.config.sink :].argmin())

    def _grow(self) -> None:
        slots = self.time.shape[1]
        larger = slots + max(GROWTH, slots // 2)
        keys, values, unrotated = self.keys, self.values, self.unrotated
        self._allocate(larger)
        kept = slots * self.config.tokens
        self.keys[..., :kept, :] = keys[..., :kept, :]
        self.values[..., :kept, :] = values[..., :kept, :]
        self.unrotated[..., :kept, :] = unrotated
        self.time = np.pad(self.time, ((0, 0), (0, larger - slots)), constant_values=-1)

    def prepare(self) -> None:
        """Rotate keys to their ages for the frame to come. Call after writes and before drawing."""
        if self._prepared:
            return
        self._prepared = True
        n, used = self.config.tokens, self.used
        last = int(used.max(initial=0))
        self._end = last * n
        self._mask = None
        if (used != last).any():
            visible = torch.from_numpy(self.time[:, :last] >= 0).repeat_interleave(n, 1)
            visible = torch.cat((visible, torch.ones(self.batch, n, dtype=torch.bool)), 1)
            self._mask = visible[:, None, None].to(self.device)
        if not last:
            return
        age = np.minimum(self.count[:, None] - self.time[:, :last], self.read_far)
        # In `full` mode only frames younger than the clip have moved since the last time.
        first = 0 if self.mode == "window" else int((age == self.read_far).all(0).argmin())
        if self.mode == "full" and (age == self.read_far).all():
            return
        first = max(0, first - 1)
        position = torch.from_numpy(-age[:, first:]).to(self.device).repeat_interleave(n, 1)  # (B, T)
        at = slice(first * n, last * n)
        self.keys[:, :, :, at, : self.unrotated.shape[-1]] = rotate_time_part(self.unrotated[:, :, :, at], position)

    def clear(self, only: np.ndarray | None = None) -> None:
        """Forget everything, in all worlds or those of `only` (B,) bool."""
        if only is None and self.mode == "full" and self.time.shape[1] > GROWTH:
            # Back to the first size: what is drawn from here must not depend on what was played before.
            self.time = np.full((self.batch, GROWTH), -1, np.int64)
            self._allocate(GROWTH)
        worlds = slice(None) if only is None else np.asarray(only, bool)
        self.time[worlds] = -1
        self.count[worlds] = 0
        self._prepared = False

    def converted(self, mode: Mode) -> Cache:
        """Copy in another mode: what still is in view stays in view, what is gone stays gone."""
        other = Cache(self.config, self.batch, mode, self.device, self.dtype)
        keep = self.used.max(initial=0)
        if mode == "full" and keep > other.time.shape[1]:
            other.time = np.full((self.batch, int(keep)), -1, np.int64)
            other._allocate(int(keep))
        n, sink, window = self.config.tokens, self.config.sink, self.config.window
        for b in range(self.batch):
            order = np.argsort(self.time[b], kind="stable")
            order = order[self.time[b, order] >= 0]
            if mode == "window" and len(order) > sink + window:
                order = np.concatenate((order[:sink], order[len(order) - window :]))
            source = torch.from_numpy((order[:, None] * n + np.arange(n)).reshape(-1)).to(self.device)
            size = len(order) * n
            other.keys[:, b, :, :size] = self.keys[:, b, :, source]
            other.values[:, b, :, :size] = self.values[:, b, :, source]
            other.unrotated[:, b, :, :size] = self.unrotated[:, b, :, source]
            other.time[b, : len(order)] = self.time[b, order]
        other.count = self.count.copy()
        other.prepare()
        return other

    def copy(self) -> Cache:
        """Independent copy of all that is filled."""
        other = Cache.__new__(Cache)
        other.__dict__.update(self.__dict__)
        for name in BUFFERS:
            setattr(other, name, getattr(self, name).clone())
        other.time, other.count = self.time.copy(), self.count.copy()
        return other

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """All that `from_state` needs, to be kept in a file: plain values for JSON, and tensors on the CPU.

        Of the buffers only the filled slots are kept. A cache made from it draws the same frames, bit for bit.
        """
        filled = int(self.used.max(initial=0)) * self.config.tokens
        tensors = {"time": torch.from_numpy(self.time.copy()), "count": torch.from_numpy(self.count.copy())}
        for name in BUFFERS:
            tensors[name] = getattr(self, name)[..., :filled, :].cpu().contiguous()
        return {"mode": self.mode, "slots": self.time.shape[1]}, tensors

    @classmethod
    def from_state(
        cls,
        config: GeneratorConfig,
        meta: Mapping[str, Any],
        tensors: Mapping[str, Tensor],
        device: torch.device,
        dtype: torch.dtype,
    ) -> Cache:
        """The cache whose `state` this is. Raises ValueError where it is not one of this generator.

        Nothing is allocated before the sizes are known to belong together.
        """
        mode, slots = meta.get("mode"), meta.get("slots")
        if mode not in MODES or type(slots) is not int:
            raise ValueError(
                f"cache: expected a mode of {', '.join(MODES)} and a number of slots, got {mode!r}, {slots!r}"
            )
        missing = {"time", "count", *BUFFERS} - tensors.keys()
        if missing:
            raise ValueError(f"cache: {sorted(missing)[0]} is missing")
        time, count = tensors["time"], tensors["count"]
        if time.dtype != torch.int64 or time.dim() != 2 or count.dtype != torch.int64 or count.shape != time.shape[:1]:
            raise ValueError("cache: expected int64 time (B, slots) and count (B,)")
        batch, used = len(count), int((time >= 0).sum(1).max()) if time.numel() else 0
        least = config.sink + config.window if mode == "window" else GROWTH
        most = least if mode == "window" else max(GROWTH, 2 * used + GROWTH)
        if time.shape[1] != slots or not least <= slots <= most or not batch:
            raise ValueError(f"cache: {slots} slots for {used} frames of {batch} worlds cannot be")
        ahead = time < count[:, None]
        packed = (time >= 0) == (torch.arange(slots) < (time >= 0).sum(1)[:, None])  # filled from the front
        if not bool((ahead & packed & (time >= -1)).all()) or bool((count < 0).any()):
            raise ValueError("cache: its frame numbers contradict each other")
        for name in BUFFERS:
            width = 2 * time_pairs(config.head_dim) if name == "unrotated" else config.head_dim
            expected = (config.depth, batch, config.heads, used * config.tokens, width)
            if tuple(tensors[name].shape) != expected or not tensors[name].is_floating_point():
                raise ValueError(f"cache: expected {name} of shape {expected}, got {tuple(tensors[name].shape)}")
        cache = cls(config, batch, mode, device, dtype)
        if slots != cache.time.shape[1]:
            cache._allocate(slots)
        for name in BUFFERS:
            getattr(cache, name)[..., : used * config.tokens, :] = tensors[name].to(device, dtype)
        cache.time, cache.count = time.numpy().copy(), count.numpy().copy()
        cache.prepare()
        return cache
