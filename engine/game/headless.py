"""Play without a window: a script of keys, as fast as the model draws or at a given rate."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from engine.actions import decode
from engine.game.game import Game
from engine.game.timings import Timings


def has_display() -> bool:
    """Whether a window can be opened here."""
    import pygame

    chosen = any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER"))
    if sys.platform.startswith("linux") and not chosen:
        return False  # SDL would take over the text console, where there is one
    try:
        pygame.display.init()
    except pygame.error:
        return False
    return True


def default_walk(buttons: Sequence[str], frames: int) -> np.ndarray:
    """A little walk over `frames` frames, uint8 (frames, A): ahead and round, or every button in turn."""
    turns = [b for b in ("forward", "turn_left", "forward", "turn_right") if b in buttons]
    order = turns or list(buttons)
    actions = np.zeros((frames, len(buttons)), np.uint8)
    for i in range(frames):
        actions[i, buttons.index(order[i // 12 % len(order)])] = 1
    return actions


def pad_script(script: np.ndarray, frames: int) -> np.ndarray:
    """The first `frames` actions of a script (n, A), with no button held after its end."""
    padded = np.zeros((frames, script.shape[1]), np.uint8)
    n = min(frames, len(script))
    padded[:n] = script[:n]
    return padded


def play(
    game: Game,
    actions: Iterable[np.ndarray],
    *,
    rate: float = 0.0,
    on_frame: Callable[[np.ndarray], None] | None = None,
    timings: Timings | None = None,
) -> Timings:
    """Restart the game and draw one frame for each action (A,). Where a life ends, it begins anew at the same start.

    `on_frame` gets the first frame and every one that is drawn, as uint8 (H, W, 3). `rate` is the largest
    number of frames a second, 0 for no limit. A key's way is measured from the moment its action is taken to
    the pixels.
    """
    timings = timings or Timings()
    frame = game.restart()
    if on_frame is not None:
        on_frame(frame)
    due = time.perf_counter()
    for action in actions:
        if rate > 0:
            time.sleep(max(0.0, due - time.perf_counter()))
            due = max(due + 1 / rate, time.perf_counter())
        began = time.perf_counter()
        frame = game.render(decode(game.world.buttons, action))
        timings.shown(began, None, time.perf_counter())
        game.commit()
        timings.frame(began, time.perf_counter())
        if on_frame is not None:
            on_frame(frame)
        if game.over:
            timings.interrupt()
            game.live_again()
    return timings
