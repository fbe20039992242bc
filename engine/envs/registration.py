"""Gymnasium's registry: every file ``worlds/NAME.toml`` is ``Loci/Name-v0``, and its simulator ``Loci/NameSource-v0``.

Nothing is read but the folder's list of names, and neither Gymnasium nor torch is imported: if Gymnasium is not
there yet, the worlds are registered at the end of its own import.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

NAMESPACE = "Loci"


def env_name(world: str) -> str:
    """``doom-plain`` -> ``DoomPlain``, as in ``Loci/DoomPlain-v0``. Empty where the name has no letter or digit."""
    return "".join(part[0].upper() + part[1:] for part in re.split(r"[^A-Za-z0-9]+", world) if part)


def register_worlds() -> None:
    """Register what is not registered yet. Of two worlds with the same name the first in the alphabet counts."""
    import gymnasium

    from engine.config import list_worlds

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


def register_with_gymnasium() -> None:
    """Register the worlds now where Gymnasium is loaded, else as soon as somebody imports it."""
    if hasattr(sys.modules.get("gymnasium"), "register"):
        register_worlds()
    elif not any(isinstance(finder, _Watch) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Watch())


class _Watch(MetaPathFinder):
    """Finds Gymnasium as it would be found anyway, and registers the worlds once it has run."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != "gymnasium":
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(fullname, path)
        if spec is not None and spec.loader is not None:
            spec.loader = _ThenRegister(spec.loader)
        return spec


class _ThenRegister(Loader):
    def __init__(self, inner: Loader) -> None:
        self.inner = inner

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.inner.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        assert module.__spec__ is not None
        module.__spec__.loader = module.__loader__ = self.inner
        self.inner.exec_module(module)
        register_worlds()
