"""A cache as plain values and tensors, to be kept in a file, and back: bit for bit what it was.

What is being folded is kept as the frames it is made of, and folded again up to the same layer when it is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engine.history.cache import BUFFERS, GROWTH, MODES, RECALLS, Cache
from engine.history.cold import ColdStore
from engine.history.folding import Job, Pending
from engine.model.generator import GeneratorConfig
from engine.model.layers import time_pairs
from engine.model.memory import Memory

PARTS = ("time", "count", "hot", "pose", "look")
MOST_BYTES = 2**30
"""Of the buffers that a state may ask for."""


def state_of(cache: Cache) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """All that `cache_from` needs. Of the buffers only what lies before the last filled slot is kept."""
    filled = np.flatnonzero((cache.time >= 0).any(0))
    slots = int(filled[-1]) + 1 if len(filled) else 0
    end, n = cache.front + slots * cache.config.tokens, cache.config.tokens
    tensors = {name: torch.from_numpy(getattr(cache, name).copy()) for name in PARTS}
    for name in BUFFERS:
        upto = slots * n if name == "unrotated" else end
        tensors[name] = getattr(cache, name)[..., :upto, :].cpu().contiguous()
    meta: dict[str, Any] = {
        "mode": cache.mode,
        "slots": cache.time.shape[1],
        "filled": slots,
        "blocks": cache.hot.shape[1],
        "budget": cache.budget,
        "recall": cache.recall,
    }
    for b, store in enumerate(cache.cold):
        if len(store):
            tensors |= {f"cold.{b}.{name}": torch.from_numpy(array) for name, array in store.arrays().items()}
    if cache.folding is not None:
        for b, frames in enumerate(cache.folding.pending):
            tensors |= _packed(f"pending.{b}", frames)
        meta["jobs"], meta["clock"] = [], cache.folding.clock
        for i, job in enumerate(cache.folding.jobs):
            meta["jobs"].append({"worlds": list(job.worlds), "layer": job.state.layer})
            for k, block in enumerate(job.blocks):
                tensors |= _packed(f"job.{i}.{k}", block)
    return meta, tensors


def _packed(name: str, frames: list[Pending]) -> dict[str, Tensor]:
    if not frames:
        return {}
    return {
        f"{name}.times": torch.tensor([frame.time for frame in frames]),
        f"{name}.latents": torch.stack([frame.latents for frame in frames]).cpu(),
        f"{name}.actions": torch.stack([frame.action for frame in frames]).cpu(),
        f"{name}.poses": torch.from_numpy(np.stack([frame.pose for frame in frames])),
    }


def _need(right: object, what: str) -> None:
    if not right:
        raise ValueError(f"cache: {what}")


def _whole(value: Any, low: int, high: int, what: str) -> int:
    _need(type(value) is int and low <= value <= high, f"{what} must be a whole number from {low} to {high}")
    return int(value)


def cache_from(
    config: GeneratorConfig,
    meta: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    device: torch.device,
    dtype: torch.dtype,
    memory: Memory | None = None,
) -> Cache:
    """The cache whose `state_of` this is. Raises ValueError where it is not one of this generator and memory.

    Nothing is allocated before the sizes are known to belong together.
    """
    mode, shape = meta.get("mode"), memory.config if memory is not None else None
    _need(mode in MODES, f"expected a mode of {', '.join(MODES)}, got {mode!r}")
    _need(mode != "mag" or memory is not None, "mode mag needs a checkpoint with a memory model")
    missing = {*PARTS, *BUFFERS} - tensors.keys()
    _need(not missing, f"{min(missing, default='')} is missing")
    budget, recall = meta.get("budget"), meta.get("recall")
    _need(recall in RECALLS, f"unknown recall {recall!r}")
    if budget is not None:
        _whole(budget, 0, 10**6, "the budget")
    time = tensors["time"]
    _need(time.dtype == torch.int64 and time.dim() == 2 and len(time), "expected int64 time (B, slots)")
    batch, slots = int(time.shape[0]), int(time.shape[1])
    filled = _whole(meta.get("filled"), 0, slots, "filled")
    blocks = _whole(meta.get("blocks"), 0, 10**6, "blocks")
    _need(meta.get("slots") == slots, "its number of slots contradicts itself")
    least = config.sink + config.window
    most = {"window": least, "full": 2 * filled + 2 * GROWTH}.get(str(mode), 2 * least + 2 * filled + 256)
    _need(least <= slots <= most if mode != "full" else GROWTH <= slots <= most, f"{slots} slots cannot be")
    r = shape.tokens(config) if shape is not None else config.tokens
    front, n = blocks * r, config.tokens
    size = config.depth * batch * config.heads * (front + (slots + 1) * n) * config.head_dim
    _need(8 * size <= MOST_BYTES, "it is too large")
    expected: dict[str, tuple[int, ...]] = {
        "count": (batch,),
        "hot": (batch, blocks),
        "pose": (batch, 3),
        "look": (batch, config.columns * config.channels),
    }
    for name in BUFFERS:
        width = 2 * time_pairs(config.head_dim) if name == "unrotated" else config.head_dim
        tokens = filled * n + (0 if name == "unrotated" else front)
        expected[name] = (config.depth, batch, config.heads, tokens, width)
    kinds = {"count": torch.int64, "hot": torch.int64, "pose": torch.float64, "look": torch.float32}
    for name, want in expected.items():
        found = tensors[name]
        _need(tuple(found.shape) == want, f"expected {name} of shape {want}, got {tuple(found.shape)}")
        _need(found.dtype == kinds[name] if name in kinds else found.is_floating_point(), f"{name} has a wrong type")
    count, hot = tensors["count"], tensors["hot"]
    _need(bool((count >= 0).all() and (time >= -1).all() and (time < count[:, None]).all()), "its frame numbers")
    _need(not bool((time[:, filled:] >= 0).any()), "its frame numbers contradict each other")
    _need(bool(torch.isfinite(tensors["pose"]).all()), "its pose is not finite")
    cache = Cache(config, batch, mode, device, dtype, shape, budget, recall)  # type: ignore[arg-type]
    if (slots, blocks) != (cache.time.shape[1], cache.hot.shape[1]):
        cache._allocate(slots, blocks)
    for name in BUFFERS:
        buffer = getattr(cache, name)
        buffer[..., : expected[name][3], :] = tensors[name].to(device, dtype)
    for name in PARTS:
        setattr(cache, name, tensors[name].numpy().copy())
    for b in range(batch):
        names = ("blocks", "poses", "looks")
        arrays = {k: tensors[f"cold.{b}.{k}"].numpy() for k in names if f"cold.{b}.{k}" in tensors}
        if arrays:
            _need(len(arrays) == 3, "cold storage is not whole")
            folded = (config.depth, config.heads, r, config.head_dim)
            cache.cold[b] = ColdStore.of(arrays, folded, cache.look.shape[1], cache.cold_ram)
    kept = [len(store) for store in cache.cold]
    _need(all(max([-1, *hot[b].tolist()]) < kept[b] for b in range(batch)), "a hot block is not there")
    _read_folding(cache, meta, tensors, memory)
    cache.prepare()
    return cache


def _read_folding(cache: Cache, meta: Mapping[str, Any], tensors: Mapping[str, Tensor], memory: Memory | None) -> None:
    if cache.folding is None or memory is None:
        return
    for b in range(cache.batch):
        cache.folding.pending[b] = _frames(cache, f"pending.{b}", tensors)
    jobs = meta.get("jobs", [])
    _need(isinstance(jobs, list) and len(jobs) <= 64, "its folds cannot be read")
    cache.folding.clock = _whole(meta.get("clock", 0), 0, 2**62, "the clock of its folds")
    depth = cache.config.depth
    for i, job in enumerate(jobs):
        _need(isinstance(job, Mapping) and isinstance(job.get("worlds"), list), "a fold cannot be read")
        worlds = [_whole(b, -1, cache.batch - 1, "a fold's world") for b in job["worlds"]]
        blocks = [_frames(cache, f"job.{i}.{k}", tensors) for k in range(len(worlds))]
        _need(worlds and all(len(block) == memory.config.block for block in blocks), "a fold has no whole block")
        state = memory.advance(cache.folding.begun(memory, blocks), _whole(job.get("layer"), 1, depth, "a layer"))
        cache.folding.jobs.append(Job(worlds, blocks, state))


def _frames(cache: Cache, name: str, tensors: Mapping[str, Tensor]) -> list[Pending]:
    if f"{name}.times" not in tensors:
        return []
    c = cache.config
    times = tensors[f"{name}.times"]
    parts = [tensors.get(f"{name}.{part}") for part in ("latents", "actions", "poses")]
    shapes = ((len(times), c.tokens, c.channels), (len(times), c.actions), (len(times), 3))
    for part, shape in zip(parts, shapes, strict=True):
        _need(part is not None and tuple(part.shape) == shape, f"{name}: its frames cannot be read")
    _need(times.dtype == torch.int64 and bool((times.diff() > 0).all()), f"{name}: frame numbers must rise")
    latents, actions, poses = parts
    assert latents is not None and actions is not None and poses is not None
    place = cache.device
    rows = zip(times.tolist(), latents.to(place), actions.to(place), poses.double().numpy(), strict=True)
    return [Pending(*row) for row in rows]
