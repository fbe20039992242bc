"""Places: the newest sight of each tile comes back where it was seen, and a copy goes its own way."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from engine.data.sights import ages_of
from engine.history.chunks import SIDE
from engine.history.places import Places
from engine.model.sights import Layout, age_feature
from tests.support.tiles import PLAYER, ROWS, SHAPE, STILL, Country, make_world

CPU = torch.device("cpu")
N, C = SHAPE.tokens, SHAPE.channels
LAYOUT = Layout.of(SHAPE)


def make_places(batch: int = 1, dtype: torch.dtype = torch.float32) -> Places:
    return Places(SHAPE, batch, CPU, dtype)


def at(*poses: tuple[int, int]) -> np.ndarray:
    """Poses (B, 3) of players at these tiles."""
    return np.array([(x, y, 0) for x, y in poses], np.float64)


def latents(seed: int, batch: int = 1) -> torch.Tensor:
    return torch.randn(batch, N, C, generator=torch.Generator().manual_seed(seed))


def numbers(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def walk(places: Places, path: list[tuple[int, int]], seed: int = 0) -> dict[tuple[int, int], tuple[torch.Tensor, int]]:
    """Record frames along a path, each of its own content; returns what a plain dict would know of each tile."""
    known: dict[tuple[int, int], tuple[torch.Tensor, int]] = {}
    for t, (x, y) in enumerate(path):
        frame = latents(seed + t)
        for token in LAYOUT.moving.tolist():
            tile = (x + token % SHAPE.columns - PLAYER[1], y - (token // SHAPE.columns - PLAYER[0]))
            if tile in known:  # nothing changes as a whole
                frame[0, token] = known[tile][0] + 0.01 * frame[0, token]
        for token in LAYOUT.moving.tolist():
            tile = (x + token % SHAPE.columns - PLAYER[1], y - (token // SHAPE.columns - PLAYER[0]))
            known[tile] = (frame[0, token].clone(), t)
        places.record(at((x, y)), numbers(t), frame, [0])
    return known


def test_a_walk_away_and_back_reads_exactly_what_was_recorded_last_of_each_tile() -> None:
    places = make_places()
    away = [(x, 0) for x in range(2 * SIDE + 3)] + [(2 * SIDE + 2, y) for y in range(-1, -SIDE - 3, -1)]
    path = away + away[::-1]
    known, last = walk(places, path), latents(99)
    count = len(path) + 5
    for x, y in ((0, 0), (7, -1), (2 * SIDE + 2, -SIDE - 2), (-3, 2), (500, 500)):
        sights = places.sights(at((x, y)), numbers(count), last)[0]
        for token in LAYOUT.moving.tolist():
            tile = (x + token % SHAPE.columns - PLAYER[1], y - (token // SHAPE.columns - PLAYER[0]))
            expected, t = known.get(tile, (torch.zeros(C), count))
            assert torch.equal(sights[token, :C], expected)
            assert sights[token, C] == (tile in known)
            assert sights[token, C + 1] == age_feature(torch.tensor(count - t))
    assert places.tiles(0) == len(known)


def test_the_player_and_rows_that_stand_still_are_seen_as_they_were_in_the_frame_before() -> None:
    places, last = make_places(), latents(5)
    places.record(at((0, 0)), numbers(0), latents(0), [0])
    sights = places.sights(at((9, 9)), numbers(1), last)[0]
    still = [SHAPE.player, *range((ROWS - STILL) * SHAPE.columns, N)]
    assert torch.equal(sights[still, :C], last[0, still])
    assert (sights[still, C] == 1).all() and (sights[still, C + 1] == age_feature(torch.tensor(1))).all()
    assert not places.sights(at((0, 0)), numbers(0), last).any(), "the first frame has no sights"


def test_the_player_is_no_part_of_the_map() -> None:
    places = make_places()
    places.record(at((0, 0)), numbers(0), latents(0), [0])
    one_north = places.sights(at((0, 1)), numbers(1), latents(1))[0]
    assert one_north[SHAPE.player + SHAPE.columns, C] == 0  # where he stood


def test_a_view_that_has_changed_as_a_whole_overwrites_nothing_and_adds_what_was_never_seen() -> None:
    places, day, night = make_places(), latents(0), latents(1)
    places.record(at((0, 0)), numbers(0), day, [0])
    places.record(at((0, 0)), numbers(1), night, [0])
    sights = places.sights(at((0, 0)), numbers(2), night)[0, LAYOUT.moving]
    assert torch.equal(sights[:, :C], day[0, LAYOUT.moving])
    places.record(at((1, 0)), numbers(2), night, [0])  # a step in the dark
    sights = places.sights(at((1, 0)), numbers(3), night)[0]
    right = [token for token in LAYOUT.moving.tolist() if token % SHAPE.columns == SHAPE.columns - 1]
    assert torch.equal(sights[right, :C], night[0, right])
    left = [token for token in LAYOUT.moving.tolist() if token % SHAPE.columns == 0]
    assert torch.equal(sights[left, :C], day[0, [token + 1 for token in left]])


def test_a_tile_that_is_another_one_now_is_the_newer_one_from_then_on() -> None:
    places, before = make_places(), latents(0)
    places.record(at((0, 0)), numbers(0), before, [0])
    after = before.clone()
    after[0, 3] += 5
    places.record(at((0, 0)), numbers(1), after, [0])
    assert torch.equal(places.sights(at((0, 0)), numbers(2), after)[0, 3, :C], after[0, 3])


def test_only_what_the_last_frame_showed_is_read_where_nothing_older_may_be() -> None:
    places, frame = make_places(), latents(0)
    places.record(at((0, 0)), numbers(0), frame, [0])
    everything = places.sights(at((1, 0)), numbers(1), frame)
    assert torch.equal(places.sights(at((1, 0)), numbers(1), frame, only_last=True), everything)
    older = places.sights(at((1, 0)), numbers(2), frame, only_last=True)[0]
    assert not older[LAYOUT.moving].any() and older[LAYOUT.still, C].all()
    places.record(at((0, 0)), numbers(1), latents(1), [0])  # which is so unlike that it is not taken in
    assert not places.sights(at((0, 0)), numbers(2), frame, only_last=True)[0, LAYOUT.moving].any()


def test_a_copy_is_not_changed_by_later_play_and_shares_what_neither_has_written() -> None:
    places = make_places()
    walk(places, [(x, 0) for x in range(4 * SIDE)])
    copy = places.copy()
    before = copy.arrays(0)
    walk(places, [(0, 0), (1, 0)], seed=50)
    places.record(at((-40, -40)), numbers(99), latents(3), [0])
    assert all(torch.equal(one, two) for one, two in zip(copy.arrays(0), before, strict=True))
    shared = {id(chunk) for _, chunk in places._maps[0].items()} & {id(chunk) for _, chunk in copy._maps[0].items()}
    assert len(shared) >= 4
    copy.clear([0])
    assert places.tiles(0) > 0 == copy.tiles(0)


def test_standing_still_and_walking_in_circles_cost_no_bytes() -> None:
    places, frame = make_places(), latents(0)
    places.record(at((0, 0)), numbers(0), frame, [0])
    size, tiles = places.bytes, places.tiles(0)
    assert size > 0 and tiles == len(LAYOUT.moving)
    for t in range(1, 50):
        places.record(at((0, 0)), numbers(t), frame, [0])
    assert (places.bytes, places.tiles(0)) == (size, tiles)
    circle = [(0, 0), (1, 0), (1, 1), (0, 1)]
    places.clear([0])
    walk(places, circle)
    size = places.bytes
    walk(places, circle * 5)
    assert places.bytes == size


def test_each_world_has_a_map_of_its_own() -> None:
    both, alone, frames = make_places(2), make_places(), latents(0, batch=2)
    both.record(at((0, 0), (5, -9)), numbers(0, 3), frames, [0, 1])
    alone.record(at((5, -9)), numbers(3), frames[1:], [0])
    pose, count = at((1, 0), (5, -8)), numbers(1, 6)
    seen = both.sights(pose, count, frames)
    assert torch.equal(seen[1:], alone.sights(pose[1:], count[1:], frames[1:]))
    both.record(at((0, 0), (7, 7)), numbers(1, 7), latents(8, batch=2), [0])  # the first one alone goes on
    assert torch.equal(both.sights(pose, count, frames)[1], seen[1])
    both.clear([0])
    assert torch.equal(both.sights(pose, count, frames)[1], seen[1])
    assert both.tiles(0) == 0 and not both.sights(pose, count, frames)[0, LAYOUT.moving].any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_latents_are_rounded_to_the_type_that_is_computed_in(dtype: torch.dtype) -> None:
    places, frame = make_places(dtype=dtype), latents(0)
    places.record(at((0, 0)), numbers(0), frame, [0])
    sights = places.sights(at((0, 0)), numbers(1), frame)
    assert sights.dtype == torch.float32
    assert torch.equal(sights[..., :C], frame.to(dtype).float())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_map_as_tensors_and_back_is_the_same_map(dtype: torch.dtype) -> None:
    places, other = make_places(dtype=dtype), make_places(dtype=dtype)
    walk(places, [(x, -x) for x in range(2 * SIDE)])
    tiles, kept = places.arrays(0)
    assert kept.dtype == dtype and len(tiles) == places.tiles(0)
    shuffled = torch.randperm(len(tiles), generator=torch.Generator().manual_seed(0))
    other.put(0, tiles[shuffled], kept[shuffled])
    assert all(torch.equal(one, two) for one, two in zip(other.arrays(0), (tiles, kept), strict=True))
    assert other.bytes == places.bytes == places.bytes_of(tiles)
    other.put(0, tiles[:0], kept[:0])
    assert other.tiles(0) == 0


def test_what_is_far_away_goes_to_disk_and_comes_back() -> None:
    away = [(x, x // 7) for x in range(6 * SIDE)]
    path = away + away[::-1]
    tight, roomy = Places(SHAPE, 1, CPU, torch.float32, ram_bytes=5 * 256 * (4 * C + 8)), make_places()
    known = walk(tight, path)
    walk(roomy, path)
    assert tight.bytes <= tight.ram_bytes < roomy.bytes == tight.bytes + tight.disk_bytes
    assert tight.tiles(0) == roomy.tiles(0) == len(known)
    moment, before = tight.copy(), roomy.copy().arrays(0)
    for x, y in away[::9]:
        pose, count, last = at((x, y)), numbers(500), latents(1)
        assert torch.equal(tight.sights(pose, count, last), roomy.sights(pose, count, last))
    walk(tight, [(x, 0) for x in range(9 * SIDE)], seed=70)
    assert all(torch.equal(one, two) for one, two in zip(moment.arrays(0), before, strict=True))
    other = Places(SHAPE, 1, CPU, torch.float32, ram_bytes=5 * 256 * (4 * C + 8))
    other.put(0, *before)
    assert other.disk_bytes > 0
    assert all(torch.equal(one, two) for one, two in zip(other.arrays(0), before, strict=True))
    other.clear([0])
    assert other.bytes == other.disk_bytes == other.tiles(0) == 0


def test_coming_and_going_costs_no_disk_and_a_moment_keeps_its_part_of_it() -> None:
    places = Places(SHAPE, 1, CPU, torch.float32, ram_bytes=5 * 256 * (4 * C + 8))
    there = [(x, 0) for x in range(0, 6 * SIDE, 4)]
    walk(places, there + there[::-1])
    moment, once = places.copy(), places.copy().arrays(0)
    for _ in range(2):
        walk(places, there + there[::-1])
    most = places.file_bytes(0)
    for _ in range(12):
        walk(places, there + there[::-1])
    assert 0 < places.disk_bytes <= places.file_bytes(0) <= most + 2 * SIDE * SIDE * (4 * C + 8)
    assert all(torch.equal(one, two) for one, two in zip(moment.arrays(0), once, strict=True))


def test_a_view_of_many_chunks_is_read_whole() -> None:
    wide = replace(SHAPE, rows=40, columns=50, player=20 * 50 + 25)
    places = Places(wide, 1, CPU, torch.float32)
    frame = torch.randn(1, wide.tokens, C)
    places.record(at((-7, 3)), numbers(0), frame, [0])
    moving = Layout.of(wide).moving
    assert torch.equal(places.sights(at((-7, 3)), numbers(1), frame)[0, moving, :C], frame[0, moving])


def test_play_reads_what_training_was_told_to_read() -> None:
    random, frames = np.random.default_rng(3), Country(2)
    poses, dark, t = [(0, 0)], [False], 0
    while len(poses) < 150:
        step = [(1, 0), (-1, 0), (0, 1), (0, -1), (0, 0)][int(random.integers(5))]
        poses.append((poses[-1][0] + step[0], poses[-1][1] + step[1]))
        dark.append(60 < len(poses) < 80 or random.random() < 0.05)
    world = make_world()
    for x, y in poses[10:14]:  # some of it changes while nobody looks, and at once
        frames.changes[x + 1, y] = 3
    seen = [frames.frame(x, y, night) for (x, y), night in zip(poses, dark, strict=True)]
    kept = world.codec.encode(torch.from_numpy(np.stack(seen)))
    for t in range(100, 150):
        kept[t, random.integers(0, 20, 4)] += 1
    places, expected = make_places(), ages_of(kept.numpy(), np.array(poses), LAYOUT)
    for t, pose in enumerate(poses):
        sights = places.sights(at(pose), numbers(t), kept[t - 1 : t] if t else kept[:1])[0]
        age = torch.from_numpy(expected[t])
        assert torch.equal(sights[:, C], (age > 0).float())
        assert torch.equal(sights[:, C + 1], age_feature(age))
        places.record(at(pose), numbers(t), kept[t : t + 1], [0])
    assert (expected > 20).any()


def test_a_frame_fits_best_where_it_was_seen_from() -> None:
    places = make_places()
    known = walk(places, [(0, 0), (1, 0), (2, 0)])
    frame = latents(40)
    for token in LAYOUT.moving.tolist():
        tile = (1 + token % SHAPE.columns - PLAYER[1], -(token // SHAPE.columns - PLAYER[0]))
        frame[0, token] = known[tile][0] if tile in known else frame[0, token]
    assert places.misfit(0, at((1, 0))[0], frame[0]) == (0, len(LAYOUT.moving))
    changed, seen = places.misfit(0, at((2, 0))[0], frame[0])
    assert changed == seen == len(LAYOUT.moving)
    assert places.misfit(0, at((90, 0))[0], frame[0]) == (0, 0), "nothing is known there"
