"""The player that sees pictures only lives in the simulator, goes far and uses things."""

import numpy as np
import pytest

pytest.importorskip("crafter")

from engine.bench.tiles.player import HERE, Players, far, way
from engine.bench.tiles.reader import TileReader
from engine.sources.crafter.source import BUTTONS, CrafterEnv


def test_it_goes_far_drinks_gathers_and_plays_the_same_again() -> None:
    env, reader = CrafterEnv(area=32, length=0), TileReader()
    digests = []
    events, places, moves = np.zeros(22, int), set(), 0
    for seed in (3, 3, 4, 5):
        frame, info = env.reset(options={"map_seed": seed, "inventory": {"drink": 4, "wood": 6}})
        players, pressed = Players(reader, env.items, BUTTONS, [seed]), []
        for _ in range(150):
            actions, _ = players.act(frame[None])
            frame, _, over, _, info = env.step(actions[0])
            events += info["events"]
            places.add((seed, *info["pose"][:2]))
            pressed.append(actions[0])
            moves += 1
            if over:
                break
        digests.append(np.stack(pressed).tobytes())
    assert digests[0] == digests[1] and digests[1] != digests[2]
    told = dict(zip(env.events, events.tolist(), strict=True))
    assert told["collect_wood"] + told["collect_drink"] > 3 and told["place_table"] > 0, told
    assert len(places) > moves / 5


def test_a_way_goes_round_what_cannot_be_walked_on() -> None:
    free = np.ones((7, 9), bool)
    free[1:, 5] = False
    wanted = np.zeros((7, 9), bool)
    wanted[3, 6] = True
    found = way(free, wanted, np.random.default_rng(0))
    assert len(found) == 8 and sum(x for x, _ in found) == 6 - HERE[0] and sum(y for _, y in found) == 0
    free[0, 5] = False
    assert way(free, wanted, np.random.default_rng(0)) == []
    assert not far(free, (1, 0)).any()
    assert np.argwhere(far(free, (-1, 0)))[:, 1].tolist() == [0] * 7
