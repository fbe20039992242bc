"""Runs ``python play.py [WORLD]``: in a window, or headless.

Keys: those of the world (for Doom WASD and the arrows), Esc menu, Tab figures, ``.`` pause, ``,`` single
step, R next start (Shift+R the same again), M memory mode, F5 save, F8 load, Backspace held rewinds, F9
record, F11 full screen, F12 screenshot; Shift+Backspace goes ten seconds back at once.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import tyro

from engine import runtime
from engine.actions import parse_keys
from engine.cli.dispatch import guarded
from engine.config import load_world
from engine.errors import UserError
from engine.game.headless import has_display
from engine.play.opening import Opener, open_review, opener_for, print_saved
from engine.play.options import Args, check, check_session, names_folder, video_rate
from engine.video import VideoWriter, contact_sheet, save_picture, scale_for

if TYPE_CHECKING:
    import numpy as np

    from engine.game.timings import Timings

HEADLESS_FRAMES = 240
SHEET_FRAMES = 24
DEFAULT_WORLD = "doom-plain"  # of the shipped worlds, the one that obeys best (LOG.md)


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
    opener = opener_for(args, config, review, frame)
    try:
        timings = (play_in_window if windowed else play_headless)(args, opener, script)
    finally:
        opener.close()
    report(args, opener, timings, windowed)


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
