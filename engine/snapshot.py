"""A moment of a world, and how it becomes plain values and tensors for a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from engine.history.frame import Frame
from engine.history.history import History
from engine.history.places import FARTHEST
from engine.history.state import history_from, state_of
from engine.inputs import checked_action
from engine.model.codec import Codec
from engine.model.generator import Generator
from engine.model.memory import Memory


@dataclass(frozen=True)
class Snapshot:
    """A moment of B worlds: everything that the frames to come depend on, beside the weights.

    seeds (B): of their noise. frame uint8 (B, H, W, 3): what is shown. drawn: the frame that was rendered and not yet
    committed, if there is one. origins (B, 3): where they began, as true poses told, not a number where none did.
    """

    history: History
    seeds: tuple[int, ...]
    frame: np.ndarray
    drawn: Frame | None
    origins: np.ndarray | None = None

    @property
    def mode(self) -> str:
        """The memory mode of the worlds then."""
        return self.history.mode

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """The same as plain values for JSON and tensors on the CPU; `read_snapshot` takes them back."""
        meta, tensors = state_of(self.history)
        named = {f"cache.{name}": tensor for name, tensor in tensors.items()}
        named["frame"] = torch.from_numpy(self.frame.copy())
        if self.drawn is not None:
            named["drawn.latents"] = self.drawn.latents.cpu().contiguous()
            named["drawn.action"] = self.drawn.action.cpu().contiguous()
            named["drawn.pose"] = torch.from_numpy(self.drawn.pose.copy())
            if self.drawn.sights is not None:
                named["drawn.sights"] = self.drawn.sights.cpu().contiguous()
        if self.origins is not None and not np.isnan(self.origins).all():
            named["origins"] = torch.from_numpy(self.origins.copy())
        return {"seeds": list(self.seeds), "cache": meta}, named


class Owner(Protocol):
    """What must be known of the world that a snapshot is read for."""

    batch: int
    codec: Codec
    generator: Generator
    memory_model: Memory | None
    device: torch.device
    dtype: torch.dtype
    frame: np.ndarray

    buttons: tuple[str, ...]

    @property
    def posed(self) -> bool: ...


def read_snapshot(world: Owner, meta: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Snapshot:
    """The snapshot of a world whose `Snapshot.state` this is. Raises ValueError where it is not one of such a world."""
    seeds, inner = meta.get("seeds"), meta.get("cache")
    if not isinstance(seeds, list) or len(seeds) != world.batch or not isinstance(inner, Mapping):
        raise ValueError(f"world: a snapshot needs {world.batch} seeds and a history")
    if any(type(seed) is not int or not 0 <= seed < 2**63 for seed in seeds):
        raise ValueError("world: a snapshot's seeds must be whole numbers from 0 to 2^63 - 1")
    named = {name.partition(".")[2]: tensor for name, tensor in tensors.items() if name.startswith("cache.")}
    history = history_from(world.generator, inner, named, world.device, world.dtype, world.memory_model, world.posed)
    frame = tensors.get("frame")
    if history.batch != world.batch or frame is None or frame.dtype != torch.uint8:
        raise ValueError(f"world: expected a snapshot of {world.batch} worlds with their frame")
    if tuple(frame.shape) != world.frame.shape:
        raise ValueError(f"world: expected a snapshot's frame {world.frame.shape}, got {tuple(frame.shape)}")
    drawn = _read_drawn(world, tensors)
    if "latents" not in named and drawn is None:  # of an older version: the last committed frame is the one shown
        history.latents = world.codec.encode(frame.to(world.device))
    return Snapshot(history, tuple(seeds), frame.numpy().copy(), drawn, _read_origins(world, tensors))


def _read_origins(world: Owner, tensors: Mapping[str, Tensor]) -> np.ndarray | None:
    origins = tensors.get("origins")
    if origins is None:
        return None
    if (
        tuple(origins.shape) != (world.batch, 3)
        or origins.dtype != torch.float64
        or bool((origins.abs() > FARTHEST).any())
    ):
        raise ValueError("world: a snapshot's origins cannot be read")
    return origins.numpy().copy()


def _read_drawn(world: Owner, tensors: Mapping[str, Tensor]) -> Frame | None:
    if "drawn.latents" not in tensors:
        return None
    if not {"drawn.action", "drawn.pose"} <= tensors.keys():
        raise ValueError("world: a snapshot's drawn frame needs latents, action and pose")
    latents, action, pose = (tensors[f"drawn.{name}"] for name in ("latents", "action", "pose"))
    c = world.generator.config
    if tuple(pose.shape) != (world.batch, 3) or pose.dtype != torch.float64:
        raise ValueError(f"world: a snapshot's pose cannot be {pose.dtype} {tuple(pose.shape)}")
    if tuple(latents.shape) != (world.batch, c.tokens, c.channels) or latents.dtype != torch.float32:
        raise ValueError(f"world: a snapshot's latents cannot be {latents.dtype} {tuple(latents.shape)}")
    sights = tensors.get("drawn.sights")
    if c.sights:
        shape = (world.batch, c.tokens, c.channels + 2)
        if sights is None or tuple(sights.shape) != shape or sights.dtype != torch.float32:
            raise ValueError(f"world: a snapshot's drawn frame needs sights float32 {shape}")
        if not (torch.isfinite(sights).all() and torch.isfinite(latents).all() and (pose.abs() <= FARTHEST).all()):
            raise ValueError("world: a snapshot's drawn frame is not finite, or too far away")
        sights = sights.to(world.device)
    acted = torch.from_numpy(checked_action(action.numpy(), world.batch, len(world.buttons))).to(world.device)
    return Frame(latents.to(world.device), acted, pose.numpy().copy(), sights)
