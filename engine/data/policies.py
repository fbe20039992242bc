"""Who plays while frames are collected: the walks, a policy of Stable-Baselines3, or a function."""

import hashlib
import importlib
import json
import zipfile
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeAlias

import gymnasium as gym
import numpy as np

from engine.actions import encode
from engine.data.walks import Walker
from engine.errors import UserError, unknown

Act: TypeAlias = Callable[[np.ndarray, dict[str, Any]], np.ndarray]
"""Frame uint8 (H, W, 3) and info -> the buttons to hold, uint8 (A,)."""
Player: TypeAlias = Callable[[np.random.Generator], Act]
"""Called at the beginning of each episode, with the episode's own random numbers."""

# What only this algorithm's file has: its class in stable_baselines3.
ALGORITHMS = (
    ("clip_range", "PPO"),
    ("exploration_fraction", "DQN"),
    ("target_entropy", "SAC"),
    ("policy_delay", "TD3"),
    ("gae_lambda", "A2C"),
)


def walks(env: gym.Env[Any, Any]) -> Player:
    """The walks of `engine.data.walks`, or the source's own player where it has one."""
    if env.has_wrapper_attr("own_player"):
        return env.get_wrapper_attr("own_player")
    buttons = env.get_wrapper_attr("buttons")
    route = env.get_wrapper_attr("route") if env.has_wrapper_attr("route") else None

    def begin(rng: np.random.Generator) -> Act:
        walker = Walker(buttons, rng, route)
        return lambda frame, info: walker.act(info.get("pose"))

    return begin


def _uniform(env: gym.Env[Any, Any]) -> Player:
    """Nothing or any one button, each as often as the other, drawn anew for every frame."""
    buttons = env.get_wrapper_attr("buttons")

    def begin(rng: np.random.Generator) -> Act:
        def act(frame: np.ndarray, info: dict[str, Any]) -> np.ndarray:
            number = int(rng.integers(len(buttons) + 1))
            return encode(buttons, buttons[number - 1 : number] if number else ())

        return act

    return begin


def player_for(env: gym.Env[Any, Any], policy: str = "", random: float = 0.0) -> Player:
    """The player that `policy` names, for a source: "" the walks, "uniform", FILE.zip, or module:function.

    random: share of the episodes that are played by the walks all the same. UserError where the policy cannot be
    loaded, or does not fit the source.
    """
    other = walks(env)
    if not policy:
        return other
    if policy == "uniform":
        chosen = _uniform(env)
    else:
        chosen = _stable_baselines(Path(policy), env) if policy.endswith(".zip") else _function(policy, env)
    return lambda rng: (other if rng.random() < random else chosen)(rng)


def identity(policy: str) -> str:
    """What tells policies apart: for a file its name and a part of its SHA-256. UserError where it is not there."""
    if not policy.endswith(".zip"):
        return policy
    path = Path(policy)
    if not path.is_file():
        raise UserError(f"--policy {policy}: no such file")
    return f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()[:16]}"


def _function(policy: str, env: gym.Env[Any, Any]) -> Player:
    """``module:function``: called with frame, info and a random generator; returns names of buttons, or 0 and 1."""
    module, colon, name = policy.partition(":")
    if not colon or not module or module.startswith(".") or not name.isidentifier():
        raise UserError(f"--policy must be uniform, FILE.zip or module:function, not {policy!r}")
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
        raise UserError(f"--policy {policy}: there is no module {error.name!r} here") from error
    function = getattr(found, name, None)
    if not callable(function):
        raise UserError(f"--policy {policy}: {unknown('function', name, [n for n in vars(found) if n[0] != '_'])}")
    buttons = env.get_wrapper_attr("buttons")

    def begin(rng: np.random.Generator) -> Act:
        return lambda frame, info: _held(function(frame, info, rng), buttons, policy)

    return begin


def _held(answer: Any, buttons: tuple[str, ...], policy: str) -> np.ndarray:
    if isinstance(answer, Iterable) and not isinstance(answer, np.ndarray):
        answer = [answer] if isinstance(answer, str) else list(answer)
        if all(isinstance(name, str) for name in answer):
            return encode(buttons, answer)
    held = np.asarray(answer)
    if held.shape != (len(buttons),) or not np.isin(held, (0, 1)).all():
        raise UserError(
            f"--policy {policy} answered {answer!r}; expected names of buttons, or {len(buttons)} zeros and ones"
        )
    return held.astype(np.uint8)


def _stable_baselines(path: Path, env: gym.Env[Any, Any]) -> Player:
    """A policy of Stable-Baselines3, which samples its actions.

    It saw either the source's frames, also several of them stacked as VecFrameStack does, and acts by buttons
    (MultiBinary, or Discrete: 0 none, 1 the first, ...), or the environment's own observations and actions. Such a
    file holds pickled code: load only what you trust.
    """
    model = _load(path)
    from stable_baselines3.common.preprocessing import is_image_space, is_image_space_channels_first

    seen, acts = model.observation_space, model.action_space
    buttons, own = env.get_wrapper_attr("buttons"), env.observation_space.shape
    height, width, _ = own or (0, 0, 0)
    shape: tuple[int, ...] = tuple(seen.shape or ())
    if is_image_space(seen) and is_image_space_channels_first(seen) and shape[0] % 3 == 0:
        shape = (*shape[1:], shape[0])
    stack = shape[2] // 3 if len(shape) == 3 and shape[:2] == (height, width) and shape[2] % 3 == 0 else 0
    inner: Any = env.get_wrapper_attr("env") if env.has_wrapper_attr("env") else None
    native = not stack and inner is not None and env.has_wrapper_attr("buttons_of")
    if native and not _same(seen, inner.observation_space):
        native = False
    if native and acts != inner.action_space:
        raise UserError(f"--policy {path} acts in {acts}, the environment takes {inner.action_space}")
    if not stack and not native:
        raise UserError(
            f"--policy {path} was trained on observations {seen}; this source shows {env.observation_space}"
        )
    by_bits = isinstance(acts, gym.spaces.MultiBinary) and acts.shape == (len(buttons),)
    by_number = isinstance(acts, gym.spaces.Discrete) and acts.n == len(buttons) + 1
    if stack and not by_bits and not by_number:
        raise UserError(f"--policy {path} acts in {acts}; this world has the buttons {', '.join(buttons)}")

    def begin(rng: np.random.Generator) -> Act:
        past = deque([np.zeros((height, width, 3), np.uint8)] * stack, maxlen=max(1, stack))

        def act(frame: np.ndarray, info: dict[str, Any]) -> np.ndarray:
            past.append(frame)
            chosen = sampled(model, np.concatenate(past, -1) if stack else env.get_wrapper_attr("native"), rng)
            if native:
                return env.get_wrapper_attr("buttons_of")(chosen)
            if by_bits:
                return np.asarray(chosen, np.uint8)
            held = np.zeros(len(buttons), np.uint8)
            held[int(chosen) - 1 :][:1] = int(chosen) > 0
            return held

        return act

    return begin


def _same(one: gym.Space[Any], other: gym.Space[Any]) -> bool:
    """Whether observations of the one are those of the other, perhaps with a picture's channels in front."""
    wanted = tuple(other.shape or ())
    return one == other or (len(wanted) == 3 and one.shape == (*wanted[2:], *wanted[:2]))


def sampled(model: Any, observation: Any, rng: np.random.Generator) -> Any:
    """An action drawn by numbers of `rng` alone; the global generator is left as it was."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(rng.integers(2**62)))
        return model.predict(observation, deterministic=False)[0]


def _load(path: Path) -> Any:
    try:
        with zipfile.ZipFile(path) as file:
            settings = json.loads(file.read("data"))
    except FileNotFoundError as error:
        raise UserError(f"--policy {path}: no such file") from error
    except (zipfile.BadZipFile, KeyError, ValueError) as error:
        raise UserError(f"--policy {path} is no file of Stable-Baselines3") from error
    names = [name for key, name in ALGORITHMS if key in settings]
    if not names:
        raise UserError(f"--policy {path}: not one of {', '.join(name for _, name in ALGORITHMS)}")
    import stable_baselines3

    try:
        return getattr(stable_baselines3, names[0]).load(path, device="cpu")
    except (ValueError, KeyError, RuntimeError, AttributeError, TypeError) as error:
        raise UserError(f"--policy {path} cannot be loaded: {' '.join(str(error).split())[:200]}") from error
