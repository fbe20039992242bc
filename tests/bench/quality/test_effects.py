"""Effects: a world that goes on as the simulator does is right, one in which nothing happens is wrong."""

from functools import lru_cache
from typing import Any

import numpy as np
import pytest

pytest.importorskip("crafter")

from engine.bench.quality import effects
from engine.bench.tiles.reader import TileReader
from engine.sources.crafter.source import BUTTONS, CrafterEnv


@lru_cache
def made() -> effects.States:
    return effects.states(CrafterEnv(area=24), [2_000_001, 2_000_002, 2_000_003], 12, 0)


class Known:
    """A world of 5 worlds that knows what follows from each state; or in which nothing happens."""

    batch, buttons = 5, BUTTONS

    def __init__(self, idle: bool) -> None:
        self.idle = idle
        followed = zip(made().buttons, made().before, made().after, strict=True)
        self.after = {(button, before.tobytes()): after for button, before, after in followed}

    def reset(self, seeds: list[int], frames: np.ndarray) -> None:
        assert frames.shape == (5, 1, 144, 144, 3) and len(seeds) == 5
        self.frame = frames[:, 0]

    def step(self, actions: np.ndarray) -> np.ndarray:
        names = [BUTTONS[int(np.flatnonzero(action)[0])] for action in actions]
        followed = [
            frame if self.idle else self.after[name, frame.tobytes()]
            for name, frame in zip(names, self.frame, strict=True)
        ]
        return np.stack(followed)


def measured(idle: bool) -> dict[str, Any]:
    world: Any = Known(idle)
    return effects.measure(world, TileReader(), made(), CrafterEnv(area=24).items, 0)[0]


def test_every_button_has_states_in_which_it_works_and_some_in_which_it_does_not() -> None:
    found = measured(idle=False)
    assert found["effects_worst"] == 0.0 and found["effects_within"] == 1.0
    rows = {(row["button"], row["effect"]): row for row in found["effects"]}
    assert {button for button, _ in rows} == set(BUTTONS)
    for (button, effect), row in rows.items():
        assert row["states"] == 12 and row["agreement"] == 1.0
        assert row["simulator"] >= (0.2 if (button, effect) != ("do", "changed") else 0.05), (button, effect, row)
    assert np.mean([row["simulator"] for (button, _), row in rows.items() if button in effects.NEEDS]) < 0.9


def test_a_world_in_which_nothing_happens_is_found() -> None:
    found = measured(idle=True)
    assert found["effects_within"] < 0.2 and found["effects_worst"] > 0.5


def test_a_view_that_moved_is_told_from_one_that_stayed() -> None:
    env, reader = CrafterEnv(area=24), TileReader()
    frame, _ = env.reset(options={"map_seed": 2_000_001})
    x, y = (int(value) for value in env.player.pos)
    for where, material in (((x + 1, y), "grass"), ((x + 2, y), "stone"), ((x + 1, y - 2), "tree")):
        env.world[where] = material
    before = reader.read(env.redraw())
    right = np.eye(16, dtype=np.uint8)[BUTTONS.index("right")]
    moved = reader.read(env.step(right)[0])
    stopped = reader.read(env.step(right)[0])
    assert effects.displaced(before, moved, (1, 0)) is True and effects.displaced(moved, stopped, (1, 0)) is False
    assert effects.happened("right", before, moved, env.items) == {"turned": True, "moved": True}
    assert effects.happened("right", moved, stopped, env.items) == {"turned": True, "moved": False}
