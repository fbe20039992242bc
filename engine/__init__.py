"""Loci: an engine for generated worlds that remember.

Importing this package is cheap: the public names below load their module, and so torch, on first use. The worlds
are registered with Gymnasium, as ``Loci/Doom-v0`` and so on, once that is imported.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from engine.registration import register_with_gymnasium

if TYPE_CHECKING:
    from engine.config import WorldConfig, list_worlds, load_world
    from engine.errors import UserError
    from engine.loading import load_starts, open_world
    from engine.snapshot import Snapshot
    from engine.world import World

__version__ = "0.1.0"

_HOME = {
    "Snapshot": "engine.snapshot",
    "UserError": "engine.errors",
    "World": "engine.world",
    "WorldConfig": "engine.config",
    "list_worlds": "engine.config",
    "load_starts": "engine.loading",
    "load_world": "engine.config",
    "open_world": "engine.loading",
}

__all__ = [
    "Snapshot",
    "UserError",
    "World",
    "WorldConfig",
    "list_worlds",
    "load_starts",
    "load_world",
    "open_world",
]


def __getattr__(name: str) -> Any:
    """Load a public name's module on first use."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value  # the next access does not come here
    return value


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return sorted({*globals(), *__all__})


register_with_gymnasium()
