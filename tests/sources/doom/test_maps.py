"""Generated maps: connected, walkable, repeatable; options are checked."""

import re

import numpy as np
import pytest

from engine.errors import UserError
from engine.sources.doom import palette as doom_palette
from engine.sources.doom.maps import generate
from engine.sources.doom.plan import TILE, MapOptions
from engine.sources.doom.route import path, tour
from engine.sources.doom.wad import to_udmf
from engine.sources.splits import SPLITS

RICH = MapOptions()
PLAIN = MapOptions(map_size=(2, 3), textures="plain", heights=0, props=0.0, features=0.0)
SEEDS = range(40)


def test_no_map_seed_is_in_two_splits():
    ranges = list(SPLITS.values())
    assert not any(set(one) & set(two) for i, one in enumerate(ranges) for two in ranges[i + 1 :])


def test_same_seed_gives_the_same_map_and_another_seed_another():
    assert to_udmf(generate(7, RICH)) == to_udmf(generate(7, RICH))
    assert to_udmf(generate(7, RICH)) != to_udmf(generate(8, RICH))


@pytest.mark.parametrize("options", [RICH, PLAIN])
def test_every_room_can_be_walked_to(options):
    for seed in SEEDS:
        plan = generate(seed, options)
        free = plan.walkable()
        for room in plan.rooms:
            assert path(free, plan.start[:2], room.center) or room.center == plan.start[:2], seed


@pytest.mark.parametrize("options", [RICH, PLAIN])
def test_no_step_is_higher_than_the_player_climbs(options):
    for seed in SEEDS:
        plan = generate(seed, options)
        floors = np.array([sector.floor for sector in plan.sectors])
        for one, two in ((plan.tiles[1:], plan.tiles[:-1]), (plan.tiles[:, 1:], plan.tiles[:, :-1])):
            both = (one >= 0) & (two >= 0)
            assert np.abs(floors[one[both]] - floors[two[both]]).max() <= 24, seed


def test_every_opening_is_high_enough_for_the_player():
    for seed in SEEDS:
        plan = generate(seed, MapOptions(heights=48, ceilings=(120, 120)))
        for one, two in ((plan.tiles[1:], plan.tiles[:-1]), (plan.tiles[:, 1:], plan.tiles[:, :-1])):
            for a, b in set(zip(one.ravel().tolist(), two.ravel().tolist(), strict=True)):
                if a >= 0 and b >= 0:
                    first, second = plan.sectors[a], plan.sectors[b]
                    assert min(first.ceiling, second.ceiling) - max(first.floor, second.floor) >= 56


def test_rooms_of_a_plain_map_have_different_walls():
    for seed in SEEDS:
        plan = generate(seed, PLAIN)
        walls = [plan.sectors[room.sector].walls for room in plan.rooms]
        assert len(set(walls)) == len(walls)


def test_palettes_name_nothing_twice():
    for name in ("PLAIN_WALLS", "RICH_WALLS", "RICH_PANELS", "RICH_FLOORS", "RICH_CEILINGS"):
        names = getattr(doom_palette, name)
        assert len(set(names)) == len(names), name


def test_map_text_refers_only_to_what_it_defines():
    text = to_udmf(generate(3, RICH)).decode()
    counts = {kind: len(re.findall(rf"^{kind}{{", text, re.M)) for kind in ("vertex", "sidedef", "sector")}
    for name, kind in (("v[12]", "vertex"), ("side(?:front|back)", "sidedef"), ("sector", "sector")):
        used = {int(number) for number in re.findall(rf"\b{name}=(\d+);", text)}
        assert used == set(range(counts[kind])), name


def test_a_tour_stays_on_free_ground():
    for seed in SEEDS:
        plan = generate(seed, RICH)
        free = plan.walkable()
        start = plan.start[0] * float(TILE), plan.start[1] * float(TILE)
        for x, y in tour(plan, start, np.random.default_rng(seed)):
            assert free[int(y) // TILE, int(x) // TILE], seed


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"prop": 3}, "nearest: 'props'"),
        ({"map_size": 20}, "map_size"),
        ({"map_size": [5, 3]}, "map_size"),
        ({"textures": "plane"}, "nearest: 'plain'"),
        ({"loops": 2}, "loops"),
        ({"props": "many"}, "props"),
        ({"ceilings": 100, "heights": 40}, "ceilings"),
    ],
)
def test_a_wrong_option_is_an_error_that_names_it(options, words):
    with pytest.raises(UserError, match=re.escape(words)):
        MapOptions.from_table(options)
