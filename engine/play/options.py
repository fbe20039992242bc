"""What ``play.py`` is asked for. Read before torch is loaded: nothing large is imported here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from engine.history.names import Mode


@tyro.conf.configure(tyro.conf.FlagCreatePairsOff)
@dataclass(frozen=True)
class PlayOptions:
    """Walk through a world that a model draws, frame by frame, from your keys."""

    world: tyro.conf.Positional[str] = ""
    """a name in worlds/ or a .toml file; "isle" by default"""
    checkpoint: str | None = None
    """folder of the weights, instead of the world's own"""
    seed: int = 0
    """of the noise that frames are drawn from; also picks the start where --start does not"""
    start: str | None = None
    """name of the start frame"""
    image: Path | None = None
    """start from this picture instead (any size)"""
    memory: Literal["auto", Mode] = "auto"
    """what the model remembers: the last frames, every frame, or a folded history (auto: that, where it can)"""
    memory_budget: int | None = None
    """tokens of folded history that a frame sees; the rest is kept cold and comes back by relevance"""
    steps: Literal[1, 2, 4] | None = None
    """passes of the model for a frame; by default the checkpoint's own"""
    headless: bool = False
    """no window: play --frames frames with --keys as fast as possible"""
    frames: int | None = None
    """stop after so many frames (headless: 240)"""
    keys: str | None = None
    """buttons to hold at the beginning, such as "w-40, left-24, w+left-8, none-5" """
    record: Path | None = None
    """a folder: record a session that can be replayed, branched and exported; or a file: just write the frames,
    .mp4, .gif or .png (animated, lossless)"""
    session: Path | None = None
    """a recorded session: look through it, and play from any of its frames (headless: from --at)"""
    at: int | None = None
    """frame of --session to begin at"""
    compare: Path | None = None
    """another session to show beside --session"""
    source: bool = False
    """play the world's simulator instead of the model; --record FOLDER then keeps every episode as a session, with its
    rewards, for `engine import`"""
    screenshot: Path | None = None
    """write a .png at the end: headless a contact sheet of the walk, else the last frame"""
    json: bool = False
    """print the figures as one JSON object on the last line of stdout"""
    device: str = "auto"
    """cpu, cuda, cuda:1, mps or auto"""
    threads: int | None = None
    """of one operation on the CPU"""
    fps: float | None = None
    """largest number of frames a second, 0 for no limit; by default the world's, headless no limit"""

    @property
    def recorded_session(self) -> Path | None:
        """The folder of the session to record: what --record names, if that has no extension."""
        return self.record if self.record is not None and self.record.suffix == "" else None

    @property
    def recorded_video(self) -> Path | None:
        """The file of the video to record: what --record names, if that has an extension."""
        return self.record if self.record is not None and self.record.suffix != "" else None
