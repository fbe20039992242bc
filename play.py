"""Walk through a world that a model draws: ``python play.py [WORLD]``; ``--help`` tells the options.

Keys: those of the world (for Doom WASD and the arrows), Esc menu, Tab figures, ``.`` pause, ``,`` single
step, R next start (Shift+R the same again), M memory mode, F5 save, F8 load, Backspace held rewinds, F9
record, F11 full screen, F12 screenshot; Shift+Backspace goes ten seconds back at once.
"""

from __future__ import annotations

from engine.errors import UserError, exit_on_interrupt

if __name__ == "__main__":
    exit_on_interrupt()

import contextlib
import itertools
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from engine import runtime
from engine.actions import parse_keys
from engine.cli import guarded
from engine.config import WorldConfig, load_world
from engine.game.game import choose_start
from engine.game.headless import has_display
from engine.video import VideoWriter, check_path, contact_sheet, save_picture, scale_for

if TYPE_CHECKING:
    import numpy as np

    from engine.game.game import Game
    from engine.game.log import SessionLog
    from engine.game.review import Review
    from engine.game.timings import Timings
    from engine.session_info import SessionInfo

HEADLESS_FRAMES = 240
SHEET_FRAMES = 24
DEFAULT_WORLD = "doom-plain"  # of the shipped worlds, the one that obeys best (LOG.md)


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


class Opener:
    """Opens the game that the arguments describe: once, late, and on whichever thread plays it."""

    def __init__(self, args: Args, config: WorldConfig, starts: dict[str, np.ndarray], start: str) -> None:
        self.args, self.config, self.starts, self.start = args, config, starts, start
        self.game: Game | None = None
        self.log: SessionLog | None = None
        self.warmup_s = 0.0

    def __call__(self) -> Game:
        from engine.game.game import Game
        from engine.loading import open_world

        args = self.args
        world = open_world(
            self.config,
            checkpoint=args.checkpoint,
            device=args.device,
            memory=args.memory,
            memory_budget=args.memory_budget,
            steps=args.steps,
            threads=args.threads,
        )
        self.warmup_s = world.warm_up()
        self.game = Game(world, self.starts, seed=args.seed, start=self.start, log=self._log())
        return self.game

    def close(self) -> None:
        """Called when play has ended, however it did."""

    def _log(self) -> SessionLog | None:
        """The recording of a session, where --record names a folder."""
        if self.args.record is None or not names_folder(self.args.record):
            return None
        from engine.game.log import SessionLog
        from engine.session_info import info_of_world
        from engine.session_replay import weights_of

        weights = weights_of(Path(self.args.checkpoint or self.config.checkpoint_path))

        def info(game: Game) -> SessionInfo:
            return info_of_world(game.world, self.config, weights, seed=game.seed, start=game.start)

        self.log = SessionLog(self.args.record, info)
        return self.log


class SourceOpener(Opener):
    """Opens the game that a world's simulator plays; --record FOLDER keeps its episodes as those of any environment."""

    def __init__(self, args: Args, config: WorldConfig) -> None:
        import numpy as np

        from engine.envs.record import RecordSession
        from engine.sources import make_source
        from engine.sources.playable import SourceWorld

        env = make_source(config)
        self.recorded: RecordSession | None = None
        if args.record is not None and names_folder(args.record):
            env = self.recorded = RecordSession(env, args.record, tuple(config.buttons))
        self.world = SourceWorld(env)
        blank = np.zeros((config.shape.height, config.shape.width, 3), np.uint8)
        super().__init__(args, config, {config.source: blank}, config.source)

    def __call__(self) -> Game:
        from engine.game.game import Game

        self.game = Game(self.world, self.starts, seed=self.args.seed, start=self.start)
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

    def __init__(self, args: Args, config: WorldConfig, review: Review, frame: int) -> None:
        from engine.game.resume import Resumer, check_folder, free_folder

        session = review.session
        session.owner(frame)  # or it is not there
        name = session.root.info.start or "start"
        super().__init__(args, config, {name: review.pictures().frame(frame)}, name)
        record = args.record
        if record is None and not args.headless:
            record = free_folder(session)
        if record is not None and names_folder(record):
            check_folder(record, session)
            self._resume = Resumer(session, frame, record, **review.options)
        else:
            self._resume = Resumer(session, frame, None, **review.options)

    def __call__(self) -> Game:
        self.game = self._resume()
        self.log = self._resume.log
        return self.game


def check_session(args: Args) -> None:
    """Raise UserError where the arguments about a recorded session contradict each other."""
    if args.session is None and (args.at is not None or args.compare is not None):
        raise UserError("--at and --compare need --session FOLDER")
    if args.session is not None and (args.image is not None or args.start is not None):
        raise UserError("--session has a start of its own; leave out --start and --image")


def open_review(args: Args) -> Review:
    """The recorded session of --session, checked."""
    from engine.game.review import Review

    assert args.session is not None
    device = None if args.device == "auto" else args.device
    checkpoint = None if args.checkpoint is None else Path(args.checkpoint)
    options = {"world": args.world or None, "checkpoint": checkpoint, "device": device, "threads": args.threads}
    return Review(args.session, **options)


def main(arguments: Sequence[str] | None = None) -> int:
    """Play as the command line says; returns the exit status."""
    args = tyro.cli(Args, args=arguments, config=(tyro.conf.FlagCreatePairsOff,))
    return guarded(lambda: play(args))


def play(args: Args) -> None:
    """Check everything that can be checked, load the model, play, and print the figures."""
    runtime.setup(args.threads)
    from engine.loading import fitted

    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    windowed = not args.headless
    if windowed and not has_display():
        print("no display: playing headless (as with --headless)", file=sys.stderr)
        windowed = False
    check_session(args)
    review, frame = None, args.at or 0
    if args.session is not None:
        review = open_review(args)
        found = review.browser(frame, args.compare).run() if windowed else frame
        if found is None:
            return
        frame = found
    config = load_world(args.world or (DEFAULT_WORLD if review is None else review.world_name))
    check(args, config)
    config = config if args.source else fitted(config, args.checkpoint)
    script = None if args.keys is None else parse_keys(args.keys, config.keys, config.buttons)
    opener: Opener
    if args.source:
        opener = SourceOpener(args, config)
    elif review is None:
        starts = find_starts(args, config)
        opener = Opener(args, config, starts, choose_start(starts, args.seed, args.start))
    else:
        opener = SessionOpener(args, config, review, frame)
    try:
        timings = (play_in_window if windowed else play_headless)(args, opener, script)
    finally:
        opener.close()
    report(args, opener, timings, windowed)


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
        for name in ("session", "image", "start", "checkpoint", "memory_budget", "steps"):
            if getattr(args, name) is not None:
                raise UserError(f"--source plays the simulator; leave out --{name.replace('_', '-')}")
    elif not (folder / "config.json").is_file():
        raise UserError(f"{config.name}: there is no checkpoint in {folder}; train one, or give --checkpoint DIR")
    if args.record is not None and not names_folder(args.record):
        check_path(args.record)
    elif args.record is not None and args.record.exists() and (args.record.is_file() or any(args.record.iterdir())):
        raise UserError(f"{args.record} is there already; choose another name for the recording")
    if args.screenshot is not None:
        check_path(args.screenshot, (".png",))


def names_folder(path: Path) -> bool:
    """Whether --record means a session's folder, which has no extension."""
    return path.suffix == ""


def find_starts(args: Args, config: WorldConfig) -> dict[str, np.ndarray]:
    """The start frames by name, uint8 (H, W, 3): the world's, or the one picture of --image."""
    from engine.loading import load_starts, read_image

    if args.image is None:
        return load_starts(config)
    return {args.image.stem: read_image(args.image, config.shape.height, config.shape.width)}


def play_headless(args: Args, opener: Opener, script: np.ndarray | None) -> Timings:
    """Play without a window, with a bar on a terminal."""
    from tqdm import tqdm

    from engine.game import headless

    frames = args.frames or HEADLESS_FRAMES
    if script is None:
        actions = headless.default_walk(opener.config.buttons, frames)
    else:
        actions = headless.pad_script(script, frames)
    wanted = {round(i * frames / (SHEET_FRAMES - 1)) for i in range(SHEET_FRAMES)}
    kept: list[np.ndarray] = []
    with contextlib.ExitStack() as stack:
        sinks: list[Callable[[np.ndarray], None]] = []
        if args.record is not None and not names_folder(args.record):
            writer = VideoWriter(args.record, video_rate(args, opener.config))
            stack.callback(lambda: print_saved(writer.path) if writer.saved else None)
            sinks.append(stack.enter_context(writer).add)
        game = opener()
        if opener.log is not None:
            opener.log.say = lambda message: print(message, file=sys.stderr)
            stack.callback(opener.log.finish, None)  # there is time to wait for the video
        count = itertools.count()

        def on_frame(frame: np.ndarray) -> None:
            if next(count) in wanted and args.screenshot is not None:
                kept.append(frame.copy())
            for sink in sinks:
                sink(frame)

        bar = stack.enter_context(tqdm(actions, unit="frame", disable=None))  # only on a terminal
        timings = headless.play(game, bar, rate=args.fps or 0.0, on_frame=on_frame)
    if args.screenshot is not None:
        sheet = contact_sheet(kept)
        print_saved(save_picture(args.screenshot, sheet, scale_for(game.frame.shape[0], 96)))
    check_log(opener)
    return timings


def check_log(opener: Opener) -> None:
    """Raise UserError where the session could not be recorded to its end."""
    if opener.log is not None and opener.log.failed is not None:
        raise UserError(opener.log.failed)


def play_in_window(args: Args, opener: Opener, script: np.ndarray | None) -> Timings:
    """Play in a window until the player quits."""
    from engine.game.controls import Controls, check_keys
    from engine.game.window import Settings, Window

    config = opener.config
    keys = check_keys(config.keys, config.buttons, f"world {config.name}: [keys]")
    settings = Settings(
        name=config.name,
        title=config.title,
        preview=opener.starts[opener.start],
        rate=config.frame_rate if args.fps is None else args.fps,
        video_rate=video_rate(args, config),
        script=script,
        limit=args.frames,
        record=None if args.record is None or names_folder(args.record) else args.record,
    )
    window = Window(settings, Controls(keys, config.buttons), opener)
    try:
        window.run()
    finally:
        for path in window.worker.recorder.saved:
            print_saved(path)
        for path in opener.log.sessions if opener.log is not None else []:
            print_saved(path)
    check_log(opener)
    if args.screenshot is not None:
        frame = window.shown.frame
        print_saved(save_picture(args.screenshot, frame, scale_for(frame.shape[0], 480)))
    if window.worker.recorder.failed and args.record is not None:
        raise UserError(window.worker.recorder.failed[0])
    return window.worker.timings


def video_rate(args: Args, config: WorldConfig) -> float:
    """Frames a second of a recording: those of play, or the world's own where play has no limit."""
    return args.fps or config.frame_rate


def print_saved(path: Path) -> None:
    """Say on stderr that a file is there."""
    print(f"saved {path}", file=sys.stderr)


def report(args: Args, opener: Opener, timings: Timings, windowed: bool) -> None:
    """Print the figures of the game for people, and with --json for programs."""
    game = opener.game
    figures = timings.summary()
    stats = game.world.stats() if game is not None else {}
    figures |= {
        "warmup_s": round(opener.warmup_s, 3),
        "memory_bytes": stats.get("memory_bytes"),
        "device": None,
        "dtype": None,
        "preset": opener.config.preset,
        "world": opener.config.name,
        "mode": stats.get("mode", args.memory),
        "steps": stats.get("steps", args.steps),
        "seed": args.seed if game is None else game.seed,
        "start": opener.start if game is None else game.start,
        "window": windowed,
    }
    if game is not None:
        device = game.world.device
        dtype = getattr(game.world, "dtype", None) or runtime.pick_dtype(device)
        figures |= {"device": str(device), "dtype": str(dtype).removeprefix("torch.")}
    if timings.frames:
        print(
            f"{figures['frames']} frames, {figures['fps']:.1f} a second; "
            f"key to pixels {milliseconds(figures['key_to_frame_ms_p50'])} "
            f"(p95 {milliseconds(figures['key_to_frame_ms_p95'])}); "
            f"memory {figures['mode']}, {stats['memory_bytes'] / 2**20:.1f} MiB; "
            f"warm-up {opener.warmup_s:.1f} s; {figures['device']} {figures['dtype']}"
        )
    if args.json:
        print(json.dumps(figures))


def milliseconds(value: float | None) -> str:
    """A time for people."""
    return "-" if value is None else f"{value:.1f} ms"


if __name__ == "__main__":
    sys.exit(main())
