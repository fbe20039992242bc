"""A history as plain values and tensors, to be kept in a file, and back: bit for bit what it was.

What is being folded is kept as the frames it is made of, and folded again up to the same layer when it is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engine.history.buffers import Buffers
from engine.history.cold import ColdStore
from engine.history.folding import Job, Pending
from engine.history.history import History
from engine.history.modes import GROWTH, remembers
from engine.history.names import MODES
from engine.history.places import FARTHEST
from engine.history.recall import RECALLS
from engine.model.generator import Generator, GeneratorConfig
from engine.model.layers import time_pairs
from engine.model.memory import Memory

MOST_FRAMES = 2**53
"""That a history may claim to hold: beyond, numbers of frames are no exact numbers any more."""
OF_BUFFERS, OF_WORLDS = ("time", "hot"), ("count", "pose", "look")
MOST_BYTES = 2**30
"""Of the buffers that a state may ask for."""


def state_of(history: History) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """All that `history_from` needs. Of the buffers only what lies before the last filled slot is kept."""
    buffers, n = history.buffers, history.config.tokens
    filled = np.flatnonzero((buffers.time >= 0).any(0))
    slots = int(filled[-1]) + 1 if len(filled) else 0
    tensors = {name: torch.from_numpy(getattr(buffers, name).copy()) for name in OF_BUFFERS}
    tensors |= {name: torch.from_numpy(getattr(history, name).copy()) for name in OF_WORLDS}
    tensors["latents"] = history.latents.cpu().contiguous()
    for name in Buffers.TENSORS:
        upto = slots * n + (0 if name == "unrotated" else buffers.front)
        tensors[name] = getattr(buffers, name)[..., :upto, :].cpu().contiguous()
    meta: dict[str, Any] = {
        "mode": history.mode,
        "slots": buffers.slots,
        "filled": slots,
        "blocks": buffers.hot_slots,
        "budget": history.budget,
        "recall": history.recall,
    }
    for b, store in enumerate(history.cold):
        if len(store):
            tensors |= {f"cold.{b}.{name}": torch.from_numpy(array) for name, array in store.arrays().items()}
    if history.places is not None:
        for b in range(history.batch):
            tensors |= dict(zip(_of_places(b), history.places.arrays(b), strict=True))
    if history.folding is not None:
        for b, frames in enumerate(history.folding.pending):
            tensors |= _packed(f"pending.{b}", frames)
        meta["jobs"], meta["clock"] = [], history.folding.clock
        for i, job in enumerate(history.folding.jobs):
            meta["jobs"].append({"worlds": list(job.worlds), "layer": job.state.layer})
            for k, block in enumerate(job.blocks):
                tensors |= _packed(f"job.{i}.{k}", block)
    return meta, tensors


def _of_places(world: int) -> tuple[str, str]:
    """Names of the tensors that hold a world's map."""
    return f"places.{world}.tiles", f"places.{world}.latents"


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
        raise ValueError(f"history: {what}")


def _whole(value: Any, low: int, high: int, what: str) -> int:
    _need(type(value) is int and low <= value <= high, f"{what} must be a whole number from {low} to {high}")
    return int(value)


def history_from(
    generator: Generator,
    meta: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    device: torch.device,
    dtype: torch.dtype,
    memory: Memory | None = None,
    posed: bool | None = None,
) -> History:
    """The history whose `state_of` this is. Raises ValueError where it is not one of this generator and memory.

    Nothing is allocated before the sizes are known to belong together. States of older versions have no `latents` (of
    the last frame); they are zero then, and whoever needs them must know better. posed: as for `History`.
    """
    config = generator.config
    mode = meta.get("mode")
    _need(mode in MODES, f"expected a mode of {', '.join(MODES)}, got {mode!r}")
    _need(mode != "mag" or remembers(config, memory is not None), "mode mag needs a checkpoint with a memory model")
    needed = {*OF_BUFFERS, *OF_WORLDS, *Buffers.TENSORS, *(("latents",) if config.sights else ())}
    missing = needed - tensors.keys()
    _need(not missing, f"{min(missing, default='')} is missing")
    budget, recall = meta.get("budget"), meta.get("recall")
    _need(recall in RECALLS, f"unknown recall {recall!r}")
    if budget is not None:
        _whole(budget, 0, 10**6, "the budget")
    batch, slots, filled, blocks = _sizes(config, meta, tensors, memory)
    expected = _shapes(config, batch, filled, blocks, memory)
    kinds = {"count": torch.int64, "hot": torch.int64, "pose": torch.float64, "look": torch.float32}
    kinds["latents"] = torch.float32
    for name, want in expected.items():
        if name not in tensors:
            continue
        found = tensors[name]
        _need(tuple(found.shape) == want, f"expected {name} of shape {want}, got {tuple(found.shape)}")
        _need(found.dtype == kinds[name] if name in kinds else found.is_floating_point(), f"{name} has a wrong type")
    time, count = tensors["time"], tensors["count"]
    _need(bool((count <= MOST_FRAMES).all()), "more frames than anyone can have seen")
    _need(bool((count >= 0).all() and (time >= -1).all() and (time < count[:, None]).all()), "its frame numbers")
    _need(not bool((time[:, filled:] >= 0).any()), "its frame numbers contradict each other")
    for name in {"pose", "latents"} & tensors.keys():
        _need(bool(torch.isfinite(tensors[name]).all()), f"{name} is not finite")
    if config.sights:
        pose = tensors["pose"]
        _need(bool(((pose.abs() <= FARTHEST) & (pose == pose.round())).all()), "a pose that nobody can reach")
    history = History(generator, batch, str(mode), device, dtype, memory, budget, str(recall), posed)
    buffers = history.buffers
    if (slots, blocks) != (buffers.slots, buffers.hot_slots):
        buffers = Buffers(config, batch, slots, blocks, history.block_tokens, device, dtype)
        history.buffers = buffers
    for name in Buffers.TENSORS:
        getattr(buffers, name)[..., : expected[name][3], :] = tensors[name].to(device, dtype)
    for name in OF_BUFFERS:
        setattr(buffers, name, tensors[name].numpy().copy())
    for name in OF_WORLDS:
        setattr(history, name, tensors[name].numpy().copy())
    if "latents" in tensors:
        history.latents = tensors["latents"].to(device)
    _read_cold(history, tensors)
    _read_places(history, tensors)
    _read_folding(history, meta, tensors)
    history.make_ready()
    return history


def _sizes(
    config: GeneratorConfig, meta: Mapping[str, Any], tensors: Mapping[str, Tensor], memory: Memory | None
) -> tuple[int, int, int, int]:
    """Worlds, slots, filled slots and hot slots, as a state tells them, where they can be."""
    time = tensors["time"]
    _need(time.dtype == torch.int64 and time.dim() == 2 and len(time), "expected int64 time (B, slots)")
    batch, slots = int(time.shape[0]), int(time.shape[1])
    filled = _whole(meta.get("filled"), 0, slots, "filled")
    blocks = _whole(meta.get("blocks"), 0, 10**6, "blocks")
    _need(meta.get("slots") == slots, "its number of slots contradicts itself")
    mode, least = meta.get("mode"), config.sink + config.window
    _need(config.window or slots == 0, f"{slots} slots cannot be")
    most = {"window": least, "full": 2 * filled + 2 * GROWTH}.get(str(mode), 2 * least + 2 * filled + 256)
    least = GROWTH if mode == "full" and config.window else least
    _need(least <= slots <= most, f"{slots} slots cannot be")
    tokens = blocks * _block_tokens(config, memory) + (slots + 1) * config.tokens
    _need(8 * config.depth * batch * config.heads * tokens * config.head_dim <= MOST_BYTES, "it is too large")
    return batch, slots, filled, blocks


def _block_tokens(config: GeneratorConfig, memory: Memory | None) -> int:
    return memory.config.tokens(config) if memory is not None else config.tokens


def _shapes(
    config: GeneratorConfig, batch: int, filled: int, blocks: int, memory: Memory | None
) -> dict[str, tuple[int, ...]]:
    """The shape of each tensor of a state but `time`, from which the sizes are known."""
    front, n = blocks * _block_tokens(config, memory), config.tokens
    shapes: dict[str, tuple[int, ...]] = {
        "count": (batch,),
        "hot": (batch, blocks),
        "pose": (batch, 3),
        "look": (batch, config.columns * config.channels),
        "latents": (batch, n, config.channels),
    }
    for name in Buffers.TENSORS:
        width = 2 * time_pairs(config.head_dim) if name == "unrotated" else config.head_dim
        tokens = filled * n + (0 if name == "unrotated" else front)
        shapes[name] = (config.depth, batch, config.heads, tokens, width)
    return shapes


def _read_cold(history: History, tensors: Mapping[str, Tensor]) -> None:
    config = history.config
    folded = (config.depth, config.heads, history.block_tokens, config.head_dim)
    for b in range(history.batch):
        names = ("blocks", "poses", "looks")
        arrays = {k: tensors[f"cold.{b}.{k}"].numpy() for k in names if f"cold.{b}.{k}" in tensors}
        if arrays:
            _need(len(arrays) == 3, "cold storage is not whole")
            history.cold[b] = ColdStore.of(arrays, folded, history.look.shape[1], history.cold_ram)
    hot, kept = history.buffers.hot, [len(store) for store in history.cold]
    _need(all(max([-1, *hot[b].tolist()]) < kept[b] for b in range(history.batch)), "a hot block is not there")


def _read_places(history: History, tensors: Mapping[str, Tensor]) -> None:
    places, channels = history.places, history.config.channels
    if places is None:
        return
    room = MOST_BYTES
    for b in range(history.batch):
        tiles, latents = (tensors.get(name) for name in _of_places(b))
        what = f"the map of world {b}"
        _need(tiles is not None and latents is not None, f"{what} is missing, or a part of it")
        assert tiles is not None and latents is not None
        shapes = tuple(tiles.shape) == (tiles.shape[:1].numel(), 3) and tuple(latents.shape) == (len(tiles), channels)
        _need(shapes and tiles.dtype == torch.int64, f"{what} has tensors that do not belong together")
        kept = latents.to(history.dtype)  # in which a number of a wider type may be none any more
        _need(latents.is_floating_point() and bool(torch.isfinite(kept).all()), f"{what} is not finite")
        where, time = tiles[:, :2], tiles[:, 2]
        _need(bool(((time >= 0) & (time < int(history.count[b]))).all()), f"the frame numbers in {what}")
        _need(bool(((where >= -FARTHEST) & (where <= FARTHEST)).all()), f"{what} holds a tile that nobody can reach")
        _need(len(where.unique(dim=0)) == len(where), f"{what} holds a tile twice")
        room -= places.bytes_of(tiles)
        _need(room >= 0, f"{what} is too large")
        places.put(b, tiles, kept)


def _read_folding(history: History, meta: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    folding, memory = history.folding, history.memory
    if folding is None or memory is None:
        return
    for b in range(history.batch):
        folding.pending[b] = _frames(history, f"pending.{b}", tensors)
    jobs = meta.get("jobs", [])
    _need(isinstance(jobs, list) and len(jobs) <= 64, "its folds cannot be read")
    folding.clock = _whole(meta.get("clock", 0), 0, 2**62, "the clock of its folds")
    depth = history.config.depth
    for i, job in enumerate(jobs):
        _need(isinstance(job, Mapping) and isinstance(job.get("worlds"), list), "a fold cannot be read")
        worlds = [_whole(b, -1, history.batch - 1, "a fold's world") for b in job["worlds"]]
        blocks = [_frames(history, f"job.{i}.{k}", tensors) for k in range(len(worlds))]
        _need(worlds and all(len(block) == memory.config.block for block in blocks), "a fold has no whole block")
        state = memory.advance(folding.begun(memory, blocks), _whole(job.get("layer"), 1, depth, "a layer"))
        folding.jobs.append(Job(worlds, blocks, state))


def _frames(history: History, name: str, tensors: Mapping[str, Tensor]) -> list[Pending]:
    if f"{name}.times" not in tensors:
        return []
    c = history.config
    times = tensors[f"{name}.times"]
    _need(times.dim() == 1, f"{name}: its frame numbers cannot be read")
    parts = [tensors.get(f"{name}.{part}") for part in ("latents", "actions", "poses")]
    shapes = ((len(times), c.tokens, c.channels), (len(times), c.actions), (len(times), 3))
    for part, shape in zip(parts, shapes, strict=True):
        _need(part is not None and tuple(part.shape) == shape, f"{name}: its frames cannot be read")
    _need(times.dtype == torch.int64 and bool((times.diff() > 0).all()), f"{name}: frame numbers must rise")
    latents, actions, poses = parts
    assert latents is not None and actions is not None and poses is not None
    place = history.device
    rows = zip(times.tolist(), latents.to(place), actions.to(place), poses.double().numpy(), strict=True)
    return [Pending(*row) for row in rows]
