"""What a session was recorded from: ``session.json``, checked on the way in."""

from __future__ import annotations

import dataclasses
import hashlib
import platform
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine import runtime
from engine.config import WorldConfig
from engine.errors import UserError
from engine.sessions.store import INFO, is_folder_name, read_json
from engine.toml import from_dict, to_toml

FORMAT = "loci-session-1"
MAX_FRAMES = 10_000_000
MAX_SWITCHES = 64  # memory modes that may be set before one frame
CHUNK_BYTES = 2**20  # what a file of latents or pictures grows to at most; it is written anew every half second


@dataclass(frozen=True, kw_only=True)
class Parent:
    """Where a branch comes from: a session's folder beside it, that session's id, and the last frame they share."""

    folder: str
    id: str
    frame: int


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """What the bits of a frame depend on beside weights, seed and actions."""

    device: str
    device_name: str = ""
    dtype: str
    threads: int
    batch: int = 1
    compile: bool = False
    torch: str
    python: str = ""


@dataclass(frozen=True, kw_only=True)
class SessionInfo:
    """What ``session.json`` says.

    source: `world` (latents are stored) or `frames` (a simulator's or any environment's pictures are). tokens and
    channels are those of a latent, 0 without. weights: sha256 by part. memory, memory_budget and steps: those of the
    first frame. chunk: frames in a file of latents or pictures.
    """

    format: str = FORMAT
    id: str
    created: str
    source: str
    world: str
    world_sha256: str = ""
    preset: str = ""
    weights: Mapping[str, str] = field(default_factory=dict)
    buttons: tuple[str, ...]
    height: int
    width: int
    tokens: int = 0
    channels: int = 0
    frame_rate: float
    seed: int
    start: str = ""
    memory: str = ""
    memory_budget: int | None = None
    steps: int = 0
    chunk: int
    runtime: Runtime
    parent: Parent | None = None

    def __post_init__(self) -> None:
        """Raise UserError for numbers and names that cannot be."""
        ranges = {
            "height": (self.height, 1, 8192),
            "width": (self.width, 1, 8192),
            "tokens": (self.tokens, int(self.source == "world"), 2**16),
            "channels": (self.channels, int(self.source == "world"), 2**12),
            "seed": (self.seed, 0, 2**63 - 1),
            "memory_budget": (self.memory_budget or 0, 0, 10**6),
            "steps": (self.steps, 0, 64),
            "chunk": (self.chunk, 1, 4096),
            "buttons": (len(self.buttons), 1, 256),
            "runtime.batch": (self.runtime.batch, 1, 1),
            "parent.frame": (self.parent.frame if self.parent else 0, 0, MAX_FRAMES),
        }
        for name, (value, least, most) in ranges.items():
            if not least <= value <= most:
                raise UserError(f"{name} must be from {least} to {most}, not {str(value)[:30]}")
        if self.source not in ("world", "frames"):
            raise UserError(f"source must be 'world' or 'frames', not {self.source[:30]!r}")
        if not 0 < self.frame_rate <= 1000:
            raise UserError(f"frame_rate must be above 0 and at most 1000, not {self.frame_rate}")
        if self.parent and not is_folder_name(self.parent.folder):
            raise UserError(f"parent.folder must be the name of a folder beside this one, not {self.parent.folder!r}")

    def table(self) -> dict[str, Any]:
        """The same for JSON."""
        return {name: value for name, value in dataclasses.asdict(self).items() if value is not None}


def read_info(folder: Path) -> SessionInfo:
    """What the folder's ``session.json`` says, checked. Raises UserError."""
    if not folder.is_dir():
        raise UserError(f"session {folder}: {'this is a file' if folder.exists() else 'no such folder'}")
    table = read_json(folder)
    if table.get("format") != FORMAT:
        raise UserError(f"session {folder}: {INFO} has format {str(table.get('format'))[:40]!r}; this reads {FORMAT!r}")
    try:
        return from_dict(SessionInfo, table, f"session {folder}: {INFO}")
    except UserError as error:
        raise UserError(str(error)[:400]) from None


def info_of_world(
    world: Any, config: WorldConfig, weights: Mapping[str, str], *, seed: int, start: str, parent: Parent | None = None
) -> SessionInfo:
    """What a session of this `engine.world.World` (of one) says. weights: sha256 by part of the checkpoint."""
    import torch

    c = world.generator.config
    item = torch.empty((), dtype=world.dtype).element_size() * c.tokens * c.channels
    return SessionInfo(
        id=uuid.uuid4().hex,
        created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        source="world",
        world=config.name,
        world_sha256=world_digest(config),
        preset=config.preset,
        weights=dict(weights),
        buttons=tuple(config.buttons),
        height=world.height,
        width=world.width,
        tokens=c.tokens,
        channels=c.channels,
        frame_rate=config.frame_rate,
        seed=seed,
        start=start,
        memory=world.mode,
        memory_budget=world.history.budget,
        steps=world.steps,
        chunk=max(8, min(128, CHUNK_BYTES // item)),
        runtime=runtime_of(world.device, str(world.dtype).removeprefix("torch.")),
        parent=parent,
    )


def info_of_source(
    name: str, buttons: tuple[str, ...], height: int, width: int, *, frame_rate: float, seed: int
) -> SessionInfo:
    """What a session of a simulator or any environment says; its pictures are stored as they are."""
    return SessionInfo(
        id=uuid.uuid4().hex,
        created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        source="frames",
        world=name,
        buttons=buttons,
        height=height,
        width=width,
        frame_rate=frame_rate,
        seed=seed,
        chunk=max(8, min(128, CHUNK_BYTES // (3 * height * width))),
        runtime=runtime_of("cpu", "uint8"),
    )


def world_digest(config: WorldConfig) -> str:
    """sha256 of what a world's file says, however it is laid out."""
    return hashlib.sha256(to_toml(config).encode()).hexdigest()


def is_world_name(name: str) -> bool:
    """Whether this is a name as in worlds/NAME.toml, and not a path."""
    return is_folder_name(name) and not name.endswith(".toml")


def runtime_of(device: Any, dtype: str) -> Runtime:
    """What the bits of a frame depend on here and now."""
    import torch

    machine = runtime.hardware()
    on_gpu = str(device).startswith("cuda")
    return Runtime(
        device=str(device),
        device_name=str(machine["gpu"] if on_gpu else machine["cpu"]),
        dtype=dtype,
        threads=torch.get_num_threads(),
        torch=torch.__version__,
        python=platform.python_version(),
    )
