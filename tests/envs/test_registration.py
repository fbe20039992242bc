"""Every world is in Gymnasium's registry, in whatever order things are imported."""

import subprocess
import sys

import gymnasium as gym
import pytest

from engine.config import list_worlds, project_root
from engine.envs.registration import env_name

# Stands in for the environments themselves, which import torch: what is asked is whether Gymnasium finds them.
FAKES = """
import sys, types

class One(gymnasium.Env):
    def __init__(self, world):
        self.world = world

class Batch(gymnasium.vector.VectorEnv):
    def __init__(self, world, num_envs):
        self.world, self.num_envs = world, num_envs

sys.modules["engine.envs.env"] = types.SimpleNamespace(LociEnv=One)
sys.modules["engine.envs.vector"] = types.SimpleNamespace(LociVectorEnv=Batch)
"""
MAKE = """
one = gymnasium.make("{0}", disable_env_checker=True).unwrapped
batch = gymnasium.make_vec("{0}", num_envs=2).unwrapped
print(one.world, batch.world, batch.num_envs, "torch" in sys.modules)
"""


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=project_root(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("imports", "name"),
    [
        ("import gymnasium", "engine:Loci/DoomPlain-v0"),
        ("import gymnasium, engine", "Loci/DoomPlain-v0"),
        ("import gymnasium, engine", "engine:Loci/DoomPlain-v0"),
        ("import gymnasium.spaces, engine", "Loci/DoomPlain-v0"),
        ("import gymnasium", "engine.envs:Loci/DoomPlain-v0"),
        ("import engine, gymnasium", "Loci/DoomPlain-v0"),
        ("import engine, gymnasium", "engine:Loci/DoomPlain-v0"),
        ("import engine, gymnasium", "engine.envs:Loci/DoomPlain-v0"),
        ("import engine, gymnasium, engine.envs", "engine:Loci/DoomPlain-v0"),
        ("import engine.envs, gymnasium", "Loci/DoomPlain-v0"),
    ],
)
def test_gymnasium_finds_a_world_and_a_batch_of_it_whatever_is_imported_first(imports: str, name: str) -> None:
    assert run(imports + FAKES + MAKE.format(name)) == "doom-plain doom-plain 2 False"


def test_nothing_watches_python_s_importing_once_gymnasium_is_there() -> None:
    code = "import sys\nbefore = [*sys.meta_path]\nimport engine, gymnasium\nprint(sys.meta_path == before)"
    assert run(code) == "True"


def test_names_follow_the_files() -> None:
    names = ["doom", "doom-plain", "mini_grid.v2", "--"]
    assert [env_name(name) for name in names] == ["Doom", "DoomPlain", "MiniGridV2", ""]
    assert {f"Loci/{env_name(world)}-v0" for world in list_worlds()} <= gym.registry.keys()
