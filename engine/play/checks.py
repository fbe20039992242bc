"""Whether ``play.py`` can do what it is asked for: mistakes are found before the model is loaded."""

from __future__ import annotations

import os
from pathlib import Path

from engine.config import WorldConfig
from engine.errors import UserError
from engine.files import check_path
from engine.play.options import PlayOptions
from engine.video import EXTENSIONS


def check_session(options: PlayOptions) -> None:
    """Raise UserError where the arguments about a recorded session contradict each other."""
    if options.session is None:
        if options.at is not None or options.compare is not None:
            raise UserError("--at and --compare need --session FOLDER")
        return
    if options.image is not None or options.start is not None:
        raise UserError("--session has a start of its own; leave out --start and --image")
    refuse(options, ("memory", "memory_budget", "steps", "seed"), "--session goes on as it was recorded")


def refuse(options: PlayOptions, names: tuple[str, ...], why: str) -> None:
    """Raise UserError where one of these options is given."""
    for name in names:
        if getattr(options, name) != getattr(PlayOptions, name):  # the default
            raise UserError(f"{why}; leave out --{name.replace('_', '-')}")


def check(options: PlayOptions, config: WorldConfig) -> None:
    """Raise UserError for values that cannot work, before a model is loaded."""
    if options.frames is not None and options.frames < 1:
        raise UserError(f"--frames must be 1 or more, not {options.frames}")
    if not 0 <= options.seed < 2**63:
        raise UserError(f"--seed must be from 0 to 2^63 - 1, not {options.seed}")
    if options.fps is not None and not 0 <= options.fps <= 1000:
        raise UserError(f"--fps must be from 0 (no limit) to 1000, not {options.fps}")
    if options.memory_budget is not None and options.memory_budget < 1:
        raise UserError(f"--memory-budget must be 1 or more tokens, not {options.memory_budget}")
    if options.image is not None and options.start is not None:
        raise UserError("--image and --start are two starts; give one of them")
    folder = config.checkpoint_path if options.checkpoint is None else Path(options.checkpoint)
    if options.source:
        without = ("session", "image", "start", "checkpoint", "memory_budget", "steps")
        refuse(options, without, "--source plays the simulator")
    elif not (folder / "config.json").is_file():
        raise UserError(f"{config.name}: there is no checkpoint in {folder}; train one, or give --checkpoint DIR")
    if options.recorded_video is not None:
        check_path(options.recorded_video, EXTENSIONS)
    if options.recorded_session is not None:
        check_new(options.recorded_session)
    if options.screenshot is not None:
        check_path(options.screenshot, (".png",))


def check_new(folder: Path) -> None:
    """Raise UserError where something else is in the folder of a session that is to be recorded, or nothing can be."""
    if folder.exists() and (folder.is_file() or any(folder.iterdir())):
        raise UserError(f"{folder} is there already; choose another name for the recording")
    above = next(parent for parent in folder.absolute().parents if parent.exists())
    if not os.access(above, os.W_OK):
        raise UserError(f"{folder} cannot be made: {above} may not be written to; choose another place")
