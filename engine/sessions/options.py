"""What the commands on recorded sessions are asked for. Read before torch is loaded: nothing large is imported here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

Format = Literal["mp4", "gif", "png", "minari", "lerobot"]
"""What sessions are exported to."""


@dataclass(frozen=True)
class ReplayOptions:
    """Replay a recorded session: make a video of it, or draw it anew and compare."""

    session: tyro.conf.Positional[Path]
    """folder of the session"""
    first: Annotated[int, tyro.conf.arg(name="from")] = 0
    """first frame"""
    last: Annotated[int | None, tyro.conf.arg(name="to")] = None
    """last frame; by default the session's"""
    verify: bool = False
    """draw the frames anew and compare them, bit for bit"""
    out: Path | None = None
    """write the stored frames to this file: .mp4, .gif or .png (animated, lossless)"""
    world: str | None = None
    """name or .toml file of the world, instead of the one that the session names"""
    checkpoint: Path | None = None
    """folder of the weights, instead of the world's own"""
    device: str | None = None
    """instead of the one that it was recorded on"""
    threads: int | None = None
    """instead of those that it was recorded with"""


@dataclass(frozen=True)
class ExportOptions:
    """Turn recorded sessions into files that other programs open."""

    sessions: tyro.conf.Positional[tuple[Path, ...]]
    """sessions, or folders of sessions"""
    to: Format
    """mp4, gif, png (animated, lossless), or a data set for minari or lerobot (lossless pictures)"""
    out: Path
    """for videos a file, or with several sessions a folder; for data sets a folder that is not there yet"""
    name: str = ""
    """of a data set: for Minari NAMESPACE/NAME-v0, for LeRobot OWNER/NAME; made from the world by default"""
    whole: bool = False
    """of a branch, take the frames that it shares with its parent, too"""
    world: str | None = None
    """name or .toml file of the world, instead of the one that the sessions name"""
    checkpoint: Path | None = None
    """folder of the weights, instead of the world's own"""


@dataclass(frozen=True)
class TreeOptions:
    """Print the family tree of the sessions in a folder."""

    folder: tyro.conf.Positional[Path]
    """folder that holds sessions, or a session"""
