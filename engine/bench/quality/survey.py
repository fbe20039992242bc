"""A survey of many short lives: which materials, how many creatures, how fast hunger comes, which steps are refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from engine.bench.quality.effects import STEPS, displaced
from engine.bench.quality.playing import Playable
from engine.bench.tiles.patches import EDGE, MATERIALS, NOTHING, PLAYER_COLUMN, PLAYER_ROW, THINGS, WALKABLE
from engine.bench.tiles.player import Players
from engine.bench.tiles.reader import Reading
from engine.measures import interval

CREATURES = ("cow", "zombie")
NEEDS = ("food", "drink", "energy")
COMMON = 0.02
"""Share of all tiles above which a material must be about as common as in truth."""
ALIKE = 0.3
"""By how much, relatively, a share, a number or a rate may differ from the simulator's."""


@dataclass
class Survey:
    """Counts of B worlds, each (B, ...): tiles of each material, frames, creatures and those that moved, and so on.

    frames: in which the player lives. creatures: seen in them, by kind; watched: of these, while the view stood still
    and was seen again; strolled: of the watched, those that are not where they were. awake: frame pairs in which he was
    awake; fell: of these, in which food, drink or energy fell. steps: that were measured; refused: that were refused;
    rightly: that went or were refused as the drawn tile ahead says; against: before which it could not be walked on;
    stopped: of these, those that were refused.
    """

    materials: np.ndarray
    frames: np.ndarray
    creatures: np.ndarray
    watched: np.ndarray
    strolled: np.ndarray
    awake: np.ndarray
    fell: np.ndarray
    steps: np.ndarray
    refused: np.ndarray
    rightly: np.ndarray
    against: np.ndarray
    stopped: np.ndarray

    @classmethod
    def empty(cls, worlds: int) -> Survey:
        """Nothing counted yet."""
        shapes = {"materials": (len(MATERIALS),), "fell": (len(NEEDS),)}
        shapes |= dict.fromkeys(("creatures", "watched", "strolled"), (len(CREATURES),))
        return cls(**{name: np.zeros((worlds, *shapes.get(name, ())), np.int64) for name in cls.__dataclass_fields__})

    @classmethod
    def joined(cls, parts: Sequence[Survey]) -> Survey:
        """Of all the worlds."""
        return cls(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in vars(parts[0])})

    def cut(self, count: int) -> Survey:
        """Of the first worlds."""
        return Survey(**{name: values[:count] for name, values in vars(self).items()})


def survey(playable: Playable, players: Players, frames: int, bar: tqdm | None = None) -> Survey:
    """Let the players live for `frames` frames, or until they die, and count."""
    items = players.players[0].items
    found = Survey.empty(len(players.players))
    alive = np.ones(len(players.players), bool)
    frame, before, pressed = playable.frame, None, np.zeros(0)
    for _ in range(frames):
        actions, seen = players.act(frame)
        alive &= seen.items[:, items.index("health")] > 0
        for b in np.flatnonzero(alive):
            _count(found, int(b), seen[b])
            if before is not None:
                _compare(found, int(b), before[b], seen[b], players.buttons_of(pressed[b]), items)
        before, pressed = seen, actions
        frame = playable.step(actions)
        if bar is not None:
            bar.update(len(alive))
    return found


def _count(found: Survey, b: int, seen: Reading) -> None:
    """Take in what a single frame shows."""
    found.frames[b] += 1
    found.materials[b] += np.bincount(seen.materials.ravel(), minlength=len(MATERIALS))
    for kind, name in enumerate(CREATURES):
        found.creatures[b, kind] += (seen.things == THINGS.index(name)).sum()


def _compare(
    found: Survey, b: int, before: Reading, after: Reading, buttons: Sequence[str], items: Sequence[str]
) -> None:
    """Take in what changed between two frames."""
    if bool(before.asleep) or bool(after.asleep):
        return
    found.awake[b] += 1
    for need, name in enumerate(NEEDS):
        place = items.index(name)
        found.fell[b, need] += after.items[place] == before.items[place] - 1
    if (before.materials == after.materials).all() and not any(button in STEPS for button in buttons):
        for kind, name in enumerate(CREATURES):
            then, now = (reading.things == THINGS.index(name) for reading in (before, after))
            found.watched[b, kind] += then.sum()
            found.strolled[b, kind] += (then & ~now).sum()
    if len(buttons) != 1 or buttons[0] not in STEPS:
        return
    step = STEPS[buttons[0]]
    ahead = (PLAYER_ROW + step[1], PLAYER_COLUMN + step[0])
    material, thing = MATERIALS[int(before.materials[ahead])], THINGS[int(before.things[ahead])]
    moved = displaced(before, after, step)
    if material in ("lava", EDGE) or moved is None:
        return
    free = material in WALKABLE and thing == NOTHING
    found.steps[b] += 1
    found.refused[b] += not moved
    found.rightly[b] += moved == free
    found.against[b] += not free
    found.stopped[b] += not free and not moved


def figures(drawn: Survey, real: Survey) -> dict[str, Any]:
    """What a survey of a world says beside one of the simulator, by the same players on the same maps.

    materials: rows of shares of all tiles but those beyond a map's end; materials_missing: names that never appear;
    materials_alike: share of the common ones (above `COMMON`) that are within `ALIKE`. creatures: number in a frame and
    share that moves from frame to frame. rates: falls of food, drink and energy in 1,000 frames awake.
    steps_as_drawn: share of the steps that are refused where the drawn tile ahead cannot be walked on, and only there;
    steps_stopped: of those against something, the share that is refused; steps_gone: of the others, that is not.
    """
    names = [name for name in MATERIALS if name != EDGE]
    shares, truths = (_shares(counted, names) for counted in (drawn, real))
    materials = [_beside(name, shares[:, i], truths[:, i]) for i, name in enumerate(names)]
    common = [row for row in materials if row["simulator"] > COMMON]
    creatures = []
    for kind, name in enumerate(CREATURES):
        number = _beside(f"{name}s in view", *(_ratio(s.creatures[:, kind], s.frames) for s in (drawn, real)))
        moves = _beside(f"{name}s that move", *(_ratio(s.strolled[:, kind], s.watched[:, kind]) for s in (drawn, real)))
        creatures += [number, moves]
    rates = [
        _beside(f"{name} lost in 1000 frames", *(1000 * _ratio(s.fell[:, need], s.awake) for s in (drawn, real)))
        for need, name in enumerate(NEEDS)
    ]
    gone = drawn.rightly - drawn.stopped
    return {
        "materials": materials,
        "materials_missing": [
            name for i, name in enumerate(names) if not drawn.materials[:, MATERIALS.index(name)].any()
        ],
        "materials_missing_real": [name for i, name in enumerate(names) if not truths[:, i].any()],
        "materials_alike": float(np.mean([_alike(row) for row in common])) if common else None,
        "creatures": creatures,
        "rates": rates,
        "steps_as_drawn": interval(_ratio(drawn.rightly, drawn.steps), drawn.steps),
        "steps_as_drawn_real": interval(_ratio(real.rightly, real.steps), real.steps),
        "steps_stopped": interval(_ratio(drawn.stopped, drawn.against), drawn.against),
        "steps_gone": interval(_ratio(gone, drawn.steps - drawn.against), drawn.steps - drawn.against),
        "steps_measured": int(drawn.steps.sum()),
        "steps_refused": float(drawn.refused.sum() / max(1, drawn.steps.sum())),
        "frames_lived": interval(drawn.frames),
        "frames_lived_real": interval(real.frames),
    }


def _shares(counted: Survey, names: Sequence[str]) -> np.ndarray:
    """Shares (B, len(names)) of materials."""
    tiles = counted.materials[:, [MATERIALS.index(name) for name in names]]
    return tiles / np.maximum(tiles.sum(1, keepdims=True), 1)


def _ratio(some: np.ndarray, of: np.ndarray) -> np.ndarray:
    """(B,), NaN where there is nothing."""
    return some / np.where(of > 0, of, np.nan)


def _alike(row: dict[str, Any]) -> bool:
    return row["ratio"] is not None and abs(row["ratio"] - 1) <= ALIKE


def _beside(name: str, drawn: np.ndarray, real: np.ndarray) -> dict[str, Any]:
    """A row: means over worlds, with their intervals, and the ratio of the one to the other."""
    one, other = interval(drawn), interval(real)
    return {
        "name": name,
        "world": one["mean"],
        "world_interval": [one["low"], one["high"]],
        "simulator": other["mean"],
        "simulator_interval": [other["low"], other["high"]],
        "ratio": one["mean"] / other["mean"] if other["mean"] else None,
    }
