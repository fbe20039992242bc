"""Runs ``python play.py [WORLD]``: in a window, or headless.

Keys: those of the world (for Doom WASD and the arrows), F1 names them, Esc menu, Tab figures, ``.`` pause, ``,`` single
step, R next start (Shift+R the same again), M memory mode, F5 save, F8 load, Backspace held rewinds, F9
record, F11 full screen, F12 screenshot; Shift+Backspace goes ten seconds back at once. Where a life ends, the game
waits for R, Backspace or ``.``; headless, and with --frames, it begins anew by itself.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import numpy as np
from tqdm import tqdm

from engine import runtime
from engine.actions import parse_keys
from engine.config import WorldConfig, load_world
from engine.errors import UserError
from engine.game import headless
from engine.game.timings import Timings
from engine.pictures import grid, save_picture, scale_for
from engine.play.checks import check, check_session
from engine.play.opening import Opener, open_review, opener_for, print_saved
from engine.play.options import PlayOptions
from engine.video import VideoWriter

HEADLESS_FRAMES = 240
SHEET_FRAMES = 24
SHEET_COLUMNS = 6
DEFAULT_WORLD = "isle"  # of the shipped worlds, the one that obeys and remembers best


def play(options: PlayOptions) -> None:
    """Check everything that can be checked, load the model, play, and print the figures. Raises UserError."""
    runtime.setup(options.threads)
    from engine.loading import fitted

    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    windowed = not options.headless
    if windowed and not headless.has_display():
        print("no display: playing headless (as with --headless)", file=sys.stderr)
        windowed = False
    check_session(options)
    review, frame = None, options.at or 0
    if options.session is not None:
        review = open_review(options)
        found = review.browser(frame, options.compare).run() if windowed else frame
        if found is None:  # the player has looked, and left
            return
        frame = found
    config = load_world(options.world or (DEFAULT_WORLD if review is None else review.world_name))
    check(options, config)
    config = config if options.source else fitted(config, options.checkpoint)
    script = None if options.keys is None else parse_keys(options.keys, config.keys, config.buttons)
    opener = opener_for(options, config, review, frame)
    try:
        timings = (play_in_window if windowed else play_headless)(options, opener, script)
    finally:
        opener.close()
    figures = figures_of(options, opener, timings) | {"window": windowed}
    if timings.frames:
        print(in_words(figures))
    if options.json:
        print(json.dumps(figures))


def play_headless(options: PlayOptions, opener: Opener, script: np.ndarray | None) -> Timings:
    """Play without a window, with a bar on a terminal. script: buttons uint8 (n, A) to hold at the beginning."""
    frames = options.frames or HEADLESS_FRAMES
    if script is None:
        actions = headless.default_walk(opener.config.buttons, frames)
    else:
        actions = headless.pad_script(script, frames)
    sheet = Sheet(frames)
    with ExitStack() as stack:
        sinks: list[Callable[[np.ndarray], None]] = [] if options.screenshot is None else [sheet.add]
        if options.recorded_video is not None:
            writer = VideoWriter(options.recorded_video, video_rate(options, opener.config))
            stack.callback(lambda: print_saved(writer.path) if writer.saved else None)
            sinks.append(stack.enter_context(writer).add)
        game = opener()
        if opener.log is not None:
            opener.log.say = lambda message: print(message, file=sys.stderr)
            stack.callback(opener.log.finish, None)  # there is time to wait for the video

        def on_frame(frame: np.ndarray) -> None:
            for sink in sinks:
                sink(frame)

        bar = stack.enter_context(tqdm(actions, unit="frame", disable=None))  # only on a terminal
        timings = headless.play(game, bar, rate=options.fps or 0.0, on_frame=on_frame)
    if options.screenshot is not None:
        picture = grid(sheet.rows(), scale=1, gap=1)
        print_saved(save_picture(options.screenshot, picture, scale_for(game.frame.shape[0], 96)))
    check_log(opener)
    return timings


class Sheet:
    """Keeps frames for a contact sheet of a walk: the first, the last, and what lies evenly between them."""

    def __init__(self, frames: int) -> None:
        self.kept: list[np.ndarray] = []
        self._wanted = {round(i * frames / (SHEET_FRAMES - 1)) for i in range(SHEET_FRAMES)}
        self._count = 0

    def add(self, frame: np.ndarray) -> None:
        """Take the walk's next frame, uint8 (H, W, 3); it is copied if it is kept."""
        if self._count in self._wanted:
            self.kept.append(frame.copy())
        self._count += 1

    def rows(self) -> list[list[np.ndarray]]:
        """The frames that were kept, in rows of `SHEET_COLUMNS`."""
        return [self.kept[i : i + SHEET_COLUMNS] for i in range(0, len(self.kept), SHEET_COLUMNS)]


def play_in_window(options: PlayOptions, opener: Opener, script: np.ndarray | None) -> Timings:
    """Play in a window until the player quits. script: buttons uint8 (n, A) to hold at the beginning."""
    from engine.game.controls import Controls, check_keys
    from engine.game.window import Settings, Window

    config = opener.config
    keys = check_keys(config.keys, config.buttons, f"world {config.name}: [keys]")
    settings = Settings(
        name=config.name,
        title=config.title,
        preview=opener.starts[opener.start],
        rate=config.frame_rate if options.fps is None else options.fps,
        video_rate=video_rate(options, config),
        script=script,
        limit=options.frames,
        record=options.recorded_video,
        figures=config.geometry is None or config.geometry.view != "top",  # they would cover tiles; Tab shows them
    )
    window = Window(settings, Controls(keys, config.buttons, config.exclusive), opener)
    try:
        window.run()
    finally:
        for path in window.worker.recorder.saved:
            print_saved(path)
        for path in opener.log.sessions if opener.log is not None else []:
            print_saved(path)
    check_log(opener)
    if options.screenshot is not None:
        frame = window.shown.frame
        print_saved(save_picture(options.screenshot, frame, scale_for(frame.shape[0], 480)))
    if window.worker.recorder.failed and options.record is not None:
        raise UserError(window.worker.recorder.failed[0])
    return window.worker.timings


def check_log(opener: Opener) -> None:
    """Raise UserError where the session could not be recorded to its end."""
    if opener.log is not None and opener.log.failed is not None:
        raise UserError(opener.log.failed)


def video_rate(options: PlayOptions, config: WorldConfig) -> float:
    """Frames a second of a recording: those of play, or the world's own where play has no limit."""
    return options.fps or config.frame_rate


def figures_of(options: PlayOptions, opener: Opener, timings: Timings) -> dict[str, Any]:
    """How fast it was, and what was played; of a game that did not come to be, what was asked for."""
    figures = timings.summary() | {
        "warmup_s": round(opener.warmup_s, 3),
        "memory_bytes": None,
        "device": None,
        "dtype": None,
        "preset": opener.config.preset,
        "world": opener.config.name,
        "mode": options.memory,
        "steps": options.steps,
        "seed": options.seed,
        "start": opener.start,
        "ends": 0,
    }
    game = opener.game
    if game is None:
        return figures
    stats, device = game.world.stats(), game.world.device
    dtype = getattr(game.world, "dtype", None) or runtime.pick_dtype(device)
    return (
        figures
        | {
            "memory_bytes": stats.get("memory_bytes"),
            "device": str(device),
            "dtype": str(dtype).removeprefix("torch."),
            "mode": stats.get("mode", options.memory),
            "steps": stats.get("steps", options.steps),
            "seed": game.seed,
            "start": game.start,
            "ends": game.ends,
        }
        | {name: stats[name] for name in ("tiles", "places_bytes") if name in stats}
    )


def in_words(figures: dict[str, Any]) -> str:
    """The figures of a game for people, in one line."""
    memory = figures["memory_bytes"] + figures.get("places_bytes", 0)
    return (
        f"{figures['frames']} frames, {figures['fps']:.1f} a second; "
        f"key to pixels {milliseconds(figures['key_to_frame_ms_p50'])} "
        f"(p95 {milliseconds(figures['key_to_frame_ms_p95'])}); "
        f"memory {figures['mode']}, {memory / 2**20:.1f} MiB; "
        f"warm-up {figures['warmup_s']:.1f} s; {figures['device']} {figures['dtype']}"
    )


def milliseconds(value: float | None) -> str:
    """A time for people."""
    return "-" if value is None else f"{value:.1f} ms"
