"""Play that is worth learning from: walks to things and uses them, builds, comes back, runs into things, stands still.

It knows the whole map, so it can only play the simulator. Who is to play a generated world must go by pictures.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from engine.actions import encode
from engine.sources.crafter.source import MARGIN, CrafterEnv

Tile: TypeAlias = tuple[int, int]
Wanted: TypeAlias = Callable[[Tile, str, Any], bool]
"""(tile, its material, what stands on it) -> whether the player wants to go there."""

STEPS: dict[Tile, str] = {(-1, 0): "left", (1, 0): "right", (0, -1): "up", (0, 1): "down"}
AT_WORK = 0.3
"""Of the steps beside a table, the share in which it makes something, where it has the things for it."""
IN_NEED = 5
"""Of food or drink, below which it looks for more before anything else, most of the time."""
MOST_STEPS = 60
"""Of a way that is gone before there is a new plan."""
NEEDS: dict[str, dict[str, int]] = {
    "place_table": {"wood": 2},
    "place_stone": {"stone": 1},
    "place_furnace": {"stone": 4},
    "place_plant": {"sapling": 1},
    "make_wood_pickaxe": {"wood": 1},
    "make_stone_pickaxe": {"wood": 1, "stone": 1},
    "make_iron_pickaxe": {"wood": 1, "coal": 1, "iron": 1},
    "make_wood_sword": {"wood": 1},
    "make_stone_sword": {"wood": 1, "stone": 1},
    "make_iron_sword": {"wood": 1, "coal": 1, "iron": 1},
}
"""What must be in hand before a button can do something (beside a table or a furnace, where it needs one)."""
MATERIALS: dict[str, tuple[int, str]] = {
    "grass": (1, ""),
    "tree": (3, ""),
    "water": (2, ""),
    "sand": (1, ""),
    "stone": (3, "wood_pickaxe"),
    "coal": (2, "wood_pickaxe"),
    "iron": (2, "stone_pickaxe"),
    "diamond": (2, "iron_pickaxe"),
    "table": (2, ""),
    "furnace": (2, ""),
}
"""What it walks to: how often beside the others, and the tool without which it is of no use."""


class Survivor:
    """Chooses the buttons of each step of one episode of a source, from random numbers of its own."""

    def __init__(self, env: CrafterEnv, random: np.random.Generator) -> None:
        self.env, self.random = env, random
        self._queue: deque[str] = deque()  # of buttons; "" presses none
        self._visited: list[Tile] = []

    def act(self) -> np.ndarray:
        """The buttons to press now, uint8 (A,)."""
        button = self._next()
        return encode(self.env.buttons, [button] if button in self.env.buttons else [])

    def _next(self) -> str:
        here = self._here()
        self._visited.append(here)
        if self.random.random() < 0.04:
            return str(self.random.choice(self.env.buttons))  # whatever it does here, in vain most often
        x, y = self.env.player.facing
        ahead = self.env.world[here[0] + x, here[1] + y][1]
        objects = self.env.crafter.objects
        if isinstance(ahead, objects.Zombie | objects.Skeleton) and self.random.random() < 0.8:
            self._queue.clear()
            return "do"
        if self.random.random() < AT_WORK and "table" in self.env.world.nearby(self.env.player.pos, 1)[0]:
            able = self._able()
            if able:
                return str(self.random.choice(able))
        if not self._queue:
            self._plan()
        return self._queue.popleft()

    def _here(self) -> Tile:
        x, y = self.env.player.pos
        return int(x), int(y)

    def _plan(self) -> None:
        """Choose what to do next, and queue it: at least one button."""
        luck = self.random.random()
        have = self.env.player.inventory
        if luck < 0.7 and min(have["drink"], have["food"]) < IN_NEED and self._serve_need():
            return
        if luck < 0.25:
            self._walk_to(self._somewhere())
        elif luck < 0.45 and len(self._visited) > 40:
            old = self._visited[int(self.random.integers(len(self._visited) - 20))]
            self._walk_to(lambda tile, material, thing: tile == old)
        elif luck < 0.50:
            self._queue.extend([""] * int(self.random.integers(2, 8)))
        elif luck < 0.58:  # a held key, which runs into things and slides along nothing
            self._queue.extend([self._any_step()] * int(self.random.integers(2, 10)))
        elif have["energy"] < 3 or luck < 0.585:  # rarely: he sleeps on for up to a hundred steps
            self._queue.extend(["sleep"] * 2)
        else:
            self._use_something()
        if not self._queue:
            self._queue.extend([self._any_step()] * 3)
        self._queue.extend(self._crafts())

    def _serve_need(self) -> bool:
        """Queue the way to water or to a cow, whichever is needed more; False where none can be reached."""
        have, cow = self.env.player.inventory, self.env.crafter.objects.Cow
        if have["drink"] <= have["food"]:
            self._walk_to(lambda tile, material, thing: material == "water")
            self._queue.extend(["do"] * (9 - have["drink"]) if self._queue else [])
        else:
            self._walk_to(lambda tile, material, thing: isinstance(thing, cow))
            if len(self._queue) > 4:  # it will have walked on by then: only come near
                self._queue = deque(list(self._queue)[: len(self._queue) - 2])
            else:
                self._queue.extend(["do"] * 3 if self._queue else [])
        return bool(self._queue)

    def _any_step(self) -> str:
        return str(self.random.choice(list(STEPS.values())))

    def _somewhere(self) -> Wanted:
        x, y = self.random.integers(MARGIN, self.env.area - MARGIN, 2)
        return lambda tile, material, thing: abs(tile[0] - x) + abs(tile[1] - y) <= 1 and self._can_stand(material)

    def _can_stand(self, material: str) -> bool:
        return material in self.env.crafter.constants.walkable

    def _inland(self, tile: Tile) -> bool:
        """Whether the map's edge is out of view from there: what is learnt from should have none."""
        return all(MARGIN <= value < self.env.area - MARGIN for value in tile)

    def _use_something(self) -> None:
        """Go to a kind of thing that is of use now, and use it a few times."""
        have, objects = self.env.player.inventory, self.env.crafter.objects
        kinds = [kind for kind, (weight, tool) in MATERIALS.items() for _ in range(weight) if not tool or have[tool]]
        kinds += ["water"] * 6 * (have["drink"] < 5) + ["cow"] * (2 + 6 * (have["food"] < 5)) + ["plant"]
        kind = str(self.random.choice(kinds))
        things = {"cow": objects.Cow, "plant": objects.Plant}
        if kind in things:
            self._walk_to(lambda tile, material, thing: isinstance(thing, things[kind]))
        else:
            self._walk_to(lambda tile, material, thing: material == kind and thing is None)
        if self._queue:
            self._queue.extend(["do"] * int(self.random.integers(1, 6)))

    def _crafts(self) -> list[str]:
        """Buttons that place or make what the player has the things for, each with some luck."""
        have = self.env.player.inventory
        found = []
        for button in self._able():
            spare = button.startswith("make_") and have[button.removeprefix("make_")] > 0  # has one already
            if self.random.random() < (0.1 if spare else 0.35):
                found.append(button)
        return found

    def _able(self) -> list[str]:
        """Buttons that place or make what the player has the things for."""
        have = self.env.player.inventory
        return [button for button, needs in NEEDS.items() if all(have[item] >= count for item, count in needs.items())]

    def _walk_to(self, wanted: Wanted) -> None:
        """Queue the way to the nearest wanted tile that can be reached; the last step faces it. Nothing where none is.

        Steps of one length are tried in an order of their own each time, so that ways differ.
        """
        world, start = self.env.world, self._here()
        before: dict[Tile, tuple[Tile, Tile] | None] = {start: None}
        edge = deque([start])
        while edge:
            here = edge.popleft()
            for step in self.random.permutation(list(STEPS)).tolist():
                there = (here[0] + step[0], here[1] + step[1])
                material, thing = world[there]
                if material is None or there in before or not self._inland(there):
                    continue
                if wanted(there, material, thing):
                    self._queue.extend(_way(before, here, (step[0], step[1]))[:MOST_STEPS])
                    return
                if self._can_stand(material) and thing is None:
                    before[there] = (here, (step[0], step[1]))
                    edge.append(there)


def _way(before: dict[Tile, tuple[Tile, Tile] | None], here: Tile, last: Tile) -> list[str]:
    """The buttons from the start to `here`, and the step `last` from there."""
    steps = [last]
    while (came := before[here]) is not None:
        here, step = came
        steps.append(step)
    return [STEPS[step] for step in reversed(steps)]
