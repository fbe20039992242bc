"""Effects: does each button do as often in a world what it does in the simulator, from the same state?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from engine.actions import encode
from engine.bench.rollout import groups
from engine.bench.tiles.patches import FACING, MATERIALS, THINGS, WALKABLE
from engine.bench.tiles.reader import Reading, TileReader
from engine.measures import interval
from engine.sources.crafter.source import BUTTONS, MARGIN, CrafterEnv
from engine.sources.crafter.survivor import NEEDS
from engine.world import World

TOLERANCE = 0.1
"""By how much the share of states in which a button has its effect may differ from the simulator's."""
IN_VAIN = 0.25
"""Share of the states in which something is missing that the button needs."""
STEPS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
"""Where a button leads: to the right and down."""
DIGS = {
    "tree": "",
    "water": "",
    "stone": "wood_pickaxe",
    "coal": "wood_pickaxe",
    "iron": "stone_pickaxe",
    "diamond": "iron_pickaxe",
}
"""What `do` takes something from, and the tool that it needs."""
GROUND = {
    "place_stone": ("grass", "sand", "path", "water", "lava"),
    "place_table": ("grass", "sand", "path"),
    "place_furnace": ("grass", "sand", "path"),
    "place_plant": ("grass",),
}
"""On what something can be placed."""
TIRED = 5
"""Energy at which the player can lie down."""


@dataclass(frozen=True)
class States:
    """N states of the simulator with a button each: frames before and after, uint8 (N, H, W, 3); names (N,)."""

    buttons: list[str]
    before: np.ndarray
    after: np.ndarray


def states(env: CrafterEnv, maps: Sequence[int] | np.ndarray, count: int, seed: int) -> States:
    """Make `count` states for each button of the source, on test maps, and let the simulator go on from each.

    The player stands somewhere on a map, with what the button needs in his hands and before him, or in part of the
    states (`IN_VAIN`) without.
    """
    buttons, before, after = [], [], []
    names = [button for button in BUTTONS if button in env.buttons]
    rounds = -(-count // len(maps))
    with tqdm(total=count * len(names), desc="states for effects", unit="state", leave=False) as bar:
        for number, map_seed in enumerate(maps):
            env.reset(options={"map_seed": int(map_seed)})
            random = np.random.default_rng([seed, int(map_seed), 17])
            spots = _spots(env)
            for _ in range(min(rounds, count - number * rounds)):
                for button in names:
                    _stage(env, button, random, spots[int(random.integers(len(spots)))])
                    before.append(env.redraw())
                    env._over = False  # whatever befell him in another state
                    after.append(env.step(encode(env.buttons, [button]))[0])
                    buttons.append(button)
                    bar.update()
    return States(buttons, np.stack(before), np.stack(after))


def _spots(env: CrafterEnv) -> list[tuple[int, int]]:
    """Tiles where a player can stand, out of sight of the map's end; or else his own."""
    world, inland = env.world, range(MARGIN, env.area - MARGIN)
    found = [(x, y) for x in inland for y in inland if world[x, y][0] in WALKABLE and world[x, y][1] is None]
    return found or [tuple(int(value) for value in env.player.pos)]  # type: ignore[list-item]


def _stage(env: CrafterEnv, button: str, random: np.random.Generator, spot: tuple[int, int]) -> None:
    """Bring the player to a spot, facing what the button needs, with what it needs in his hands; or without that."""
    player, world = env.player, env.world
    if world[spot][1] is None:
        world.move(player, spot)
    player.sleeping = False
    x, y = (int(value) for value in player.pos)
    if world[x, y][0] not in WALKABLE:
        world[x, y] = "grass"
    player.facing = list(FACING.values())[int(random.integers(4))]
    ahead = (x + player.facing[0], y + player.facing[1])
    thing = world[ahead][1]
    if thing is not None and thing is not player:
        world.remove(thing)
    have = dict.fromkeys(env.items, 0) | {name: int(random.integers(4, 10)) for name in ("health", "food", "drink")}
    have["energy"] = int(random.integers(2, 10))
    vain = random.random() < IN_VAIN
    if button == "do":
        _face_something(env, ahead, have, random, vain)
    elif button == "sleep":
        have["energy"] = 9 if vain else int(random.integers(2, TIRED + 1))
    elif button in NEEDS:
        have |= {item: int(random.integers(needed, 10)) for item, needed in NEEDS[button].items()}
        if vain:
            item = str(random.choice(list(NEEDS[button])))
            have[item] = NEEDS[button][item] - 1
        if button in GROUND:
            world[ahead] = str(random.choice(GROUND[button]))
        else:
            world[ahead] = "table"
            aside = (x + player.facing[1], y + player.facing[0])
            if button.startswith("make_iron") and world[aside][1] is None:
                world[aside] = "furnace"
    player.inventory.update(have)
    player._hunger = player._thirst = player._fatigue = 0
    player._last_health = player.health


def _face_something(
    env: CrafterEnv, ahead: tuple[int, int], have: dict[str, int], random: np.random.Generator, vain: bool
) -> None:
    """Put before the player what he can take something from, with the tool for it; or a cow, and an iron sword."""
    if random.random() < 0.2:
        env.world[ahead] = "grass"
        env.world.add(env.crafter.objects.Cow(env.world, ahead))
        have["iron_sword"], have["food"] = int(not vain), 3
        return
    material = str(random.choice(list(DIGS)))
    env.world[ahead] = material
    if material == "water":
        have["drink"] = 4
    if DIGS[material] and not vain:
        have[DIGS[material]] = 1


def happened(button: str, before: Reading, after: Reading, items: Sequence[str]) -> dict[str, bool]:
    """What a button did between two frames (readings of one frame each), by the name of the effect.

    moves: `turned` and `moved`; sleep: `slept`; do and all others: `counted` (an item is there that was not) and
    `changed` (the tile that he faces).
    """
    if button in STEPS:
        wanted = next(name for name, step in FACING.items() if step == STEPS[button])
        return {"turned": THINGS[int(after.player)] == wanted, "moved": displaced(before, after, STEPS[button]) is True}
    if button == "sleep":
        return {"slept": bool(after.asleep)}
    place = tuple(int(value) for value in before.ahead())
    changed = before.materials[place] != after.materials[place] or before.things[place] != after.things[place]
    if button.startswith("make_"):
        item = items.index(button.removeprefix("make_"))
        return {"counted": bool(after.items[item] > before.items[item])}
    if button == "do":
        gained = [i for i, item in enumerate(items) if item not in ("health", "energy")]
        return {"counted": bool((after.items[gained] > before.items[gained]).any()), "changed": bool(changed)}
    what = button.removeprefix("place_")
    shown = (MATERIALS[int(after.materials[place])], THINGS[int(after.things[place])])
    needed = next(iter(NEEDS[button]))
    return {
        "changed": bool(changed) and what in shown,
        "counted": bool(after.items[items.index(needed)] < before.items[items.index(needed)]),
    }


def displaced(before: Reading, after: Reading, step: tuple[int, int]) -> bool | None:
    """Whether a view has moved by one tile, to the right and down, by what its tiles show; None where that is open."""
    dx, dy = step
    rows, columns = before.materials.shape
    old = before.materials[max(0, dy) : rows + min(0, dy), max(0, dx) : columns + min(0, dx)]
    new = after.materials[max(0, -dy) : rows + min(0, -dy), max(0, -dx) : columns + min(0, -dx)]
    moved, stayed = (old == new).mean(), (before.materials == after.materials).mean()
    return None if moved == stayed else bool(moved > stayed)


def measure(
    world: World, reader: TileReader, made: States, items: Sequence[str], seed: int
) -> tuple[dict[str, Any], np.ndarray]:
    """Let a world draw what follows from each state: how often each button has each effect, there and in truth.

    Returns `effects`, a row for each button and effect; `effects_worst`, the largest difference of shares; and
    `effects_within`, the share of the buttons of which no effect differs by more than `TOLERANCE`. Also what was drawn.
    """
    told: dict[tuple[str, str], list[tuple[bool, bool]]] = {}
    buttons, kept = world.buttons, []
    with tqdm(total=len(made.buttons), desc="effects", unit="state", leave=False) as bar:
        for index, count in groups(len(made.buttons), world.batch):
            world.reset([seed + int(i) for i in index], made.before[index][:, None])
            drawn = world.step(np.stack([encode(buttons, [made.buttons[i]]) for i in index]))
            kept.append(drawn[:count])
            before, after, own = (reader.read(f) for f in (made.before[index], made.after[index], drawn))
            for k, i in enumerate(index[:count]):
                button = made.buttons[i]
                real = happened(button, before[k], after[k], items)
                for name, shown in happened(button, before[k], own[k], items).items():
                    told.setdefault((button, name), []).append((real[name], shown))
            bar.update(count)
    rows = [_row(button, name, np.array(pairs, float)) for (button, name), pairs in told.items()]
    off = {button: max(abs(row["difference"]) for row in rows if row["button"] == button) for button, _ in told}
    figures = {
        "effects": rows,
        "effects_worst": max(off.values()),
        "effects_within": float(np.mean([value <= TOLERANCE + 1e-9 for value in off.values()])),
    }
    return figures, np.concatenate(kept)


def _row(button: str, effect: str, pairs: np.ndarray) -> dict[str, Any]:
    """pairs (N, 2): whether it happened in the simulator and in the world."""
    span = interval(pairs[:, 1] - pairs[:, 0])
    return {
        "button": button,
        "effect": effect,
        "states": len(pairs),
        "simulator": float(pairs[:, 0].mean()),
        "world": float(pairs[:, 1].mean()),
        "difference": span["mean"],
        "difference_interval": [span["low"], span["high"]],
        "agreement": float((pairs[:, 0] == pairs[:, 1]).mean()),
    }
