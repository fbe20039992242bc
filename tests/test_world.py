"""World: seeded, batched, exactly restorable; each world of a batch remembers what it would alone."""

import json
from dataclasses import replace

import numpy as np
import pytest
import safetensors.torch
import torch

from engine.world import World
from tests.support.worlds import MOTION, SHAPE, actions, make_world, pictures, play


def test_the_same_seed_and_actions_give_the_same_frames() -> None:
    world, moves = make_world(), actions(9)
    world.reset(7, pictures(1, 2))
    first = play(world, moves)
    world.reset(7, pictures(1, 2))
    assert np.array_equal(play(world, moves), first)
    world.reset(8, pictures(1, 2))
    assert not np.array_equal(play(world, moves), first)


def test_actions_change_what_is_drawn() -> None:
    world = make_world()
    world.reset(7, pictures(1, 2))
    frames = [world.render(np.eye(3, dtype=np.uint8)[i]) for i in range(3)]
    assert not np.array_equal(frames[0], frames[1]) and not np.array_equal(frames[1], frames[2])


def test_in_an_exclusive_world_only_the_last_of_the_held_buttons_counts() -> None:
    """The same by every door: drawn, adopted, observed and the history that a world begins from."""
    moves = actions(6)
    last = np.zeros_like(moves)
    for one, other in zip(moves[:, 0], last[:, 0], strict=True):
        other[np.flatnonzero(one)[-1:]] = 1
    assert (moves != last).any() and last.any()
    begun = pictures(1, 3), np.swapaxes(moves[:3], 0, 1)
    worlds = [make_world(exclusive=exclusive) for exclusive in (True, False, False)]
    frames = []
    for world, played in zip(worlds, (moves, last, moves), strict=True):
        world.reset(0, begun[0], np.swapaxes(played[:3], 0, 1))
        world.observe(begun[0], np.swapaxes(played[3:], 0, 1))
        drawn = play(world, played)
        assert world.latents is not None
        world.adopt(world.latents, played[0])
        world.commit()
        frames.append(np.concatenate((drawn, world.step(played[1])[None])))
    assert np.array_equal(frames[0], frames[1]) and not np.array_equal(frames[0], frames[2])


def test_rendering_leaves_the_cache_as_it_is() -> None:
    world, moves = make_world(), actions(6)
    world.reset(1, pictures(1, 1))
    expected = play(world, moves)
    world.reset(1, pictures(1, 1))
    for move, frame in zip(moves, expected, strict=True):
        world.render(1 - move)  # a frame that is drawn and thrown away
        assert np.array_equal(world.step(move), frame)


@pytest.mark.parametrize("memory", ["window", "full"])
@pytest.mark.parametrize("between", [False, True])
def test_a_restored_snapshot_goes_on_with_the_same_frames(memory: str, between: bool) -> None:
    world, moves = make_world(batch=2, memory=memory), actions(14, 2)
    world.reset(3, pictures(2, 2))
    play(world, moves[:6])
    if between:  # between render and commit
        world.render(moves[6])
    saved = world.snapshot()
    if between:
        world.commit()
    expected = play(world, moves[7:])
    assert np.array_equal(world.restore(saved), saved.frame)
    if between:
        world.commit()
    assert np.array_equal(play(world, moves[7:]), expected)


def test_a_world_draws_the_same_alone_and_in_a_batch() -> None:
    many, one, moves = make_world(batch=3), make_world(), actions(8, 3)
    many.reset([5, 6, 7], pictures(3, 2))
    one.reset(6, pictures(3, 2)[1:2])
    for move in moves:
        apart = one.step(move[1:2]).astype(int) - many.step(move)[1:2]
        assert abs(apart).max() <= 1  # another batch may sum in another order


def test_a_partial_reset_touches_only_its_own_worlds() -> None:
    world, moves = make_world(batch=2), actions(10, 2)
    world.reset([1, 2], pictures(2, 1))
    expected = play(world, moves)[:, 0].astype(int)
    world.reset([1, 2], pictures(2, 1))
    first = play(world, moves[:4])
    world.reset([9, 9], pictures(2, 1, seed=4), only=np.array([False, True]))
    rest = play(world, moves[4:])
    assert abs(np.concatenate((first, rest))[:, 0] - expected).max() <= 1
    assert world.history.count.tolist() == [11, 7]


def test_observed_history_is_what_later_frames_depend_on() -> None:
    world, moves = make_world(), actions(3)
    history = pictures(1, 5)
    acted = actions(1, 5)
    world.reset(2, history, acted)
    expected = play(world, moves)
    world.reset(2, history[:, :2], acted[:, :2])
    world.observe(history[:, 2:], acted[:, 2:])
    assert np.array_equal(play(world, moves), expected)


def test_memory_of_a_window_stays_the_same_and_full_counts_every_frame() -> None:
    world = make_world()
    world.reset(0, pictures(1, 1))
    size = world.stats()["memory_bytes"]
    play(world, actions(80))
    stats = world.stats()
    assert stats["memory_bytes"] == size
    assert (stats["frames"], stats["hot"], stats["gone"]) == (81, 4, 77)
    world = make_world(memory="full")
    world.reset(0, pictures(1, 1))
    play(world, actions(80))
    assert (world.stats()["hot"], world.stats()["gone"]) == (81, 0)


def test_the_mode_can_be_switched_in_play() -> None:
    world = make_world()
    world.reset(0, pictures(1, 1))
    play(world, actions(8))
    world.set_mode("full")
    play(world, actions(8))
    assert world.mode == "full" and world.stats()["hot"] == 12
    world.set_mode("window")
    play(world, actions(3))
    assert world.stats()["hot"] == 4


@pytest.mark.parametrize("mistake", ["steps", "mode", "action", "value", "batch", "frames", "unset", "commit", "mag"])
def test_mistakes_are_named(mistake: str) -> None:
    world = make_world()
    if mistake not in ("unset",):
        world.reset(0, pictures(1, 1))
    calls = {
        "steps": lambda: world.set_steps(0),
        "mode": lambda: world.set_mode("forever"),
        "mag": lambda: world.set_mode("mag"),
        "action": lambda: world.render(np.zeros(4, np.uint8)),
        "value": lambda: world.render(np.full(3, 2, np.uint8)),
        "batch": lambda: make_world(batch=0),
        "frames": lambda: world.reset(0, np.zeros((1, 1, 32, 48, 3), np.float32)),
        "unset": lambda: world.render(np.zeros(3, np.uint8)),
        "commit": lambda: world.commit(),
    }
    with pytest.raises(ValueError, match="world"):
        calls[mistake]()


def test_warm_up_leaves_nothing_behind() -> None:
    world, moves = make_world(), actions(4)
    world.reset(7, pictures(1, 2))
    expected = play(world, moves)
    assert world.warm_up() > 0
    world.reset(7, pictures(1, 2))
    assert np.array_equal(play(world, moves), expected)


@pytest.mark.parametrize("memory", ["window", "full"])
@pytest.mark.parametrize("between", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_snapshot_that_was_kept_as_plain_tensors_goes_on_with_the_same_frames(
    memory: str, between: bool, dtype: torch.dtype
) -> None:
    world, moves = make_world(batch=2, memory=memory, dtype=dtype), actions(90, 2)
    world.reset(3, pictures(2, 2))
    play(world, moves[:70])  # past the first buffers of `full`
    if between:
        world.render(moves[70])
    meta, tensors = world.snapshot().state()
    if between:
        world.commit()
    expected = play(world, moves[71:])
    kept = safetensors.torch.load(safetensors.torch.save(tensors))
    other = make_world(batch=2, dtype=dtype)
    other.restore(other.snapshot_from(json.loads(json.dumps(meta)), kept))
    assert other.mode == memory
    if between:
        other.commit()
    assert np.array_equal(play(other, moves[71:]), expected)


def test_adopted_latents_lead_on_as_if_they_had_been_drawn() -> None:
    world, moves = make_world(), actions(12)
    world.reset(3, pictures(1, 1))
    kept = []
    for move in moves[:6]:
        world.step(move)
        assert world.latents is not None
        kept.append(world.latents)
    expected = play(world, moves[6:])
    world.reset(3, pictures(1, 1))
    for move, latents in zip(moves[:6], kept, strict=True):
        world.adopt(latents, move)
        world.commit()
    assert np.array_equal(play(world, moves[6:]), expected)


def test_a_snapshot_that_does_not_fit_is_named() -> None:
    world = make_world()
    world.reset(3, pictures(1, 1))
    play(world, actions(3))
    meta, tensors = world.snapshot().state()
    wrong: list[tuple[dict, dict]] = [
        ({**meta, "seeds": [-1]}, tensors),
        ({**meta, "seeds": None}, tensors),
        ({**meta, "cache": {"mode": "forever", "slots": 4}}, tensors),
        ({**meta, "cache": {"mode": "full", "slots": 10**12}}, tensors),
        ({**meta, "cache": {"mode": "window", "slots": 4.0}}, tensors),
        (meta, {name: tensor for name, tensor in tensors.items() if name != "cache.keys"}),
        (meta, {**tensors, "cache.values": tensors["cache.values"][..., :5, :]}),
        (meta, {**tensors, "cache.time": tensors["cache.time"] + 9}),
        (meta, {**tensors, "cache.count": tensors["cache.count"].float()}),
        (meta, {**tensors, "frame": tensors["frame"][:, :5]}),
        (meta, {**tensors, "drawn.latents": torch.zeros(2), "drawn.action": torch.zeros(1, 3)}),
    ]
    for some_meta, some_tensors in wrong:
        with pytest.raises(ValueError, match="world|history"):
            world.snapshot_from(some_meta, some_tensors)


def make_folding(batch: int, block: int, window: int, depth: int) -> World:
    """A world with poses, that folds blocks of `block` frames."""
    shape = replace(SHAPE, dim=32, depth=depth, window=window, clip=window + 1, far=20, motion=MOTION, fov=90.0)
    return make_world(batch, "mag", shape=shape, block=block)


@pytest.mark.parametrize(("block", "window", "depth"), [(3, 5, 4), (5, 4, 1), (4, 7, 2), (1, 2, 3)])
def test_each_world_sees_and_folds_the_frames_that_it_would_alone(block: int, window: int, depth: int) -> None:
    rng = np.random.default_rng(block)
    many, alone = make_folding(2, block, window, depth), [make_folding(1, block, window, depth) for _ in range(2)]
    first = rng.integers(0, 256, (2, 2, 32, 48, 3), np.uint8)
    many.reset(5, first)
    for b in range(2):
        alone[b].reset(5 + b, first[b : b + 1])
    for t in range(36):
        if t in (4, 15, 17, 26):
            b, count = t % 2, int(rng.integers(1, 20))
            history, acted = rng.integers(0, 256, (2, count, 32, 48, 3), np.uint8), rng.integers(0, 2, (2, count, 3))
            many.reset([t, t], history, acted, np.arange(2) == b)
            alone[b].reset(t, history[b : b + 1], acted[b : b + 1])
        if t == 20:  # through a file, too
            many.restore(many.snapshot_from(*many.snapshot().state()))
        move = rng.integers(0, 2, (2, 3))
        frames = many.step(move).astype(int)
        for b, world in enumerate(alone):
            assert abs(frames[b] - world.step(move[b : b + 1])[0]).max() <= 1
            own, other = (sorted(t[t >= 0]) for t in (many.history.buffers.time[b], world.history.buffers.time[0]))
            assert own == other and len(many.history.cold[b]) == len(world.history.cold[0])
            assert many.history.buffers.hot[b].tolist() == world.history.buffers.hot[0].tolist()


def test_a_partial_reset_of_all_worlds_is_a_whole_one() -> None:
    worlds = [make_folding(2, 3, 5, 2) for _ in range(2)]
    for world, only in zip(worlds, (None, np.ones(2, bool)), strict=True):
        world.reset(1, pictures(2, 3))
        for _ in range(9):
            world.step(np.array([1, 0, 1]))
        world.reset(7, pictures(2, 3), only=only)
    for _ in range(12):
        one, two = (world.step(np.array([0, 1, 1])) for world in worlds)
        assert np.array_equal(one, two)
