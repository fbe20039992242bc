"""Lets Gymnasium know the worlds as soon as it is there, without importing it.

Gymnasium reads no entry points (since 1.0), and its ``engine:`` prefix only imports `engine`, which does nothing where
that was imported before Gymnasium was. So that ``import engine, gymnasium`` registers the worlds too, as one expects of
a package of environments, Gymnasium's own import is watched until it has run.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType


def register_with_gymnasium() -> None:
    """Register the worlds now where Gymnasium is loaded, else as soon as somebody imports it."""
    if hasattr(sys.modules.get("gymnasium"), "register"):
        import_module("engine.envs")
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
    """Gymnasium's own loader, and the registration after it."""

    def __init__(self, inner: Loader) -> None:
        self.inner = inner

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.inner.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        assert module.__spec__ is not None
        module.__spec__.loader = module.__loader__ = self.inner
        self.inner.exec_module(module)
        import_module("engine.envs")
