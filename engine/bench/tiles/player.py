"""Who plays by pictures alone, the simulator and a dream alike: walks, explores, gathers, builds, eats, sleeps."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from engine.actions import decode, encode
from engine.bench.tiles.patches import EDGE, MATERIALS, NOTHING, PLAYER_COLUMN, PLAYER_ROW, THINGS, WALKABLE, pick
from engine.bench.tiles.reader import Reading, TileReader
from engine.sources.crafter.source import ROWS, TILES
from engine.sources.crafter.survivor import MATERIALS as WANTED
from engine.sources.crafter.survivor import NEEDS

STEPS = {(-1, 0): "left", (1, 0): "right", (0, -1): "up", (0, 1): "down"}
"""Buttons by where they lead: to the right and down, as rows and columns count."""
HERE = (PLAYER_COLUMN, PLAYER_ROW)
FOES = ("zombie", "skeleton")
LOW = 5
"""Of food or drink, at which he looks for more of it."""
TIRED = 3
"""Of energy, at which he lies down."""
LUCK = 0.04
"""Share of the steps in which he presses any button, whatever it does there."""
PATIENCE = 40
"""Steps after which he wants something else."""
RARELY, AT_TIMES, OFTEN = 0.004, 0.04, 0.5
"""Chances of a step in which something can be made or placed."""
WOOD = 4
"""What he wants for a table, and for something to make beside it."""
BUMP = 0.06
"""Share of the steps that go against something, where there is something."""
_WALKABLE = pick(WALKABLE, MATERIALS)
_FREE = pick([NOTHING], THINGS)


@dataclass
class Wish:
    """What the player is about: a kind of tile or thing to use, a way to go, a button to hold, or nothing to do."""

    kind: str
    what: str = ""
    uses: int = 1
    patience: int = PATIENCE


class PicturePlayer:
    """Plays one episode. It remembers what it is about and the way it goes, and nothing of where things were.

    items: names of what an inventory shows, in the order of `Reading.items`.
    """

    def __init__(self, items: Sequence[str], buttons: Sequence[str], random: np.random.Generator) -> None:
        self.items, self.buttons, self.random = tuple(items), tuple(buttons), random
        self._wish = Wish("explore")
        self._heading = self._any_step()

    def act(self, seen: Reading) -> np.ndarray:
        """The buttons to press after a frame, uint8 (A,). seen: of this one frame, without leading axes."""
        button = self._next(seen)
        return encode(self.buttons, [button] if button in self.buttons else [])

    def _next(self, seen: Reading) -> str:
        if bool(seen.asleep):
            return ""
        random = self.random
        if random.random() < LUCK:
            return str(random.choice(self.buttons))
        against = blocked_ways(seen)
        if against and random.random() < BUMP:
            return against[int(random.integers(len(against)))]
        row, column = (int(value) for value in seen.ahead())
        if THINGS[seen.things[row, column]] in FOES and random.random() < 0.8:
            return "do"
        have = dict(zip(self.items, seen.items.tolist(), strict=True))
        made = self._craft(seen, have)
        if made:
            return made
        self._wish.patience -= 1
        if self._wish.patience <= 0 or self._wish.uses <= 0:
            self._wish = self._wished(have)
        urgent = self._urgent(seen, have)
        if urgent is not None:
            self._wish = urgent
        button = self._towards(seen)
        if button is None:
            self._wish = Wish("explore", patience=int(random.integers(5, 20)))
            self._heading = self._any_step()
            button = self._towards(seen) or self._any_button()
        return button

    def _any_step(self) -> tuple[int, int]:
        return list(STEPS)[int(self.random.integers(len(STEPS)))]

    def _any_button(self) -> str:
        return STEPS[self._any_step()]

    def _wished(self, have: dict[str, int]) -> Wish:
        """What to do next."""
        random = self.random
        luck = random.random()
        if luck < 0.4:
            self._heading = self._any_step()
            return Wish("explore", patience=int(random.integers(10, 60)))
        if luck < 0.45:
            return Wish("stand", patience=int(random.integers(2, 8)))
        if luck < 0.53:
            return Wish("hold", self._any_button(), patience=int(random.integers(2, 10)))
        if have["energy"] < TIRED or luck < 0.535:
            return Wish("sleep", patience=2)
        kinds = [kind for kind, (weight, tool) in WANTED.items() for _ in range(weight) if not tool or have[tool]]
        kinds += ["cow", "cow", "plant"] + ["tree"] * (6 * (not have["wood_pickaxe"]))
        return Wish("use", str(random.choice(kinds)), int(random.integers(2, 7)))

    def _urgent(self, seen: Reading, have: dict[str, int]) -> Wish | None:
        """Food and drink, where they are low and in sight."""
        if self._wish.kind == "use" and self._wish.what in ("cow", "water"):
            return None
        if have["drink"] < LOW and bool((seen.materials == MATERIALS.index("water")).any()):
            return Wish("use", "water", 4)
        if have["food"] < LOW and bool((seen.things == THINGS.index("cow")).any()):
            return Wish("use", "cow", 6)
        return None

    def _craft(self, seen: Reading, have: dict[str, int]) -> str:
        """A button that places or makes what he has the things for; tools beside a table, rarely a second one."""
        around = seen.materials[PLAYER_ROW - 1 : PLAYER_ROW + 2, PLAYER_COLUMN - 1 : PLAYER_COLUMN + 2]
        table = bool((around == MATERIALS.index("table")).any())
        for button, needs in NEEDS.items():
            if not all(have[item] >= count for item, count in needs.items()):
                continue
            luck = RARELY
            if button.startswith("make_"):
                luck = OFTEN if table and not have[button.removeprefix("make_")] else RARELY
            elif button != "place_table" or (have["wood"] >= WOOD and not table):
                luck = AT_TIMES
            if self.random.random() < luck:
                return button
        return ""

    def _towards(self, seen: Reading) -> str | None:
        """The button that the present wish asks for now; None where it cannot be fulfilled here."""
        wish = self._wish
        if wish.kind == "stand":
            return ""
        if wish.kind == "hold":
            return wish.what
        if wish.kind == "sleep":
            return "sleep"
        free = _WALKABLE[seen.materials] & _FREE[seen.things]
        if wish.kind == "explore":
            if ends(seen.materials, self._heading):
                return None
            steps = way(free, far(free, self._heading), self.random)
            return STEPS[steps[0]] if steps else None
        if wish.what in THINGS:
            wanted = seen.things == THINGS.index(wish.what)
        else:
            wanted = (seen.materials == MATERIALS.index(wish.what)) & _FREE[seen.things]
        row, column = (int(value) for value in seen.ahead())
        if wanted[row, column] and (row, column) != (PLAYER_ROW, PLAYER_COLUMN):
            wish.uses -= 1
            return "do"
        wanted[PLAYER_ROW, PLAYER_COLUMN] = False
        steps = way(free, wanted, self.random)
        return STEPS[steps[0]] if steps else None


def far(free: np.ndarray, heading: tuple[int, int]) -> np.ndarray:
    """The reachable tiles of a view (7, 9) that lie furthest in a direction, bool (7, 9)."""
    reached = reach(free)
    rows, columns = np.mgrid[:ROWS, :TILES]
    along = heading[0] * (columns - PLAYER_COLUMN) + heading[1] * (rows - PLAYER_ROW)
    best = along[reached].max()
    return np.asarray(reached & (along == best) & (best > 0))


def ends(materials: np.ndarray, heading: tuple[int, int]) -> bool:
    """Whether a view (7, 9) shows that the map ends in a direction."""
    line = {(-1, 0): materials[:, 0], (1, 0): materials[:, -1], (0, -1): materials[0], (0, 1): materials[-1]}[heading]
    return bool((line == MATERIALS.index(EDGE)).any())


def blocked_ways(seen: Reading) -> list[str]:
    """The buttons that lead against something beside the player that stops him and does no harm."""
    found = []
    for (x, y), button in STEPS.items():
        place = (PLAYER_ROW + y, PLAYER_COLUMN + x)
        material = int(seen.materials[place])
        if not (_WALKABLE[material] and _FREE[seen.things[place]]) and MATERIALS[material] not in ("lava", EDGE):
            found.append(button)
    return found


def reach(free: np.ndarray) -> np.ndarray:
    """Tiles of a view that the player can walk to within it, his own with them."""
    reached = np.zeros_like(free)
    reached[PLAYER_ROW, PLAYER_COLUMN] = True
    while True:
        grown = reached.copy()
        grown[1:] |= reached[:-1]
        grown[:-1] |= reached[1:]
        grown[:, 1:] |= reached[:, :-1]
        grown[:, :-1] |= reached[:, 1:]
        grown &= free | reached
        if (grown == reached).all():
            return reached
        reached = grown


def way(free: np.ndarray, wanted: np.ndarray, random: np.random.Generator) -> list[tuple[int, int]]:
    """The steps to the nearest wanted tile of a view (7, 9), the last one onto it or against it; none where none is."""
    before: dict[tuple[int, int], tuple[int, int] | None] = {HERE: None}
    edge = deque([HERE])
    steps = list(STEPS)
    while edge:
        x, y = edge.popleft()
        for i in random.permutation(len(steps)):
            dx, dy = steps[i]
            there = (x + dx, y + dy)
            if there in before or not (0 <= there[0] < TILES and 0 <= there[1] < ROWS):
                continue
            before[there] = (x, y)
            if wanted[there[1], there[0]]:
                return _steps(before, there)
            if free[there[1], there[0]]:
                edge.append(there)
    return []


def _steps(before: dict[tuple[int, int], tuple[int, int] | None], there: tuple[int, int]) -> list[tuple[int, int]]:
    found = []
    while (came := before[there]) is not None:
        found.append((there[0] - came[0], there[1] - came[1]))
        there = came
    return found[::-1]


class Players:
    """A `PicturePlayer` for each of B worlds, that read their frames together."""

    def __init__(self, reader: TileReader, items: Sequence[str], buttons: Sequence[str], seeds: Sequence[int]) -> None:
        self.reader, self.buttons = reader, tuple(buttons)
        self.players = [PicturePlayer(items, buttons, np.random.default_rng([seed, 91])) for seed in seeds]

    def buttons_of(self, action: np.ndarray) -> tuple[str, ...]:
        """Names of the buttons that an action (A,) presses."""
        return decode(self.buttons, action)

    def act(self, frames: np.ndarray) -> tuple[np.ndarray, Reading]:
        """Buttons (B, A) after frames (B, H, W, 3), and what these show."""
        seen = self.reader.read(frames)
        return np.stack([player.act(seen[b]) for b, player in enumerate(self.players)]), seen
