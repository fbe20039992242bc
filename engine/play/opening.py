"""Opens what ``play.py`` plays: a model, the simulator, or a recorded session at one of its frames."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from engine.config import WorldConfig
from engine.errors import UserError
from engine.game.game import choose_start
from engine.play.options import PlayOptions

if TYPE_CHECKING:
    import numpy as np

    from engine.game.game import Game
    from engine.game.log import SessionLog
    from engine.game.review import Review
    from engine.sessions.info import SessionInfo


class Opener:
    """Opens the game that the arguments describe: once, late, and on whichever thread plays it."""

    def __init__(self, options: PlayOptions, config: WorldConfig, starts: dict[str, np.ndarray], start: str) -> None:
        self.options, self.config, self.starts, self.start = options, config, starts, start
        self.game: Game | None = None
        self.log: SessionLog | None = None
        self.warmup_s = 0.0

    def __call__(self) -> Game:
        from engine.game.game import Game
        from engine.loading import open_world

        options = self.options
        world = open_world(
            self.config,
            checkpoint=options.checkpoint,
            device=options.device,
            memory=options.memory,
            memory_budget=options.memory_budget,
            steps=options.steps,
            threads=options.threads,
        )
        self.warmup_s = world.warm_up()
        self.game = Game(world, self.starts, seed=options.seed, start=self.start, log=self._log())
        return self.game

    def close(self) -> None:
        """Called when play has ended, however it did."""

    def _log(self) -> SessionLog | None:
        """The recording of a session, where --record names a folder."""
        folder = self.options.recorded_session
        if folder is None:
            return None
        from engine.game.log import SessionLog
        from engine.sessions.info import info_of_world
        from engine.sessions.replay import weights_of

        weights = weights_of(Path(self.options.checkpoint or self.config.checkpoint_path))

        def info(game: Game) -> SessionInfo:
            return info_of_world(game.world, self.config, weights, seed=game.seed, start=game.start)

        self.log = SessionLog(folder, info)
        return self.log


class SourceOpener(Opener):
    """Opens the game that a world's simulator plays; --record FOLDER keeps its episodes as those of any environment."""

    def __init__(self, options: PlayOptions, config: WorldConfig) -> None:
        import numpy as np

        from engine.envs.record import RecordSession
        from engine.sources import make_source
        from engine.sources.playable import SourceWorld

        env = make_source(config)
        self.recorded: RecordSession | None = None
        if options.recorded_session is not None:
            env = self.recorded = RecordSession(env, options.recorded_session, tuple(config.buttons))
        self.world = SourceWorld(env)
        blank = np.zeros((config.shape.height, config.shape.width, 3), np.uint8)
        super().__init__(options, config, {config.source: blank}, config.source)

    def __call__(self) -> Game:
        from engine.game.game import Game

        self.game = Game(self.world, self.starts, seed=self.options.seed, start=self.start)
        return self.game

    def close(self) -> None:
        """Stop the simulator; say what was recorded, and what the episodes gave."""
        self.world.env.close()
        for path in self.recorded.sessions if self.recorded is not None else []:
            print_saved(path)
        rewards = self.world.rewards
        if rewards:
            shown = ", ".join(f"{reward:g}" for reward in rewards[-20:])
            print(f"{len(rewards)} episodes; rewards {'... ' if len(rewards) > 20 else ''}{shown}", file=sys.stderr)
        if self.recorded is not None and self.recorded.failed is not None:
            raise UserError(self.recorded.failed)


class SessionOpener(Opener):
    """Opens the game that goes on from a frame of a recorded session; in a window it is recorded, too."""

    def __init__(self, options: PlayOptions, config: WorldConfig, review: Review, frame: int) -> None:
        from engine.game.resume import Resumer, check_folder, free_folder

        session = review.session
        session.owner(frame)  # or it is not there
        name = session.root.info.start or "start"
        super().__init__(options, config, {name: review.pictures().frame(frame)}, name)
        folder = options.recorded_session
        if options.record is None and not options.headless:
            folder = free_folder(session)
        if folder is not None:
            check_folder(folder, session)
        self._resume = Resumer(session, frame, folder, **review.options)

    def __call__(self) -> Game:
        self.game = self._resume()
        self.log = self._resume.log
        return self.game


def opener_for(options: PlayOptions, config: WorldConfig, review: Review | None, frame: int) -> Opener:
    """What the arguments ask for; of a session that is looked through, what goes on from `frame`."""
    if options.source:
        return SourceOpener(options, config)
    if review is not None:
        return SessionOpener(options, config, review, frame)
    starts = find_starts(options, config)
    return Opener(options, config, starts, choose_start(starts, options.seed, options.start))


def open_review(options: PlayOptions) -> Review:
    """The recorded session of --session, checked."""
    from engine.game.review import Review

    assert options.session is not None
    device = None if options.device == "auto" else options.device
    checkpoint = None if options.checkpoint is None else Path(options.checkpoint)
    world, threads = options.world or None, options.threads
    return Review(options.session, world=world, checkpoint=checkpoint, device=device, threads=threads)


def find_starts(options: PlayOptions, config: WorldConfig) -> dict[str, np.ndarray]:
    """The start frames by name, uint8 (H, W, 3): the world's, or the one picture of --image."""
    from engine.loading import load_starts, read_image

    if options.image is None:
        return load_starts(config)
    return {options.image.stem: read_image(options.image, config.shape.height, config.shape.width)}


def print_saved(path: Path) -> None:
    """Say on stderr that a file is there."""
    print(f"saved {path}", file=sys.stderr)
