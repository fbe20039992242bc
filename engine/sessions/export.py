"""``python -m engine export SESSIONS --to FORMAT --out PATH``: sessions as videos, pictures and data sets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro

from engine.errors import UserError
from engine.sessions.reader import Session, open_session
from engine.sessions.replay import Pictures, Replayer, open_world_of
from engine.sessions.tree import sessions_in

Format = Literal["mp4", "gif", "png", "minari", "lerobot"]
FILES = ("mp4", "gif", "png")


@dataclass(frozen=True)
class Args:
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


def opener(args: Args) -> Callable[[Session], Pictures]:
    """Pictures of sessions; the model is opened once for all that need it."""
    worlds: dict[tuple[str, str], Any] = {}

    def open_pictures(session: Session) -> Pictures:
        info = session.info
        if info.source == "frames":
            return Pictures(session, None)
        key = (info.world, str(sorted(info.weights.items())))
        if key not in worlds:
            worlds[key] = open_world_of(info, world=args.world, checkpoint=args.checkpoint)[0]
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


def episodes(found: list[Session], args: Args) -> Iterator[Episode]:
    """The sessions as episodes, with a bar; those without a frame of their own are left out."""
    from tqdm import tqdm

    pictures = opener(args)
    for session in tqdm(found, unit="session", disable=None):
        if session.last > first_of(session, args.whole):
            yield episode(session, pictures(session), args.whole)


def to_files(found: list[Session], args: Args) -> list[Path]:
    """A video of each session; returns the files."""
    from tqdm import tqdm

    from engine.files import check_path
    from engine.video import EXTENSIONS, VideoWriter

    ending = f".{args.to}"
    if len(found) == 1 and args.out.suffix.lower() == ending:
        paths = [args.out]
    elif args.out.suffix:
        raise UserError(f"--out {args.out}: expected a {ending} file, or for several sessions a folder")
    else:
        args.out.mkdir(parents=True, exist_ok=True)
        names = {session.folder.absolute() for session in found}
        if len({path.name for path in names}) < len(names):
            raise UserError("two of the sessions have the same name; export them apart")
        paths = [args.out / f"{session.folder.absolute().name}{ending}" for session in found]
    pictures = opener(args)
    for session, path in zip(found, paths, strict=True):
        shown, first = pictures(session), first_of(session, args.whole)
        with VideoWriter(check_path(path, EXTENSIONS), session.info.frame_rate) as video:
            for index in tqdm(range(first, session.last + 1), desc=path.name, unit="frame", disable=None):
                video.add(shown.frame(index))
    return paths


def run(args: Args) -> None:
    """Export. Raises UserError."""
    found = find(args.sessions)
    if args.to in FILES:
        for path in to_files(found, args):
            print(f"saved {path}")
        return
    if args.out.exists():
        raise UserError(f"--out {args.out} is there already; a data set is written into a new folder")
    from engine.sessions import datasets

    write = datasets.to_minari if args.to == "minari" else datasets.to_lerobot
    count, name = write(episodes(found, args), found, args.out, args.name)
    print(f"saved {count} episodes as {name} in {args.out}")
