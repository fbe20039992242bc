"""Doom as a source: ViZDoom on maps generated from a seed, as a Gymnasium environment."""

import shutil
import tempfile
import time
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import gymnasium as gym
import numpy as np

from engine.errors import UserError, unknown
from engine.inputs import counted
from engine.pictures import shrink_fast
from engine.sources.doom import route
from engine.sources.doom.maps import generate
from engine.sources.doom.plan import MapOptions, MapPlan
from engine.sources.doom.wad import MAP_NAME, WadFile, to_udmf
from engine.sources.splits import SPLITS

BUTTONS = ("forward", "back", "turn_left", "turn_right", "strafe_left", "strafe_right")
TICS = 4
"""Engine tics (35 a second) in a step."""
TURN = 15
"""Degrees in a step of turning; 24 steps are a full circle."""
STEP_LENGTH = 24.0
"""Map units in a step of walking or strafing."""
_SETTLE_TICS = 12  # the engine ignores buttons for the first 7 tics of a life
_BEGAN = time.time()
_HEADINGS = 360 // TURN
_CIRCLE = 65536  # the engine's turns are counted in 1/65536 of a circle


class DoomEnv(gym.Env[np.ndarray, np.ndarray]):
    """Walk through generated Doom maps: no enemies, no weapon, no HUD, no momentum.

    Observations are uint8 (height, width, 3); actions are MultiBinary over `buttons`, a choice from
    `BUTTONS`. Opposite buttons pressed together cancel. A step lasts 4 tics: 24 map units or 15 degrees.
    ``info["pose"]`` is float32 (4,): x, y, z in map units, and angle in degrees, 0..360, anticlockwise from
    east. Reward is 0 and episodes do not end. ``reset(options={"map_seed": n})`` chooses the map, which
    depends on n and `map_options` (see `MapOptions`) alone; without it a map of the training split is drawn.
    The same map and actions give the same frames, byte for byte. Raises UserError where ViZDoom is missing or
    an option is wrong.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 35 // TICS}  # noqa: RUF012  (Gymnasium's way)

    def __init__(
        self,
        buttons: Sequence[str] = BUTTONS,
        height: int = 96,
        width: int = 128,
        render_mode: str | None = None,
        exclusive: bool = False,
        **map_options: Any,
    ) -> None:
        self._game: Any = None
        self._end: Callable[[], object] = lambda: None
        for button in buttons:
            if button not in BUTTONS:
                raise UserError(unknown("button of the Doom source", button, BUTTONS))
        if not (1 <= height <= 600 and 1 <= width <= 800):
            raise UserError(f"Doom frames must be 1x1 to 600x800 (height x width), not {height}x{width}")
        if render_mode not in (None, "rgb_array"):
            raise UserError(f"render_mode must be 'rgb_array' or None, not {render_mode!r}")
        self.buttons, self.height, self.width = tuple(buttons), height, width
        self.render_mode, self.exclusive = render_mode, exclusive
        self.map_options = MapOptions.from_table(map_options)
        self.observation_space = gym.spaces.Box(0, 255, (height, width, 3), np.uint8)
        self.action_space = gym.spaces.MultiBinary(len(self.buttons))
        self.plan: MapPlan | None = None
        self._vizdoom = _import_vizdoom()
        self._wad: WadFile | None = None
        self._map_seed = -1
        self._heading = 0
        self._frame = np.zeros((height, width, 3), np.uint8)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start on the map ``options["map_seed"]`` (an int >= 0), or on one drawn from the training split."""
        super().reset(seed=seed)
        chosen = (options or {}).get("map_seed")
        if chosen is None:
            chosen = self.np_random.integers(SPLITS["train"].start, SPLITS["train"].stop)
        map_seed = int(chosen)
        if self.plan is None or map_seed != self._map_seed:
            self.plan = generate(map_seed, self.map_options)
            self._load(to_udmf(self.plan))
            self._map_seed = map_seed
        self._game.set_seed(map_seed % 2**31 + 1)
        self._game.new_episode()
        self._act([0.0] * 5, _SETTLE_TICS)
        self._heading = self.plan.start[2] // TURN
        for _ in range(2):  # a large turn is off by a unit or two at first
            self._act([0.0] * 4 + [_degrees(-self._units_left())], 1)
        return self._observe()

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Hold the pressed buttons for 4 tics."""
        if self._game is None:
            raise UserError("the Doom source is closed or was not reset; call reset() first")
        held = counted(np.asarray(action), self.exclusive)
        pressed = {button for button, value in zip(self.buttons, held, strict=True) if value}
        forward = ("forward" in pressed) - ("back" in pressed)
        left = ("strafe_left" in pressed) - ("strafe_right" in pressed)
        turn = ("turn_left" in pressed) - ("turn_right" in pressed)
        command = [float(forward > 0), float(forward < 0), float(left > 0), float(left < 0)]
        if turn:  # headings of 0, 5, 10 and 15 degrees, tic by tic: the opposite buttons go the same arc back
            self._heading = (self._heading + turn) % _HEADINGS
            units = -self._units_left()
            share = round(units / 3)
            self._act([*command, _degrees(units - 3 * share)], 1)
            self._act([*command, _degrees(share)], 3)
        else:
            self._act([*command, 0.0], TICS)
        frame, info = self._observe()
        return frame, 0.0, False, False, info

    def render(self) -> np.ndarray | None:
        """Return the last frame, uint8 (height, width, 3), in render mode 'rgb_array'."""
        return self._frame.copy() if self.render_mode == "rgb_array" else None

    def close(self) -> None:
        """Stop the engine and delete its files; may be called twice."""
        self._game = None
        self._end()
        self.plan = None

    def route(self, rng: np.random.Generator) -> list[tuple[float, float]]:
        """Return way points (x, y in map units) of a walk from here through one to four rooms."""
        if self.plan is None:
            raise UserError("the Doom source is closed or was not reset; call reset() first")
        x, y = self._variables()[:2]
        return route.tour(self.plan, (float(x), float(y)), rng)

    def clear(self, points: np.ndarray) -> np.ndarray:
        """Say where the player would stand without touching a wall: points (n, 2) in map units -> bool (n,)."""
        if self.plan is None:
            raise UserError("the Doom source is closed or was not reset; call reset() first")
        return route.clear(self.plan, points)

    def _act(self, command: list[float], tics: int) -> None:
        try:
            self._game.make_action(command, tics)
        except self._vizdoom.SignalException as error:
            raise KeyboardInterrupt from error
        except self._vizdoom.ViZDoomUnexpectedExitException as error:
            raise UserError("the Doom engine ended unexpectedly (killed, or out of memory?); start again") from error

    def _units_left(self) -> int:
        """Return how far the view is from its heading, in the engine's units, to the left.

        A heading is a multiple of 15 degrees, rounded to a unit: no number of turns drifts.
        """
        target = round(self._heading * _CIRCLE / _HEADINGS)
        now = round(float(self._variables()[3]) * _CIRCLE / 360)
        return (target - now + _CIRCLE // 2) % _CIRCLE - _CIRCLE // 2

    def _variables(self) -> np.ndarray:
        return np.asarray(self._game.get_state().game_variables, np.float64)

    def _observe(self) -> tuple[np.ndarray, dict[str, Any]]:
        state = self._game.get_state()
        self._frame = shrink_fast(state.screen_buffer, self.height, self.width)
        pose = np.asarray(state.game_variables, np.float32)
        pose[3] %= 360.0
        return self._frame.copy(), {"pose": pose, "map_seed": self._map_seed}

    def _load(self, text: bytes) -> None:
        """Give the engine a map; start the engine where it is not running, or its file is too small."""
        if self._game is not None and self._wad is not None and self._wad.fits(text):
            self._wad.write(text)
            return
        self._stop()
        folder, game = Path(tempfile.mkdtemp(prefix="loci-doom-")), self._vizdoom.DoomGame()
        self._end = weakref.finalize(self, _end, game, folder)  # also where nobody calls `close`
        self._wad = WadFile(folder / "maps.wad", max(1 << 18, 2 * len(text)))
        self._wad.write(text)
        _start(self._vizdoom, game, folder, self._wad.path, self._resolution())
        self._game = game

    def _stop(self) -> None:
        """Stop the engine, keep the plan."""
        plan = self.plan
        self.close()
        self.plan = plan

    def _resolution(self) -> str:
        """Choose the smallest screen that gives each pixel at least two by two of the engine's."""
        for width, height in ((160, 120), (256, 192), (320, 240), (512, 384), (640, 480), (800, 600)):
            if width >= 2 * self.width and height >= 2 * self.height:
                break
        return f"RES_{width}X{height}"


def _degrees(units: int) -> float:
    """Return the degrees that the engine, which rounds down, takes for so many of its units."""
    return (units + 0.25) * 360.0 / _CIRCLE


def _import_vizdoom() -> ModuleType:
    try:
        import vizdoom
    except ImportError as error:
        raise UserError("the Doom source needs ViZDoom; install it: pip install 'loci-engine[doom]'") from error
    return vizdoom


def _start(vizdoom: ModuleType, game: Any, folder: Path, wad: Path, resolution: str) -> None:
    game.set_doom_game_path(str(Path(str(vizdoom.__file__)).parent / "freedoom2.wad"))
    game.set_doom_scenario_path(str(wad))
    game.set_doom_config_path(str(folder / "engine.ini"))
    game.set_doom_map(MAP_NAME)
    game.set_screen_resolution(getattr(vizdoom.ScreenResolution, resolution))
    game.set_screen_format(vizdoom.ScreenFormat.RGB24)
    hidden = "hud minimal_hud crosshair weapon decals particles messages corpses effects_sprites screen_flashes"
    for part in hidden.split():
        getattr(game, f"set_render_{part}")(False)
    game.set_window_visible(False)
    game.set_sound_enabled(False)
    button, variable = vizdoom.Button, vizdoom.GameVariable
    game.set_available_buttons(
        [
            button.MOVE_FORWARD,
            button.MOVE_BACKWARD,
            button.MOVE_LEFT,
            button.MOVE_RIGHT,
            button.TURN_LEFT_RIGHT_DELTA,
        ]
    )
    game.set_available_game_variables([variable.POSITION_X, variable.POSITION_Y, variable.POSITION_Z, variable.ANGLE])
    game.set_mode(vizdoom.Mode.PLAYER)
    game.set_episode_timeout(0)
    game.add_game_args("+movebob 0 +cl_run 0")
    game.init()
    _remove_litter(Path("_vizdoom"))


def _remove_litter(folder: Path) -> None:
    """Remove the empty folder that the engine makes wherever it is started, whichever process made it first.

    One that was there before this program is somebody else's.
    """
    with suppress(OSError):
        if folder.stat().st_mtime >= _BEGAN - 1:  # clocks of files may be a little coarse
            folder.rmdir()


def _end(game: Any, folder: Path) -> None:
    game.close()
    shutil.rmtree(folder, ignore_errors=True)
