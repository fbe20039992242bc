"""Opening Gymnasium environments by their id: the package that registers it, and errors in one line."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import gymnasium as gym
import numpy as np

from engine.errors import UserError, nearest

# How an id begins: the module that registers it, and what pip installs it by.
PACKAGES = {
    "ALE/": ("ale_py", "ale-py"),
    "BabyAI-": ("minigrid", "minigrid"),
    "MiniGrid-": ("minigrid", "minigrid"),
    "Vizdoom": ("vizdoom.gymnasium_wrapper", "vizdoom"),
}
EXTRAS = {"ale-py": "envs", "minigrid": "envs", "vizdoom": "doom"}


def register(name: str) -> None:
    """Import the module that registers the environment `name`, where it is known. UserError where it is missing."""
    for prefix, (module, package) in PACKAGES.items():
        if name.startswith(prefix):
            try:
                importlib.import_module(module)
            except ModuleNotFoundError as error:
                raise UserError(
                    f"{name} needs the package {package}: pip install {package} (or pip install -e"
                    f" '.[{EXTRAS[package]}]')"
                ) from error


def shows_picture(space: gym.Space[Any]) -> bool:
    """Whether an observation is a picture: uint8 (H, W), (H, W, 1) or (H, W, 3)."""
    if not isinstance(space, gym.spaces.Box) or space.dtype != np.uint8:
        return False
    return len(space.shape) == 2 or (len(space.shape) == 3 and space.shape[2] in (1, 3))


def open_environment(name: str, options: Mapping[str, Any]) -> gym.Env[Any, Any]:
    """Make the environment `name`, which may be ``module:Name-v0``; `options` go to its constructor.

    It renders ``rgb_array`` pictures, or where it cannot, its observations are pictures and `render_mode` is None.
    Raises UserError for an id that is unknown, a package that is missing, options that it does not take, and an
    environment that shows no pictures.
    """
    register(name)
    with _quiet():
        try:
            if ":" in name:
                importlib.import_module(name.partition(":")[0])
            modes = _render_modes(name)
            mode: dict[str, Any] = {"render_mode": "rgb_array"} if modes is None or "rgb_array" in modes else {}
            env = gym.make(name, **mode, **options)
        except ModuleNotFoundError as error:
            missing = error.name or str(error)
            raise UserError(f"source {name!r} needs the package {missing!r}{_install(missing)}") from error
        except gym.error.DependencyNotInstalled as error:
            raise UserError(f"source {name!r} needs a package that is not installed: {error}") from error
        except gym.error.UnregisteredEnv as error:
            raise UserError(_unknown(name)) from error
        except (gym.error.Error, ImportError, TypeError, ValueError, AttributeError) as error:
            raise UserError(f"source {name!r} cannot be opened: {_line(error)}") from error
    if not mode and not shows_picture(env.observation_space):
        shown = ", ".join(modes or ()) or "nothing"
        env.close()
        raise UserError(
            f"source {name!r} shows no pictures: it renders {shown}, not rgb_array, and observes"
            f" {env.observation_space}"
        )
    return env


def _render_modes(name: str) -> list[str] | None:
    """What the environment can render; None where its class does not say before it is made."""
    name = name.rpartition(":")[2]
    if name not in gym.registry and (guess := nearest(name, gym.registry)) and guess.rpartition("-v")[0] == name:
        raise gym.error.UnregisteredEnv(name)  # Gymnasium would take the newest version, and that changes
    creator: Any = gym.spec(name).entry_point
    if isinstance(creator, str):
        creator = gym.envs.registration.load_env_creator(creator)
    metadata = getattr(creator, "metadata", None)
    return list(metadata["render_modes"]) if metadata and "render_modes" in metadata else None


def _unknown(name: str) -> str:
    known = [entry for entry in gym.registry if not entry.startswith(("GymV21", "GymV26"))]
    guess = nearest(name.rpartition(":")[2], known)
    hint = f"; nearest: {guess!r}" if guess else ""
    return f"source {name!r} cannot be opened: no such environment is known{hint}; known: doom, or a Gymnasium id"


def _install(module: str) -> str:
    package = {"ale_py": "ale-py"}.get(module, module).partition(".")[0]
    extra = EXTRAS.get(package)
    return f": pip install -e '.[{extra}]'" if extra else ", which is not installed"


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


@contextmanager
def _quiet() -> Iterator[None]:
    """Hold back what Gymnasium only warns of, such as an old version of an environment."""
    before, gym.logger.min_level = gym.logger.min_level, logging.ERROR
    try:
        yield
    finally:
        gym.logger.min_level = before
