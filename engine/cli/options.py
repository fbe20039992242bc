"""What the commands of this folder are asked for. Read before torch is loaded: nothing large is imported here."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from engine.sources.gymnasium.fit import WHOLE, Fit


@dataclass
class NewOptions:
    """Make a world of any Gymnasium environment that shows pictures, ready to collect, train and play."""

    env: tyro.conf.Positional[str]
    """its id, such as MiniGrid-Empty-8x8-v0; module:Name-v0 imports the module first"""
    name: str = ""
    """of the world; made from the id by default"""
    preset: str = "nano"
    """size of the world, see README"""
    title: str = ""
    """for people; the id by default"""
    frame_skip: int = 1
    """steps of the environment that make one frame; the buttons are held, rewards are summed"""
    fit: Fit = "stretch"
    """how pictures of another aspect come to the world's size"""
    region: tuple[float, float, float, float] = WHOLE
    """part of the picture that is shown: left, top, right and bottom as shares, such as 0 0.1 1 0.9"""
    buttons: tuple[str, ...] = ()
    """names for its actions, in order; "none" for the one that does nothing (by default what it says itself)"""
    make_option: Annotated[list[list[str]], tyro.conf.UseAppendAction] = field(default_factory=list)
    """KEY=VALUE for the environment's constructor; more than once, or several after one"""
    frame_rate: float | None = None
    """frames a second of play; by default the environment's own by --frame-skip"""
    steps: int = 100
    """steps of random play to try it with"""
    folder: Path | None = None
    """where the world's file goes, and beside it its start frames and weights; by default worlds/, assets/ and
    checkpoints/ of the project"""


@dataclass
class ShipOptions:
    """Make a small checkpoint of a run."""

    run: tyro.conf.Positional[Path]
    """Folder of a run, or of a checkpoint."""
    to: Path
    """Folder to write; what other checkpoint it holds is replaced."""
    small: bool = False
    """Keep the matrices of generator, motion and heads in 8 bits, too; measure what that costs."""


@dataclass(frozen=True)
class WorldsOptions:
    """List the worlds: name, title, preset, and whether the checkpoint is there."""
