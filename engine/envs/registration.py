"""Gymnasium's registry: every file ``worlds/NAME.toml`` is ``Loci/Name-v0``, and its simulator ``Loci/NameSource-v0``.

``import engine``, before Gymnasium or after it, ``gymnasium.make("engine:Loci/Name-v0")`` and ``import engine.envs``
all come here; see `engine.registration`. Nothing is read but the folder's list of names, and torch is not imported.
"""

import re

import gymnasium

from engine.config import list_worlds

NAMESPACE = "Loci"


def env_name(world: str) -> str:
    """``doom-plain`` -> ``DoomPlain``, as in ``Loci/DoomPlain-v0``. Empty where the name has no letter or digit."""
    return "".join(part[0].upper() + part[1:] for part in re.split(r"[^A-Za-z0-9]+", world) if part)


def register_worlds() -> None:
    """Register what is not registered yet. Of two worlds with the same name the first in the alphabet counts."""
    for suffix, module, cls in (("", "env", "LociEnv"), ("Source", "source", "SourceEnv")):
        for world in list_worlds():
            name = f"{NAMESPACE}/{env_name(world)}{suffix}-v0"
            if env_name(world) and name not in gymnasium.registry:
                gymnasium.register(
                    name,
                    entry_point=f"engine.envs.{module}:{cls}",
                    vector_entry_point=None if suffix else "engine.envs.vector:LociVectorEnv",
                    kwargs={"world": world},
                )
