"""Records random play as fast as it can until it is killed.

``python -m tests.support.session_crash FOLDER STAMPS [FRAMES]``: STAMPS gets a line for each frame, after it was
handed to the recorder: its number and the time.
"""

import sys
import time
from pathlib import Path

import numpy as np
import torch

from engine.sessions.recorder import SessionRecorder
from engine.sessions.writer import Drawn
from tests.support.sessions import info_for
from tests.support.worlds import make_world, pictures


def main(folder: Path, stamps: Path, frames: int) -> None:
    torch.set_num_threads(1)  # as in the test that verifies: sums depend on it
    world, start = make_world(), pictures(1, 1)
    world.reset(3, start)
    rng = np.random.default_rng()
    recorder = SessionRecorder(folder, info_for(world), start=(start[0], np.zeros((1, 3), np.uint8)), video=False)
    with open(stamps, "w", buffering=1) as file:
        for index in range(1, frames + 1):
            action = rng.integers(0, 2, 3, np.uint8)
            frame = world.step(action)[0]
            assert world.latents is not None
            state = world.snapshot() if recorder.wants_state(index) else None
            recorder.add(Drawn(action, frame, world.latents[0], state=state))
            file.write(f"{index} {time.monotonic()}\n")
    recorder.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 10_000_000)
