"""Crafter (Hafner, arXiv 2109.06780) as a Gymnasium environment: frames of 9x9 tiles, the player in the middle.

The upper 7 rows of tiles show the world around the player, the lower 2 what he has. The package itself is not
deterministic from process to process, and draws noise over the picture at night: both are mended here.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

import gymnasium as gym
import numpy as np

from engine.errors import UserError, unknown
from engine.sources.splits import SPLITS

BUTTONS = (
    "left",
    "right",
    "up",
    "down",
    "do",
    "sleep",
    "place_stone",
    "place_table",
    "place_furnace",
    "place_plant",
    "make_wood_pickaxe",
    "make_stone_pickaxe",
    "make_iron_pickaxe",
    "make_wood_sword",
    "make_stone_sword",
    "make_iron_sword",
)
"""Crafter's 17 actions in its own order, but for the one that does nothing: no button at all."""
TILES = 9
"""Tiles of a frame from left to right, and from top to bottom."""
ROWS = 7
"""Of these, the rows that show the world; the rest shows what the player has."""
LEAST_AREA, MOST_AREA = 24, 256
"""Tiles that a map may have from side to side."""
WORKSHOP = "workshop"
"""A place with a table and a furnace: iron tools can be made nowhere else, and in ordinary play hardly ever are."""
PLACES = ("water", "sand", "tree", "stone", "coal", "iron", "diamond", "lava", "path", "table", "furnace", WORKSHOP)
"""Beside which an episode can begin."""
AT_WORKSHOP = 0.2
"""Share of the varied beginnings that are at a workshop, with something of all that tools are made of."""
MARGIN = TILES // 2 + 1
"""Tiles from the map's edge within which the edge comes into view: grey, and nothing that a dream should have."""
OPTIONS = ("area", "night", "length", "varied")
"""What a world's `source_options` may name."""
BEGINNINGS = ("map_seed", "inventory", "near")
"""What ``reset(options=...)`` may name."""
RATE = 8
"""Steps that are a second of play."""


class CrafterEnv(gym.Env[np.ndarray, np.ndarray]):
    """Survive on an island: walk, gather, build, eat, drink, sleep and fight.

    Observations are uint8 (height, width, 3), both a multiple of 9; actions are MultiBinary over `buttons`, a choice
    from `BUTTONS`. Crafter does one thing a step: of several buttons that are pressed, the one that stands last in
    `buttons` counts.

    ``info`` holds ``pose``, float32 (4,): tiles to the east and to the north of the map's corner, and twice 0, for the
    view never turns; ``events``, uint8 (22,): which of Crafter's achievements happened in this step, again or for the
    first time, in the order of `events`; ``map_seed``. The reward is Crafter's: 1 where something was achieved for the
    first time in the episode, and a tenth of each point of health that is won or lost. An episode terminates when the
    player dies, and is truncated after `length` steps.

    area: tiles of the map from side to side. night: whether it gets dark; else it is always noon. length: in steps,
    0 for no end. varied: the share of maps on which the player begins with things in his hands, at a place of another
    kind than the usual meadow, so that what is rare is seen, too.

    ``reset(options=...)`` takes ``map_seed`` (else one of the training split is drawn), ``inventory``, a table of items
    and counts from 0 to 9, and ``near``, one of `PLACES`. The same map, options and actions give the same frames, byte
    for byte, in every process. Raises UserError where Crafter is missing or an option is wrong.
    """

    exclusive = True
    """Of several buttons that are pressed, the last one counts; see `engine.inputs.counted`."""
    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": RATE}  # noqa: RUF012  (Gymnasium's way)

    def __init__(
        self,
        buttons: Sequence[str] = BUTTONS,
        height: int = 144,
        width: int = 144,
        render_mode: str | None = None,
        *,
        area: int = 64,
        night: bool = False,
        length: int = 10_000,
        varied: float = 0.0,
        **others: Any,
    ) -> None:
        for option in others:
            raise UserError(unknown("option of the Crafter source", option, OPTIONS))
        for button in buttons:
            if button not in BUTTONS:
                raise UserError(unknown("button of the Crafter source", button, BUTTONS))
        if height % TILES or width % TILES or not (TILES <= height <= 900 and TILES <= width <= 900):
            raise UserError(
                f"Crafter's frames are {TILES} tiles high and wide: multiples of {TILES} pixels up to 900, "
                f"not {height}x{width}"
            )
        if render_mode not in (None, "rgb_array"):
            raise UserError(f"render_mode must be 'rgb_array' or None, not {render_mode!r}")
        _check_whole("area", area, LEAST_AREA, MOST_AREA)
        _check_whole("length", length, 0, 10**9)
        if not isinstance(night, bool):
            raise UserError(f"Crafter's night must be true or false, not {night!r}")
        if isinstance(varied, bool) or not isinstance(varied, int | float) or not 0 <= varied <= 1:
            raise UserError(f"Crafter's varied is a share from 0 to 1, not {varied!r}")
        self.crafter = _import_crafter()
        self.buttons, self.height, self.width = tuple(buttons), height, width
        self.render_mode, self.area, self.night, self.varied = render_mode, area, night, varied
        self.observation_space = gym.spaces.Box(0, 255, (height, width, 3), np.uint8)
        self.action_space = gym.spaces.MultiBinary(len(self.buttons))
        self.events: tuple[str, ...] = tuple(self.crafter.constants.achievements)
        self.items: tuple[str, ...] = tuple(self.crafter.constants.items)
        self._game = _game(self.crafter, area, (width, height), length, night)
        self._length, self._map_seed, self._begun, self._over = length, -1, False, False
        self._frame = np.zeros((height, width, 3), np.uint8)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin on the map ``options["map_seed"]`` (an int >= 0), or on one drawn from the training split."""
        super().reset(seed=seed)
        asked = _checked_options(options)
        chosen = asked.get("map_seed")
        if chosen is None:
            chosen = self.np_random.integers(SPLITS["train"].start, SPLITS["train"].stop)
        _check_whole("map_seed", chosen, 0, 2**31 - 1)
        inventory, near = asked.get("inventory"), asked.get("near")
        random = np.random.default_rng([int(chosen), 71])
        if inventory is None and near is None and random.random() < self.varied:
            near = WORKSHOP if random.random() < AT_WORKSHOP else str(random.choice(PLACES))
            inventory = _drawn_inventory(random, self.items, stocked=near == WORKSHOP)
        self._check_start(inventory, near)
        self._map_seed, self._begun, self._over = int(chosen), True, False
        self._game._seed, self._game._episode = self._map_seed, 0
        self._frame = self._game.reset()
        self.player.inventory.update(inventory or {})
        self._game._last_health = self.player.health
        if near is not None:
            self._stand_beside(near, random)
        if inventory or near is not None:
            self._frame = self._game.render()
        return self._frame.copy(), self._info(np.zeros(len(self.events), np.uint8))

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Do what the last of the pressed buttons says, or nothing."""
        if not self._begun:
            raise UserError("the Crafter source was not reset; call reset() first")
        if self._over:
            raise UserError("this episode is over; call reset() first")
        pressed = [button for button, value in zip(self.buttons, action, strict=True) if value]
        number = 1 + BUTTONS.index(pressed[-1]) if pressed else 0
        before = np.array(list(self.player.achievements.values()))
        frame, reward, _, _ = self._game.step(number)
        happened = np.array(list(self.player.achievements.values())) > before
        dead = self.player.health <= 0
        truncated = bool(self._length and self._game._step >= self._length)
        self._over = dead or truncated
        self._frame = frame
        return frame.copy(), float(reward), bool(dead), truncated, self._info(happened.astype(np.uint8))

    def render(self) -> np.ndarray | None:
        """Return the last frame, uint8 (height, width, 3), in render mode 'rgb_array'."""
        return self._frame.copy() if self.render_mode == "rgb_array" else None

    def redraw(self) -> np.ndarray:
        """Show the map and the player as they are now, for those who changed them by hand; uint8 (height, width, 3)."""
        self._frame = self._game.render()
        return self._frame.copy()

    def own_player(self, random: np.random.Generator) -> Callable[[np.ndarray, dict[str, Any]], np.ndarray]:
        """A `Survivor` for the episode that has just begun: walks in rooms would miss most of this world."""
        from engine.sources.crafter.survivor import Survivor

        survivor = Survivor(self, random)
        return lambda frame, info: survivor.act()

    @property
    def player(self) -> Any:
        """Crafter's own player: his pos, facing, inventory and what he has achieved."""
        return self._game._player

    @property
    def world(self) -> Any:
        """Crafter's own map: ``world[x, y]`` is a material and the thing that stands there, if any."""
        return self._game._world

    def materials_in_view(self) -> np.ndarray:
        """Names of the materials that the frame shows, str (7, 9); empty where the map has ended."""
        x, y = self.player.pos
        names = [
            [self.world[x + i - TILES // 2, y + j - ROWS // 2][0] or "" for i in range(TILES)] for j in range(ROWS)
        ]
        return np.array(names)

    def _info(self, events: np.ndarray) -> dict[str, Any]:
        x, y = self.player.pos
        return {"pose": np.array([x, -y, 0, 0], np.float32), "events": events, "map_seed": self._map_seed}

    def _check_start(self, inventory: Mapping[str, int] | None, near: str | None) -> None:
        if near is not None and near not in PLACES:
            raise UserError(unknown("place of the Crafter source", str(near), PLACES))
        if inventory is not None and not isinstance(inventory, Mapping):
            raise UserError(f"Crafter's inventory is a table of items and counts, not {inventory!r}")
        for item, count in (inventory or {}).items():
            if item not in self.items:
                raise UserError(unknown("item of the Crafter source", str(item), self.items))
            _check_whole(f"inventory: {item}", count, 1 if item == "health" else 0, 9)

    def _stand_beside(self, material: str, random: np.random.Generator) -> None:
        """Bring the player to a free tile that has the material beside it; where there is none, it is put there.

        A workshop is always put there: a table and a furnace.
        """
        world, size = self.world, self.area
        free = [
            (x, y)
            for x in range(MARGIN, size - MARGIN)
            for y in range(MARGIN, size - MARGIN)
            if world[x, y][0] in self.crafter.constants.walkable and world[x, y][1] is None
        ]
        sides = ((-1, 0), (1, 0), (0, -1), (0, 1))
        beside = [(x, y) for x, y in free if any(world[x + i, y + j][0] == material for i, j in sides)]
        spots = beside or free
        if not spots:
            return
        spot = spots[int(random.integers(len(spots)))]
        world.move(self.player, spot)
        if not beside:
            wanted = ["table", "furnace"] if material == WORKSHOP else [material]
            for i, j in sides:
                if wanted and world[spot[0] + i, spot[1] + j][1] is None:
                    world[spot[0] + i, spot[1] + j] = wanted.pop()


class _Ordered(dict[Any, None]):
    """A set that is walked through in the order in which things came in; Crafter's own goes by their addresses."""

    def add(self, thing: Any) -> None:
        self[thing] = None

    def remove(self, thing: Any) -> None:
        del self[thing]


def _game(crafter: ModuleType, area: int, size: tuple[int, int], length: int, night: bool) -> Any:
    """Crafter's environment with ordered chunks and a night without noise, or no night at all."""

    class World(crafter.engine.World):  # type: ignore[name-defined]
        def reset(self, seed: int | None = None) -> None:
            super().reset(seed)
            self._chunks: Any = defaultdict(_Ordered)

    class View(crafter.engine.LocalView):  # type: ignore[name-defined]
        def _noise(self, canvas: np.ndarray, amount: float, stddev: float) -> np.ndarray:
            return canvas

    game = crafter.Env(area=(area, area), size=size, length=length, seed=0)
    world = World((area, area), crafter.constants.materials, (12, 12))
    game._world = world
    game._local_view = View(world, game._textures, [TILES, ROWS])
    game._sem_view = lambda: None  # a map of the whole island in every step, which nobody reads
    if not night:
        game._update_time = lambda: setattr(world, "daylight", 1.0)
    return game


def _drawn_inventory(random: np.random.Generator, items: Sequence[str], stocked: bool = False) -> dict[str, int]:
    """What a player could have by then: some of everything, tools less often; if `stocked`, at least one of each."""
    found = {}
    for item in items:
        if item in ("health", "food", "drink", "energy"):
            found[item] = int(random.integers(2 if item in ("food", "drink") else 4, 10))
        elif item.endswith(("pickaxe", "sword")):
            found[item] = int(random.random() < 0.5)
        else:
            found[item] = int(random.integers(stocked, 10)) if stocked or random.random() < 0.6 else 0
    return found


def _checked_options(options: Any) -> Mapping[str, Any]:
    """The options of a reset, of which none is misspelt. Raises UserError."""
    if options is not None and not isinstance(options, Mapping):
        raise UserError(f"Crafter's reset options are a table, not {options!r}")
    for name in options or {}:
        if name not in BEGINNINGS:
            raise UserError(unknown("reset option of the Crafter source", str(name), BEGINNINGS))
    return options or {}


def _check_whole(name: str, value: Any, least: int, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or not least <= value <= most:
        raise UserError(f"Crafter's {name} must be a whole number from {least} to {most}, not {value!r}")


def _import_crafter() -> ModuleType:
    try:
        import crafter
    except ImportError as error:
        raise UserError("the Crafter source needs Crafter; install it: pip install 'loci-engine[crafter]'") from error
    return crafter
