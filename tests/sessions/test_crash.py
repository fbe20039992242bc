"""Nothing older than a second is lost: not by kill -9, and not by a disk that takes no more."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from engine.config import project_root
from engine.sessions.reader import open_session
from engine.sessions.replay import verify
from tests.support.long import FULL, only_in_full
from tests.support.worlds import make_world

KILLS = 50 if FULL else 2
FRAMES = 10_000  # of the long form, over all kills


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """As many threads as the process that records has."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def start(folder: Path, stamps: Path, frames: int | None = None) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.support.session_crash", str(folder), str(stamps)]
    return subprocess.Popen([*command, *([] if frames is None else [str(frames)])], cwd=project_root())


def last_before(stamps: Path, moment: float) -> int:
    """The last frame that had been handed over at this time."""
    lines = [line.split() for line in stamps.read_text().splitlines(keepends=True) if line.endswith("\n")]
    return max((int(frame) for frame, at in lines if float(at) <= moment), default=0)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="kill -9")
@pytest.mark.timeout(3600)
def test_after_kill_9_everything_older_than_a_second_opens(tmp_path: Path) -> None:
    rng, world, frames = random.Random(0), make_world(), 0
    for number in range(KILLS):
        folder, stamps = tmp_path / f"s{number}", tmp_path / f"stamps{number}"
        process = start(folder, stamps)
        while not stamps.exists() or not stamps.read_text():
            assert process.poll() is None
            time.sleep(0.01)
        time.sleep(rng.uniform(0.0, 4.0))
        process.send_signal(signal.SIGKILL)
        killed = time.monotonic()
        process.wait()
        session = open_session(folder)
        expected = last_before(stamps, killed - 1.0)
        assert session.last >= expected and not session.ended
        stored = [i for i in range(1, session.last + 1) if session.stored(i) is not None]
        assert len(stored) >= expected and stored == list(range(1, len(stored) + 1))
        assert verify(session, world, max(0, session.last - 40)).differs is None
        frames += session.last
    print(f"{KILLS} kills, {frames} frames")


@pytest.mark.timeout(3600)
@only_in_full
def test_ten_thousand_frames_are_verified_in_a_new_process(tmp_path: Path) -> None:
    assert start(tmp_path / "s", tmp_path / "stamps", FRAMES).wait() == 0
    session = open_session(tmp_path / "s")
    verdict = verify(session, make_world())
    assert session.ended and verdict.differs is None and verdict.frames == FRAMES


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="mounts a file system")
def test_a_file_system_that_is_full_is_one_message_and_loses_nothing_written(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=120k", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting is not allowed here")
    try:
        assert start(disk / "s", tmp_path / "stamps", 400).wait(100) == 0  # play went on to its end
        assert last_before(tmp_path / "stamps", time.monotonic()) == 400
        session = open_session(disk / "s")
        assert 0 < session.last < 400 and not session.ended
        assert verify(session, make_world(), max(0, session.last - 40)).differs is None
    finally:
        subprocess.run(["umount", str(disk)], check=True)
