"""The check that a run of the tests leaves nothing behind, checked."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.support import leftovers

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="processes are looked for where there is /proc")
def test_a_process_that_goes_on_is_found_with_the_test_that_started_it() -> None:
    assert leftovers.processes() == []
    with subprocess.Popen(SLEEP) as process:
        (found,) = leftovers.processes(patience=0.5)
        assert found == leftovers.processes(whole_run=True, patience=0.5)[-1]
        assert str(process.pid) in found and "test_a_process_that_goes_on_is_found" in found
        process.kill()
    assert leftovers.processes() == []


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="processes are looked for where there is /proc")
def test_a_process_is_found_when_the_one_that_started_it_is_gone() -> None:
    code = f"import subprocess, sys; print(subprocess.Popen({SLEEP!r}, stdout=-3, stderr=-3).pid)"  # to nowhere
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    (found,) = leftovers.processes(patience=0.5)
    assert done.stdout.strip() in found
    subprocess.run(["kill", done.stdout.strip()], check=True)
    assert leftovers.processes() == []


def test_a_temporary_folder_is_found() -> None:
    before = leftovers.files()
    with tempfile.TemporaryDirectory() as folder:
        assert [*before, Path(folder).name] == sorted(leftovers.files())
    assert leftovers.files() == before


def test_a_folder_in_the_tree_is_found_and_caches_are_none(tmp_path: Path) -> None:
    (tmp_path / "engine" / "model" / "__pycache__").mkdir(parents=True)
    (tmp_path / ".mypy_cache").mkdir()
    before = leftovers.folders(tmp_path)
    (tmp_path / "engine" / "model" / ".new").mkdir()
    (tmp_path / "runs" / "first").mkdir(parents=True)
    assert leftovers.folders(tmp_path) - before == {tmp_path / "engine" / "model" / ".new", tmp_path / "runs"}


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="processes are looked for where there is /proc")
def test_the_folder_of_a_run_that_was_killed_is_removed_by_the_next(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    mine = {tmp_path / f"{leftovers.PREFIX}{os.getpid()}-x", tmp_path / f"{leftovers.PREFIX}abc-x", tmp_path / "other"}
    for folder in (*mine, tmp_path / f"{leftovers.PREFIX}{ended.pid}-x"):
        (folder / "main").mkdir(parents=True)
    leftovers.clear_after_killed(tmp_path)
    assert set(tmp_path.iterdir()) == mine
