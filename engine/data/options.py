"""What the commands that make data are asked for. Read before anything large is loaded, and so nothing is here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro


@dataclass
class CollectOptions:
    """Walk through a simulator and keep what it shows."""

    world: tyro.conf.Positional[str]
    """World, or path of a world's TOML file."""
    frames: int
    """Frames to have in the folder in the end."""
    out: Path
    """Folder to fill; a run that was stopped goes on there."""
    workers: int = 1
    """Processes that play at the same time."""
    seed: int = 0
    """Seed of the maps and walks."""
    split: Literal["all", "train", "validation", "test"] = "all"
    """Maps to walk on; 'all' is training maps and 5 % of validation maps."""
    episode_length: int = 200
    """Frames in an episode; each is on a map of its own."""
    frames_per_shard: int = 4000
    """Frames in a file."""
    policy: str = ""
    """Who plays: "uniform", nothing or any button, drawn for every frame; FILE.zip, a policy of Stable-Baselines3; or
    module:function, called with frame, info and a random generator for the buttons to hold. By default walks, or in
    worlds without "forward" and "back" random play that holds its buttons for some frames."""
    random: float = 0.0
    """Share of the episodes that are walks and random play all the same, with --policy."""


@dataclass
class StartsOptions:
    """Take start frames from a world's simulator."""

    world: tyro.conf.Positional[str]
    """World, or path of a world's TOML file."""
    count: int = 16
    """Start frames to make."""
    out: Path | None = None
    """Folder; the world's own by default."""
    seed: int = 0
    """First map, counted from 0; each frame comes from the map after the last one's."""
    walk: int = 64
    """Steps of the walk on each map, from which the frame with most to see is taken; 0 takes the first frame."""
    split: Literal["train", "validation", "test"] = "test"
    """Maps to take them from."""


@dataclass
class ImportOptions:
    """Make training data of recorded play."""

    sources: tyro.conf.Positional[tuple[Path, ...]]
    """sessions, folders of sessions, or folders of videos with an actions file each"""
    world: str
    """World, or path of a world's TOML file, that the data is for."""
    out: Path
    """Folder to fill, as `collect` does; it must not hold data."""
    validation: float = 0.05
    """Share of the episodes that are kept for validation."""
    checkpoint: Path | None = None
    """Weights that the sessions were drawn with, instead of their world's own."""
