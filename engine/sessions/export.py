"""``python -m engine export SESSIONS --to FORMAT --out PATH``: sessions as videos, pictures and data sets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from engine.errors import UserError
from engine.sessions.options import ExportOptions
from engine.sessions.reader import Session, open_session
from engine.sessions.replay import Pictures, Replayer, open_world_of
from engine.sessions.tree import sessions_in

FILES = ("mp4", "gif", "png")


@dataclass(frozen=True)
class Episode:
    """A session's frames uint8 (n, H, W, 3), from the first that counts, and what led from each to the next.

    actions uint8 (n - 1, A); rewards float (n - 1,), zero where there are none; over, cut: whether it ended by
    itself, or was cut off.
    """

    session: Session
    frames: list[np.ndarray]
    actions: np.ndarray
    rewards: np.ndarray
    over: bool
    cut: bool


def find(paths: Iterable[Path]) -> list[Session]:
    """The sessions in these folders. Raises UserError where one cannot be opened, or they are of different worlds."""
    found = [open_session(path) for folder in paths for path in sessions_in(folder)]
    if not found:
        raise UserError("name at least one session to export")
    for session in found[1:]:
        for name in ("source", "buttons", "height", "width"):
            if getattr(session.info, name) != getattr(found[0].info, name):
                raise UserError(f"{session.folder} has another {name} than {found[0].folder}; export them apart")
    return found


def opener(world: str | None = None, checkpoint: Path | None = None) -> Callable[[Session], Pictures]:
    """Return a function that gives a session's pictures; a model is opened once for all sessions that need it.

    Args:
        world: name or .toml file of the world, instead of the one that a session names.
        checkpoint: folder of the weights, instead of the world's own.
    """
    worlds: dict[tuple[str, str], Any] = {}

    def open_pictures(session: Session) -> Pictures:
        info = session.info
        if info.source == "frames":
            return Pictures(session, None)
        key = (info.world, str(sorted(info.weights.items())))
        if key not in worlds:
            worlds[key] = open_world_of(info, world=world, checkpoint=checkpoint)[0]
        return Pictures(session, worlds[key].codec, lambda: Replayer(session, worlds[key]))

    return open_pictures


def first_of(session: Session, whole: bool) -> int:
    """The first frame that counts: of a branch the one that it begins after."""
    return 0 if whole else session.first


def episode(session: Session, pictures: Pictures, whole: bool) -> Episode:
    """Read a session as an episode."""
    first, last = first_of(session, whole), session.last
    results = [session.owner(i).results.get(i, (0.0, False, False)) for i in range(first + 1, last + 1)]
    over = bool(results and results[-1][1])
    return Episode(
        session=session,
        frames=[pictures.frame(i) for i in range(first, last + 1)],
        actions=session.actions(first + 1, last),
        rewards=np.array([reward for reward, _, _ in results], np.float64),
        over=over,
        cut=not over,
    )


def episodes(found: list[Session], options: ExportOptions) -> Iterator[Episode]:
    """The sessions as episodes, with a bar; those without a frame of their own are left out."""
    from tqdm import tqdm

    pictures = opener(options.world, options.checkpoint)
    for session in tqdm(found, unit="session", disable=None):
        if session.last > first_of(session, options.whole):
            yield episode(session, pictures(session), options.whole)


def to_files(found: list[Session], options: ExportOptions) -> list[Path]:
    """A video of each session; returns the files."""
    from tqdm import tqdm

    from engine.files import check_path
    from engine.video import EXTENSIONS, VideoWriter

    ending = f".{options.to}"
    if len(found) == 1 and options.out.suffix.lower() == ending:
        paths = [options.out]
    elif options.out.suffix:
        raise UserError(f"--out {options.out}: expected a {ending} file, or for several sessions a folder")
    else:
        options.out.mkdir(parents=True, exist_ok=True)
        names = {session.folder.absolute() for session in found}
        if len({path.name for path in names}) < len(names):
            raise UserError("two of the sessions have the same name; export them apart")
        paths = [options.out / f"{session.folder.absolute().name}{ending}" for session in found]
    pictures = opener(options.world, options.checkpoint)
    for session, path in zip(found, paths, strict=True):
        shown, first = pictures(session), first_of(session, options.whole)
        with VideoWriter(check_path(path, EXTENSIONS), session.info.frame_rate) as video:
            for index in tqdm(range(first, session.last + 1), desc=path.name, unit="frame", disable=None):
                video.add(shown.frame(index))
    return paths


def run(options: ExportOptions) -> None:
    """Export. Raises UserError."""
    found = find(options.sessions)
    if options.to in FILES:
        for path in to_files(found, options):
            print(f"saved {path}")
        return
    if options.out.exists():
        raise UserError(f"--out {options.out} is there already; a data set is written into a new folder")
    from engine.sessions import datasets

    write = datasets.to_minari if options.to == "minari" else datasets.to_lerobot
    count, name = write(episodes(found, options), found, options.out, options.name)
    print(f"saved {count} episodes as {name} in {options.out}")
