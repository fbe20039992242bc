"""A long history at once, of random content, for measuring: what is remembered costs the same, whatever it shows."""

from __future__ import annotations

import numpy as np
import torch

from engine.history.frame import Frame
from engine.history.history import History


@torch.inference_mode()
def fill(history: History, length: int, seed: int = 0) -> None:
    """Bring a history that has just begun to `length` frames in every world.

    In `mag` most of them are random folds in cold storage, as a long walk would have left them, and only the last ones
    are frames; in the other modes all are frames, whose keys and values are random, too. Where there are places, every
    frame is a step further to the east, so that each shows tiles that were never seen.

    Raises ValueError where the worlds have more frames than a reset leaves: one, or as many as the sink holds.
    """
    c, random = history.config, torch.Generator().manual_seed(seed)
    most = max(1, c.sink)
    if (history.count > most).any() or (history.count != history.count[0]).any():
        raise ValueError(f"history: expected at most {most} frames before filling it, got {history.count.tolist()}")
    if history.policy.folds:
        _fill_cold(history, length, np.random.default_rng(seed))
    shape = (history.batch, c.heads, c.tokens, c.head_dim)
    keys = [torch.randn(shape, generator=random).to(history.device, history.dtype) for _ in range(c.depth)]
    step = (1.0, 0.0, 0.0) if history.places is not None else (0.0, 0.0, 0.0)
    while history.count[0] < length:
        latents = torch.randn(history.batch, c.tokens, c.channels, generator=random).to(history.device)
        nothing = torch.zeros(history.batch, c.actions, device=history.device)
        history.keep(Frame(latents, nothing, history.pose + step), keys, keys)
    history.make_ready()


def _fill_cold(history: History, length: int, random: np.random.Generator) -> None:
    """Put folds of all but the last of `length` frames into cold storage, and number what is there to follow them."""
    c, memory = history.config, history.memory
    assert memory is not None
    block = memory.config.block
    folds = max(0, length - (c.sink + c.window + 4 * block)) // block
    shape = (c.depth, c.heads, history.block_tokens, c.head_dim)
    keys = torch.from_numpy(random.standard_normal(shape, np.float32))
    for store in history.cold:
        for _ in range(folds):
            pose = np.append(random.uniform(-50, 50, 2), random.uniform(0, 2 * np.pi))
            store.append(keys, keys, pose, random.standard_normal(history.look.shape[1], np.float32))
    history.count += folds * block  # frames that nobody saw: those that are no sink come after them
    history.buffers.time[history.buffers.time >= c.sink] += folds * block
    history.changed()
