"""What every test runs under: no window, no sound, one thread, the same random examples, and nothing left behind."""

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from engine import runtime
from engine.config import project_root
from tests.support import leftovers

FOLDERS = pytest.StashKey[set[Path]]()
LEFT = pytest.StashKey[list[str]]()
MOST_WORKERS = 8  # more would wait for the longest files, and each needs 0.7 GB

os.environ["SDL_VIDEODRIVER"] = "dummy"
os.environ["SDL_AUDIODRIVER"] = "dummy"
os.environ["OMP_NUM_THREADS"] = "1"  # sums depend on the number of threads, and the workers share the cores
runtime.setup()  # before any test imports torch
leftovers.begin(os.environ.get("PYTEST_XDIST_WORKER"))

settings.register_profile("loci", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("loci")


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """How many workers ``-n auto`` starts: one for each core that this process may use."""
    return min(runtime.available_cores(), MOST_WORKERS)


def pytest_sessionstart(session: pytest.Session) -> None:
    """Note which folders were there before."""
    session.config.stash[FOLDERS] = leftovers.folders(project_root())


@pytest.fixture(autouse=True, scope="module")
def nothing_is_left_behind() -> Iterator[None]:
    """Every file of tests ends the processes that it started, and removes its temporary files."""
    before = set(leftovers.files())
    yield
    if leftovers.processes(patience=0) or not before.issuperset(leftovers.files()):
        gc.collect()  # what nobody holds any more may still hold a folder, or a process
    left = sorted(set(leftovers.files()) - before) + leftovers.processes()
    assert not left, f"left behind: {', '.join(left)}"


@pytest.hookimpl(trylast=True)  # when the workers have ended
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a run that leaves a process, or a folder in the tree."""
    if hasattr(session.config, "workerinput"):
        return
    before = session.config.stash.get(FOLDERS, None)
    new = leftovers.folders(project_root()) - before if before is not None else set()
    session.config.stash[LEFT] = [f"folder {path}" for path in sorted(new)] + leftovers.processes(whole_run=True)
    if session.config.stash[LEFT] and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say what the run left behind."""
    for line in config.stash.get(LEFT, []):
        terminalreporter.write_line(f"LEFT BEHIND by this run: {line}", red=True)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove the run's temporary folder, when the workers have ended."""
    if not hasattr(config, "workerinput"):
        leftovers.end()
