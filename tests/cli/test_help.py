"""``--help`` of every command: it is answered, and nobody waits for torch who only asks which options there are."""

import os
import subprocess
import sys

import pytest

from engine.cli.dispatch import COMMANDS
from engine.config import project_root

HEAVY = {"torch", "numpy", "pygame", "gymnasium", "vizdoom", "matplotlib"}
SECONDS = 0.5
"""Of CPU time; on a quiet core of a server it is 0.13 to 0.25."""
TRIES = 3
"""Runs of which the best counts: what else the machine does makes some of them slower."""
PROGRAMS = {f"python -m engine {name}": ["-m", "engine", *name.split()] for name in COMMANDS} | {"play.py": ["play.py"]}


def helped(program: str) -> tuple[str, set[str], float]:
    """Ask for help; returns what is printed, the packages that were imported, and seconds of CPU time."""
    command = [sys.executable, "-X", "importtime", *PROGRAMS[program], "--help"]
    before = os.times()
    result = subprocess.run(command, capture_output=True, text=True, cwd=project_root(), timeout=60)
    after = os.times()
    assert result.returncode == 0, result.stderr[-1000:]
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in result.stderr.splitlines()}
    seconds = after.children_user - before.children_user + after.children_system - before.children_system
    return result.stdout, imported, seconds


@pytest.mark.parametrize("program", PROGRAMS)
def test_help_is_answered_before_anything_large_is_imported(program: str) -> None:
    answer, imported, seconds = helped(program)
    assert f"usage: {program}" in answer
    assert "tyro" in imported
    assert not HEAVY & imported
    for _ in range(TRIES - 1):
        if seconds < SECONDS:
            break
        seconds = min(seconds, helped(program)[2])
    assert seconds < SECONDS
