"""Small sessions for tests: a tiny world, and a recording of random play in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from engine.config import WorldConfig
from engine.sessions.info import Parent, SessionInfo, info_of_world
from engine.sessions.recorder import SessionRecorder, branch_info
from engine.sessions.writer import Drawn
from engine.world import World
from tests.support.worlds import BUTTONS, make_world, pictures

CONFIG = WorldConfig(
    name="tiny", title="Tiny", preset="nano", source="fake", checkpoint="nowhere", buttons=BUTTONS, frame_rate=30.0
)
WEIGHTS = {"codec": "c" * 64, "generator": "9" * 64}


def info_for(world: World) -> SessionInfo:
    return info_of_world(world, replace(CONFIG, buttons=world.buttons), WEIGHTS, seed=3, start="cave")


def moves(frames: int, seed: int = 0, buttons: int = len(BUTTONS)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2, (frames, buttons), np.uint8)


def play_into(
    recorder: SessionRecorder, world: World, actions: np.ndarray, before: Callable[[int], tuple[str, ...]] | None = None
) -> list[np.ndarray]:
    """Step the world and record it; `before(i)` names memory modes to set before the i-th of these frames."""
    frames = []
    for i, action in enumerate(actions):
        modes = before(i) if before else ()
        for mode in modes:
            world.set_mode(mode)
        frame = world.step(action)[0]
        assert world.latents is not None
        state = world.snapshot() if recorder.wants_state(recorder.frame + 1) else None
        recorder.add(Drawn(action, frame, world.latents[0], memory=modes, state=state))
        frames.append(frame)
    return frames


def record(
    folder: Path,
    frames: int = 40,
    *,
    world: World | None = None,
    start: np.ndarray | None = None,
    close: bool = True,
    video: bool = False,
    **options: Any,
) -> tuple[SessionRecorder, list[np.ndarray]]:
    """A session of random play from a start frame (1, 1, H, W, 3); returns its recorder and all frames."""
    world = world or make_world()
    start = pictures(1, 1) if start is None else start
    world.reset(3, start)
    buttons = len(world.buttons)
    recorder = SessionRecorder(folder, info_for(world), start=(start[0], np.zeros((1, buttons), np.uint8)), video=video)
    seen = [start[0, 0], *play_into(recorder, world, moves(frames, buttons=buttons), **options)]
    if close:
        recorder.close()
    return recorder, seen


def branch(
    folder: Path, recorder: SessionRecorder, world: World, frame: int, count: int, seed: int
) -> list[np.ndarray]:
    """Leave a recorded session at `frame`, where the world is now; returns the branch's own frames."""
    parent = Parent(folder=recorder.folder.name, id=recorder.info.id, frame=frame)
    info = branch_info(recorder.info, parent, memory=world.mode, steps=world.steps)
    other = SessionRecorder(folder, info, state=world.snapshot(), video=False)
    seen = play_into(other, world, moves(count, seed, len(world.buttons)))
    other.close()
    return seen
