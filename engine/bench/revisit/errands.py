"""Errands in the simulator, and who walks them through dreams."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.actions import encode
from engine.bench.revisit.errand import ErrandTime, ErrandWalker, fault
from engine.bench.revisit.tasks import REAL
from engine.bench.revisit.truth import Frames, Visits, on_maps
from engine.bench.tiles.atlas import STEPS, Tile, tiles_of
from engine.bench.tiles.patches import Film, Palette
from engine.bench.tiles.reader import TileReader
from engine.sources.crafter.source import CrafterEnv

TASK = "errand"
WELL = dict.fromkeys(("health", "food", "drink", "energy"), 9)
"""What the simulator's player always has: an errand of a thousand frames is longer than he can live without meals."""
_MOVES = {button: step for step, button in STEPS.items()}


def step_well(env: CrafterEnv, action: np.ndarray) -> tuple[np.ndarray, bool, dict[str, Any]]:
    """A step of a player who is kept well; returns frame, whether the episode is over, and ``info``."""
    env.player.inventory.update(WELL)
    frame, _, terminated, truncated, info = env.step(action)
    return frame, terminated or truncated, info


@dataclass(frozen=True)
class Errand:
    """One walk in the simulator: frames as numbers of patches (T, 9, 9), actions (T, A), poses (T, 4)."""

    numbers: np.ndarray
    actions: np.ndarray
    poses: np.ndarray


class Errands:
    """The task `errand` for frames that `reader` reads. buttons: the world's; seed: of the walks."""

    def __init__(self, reader: TileReader, buttons: Sequence[str], seed: int) -> None:
        self.reader, self.buttons, self.seed = reader, tuple(buttons), seed

    def walk(self, env: CrafterEnv, time: ErrandTime, map_seed: int, palette: Palette) -> Errand | None:
        """Play an errand on a map, a function of it, the seed and the timetable; None where it does not come off."""
        frame, info = env.reset(options={"map_seed": map_seed})
        walker = ErrandWalker(time, np.random.default_rng([self.seed, map_seed, time.gap]))
        numbers, poses = [palette.add(frame)], [np.asarray(info["pose"], np.float64)]
        actions = [np.zeros(len(env.buttons), np.uint8)]
        over = False
        while len(poses) < time.length and not over:
            x, y = poses[-1][:2] - poses[0][:2]
            button = walker.act(self.reader.read(frame), (round(x), round(y)))
            if len(walker.tiles) == time.begin and _lost(walker, time):
                return None  # no need to walk home
            actions.append(encode(env.buttons, [button] if button else []))
            frame, over, info = step_well(env, actions[-1])
            numbers.append(palette.add(frame))
            poses.append(np.asarray(info["pose"], np.float64))
        found = Errand(np.stack(numbers), np.stack(actions), np.stack(poses))
        return found if fault(time, tiles_of(found.poses)) is None else None

    def visits(self, env: CrafterEnv, time: ErrandTime, episodes: int, group: int) -> Iterator[Visits]:
        """Yield `episodes` errands on test maps, one a map, in groups of up to `group`.

        Raises UserError where too few maps allow it.
        """
        palette = Palette()  # of all groups: patches are few, and come again
        what = f"the task {TASK} at gap {time.gap}"

        def walk(map_seed: int) -> Errand | None:
            return self.walk(env, time, map_seed, palette)

        for kept, chosen in on_maps(walk, what, self.seed, episodes, group):
            film = Film(np.stack([errand.numbers for errand in kept]), palette.patches)
            actions, poses = (np.stack([getattr(errand, name) for errand in kept]) for name in ("actions", "poses"))
            yield Visits(TASK, time, film, actions, poses, chosen)

    def walkers(self, visits: Visits) -> Walkers:
        """Who walks the errands of a group through a dream: others than in the simulator, for it shows other things."""
        return Walkers(self, visits)


def _lost(walker: ErrandWalker, time: ErrandTime) -> bool:
    """Whether a walk that comes to the return has failed already."""
    home = walker.home
    cut = [*walker.tiles, *[home or (0, 0)] * (time.length - len(walker.tiles))]
    return fault(time, cut) is not None


class Walkers:
    """An `ErrandWalker` for each world of a batch, as a `Player`; `tiles` holds where each walked, as it was told.

    Where a world knows no pose, a step is taken to succeed where the tile ahead looks free.
    """

    def __init__(self, errands: Errands, visits: Visits) -> None:
        time = visits.time
        assert isinstance(time, ErrandTime)
        self.errands, self.visits = errands, visits
        self.walkers = [
            ErrandWalker(time, np.random.default_rng([errands.seed, int(map_seed), time.gap, 1]))
            for map_seed in visits.map_seeds
        ]
        self._origin: list[Tile] = []
        self._first: np.ndarray | None = None
        self._pressed = [""] * len(self.walkers)

    @property
    def tiles(self) -> list[list[Tile]]:
        """Tiles of each world's walk so far."""
        return [walker.tiles for walker in self.walkers]

    def begin(self, frames: Frames, poses: np.ndarray | None) -> None:
        """See real frames (B, n, H, W, 3) but for the last, from where they were truly seen. See `Player.begin`."""
        seen, count = self.errands.reader.read(frames), frames.shape[1]
        for e, walker in enumerate(self.walkers):
            tiles = tiles_of(self.visits.poses[e, :count])
            for t in range(count - 1):
                walker.act(seen[e, t], tiles[t])
            self._origin.append(tiles[-1])
        self._first = poses

    def act(self, frames: np.ndarray, poses: np.ndarray | None) -> np.ndarray:
        """Actions (B, A) after frames (B, H, W, 3), seen from poses (B, 3) as the worlds tell them."""
        seen = self.errands.reader.read(frames)
        tiles = [self._tile(e, poses) for e in range(len(self.walkers))]
        self._pressed = [walker.act(seen[e], tiles[e]) for e, walker in enumerate(self.walkers)]
        buttons = self.errands.buttons
        return np.stack([encode(buttons, [button] if button else []) for button in self._pressed])

    def _tile(self, e: int, poses: np.ndarray | None) -> Tile:
        if poses is not None and self._first is not None:
            east, north = np.round(poses[e, :2] - self._first[e, :2]).astype(int).tolist()
            return self._origin[e][0] + east, self._origin[e][1] + north
        walker, step = self.walkers[e], _MOVES.get(self._pressed[e])
        if step is None:
            return self._origin[e] if len(walker.tiles) < REAL else walker.tiles[-1]
        there = (walker.tiles[-1][0] + step[0], walker.tiles[-1][1] + step[1])
        return there if walker.atlas.open(there) else walker.tiles[-1]
