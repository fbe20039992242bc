"""Any Gymnasium environment that shows pictures, as a source."""

from collections.abc import Mapping, Sequence
from typing import Any, get_args

import gymnasium as gym
import numpy as np

from engine.errors import UserError
from engine.inputs import counted
from engine.pictures import resize
from engine.sources.gymnasium.find import open_environment
from engine.sources.gymnasium.fit import WHOLE, Fit


class GymnasiumSource(gym.Wrapper[np.ndarray, np.ndarray, Any, Any]):
    """Show ``env.render()`` as observation, uint8 (height, width, 3); take buttons as action, MultiBinary.

    Without `render_mode` the environment's own observation is the picture: uint8 (H, W), (H, W, 1) or (H, W, 3).

    `actions` maps each button to an action of `env`, and `idle` is the action without a button. In a Discrete space a
    name such as ``up+fire`` is the action of several buttons held together; of the actions whose buttons are all
    held, the one with most of them is taken, and of those the first one in `actions`. In a space of arrays
    (MultiDiscrete, MultiBinary, Box) each button changes those entries in which its action differs from `idle`; where
    several change the same entry, the first one in `buttons` counts. Without `actions` the buttons are a Discrete
    space's actions 1, 2, ... in order, or the bits of a MultiBinary space.

    frame_skip: steps that an action is held, their rewards are summed, up to the end of the episode. fit: how a picture
    of another aspect is brought to the size: ``stretch`` it, ``pad`` it with black, or ``crop`` it. region: the part of
    the picture that is shown, (left, top, right, bottom) as shares of its width and height; all of it by default.
    exclusive: of several buttons that are held, the last one counts.

    A reset with ``options={"map_seed": n}`` is one with ``seed=n``. Raises UserError where the buttons and the action
    space, or an option, do not fit.
    """

    def __init__(
        self,
        env: gym.Env[Any, Any],
        buttons: Sequence[str],
        height: int,
        width: int,
        actions: Mapping[str, Any] | None = None,
        idle: Any = 0,
        frame_skip: int = 1,
        fit: Fit = "stretch",
        region: Sequence[float] = WHOLE,
        exclusive: bool = False,
    ) -> None:
        super().__init__(env)
        if type(frame_skip) is not int or not 1 <= frame_skip <= 1000:
            raise UserError(f"source option frame_skip must be a number from 1 to 1000, not {frame_skip!r}")
        if fit not in get_args(Fit):
            raise UserError(f"source option fit must be one of {', '.join(get_args(Fit))}, not {fit!r}")
        self.buttons, self.height, self.width = tuple(buttons), height, width
        self.frame_skip, self.fit, self.region, self.exclusive = frame_skip, fit, check_region(region), exclusive
        self.observation_space = gym.spaces.Box(0, 255, (height, width, 3), np.uint8)
        self.action_space = gym.spaces.MultiBinary(len(self.buttons))
        self.native: Any = None
        """The environment's own last observation; policies that were trained on it need it."""
        self._actions = ActionTable(env.action_space, self.buttons, actions, idle)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Reset, with ``options["map_seed"]`` as seed where it is given."""
        rest = dict(options or {})
        self.native, info = self.env.reset(seed=rest.pop("map_seed", seed), options=rest or None)
        return self._picture(), info

    def step(self, action: np.ndarray) -> tuple[np.ndarray, Any, bool, bool, dict[str, Any]]:
        """Hold the buttons, uint8 (A,), for `frame_skip` steps, or up to the episode's end."""
        chosen, total = self._actions.action(counted(np.asarray(action), self.exclusive)), 0.0
        for _ in range(self.frame_skip):
            self.native, reward, terminated, truncated, info = self.env.step(chosen)
            total += float(reward)
            if terminated or truncated:
                break
        return self._picture(), total, bool(terminated), bool(truncated), info

    def buttons_of(self, action: Any) -> np.ndarray:
        """The buttons uint8 (A,) that make an action of the environment's own; UserError where none do."""
        return self._actions.buttons_of(action)

    def _picture(self) -> np.ndarray:
        frame: Any = self.native if self.env.render_mode is None else self.env.render()
        if isinstance(frame, np.ndarray) and frame.ndim == 2:
            frame = frame[..., None]
        if not isinstance(frame, np.ndarray) or frame.ndim != 3 or frame.shape[2] not in (1, 3):
            raise UserError(f"the environment shows {_described(frame)} where a picture (height, width, 3) is needed")
        if frame.dtype != np.uint8:
            raise UserError(f"the environment's picture must be uint8, 0 to 255, not {frame.dtype}")
        if frame.shape[2] == 1:
            frame = frame.repeat(3, 2)
        frame = part_of(frame, self.region)
        return resize(frame, self.height, self.width, self.fit)


class ActionTable:
    """Which action of `space` the held buttons make, see `GymnasiumSource`."""

    def __init__(
        self, space: gym.Space[Any], buttons: Sequence[str], actions: Mapping[str, Any] | None, idle: Any
    ) -> None:
        self.space, self.buttons = space, tuple(buttons)
        if not isinstance(space, gym.spaces.Discrete | gym.spaces.MultiDiscrete | gym.spaces.MultiBinary) and not (
            isinstance(space, gym.spaces.Box) and space.is_bounded()
        ):
            raise UserError(
                f"actions {type(space).__name__} cannot be made of buttons; expected Discrete, MultiDiscrete,"
                f" MultiBinary or a bounded Box, got {space}"
            )
        self.discrete = isinstance(space, gym.spaces.Discrete)
        actions = self._given(actions)
        if not self.discrete and np.ndim(idle) == 0:
            idle = np.full(space.shape or (), idle)
        self.idle = self._checked("idle", idle)
        self.table: dict[frozenset[str], Any] = {}
        for name, action in actions.items():
            held = frozenset([name] if name in self.buttons else name.split("+"))
            strange = sorted(held - set(self.buttons))
            if strange or (len(held) > 1 and not self.discrete):
                raise UserError(f"source option actions: {name!r} is no button; the buttons are {', '.join(buttons)}")
            self.table.setdefault(held, self._checked(name, action))
        lacking = [button for button in self.buttons if not any(button in held for held in self.table)]
        if lacking:
            raise UserError(f"source option actions must give an action for the button {lacking[0]!r}")

    def _given(self, actions: Mapping[str, Any] | None) -> Mapping[str, Any]:
        if actions is not None:
            if not isinstance(actions, Mapping):
                raise UserError(f"source option actions must be a table of buttons, not {actions!r}")
            return actions
        if isinstance(self.space, gym.spaces.Discrete):
            return {button: number for number, button in enumerate(self.buttons, 1)}
        if isinstance(self.space, gym.spaces.MultiBinary):
            if self.space.shape != (len(self.buttons),):
                raise UserError(f"the environment has {self.space.shape} buttons, the world {len(self.buttons)}")
            return dict(zip(self.buttons, np.eye(len(self.buttons), dtype=np.int8), strict=True))
        return {}

    def _checked(self, name: str, action: Any) -> Any:
        try:
            value: Any
            if self.discrete:
                value = int(action)
                fits = value == action and self.space.contains(value)
            else:
                value = np.asarray(action, self.space.dtype).reshape(self.space.shape or ())
                fits = bool((value == np.asarray(action)).all() or value.dtype.kind == "f")
                fits = fits and self.space.contains(value)
        except (TypeError, ValueError):
            fits = False
        if not fits:
            raise UserError(f"action {action!r} of {name!r} is not in the environment's {self.space}")
        return value

    def action(self, pressed: Any) -> Any:
        """The action of the space for buttons (A,), 1 where one is held."""
        held = [button for button, value in zip(self.buttons, pressed, strict=True) if value]
        if self.discrete:
            found = [keys for keys in self.table if keys.issubset(held)]
            # max takes the first of the longest; single buttons stand in the order of `buttons`
            found.sort(key=lambda keys: min(self.buttons.index(button) for button in keys))
            return self.table[max(found, key=len)] if found else self.idle
        action, free = self.idle.copy(), np.ones(self.idle.shape, bool)
        for button in held:
            wanted = self.table[frozenset([button])]
            change = (wanted != self.idle) & free
            action[change] = wanted[change]
            free &= ~change
        return action

    def buttons_of(self, action: Any) -> np.ndarray:
        """The buttons (A,) that come closest to an action of the space; UserError where a Discrete one has none."""
        pressed = np.zeros(len(self.buttons), np.uint8)
        if not self.discrete:
            value = np.asarray(action, np.float64)
            for index, button in enumerate(self.buttons):
                wanted = self.table[frozenset([button])].astype(np.float64)
                change = wanted != self.idle
                away, back = np.abs(value - wanted)[change], np.abs(value - self.idle)[change]
                pressed[index] = change.any() and bool((away < back).all())
            return pressed
        if int(action) == self.idle:
            return pressed
        for held, number in self.table.items():
            if number == int(action):
                pressed[[self.buttons.index(button) for button in held]] = 1
                return pressed
        raise UserError(f"no button of this world makes the environment's action {int(action)}")


def _described(frame: Any) -> str:
    return f"an array {frame.shape}" if isinstance(frame, np.ndarray) else f"a {type(frame).__name__}"


def check_region(region: Any) -> tuple[float, float, float, float]:
    """The part of a picture as four shares. UserError where it is none."""
    try:
        left, top, right, bottom = (float(share) for share in region)
    except (TypeError, ValueError):
        left, top, right, bottom = 0.0, 0.0, 0.0, 0.0
    if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
        raise UserError(f"source option region must be [left, top, right, bottom], each from 0 to 1, not {region!r}")
    return left, top, right, bottom


def part_of(frame: np.ndarray, region: tuple[float, float, float, float]) -> np.ndarray:
    """The part of a picture (H, W, C), at least a pixel, that `check_region` describes."""
    if region == WHOLE:
        return frame
    h, w = frame.shape[:2]
    top, left = min(round(region[1] * h), h - 1), min(round(region[0] * w), w - 1)
    return frame[top : max(top + 1, round(region[3] * h)), left : max(left + 1, round(region[2] * w))]


def make(
    name: str, buttons: Sequence[str], height: int, width: int, options: Mapping[str, Any], exclusive: bool = False
) -> GymnasiumSource:
    """Open the environment `name`.

    options: ``actions``, ``idle``, ``frame_skip``, ``fit`` and ``region`` are those of `GymnasiumSource`, the table
    ``make`` and everything else goes to the environment. Raises UserError.
    """
    rest = dict(options)
    own = {key: rest.pop(key) for key in ("actions", "idle", "frame_skip", "fit", "region") if key in rest}
    more = rest.pop("make", {})
    if not isinstance(more, Mapping):
        raise UserError(f"source option make must be a table, not {more!r}")
    env = open_environment(name, rest | dict(more))
    try:
        return GymnasiumSource(env, buttons, height, width, exclusive=exclusive, **own)
    except UserError:
        env.close()
        raise
