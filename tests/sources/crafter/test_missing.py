"""Where Crafter is not installed, its dreams are played all the same, and what needs it says so in one line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from engine.config import project_root
from tests.support.tile_world import write_tiles

HIDDEN = """
import sys

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "crafter":
            raise ModuleNotFoundError("No module named 'crafter'", name="crafter")

sys.meta_path.insert(0, Hidden())
"""
DREAM = """
import sys
import numpy as np
from engine.envs.env import LociEnv
env = LociEnv(sys.argv[1], image=np.zeros((144, 144, 3), np.uint8), threads=1, device="cpu")
env.reset(seed=1)
print(env.step(np.zeros(16, np.int8))[0].shape, "crafter" in sys.modules)
"""


def without_crafter(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python where Crafter cannot be imported."""
    (folder / "sitecustomize.py").write_text(HIDDEN)
    paths = os.pathsep.join((str(folder), str(project_root())))
    env = {**os.environ, "PYTHONPATH": paths}
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=env, capture_output=True, text=True, timeout=120
    )


def test_a_dream_of_crafter_is_played_without_it(tmp_path: Path) -> None:
    done = without_crafter(tmp_path, "-c", DREAM, str(write_tiles(tmp_path)))
    assert (done.returncode, done.stdout.strip()) == (0, "(144, 144, 3) False"), done.stderr


@pytest.mark.parametrize(
    "command",
    [
        "collect {world} --frames 20 --out out",
        "collect {world} --frames 20 --workers 2 --out out",
        "starts {world} --count 1 --out out",
        "bench revisit {world} --tasks errand --gaps 16 --episodes 1 --json out",
        "bench quality {world} --episodes 1 --json out",
    ],
)
def test_what_needs_crafter_says_so_in_one_line_and_makes_nothing(tmp_path: Path, command: str) -> None:
    world = write_tiles(tmp_path)
    before = {path.name for path in tmp_path.iterdir()} | {"sitecustomize.py"}
    done = without_crafter(tmp_path, "-m", "engine", *command.format(world=world).split())
    line = "error: the Crafter source needs Crafter; install it: pip install 'loci-engine[crafter]'\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", line)
    assert {path.name for path in tmp_path.iterdir()} - {"__pycache__"} <= before
