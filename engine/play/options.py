"""What ``play.py`` is asked for, and whether it can be."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from engine.config import WorldConfig
from engine.errors import UserError
from engine.files import check_path
from engine.video import EXTENSIONS


@dataclass(frozen=True)
class Args:
    """Walk through a world that a model draws, frame by frame, from your keys."""

    world: tyro.conf.Positional[str] = ""
    """a name in worlds/ or a .toml file; "doom-plain" by default"""
    checkpoint: str | None = None
    """folder of the weights, instead of the world's own"""
    seed: int = 0
    """of the noise that frames are drawn from; also picks the start where --start does not"""
    start: str | None = None
    """name of the start frame"""
    image: Path | None = None
    """start from this picture instead (any size)"""
    memory: Literal["auto", "window", "full", "mag"] = "auto"
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


def check_session(args: Args) -> None:
    """Raise UserError where the arguments about a recorded session contradict each other."""
    if args.session is None:
        if args.at is not None or args.compare is not None:
            raise UserError("--at and --compare need --session FOLDER")
        return
    if args.image is not None or args.start is not None:
        raise UserError("--session has a start of its own; leave out --start and --image")
    refuse(args, ("memory", "memory_budget", "steps", "seed"), "--session goes on as it was recorded")


def refuse(args: Args, names: tuple[str, ...], why: str) -> None:
    """Raise UserError where one of these options is given."""
    for name in names:
        if getattr(args, name) != getattr(Args, name):  # the default
            raise UserError(f"{why}; leave out --{name.replace('_', '-')}")


def check(args: Args, config: WorldConfig) -> None:
    """Raise UserError for values that cannot work, before anything is loaded."""
    if args.frames is not None and args.frames < 1:
        raise UserError(f"--frames must be 1 or more, not {args.frames}")
    if not 0 <= args.seed < 2**63:
        raise UserError(f"--seed must be from 0 to 2^63 - 1, not {args.seed}")
    if args.fps is not None and not 0 <= args.fps <= 1000:
        raise UserError(f"--fps must be from 0 (no limit) to 1000, not {args.fps}")
    if args.memory_budget is not None and args.memory_budget < 1:
        raise UserError(f"--memory-budget must be 1 or more tokens, not {args.memory_budget}")
    if args.image is not None and args.start is not None:
        raise UserError("--image and --start are two starts; give one of them")
    folder = config.checkpoint_path if args.checkpoint is None else Path(args.checkpoint)
    if args.source:
        without = ("session", "image", "start", "checkpoint", "memory_budget", "steps")
        refuse(args, without, "--source plays the simulator")
    elif not (folder / "config.json").is_file():
        raise UserError(f"{config.name}: there is no checkpoint in {folder}; train one, or give --checkpoint DIR")
    if args.record is not None and not names_folder(args.record):
        check_path(args.record, EXTENSIONS)
    elif args.record is not None and args.record.exists() and (args.record.is_file() or any(args.record.iterdir())):
        raise UserError(f"{args.record} is there already; choose another name for the recording")
    if args.screenshot is not None:
        check_path(args.screenshot, (".png",))


def names_folder(path: Path) -> bool:
    """Whether --record means a session's folder, which has no extension."""
    return path.suffix == ""


def video_rate(args: Args, config: WorldConfig) -> float:
    """Frames a second of a recording: those of play, or the world's own where play has no limit."""
    return args.fps or config.frame_rate
