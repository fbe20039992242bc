"""Going on from any moment of a recorded session."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from engine.errors import UserError
from engine.game.game import Game, Origin
from engine.game.log import SessionLog
from engine.sessions.info import Parent, info_of_world
from engine.sessions.reader import Session, open_session
from engine.sessions.replay import Replayer, open_world_of
from engine.sessions.store import free_name


def parent_of(session: Session, frame: int) -> Parent:
    """What a branch that leaves the session at `frame` says of it: the ancestor that owns the frame."""
    owner = session.owner(frame)
    return Parent(folder=owner.folder.name, id=owner.info.id, frame=frame)


def free_folder(session: Session) -> Path:
    """A folder beside the session that is not there yet."""
    folder = session.folder.absolute()
    return free_name(folder, [folder])


def check_folder(folder: Path, session: Session) -> None:
    """Raise UserError unless a branch of the session can be recorded there: branches lie beside their parents."""
    if folder.absolute().parent != session.folder.absolute().parent:
        raise UserError(f"--record {folder}: a branch lies beside its parent, in {session.folder.absolute().parent}")


def ends_at(session: Session, world: Any, frame: int) -> bool:
    """Whether a life ends with a frame of the session that the world was brought to; it may then be elsewhere."""
    if world.heads is not None and world.termination is None and frame > 0:  # a stored state does not tell
        replayer = Replayer(session, world)
        replayer.go_to(frame - 1)
        replayer.step(session.stored(frame))
    return bool(world.ended[0])


class Resumer:
    """Opens the game that goes on from `frame` of a session, in the world that it was recorded in.

    options: those of `engine.sessions.replay.open_world_of`. record: a folder for the branch; None records nothing.
    """

    def __init__(self, session: Session, frame: int, record: Path | None, **options: Any) -> None:
        self.session, self.frame, self.record, self.options = session, frame, record, options
        self.log: SessionLog | None = None

    def __call__(self) -> Game:
        session = open_session(self.session.folder)  # anew: it may be growing
        world, config, weights = open_world_of(session.info, **self.options)
        picture = Replayer(session, world).go_to(self.frame)
        moment, steps = world.snapshot(), world.steps
        over = ends_at(session, world, self.frame)
        world.set_steps(steps)
        origin = Origin(parent_of(session, self.frame), moment, picture, self.frame, over)
        starts = {session.root.info.start or "start": session.start()[0][-1], **self._other_starts(config)}
        if self.record is not None:
            self.log = SessionLog(
                self.record,
                lambda game: info_of_world(game.world, config, weights, seed=game.seed, start=game.start),
            )
        seed, start = session.root.info.seed, next(iter(starts))
        return Game(world, starts, seed=seed, start=start, log=self.log, origin=origin)

    def _other_starts(self, config: Any) -> dict[str, np.ndarray]:
        from engine.loading import load_starts

        try:
            return load_starts(config)
        except UserError:
            return {}
