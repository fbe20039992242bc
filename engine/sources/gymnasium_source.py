"""Any Gymnasium environment that renders pictures, as a source."""

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np

from engine.errors import UserError


class GymnasiumSource(gym.Wrapper[np.ndarray, np.ndarray, Any, Any]):
    """Show ``env.render()`` as observation, uint8 (height, width, 3); take buttons as action, MultiBinary.

    `actions` maps each button to an action of `env`, and `idle` is the action without a button; where several
    are held, the first one in `buttons` counts. Without `actions` the buttons are a Discrete space's actions
    1, 2, ... in order, or the bits of a MultiBinary space. A reset with ``options={"map_seed": n}`` is one
    with ``seed=n``. Raises UserError where buttons and action space do not fit.
    """

    def __init__(
        self,
        env: gym.Env[Any, Any],
        buttons: Sequence[str],
        height: int,
        width: int,
        actions: Mapping[str, Any] | None = None,
        idle: Any = 0,
    ) -> None:
        super().__init__(env)
        self.buttons, self.height, self.width = tuple(buttons), height, width
        self.observation_space = gym.spaces.Box(0, 255, (height, width, 3), np.uint8)
        self.action_space = gym.spaces.MultiBinary(len(self.buttons))
        inner = env.action_space
        self._direct = actions is None and isinstance(inner, gym.spaces.MultiBinary)
        self._idle = idle
        if self._direct and inner.shape != (len(self.buttons),):
            raise UserError(f"the environment has {inner.shape} buttons, the world {len(self.buttons)}")
        if actions is None and isinstance(inner, gym.spaces.Discrete):
            actions = {button: number for number, button in enumerate(self.buttons, 1)}
        self._actions = dict(actions or {})
        lacking = [button for button in self.buttons if button not in self._actions]
        if lacking and not self._direct:
            raise UserError(f"source option actions must give an action for the button {lacking[0]!r}")
        for name, action in {"idle": idle, **self._actions}.items():
            if not self._direct and not inner.contains(self._convert(action)):
                raise UserError(f"action {action!r} of {name!r} is not in the environment's {inner}")

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Reset, with ``options["map_seed"]`` as seed where it is given."""
        rest = dict(options or {})
        _, info = self.env.reset(seed=rest.pop("map_seed", seed), options=rest or None)
        return self._picture(), info

    def step(self, action: np.ndarray) -> tuple[np.ndarray, Any, bool, bool, dict[str, Any]]:
        """Act with the first button held, or the idle action."""
        if self._direct:
            chosen: Any = np.asarray(action, np.int8)
        else:
            held = [button for button, value in zip(self.buttons, action, strict=True) if value]
            chosen = self._convert(self._actions[held[0]] if held else self._idle)
        _, reward, terminated, truncated, info = self.env.step(chosen)
        return self._picture(), float(reward), terminated, truncated, info

    def _convert(self, action: Any) -> Any:
        space = self.env.action_space
        if isinstance(space, gym.spaces.Discrete):
            return int(action)
        return np.asarray(action, space.dtype).reshape(space.shape or ())

    def _picture(self) -> np.ndarray:
        frame: Any = self.env.render()
        if not isinstance(frame, np.ndarray) or frame.ndim != 3 or frame.shape[2] != 3:
            raise UserError("the environment's render() must give a picture (height, width, 3)")
        return shrink(np.asarray(frame, np.uint8), self.height, self.width)


def shrink(frame: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bring a picture uint8 (H, W, 3) to (height, width, 3): the mean of what falls on a pixel."""
    rows, columns = np.arange(height) * frame.shape[0] // height, np.arange(width) * frame.shape[1] // width
    if height > frame.shape[0] or width > frame.shape[1]:
        return frame[rows][:, columns]
    sums = np.add.reduceat(np.add.reduceat(frame.astype(np.float32), rows, 0), columns, 1)
    counts = np.diff(rows, append=frame.shape[0])[:, None] * np.diff(columns, append=frame.shape[1])
    return np.rint(sums / counts[..., None]).astype(np.uint8)


def make(name: str, buttons: Sequence[str], height: int, width: int, options: Mapping[str, Any]) -> GymnasiumSource:
    """Open the environment `name`; `options` may hold ``actions`` and ``idle``, the rest goes to it."""
    rest = dict(options)
    actions, idle = rest.pop("actions", None), rest.pop("idle", 0)
    try:
        env = gym.make(name, render_mode="rgb_array", **rest)
    except (gym.error.Error, ModuleNotFoundError, TypeError) as error:
        raise UserError(f"source {name!r} cannot be opened: {error}; known: doom, or a Gymnasium id") from error
    return GymnasiumSource(env, buttons, height, width, actions, idle)
