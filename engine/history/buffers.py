"""What attention reads: keys and values of folded memory, of whole frames, and of the frame that is being drawn.

Keys are kept with their place rotated and their time not. Before a frame is drawn, the time part of every key is
rotated by the frame's age, clipped to what training saw; so positions never grow, however long a session is.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from engine.model.generator import GeneratorConfig
from engine.model.layers import rotate_time_part, time_pairs

FEW = 16
"""Tokens of a frame, up to which PyTorch's fused kernel is the faster one for a batch on a CPU (measured)."""


class Buffers:
    """Keys and values (layers, B, heads, tokens, head_dim) of B worlds.

    In order of tokens: hot slots of a folded block each, slots of a frame each, and the tail, which the frame that is
    being drawn writes itself to. Slots are filled from the front and hot slots from the back, so that with equally
    long histories attention rarely needs a mask. Which frame goes where is decided elsewhere (`engine.history.modes`).

    slots, hot_slots: how many there are. block_tokens: tokens of a folded block, R.

    time (B, slots): the number of the frame in a slot, -1 for none. hot (B, hot_slots): that of the block there.
    """

    TENSORS = ("keys", "values", "unrotated")

    def __init__(
        self,
        config: GeneratorConfig,
        batch: int,
        slots: int,
        hot_slots: int,
        block_tokens: int,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self.config, self.batch, self.block_tokens = config, batch, block_tokens
        self.device, self.dtype = device, dtype
        self.time = np.full((batch, slots), -1, np.int64)
        self.hot = np.full((batch, hot_slots), -1, np.int64)
        self.front = hot_slots * block_tokens  # tokens before the first slot
        shape = (config.depth, batch, config.heads, self.front + (slots + 1) * config.tokens, config.head_dim)
        self.keys = torch.zeros(shape, device=device, dtype=dtype)
        self.values = torch.zeros(shape, device=device, dtype=dtype)
        timed = (*shape[:3], slots * config.tokens, 2 * time_pairs(config.head_dim))
        self.unrotated = torch.zeros(timed, device=device, dtype=dtype)  # the slots' time part, before its rotation
        self._bias: Tensor | None = None
        self._begin = self._end = self.front  # tokens in view before the tail

    @property
    def slots(self) -> int:
        return self.time.shape[1]

    @property
    def hot_slots(self) -> int:
        return self.hot.shape[1]

    @property
    def used(self) -> np.ndarray:
        """Frames in slots of each world, (B,)."""
        return (self.time >= 0).sum(1)

    @property
    def tokens_in_view(self) -> int:
        """Tokens that attention reads beside the frame's own."""
        return self._end - self._begin

    @property
    def bytes(self) -> int:
        """Bytes of all that attention may read."""
        return sum(t.numel() * t.element_size() for t in (self.keys, self.values, self.unrotated))

    @property
    def bytes_of_a_frame(self) -> int:
        """Bytes that a frame of one world takes."""
        slots = self.keys.shape[3] / self.config.tokens  # of which a hot block is a part
        return round(self.bytes / self.batch / slots)

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attention of the current frame, (B, heads, N, head_dim), to everything in view and itself.

        Its own keys and values go to the tail, which the next pass overwrites.
        """
        n, begin, end = self.config.tokens, self._begin, self._end
        keys, values = self.keys[layer], self.values[layer]
        keys[:, :, end : end + n] = k
        values[:, :, end : end + n] = v
        keys, values = keys[:, :, begin : end + n], values[:, :, begin : end + n]
        if self.device.type != "cpu" or (self.batch > 1 and n <= FEW):
            return F.scaled_dot_product_attention(q, keys, values, attn_mask=self._bias)
        # On a CPU the plain products beat PyTorch's fused kernel for one world, or many tokens a frame (measured).
        scores = (q * q.shape[-1] ** -0.5) @ keys.transpose(-1, -2)
        if self._bias is not None:
            scores += self._bias
        return torch.softmax(scores, -1) @ values  # the kernel sums bf16 in float32

    def write(
        self, keys: Sequence[Tensor], values: Sequence[Tensor], worlds: np.ndarray, slots: np.ndarray, time: np.ndarray
    ) -> None:
        """Keep a frame's keys and values, of each layer (B, heads, N, head_dim), in some worlds.

        worlds (W,): which ones; slots (W,): where; time (W,): the frame's number there.
        """
        n, split = self.config.tokens, self.unrotated.shape[-1]
        if len(worlds) == self.batch and (slots == slots[0]).all():
            still = slice(int(slots[0]) * n, (int(slots[0]) + 1) * n)
            at = slice(self.front + still.start, self.front + still.stop)
            for layer, (k, v) in enumerate(zip(keys, values, strict=True)):
                self.keys[layer, :, :, at] = k
                self.values[layer, :, :, at] = v
                self.unrotated[layer, :, :, still] = k[..., :split]
        else:
            where = torch.from_numpy(slots[:, None] * n + np.arange(n)).to(self.device)  # (W, N)
            chosen = torch.from_numpy(worlds).to(self.device)
            rows = chosen[:, None]
            for layer, (k, v) in enumerate(zip(keys, values, strict=True)):
                k, v = k[chosen].transpose(1, 2), v[chosen].transpose(1, 2)
                self.keys[layer].transpose(1, 2)[rows, self.front + where] = k
                self.values[layer].transpose(1, 2)[rows, self.front + where] = v
                self.unrotated[layer].transpose(1, 2)[rows, where] = k[..., :split]
        self.time[worlds, slots] = time

    def heat(self, world: int, slot: int, block: int, keys: Tensor, values: Tensor, age: int) -> None:
        """Put block number `block`, keys and values (layers, heads, R, head_dim), into a hot slot of a world.

        age: in frames, at which its keys are read from now on.
        """
        keys, values = (x.to(self.device, self.dtype) for x in (keys, values))
        split = self.unrotated.shape[-1]
        position = torch.full((len(keys), keys.shape[2]), -age, device=self.device)
        keys[..., :split] = rotate_time_part(keys[..., :split], position)
        at = slice(self.front - (slot + 1) * self.block_tokens, self.front - slot * self.block_tokens)
        self.keys[:, world, :, at], self.values[:, world, :, at] = keys, values
        self.hot[world, slot] = block

    def filled(self) -> list[np.ndarray]:
        """The filled slots of each world, that of the oldest frame first."""
        orders = [np.argsort(time, kind="stable") for time in self.time]
        return [order[time[order] >= 0] for order, time in zip(orders, self.time, strict=True)]

    def free(self, world: int, frames: Sequence[int]) -> None:
        """Empty the slots of these frames of a world."""
        self.time[world, np.isin(self.time[world], frames)] = -1

    def empty(self, world: int) -> None:
        """Empty all slots and hot slots of a world."""
        self.time[world], self.hot[world] = -1, -1

    def resized(self, slots: int, hot_slots: int, kept: Sequence[np.ndarray]) -> Buffers:
        """New buffers of another size, in whose first slots are those slots of each world that `kept` (B of them) says.

        Hot slots are empty.
        """
        other = Buffers(self.config, self.batch, slots, hot_slots, self.block_tokens, self.device, self.dtype)
        tokens = np.arange(self.config.tokens)
        for b, order in enumerate(kept):
            source = torch.from_numpy((order[:, None] * self.config.tokens + tokens).reshape(-1)).to(self.device)
            size = len(source)
            other.keys[:, b, :, other.front : other.front + size] = self.keys[:, b, :, self.front + source]
            other.values[:, b, :, other.front : other.front + size] = self.values[:, b, :, self.front + source]
            other.unrotated[:, b, :, :size] = self.unrotated[:, b, :, source]
            other.time[b, : len(order)] = self.time[b, order]
        return other

    def grown(self, slots: int) -> Buffers:
        """The same with so many more slots."""
        other = Buffers(
            self.config, self.batch, self.slots + slots, self.hot_slots, self.block_tokens, self.device, self.dtype
        )
        kept = self.front + self.slots * self.config.tokens
        other.keys[..., :kept, :] = self.keys[..., :kept, :]
        other.values[..., :kept, :] = self.values[..., :kept, :]
        other.unrotated[..., : self.unrotated.shape[-2], :] = self.unrotated
        other.time[:, : self.slots], other.hot = self.time, self.hot
        return other

    def rotate(self, count: np.ndarray, far: int, grows: bool) -> None:
        """Rotate keys to their ages before frame number `count` (B,) is drawn, and hide what is empty.

        far: the age at which all older frames are read. grows: these buffers hold all of history, of which only the
        youngest frames have changed their age since the last time.
        """
        n = self.config.tokens
        filled = np.flatnonzero((self.time >= 0).any(0))
        last = int(filled[-1]) + 1 if len(filled) else 0
        warm = np.flatnonzero((self.hot >= 0).any(0))
        blocks = int(warm[-1]) + 1 if len(warm) else 0
        if self.batch > 1 and not grows:
            # Always the whole of it: how a sum is rounded depends on its length, and so would on the neighbours' age.
            last, blocks = self.slots, self.hot_slots
        self._begin, self._end = self.front - blocks * self.block_tokens, self.front + last * n
        self._hide_empty(last, blocks)
        if not last:
            return
        age = np.minimum(count[:, None] - self.time[:, :last], far)
        first = 0
        if grows:
            if (age == far).all():
                return
            first = max(0, int((age == far).all(0).argmin()) - 1)
        position = torch.from_numpy(-age[:, first:]).to(self.device).repeat_interleave(n, 1)  # (B, T)
        at = slice(self.front + first * n, self._end)
        still = self.unrotated[:, :, :, first * n : last * n]
        self.keys[:, :, :, at, : still.shape[-1]] = rotate_time_part(still, position)

    def _hide_empty(self, last: int, blocks: int) -> None:
        """Make the mask of the first `last` slots and `blocks` hot slots, where some world has an empty one."""
        frames, folds = self.time[:, :last] >= 0, self.hot[:, :blocks][:, ::-1] >= 0
        self._bias = None
        if frames.all() and folds.all():
            return
        n = self.config.tokens
        seen = (folds.repeat(self.block_tokens, 1), frames.repeat(n, 1), np.ones((self.batch, n), bool))
        hidden = torch.from_numpy(~np.concatenate(seen, 1))[:, None, None]
        bias = torch.zeros(hidden.shape, dtype=self.dtype).masked_fill_(hidden, -torch.inf)
        self._bias = bias.to(self.device)

    def copy(self) -> Buffers:
        """Independent copy."""
        other = Buffers.__new__(Buffers)
        other.__dict__.update(self.__dict__)
        for name in self.TENSORS:
            setattr(other, name, getattr(self, name).clone())
        other.time, other.hot = self.time.copy(), self.hot.copy()
        return other
