"""What a run of the tests leaves behind: processes, temporary files, and folders in the project's tree.

Each process of a run (one, or a worker for each core) has a temporary folder of its own, and the processes that it
starts carry its mark in their environment: so neither another run nor anything else on the machine is taken for a
leftover. Where there is no ``/proc`` (macOS, Windows), processes are not looked for.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path

MARK = "LOCI_TESTS_OWNER"  # of a process: RUN/PID, the run and the process of it that started this one
FOLDER = "LOCI_TESTS_FOLDER"  # the run's, with one folder for each of its processes
PATIENCE = 5.0  # seconds that a process may take to end, on a busy machine
ENDS_BY_ITSELF = "multiprocessing.resource_tracker"  # with the process that it belongs to
KEPT = "PYTEST_DEBUG_TEMPROOT"  # where pytest keeps the folders of tests that failed
HYPOTHESIS = "HYPOTHESIS_STORAGE_DIRECTORY"  # which would lie in the tree
PREFIX = "loci-tests-"  # of the run's folder; the number of its first process follows
CACHES = ("torchinductor_",)  # which libraries make for all processes of a user, and keep
TREES = (
    "",
    "assets",
    "checkpoints",
    "docs",
    "engine",
    "examples",
    "tests",
    "tools",
    "worlds",
)  # where tests might write


def begin(worker: str | None) -> None:
    """Give this process its mark and its temporary folder; worker: its name among those of the run, None: it is alone.

    The first process of a run is called without a name, and makes the folder that all of them share.
    """
    if worker is None:
        os.environ[KEPT] = tempfile.gettempdir()
        clear_after_killed(Path(tempfile.gettempdir()))
        os.environ[FOLDER] = tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-")
        os.environ[HYPOTHESIS] = str(Path(os.environ[FOLDER]) / "hypothesis")
        os.environ[MARK] = f"{os.getpid()}/{os.getpid()}"
    else:
        os.environ[MARK] = f"{os.environ[MARK].split('/')[0]}/{os.getpid()}"
    folder = Path(os.environ[FOLDER]) / (worker or "main")
    folder.mkdir()
    os.environ["TMPDIR"] = str(folder)
    tempfile.tempdir = None  # to be found anew


def clear_after_killed(parent: Path) -> None:
    """Remove the folders of runs that were killed, and could not do it themselves."""
    for folder in parent.glob(f"{PREFIX}*-*"):
        number = folder.name.removeprefix(PREFIX).split("-")[0]
        if number.isdecimal() and Path("/proc/self").exists() and not Path("/proc", number).exists():
            shutil.rmtree(folder, ignore_errors=True)


def folder_for_the_run(name: str) -> Path:
    """A new folder that this process may keep files in until the run ends."""
    folder = Path(os.environ[FOLDER]) / f"{name}-{os.getpid()}"
    folder.mkdir()
    return folder


def end() -> None:
    """Remove the run's temporary folder, and pytest's where it is empty: it keeps what belongs to failed tests."""
    shutil.rmtree(os.environ[FOLDER], ignore_errors=True)
    for folder in Path(os.environ[KEPT]).glob("pytest-of-*"):
        with suppress(OSError):
            newest = folder / "pytest-current"
            if not newest.exists():
                newest.unlink(missing_ok=True)
            folder.rmdir()


def files() -> list[str]:
    """What lies in the temporary folder of this process."""
    return sorted(name for name in os.listdir(tempfile.gettempdir()) if not name.startswith(CACHES))


def folders(root: Path) -> set[Path]:
    """The folders of the project's tree, but for the caches of Python and its tools."""
    found = set()
    for tree in TREES:
        for folder, inner, _ in os.walk(root / tree):
            inner[:] = [name for name in inner if name != "__pycache__"] if tree else []
            found.add(Path(folder))
    names = {entry.name for entry in os.scandir(root) if entry.is_dir() and not entry.name.startswith((".", "__"))}
    return found | {root / name for name in names}


def processes(whole_run: bool = False, patience: float = PATIENCE) -> list[str]:
    """Processes that this one started, or any of the run, and that are still there after `patience` seconds."""
    mine = os.environ[MARK]
    mark = f"{MARK}={mine.split('/')[0]}/" if whole_run else f"{MARK}={mine}\0"
    until = time.monotonic() + patience
    while (found := _marked(mark.encode())) and time.monotonic() < until:
        time.sleep(0.05)
    return found


def _marked(mark: bytes) -> list[str]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            environment, command = (folder / "environ").read_bytes(), (folder / "cmdline").read_bytes()
        except OSError:  # of somebody else, or gone by now
            continue
        words = command.decode(errors="replace").replace("\0", " ").strip()
        if folder.name != str(os.getpid()) and mark in environment + b"\0" and ENDS_BY_ITSELF not in words:
            found.append(
                f"process {folder.name}: {words[:120]} (started in {_value(environment, b'PYTEST_CURRENT_TEST')})"
            )
    return found


def _value(environment: bytes, name: bytes) -> str:
    for entry in environment.split(b"\0"):
        if entry.startswith(name + b"="):
            return entry.partition(b"=")[2].decode(errors="replace")
    return "no test"
