"""A world with places: what was seen is read again where it was seen, in snapshots, batches and partial resets too."""

import json
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor

from engine.model.generator import Generator, GeneratorConfig
from engine.model.heads import Heads, HeadsConfig
from engine.model.memory import Memory, MemoryConfig
from tests.support.models import shaken
from tests.support.tiles import (
    HEIGHT,
    MOVING,
    SHAPE,
    WIDTH,
    WITH_WINDOW,
    Country,
    begun,
    make_generator,
    make_world,
    play,
    pressed,
    random_actions,
)

SHAPES = pytest.mark.parametrize("shape", [SHAPE, WITH_WINDOW], ids=["places alone", "with a window"])
C = SHAPE.channels


def make_heads() -> Heads:
    torch.manual_seed(0)
    return shaken(Heads(HeadsConfig((0, 1), hidden=8, buckets=5), SHAPE.dim), 3)


@SHAPES
def test_what_is_drawn_depends_on_what_was_seen_there_unless_the_mode_forgets(shape: GeneratorConfig) -> None:
    there, back = pressed(*["east"] * 7)[0], pressed(*["west"] * 7)[0]
    drawn = {}
    for mode, other in (("full", 0), ("full", 1), ("window", 0), ("window", 1), ("mag", 0), ("mag", 1)):
        world = make_world(memory=mode, shape=shape)
        country = Country()
        country.changes[-2, 0] = other  # a tile that is soon out of view
        world.reset(1, country.frames([(0, 0)]))
        for move in there:
            world.step(move)
        latents = world.codec.encode(torch.from_numpy(Country().frames([(0, 0)])[0]))
        for _ in range(5):  # whatever came of it, all that was drawn in between is the same
            world.adopt(latents, pressed("dig")[0, 0])
            world.commit()
        drawn[mode, other] = play(world, back)[-1]
    for mode in ("full", "mag"):
        assert not np.array_equal(drawn[mode, 0], drawn[mode, 1])
    if not shape.window:  # nothing else remembers
        assert np.array_equal(drawn["window", 0], drawn["window", 1])
        assert np.array_equal(drawn["full", 0], drawn["mag", 0])


def test_the_mode_filters_what_is_read_and_changes_nothing_of_what_is_known() -> None:
    world, moves = begun(), random_actions(12)
    assert world.modes == ("window", "full", "mag")
    play(world, moves)
    pose = world.history.pose
    everything = world.history.sights(pose)
    world.set_mode("window")
    last = world.history.sights(pose)
    assert everything is not None and last is not None
    assert 0 < last[..., C].sum() < everything[..., C].sum()
    world.set_mode("mag")
    again = world.history.sights(pose)
    assert again is not None and torch.equal(again, everything)


@pytest.mark.parametrize("heads", [False, True])
def test_without_a_window_remembering_a_frame_takes_no_pass_unless_heads_read_it(
    heads: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = begun(heads=make_heads() if heads else None, steps=1)
    passes: list[Tensor | None] = []
    forward = Generator.forward

    def counted(self: Generator, *given: Any, **named: Any) -> Tensor:
        passes.append(named["sights"])
        return forward(self, *given, **named)

    monkeypatch.setattr(Generator, "forward", counted)
    world.render(pressed("east")[0])
    assert len(passes) == 1 and passes[0] is not None
    world.commit()
    assert len(passes) == 1 + heads and world.history.tokens_in_view == 0
    if heads:
        assert passes[1] is not None and torch.equal(passes[1], passes[0]), "it sees what the drawing saw"
        assert world.reward is not None


@SHAPES
@pytest.mark.parametrize("between", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("mode", ["window", "full", "mag"])
def test_a_snapshot_in_memory_and_in_a_file_goes_on_bit_for_bit(
    shape: GeneratorConfig, between: bool, dtype: torch.dtype, mode: str
) -> None:
    world, moves = begun(2, shape=shape, dtype=dtype, memory=mode, heads=make_heads()), random_actions(40, 2)
    play(world, moves[:20])
    if between:
        world.render(moves[20])
        world.set_mode("full")  # what the frame was drawn from stays what it was
    saved = world.snapshot()
    meta, tensors = saved.state()
    if between:
        world.commit()
    expected, reward = play(world, moves[21:]), world.reward
    other = make_world(2, shape=shape, dtype=dtype, heads=make_heads())
    kept = safetensors.torch.load(safetensors.torch.save(tensors))
    for player, moment in ((world, saved), (other, other.snapshot_from(json.loads(json.dumps(meta)), kept))):
        player.restore(moment)
        if between:
            player.commit()
        assert np.array_equal(play(player, moves[21:]), expected)
        assert np.array_equal(player.reward, reward)  # type: ignore[arg-type]


def test_a_snapshot_stays_what_it_is_and_costs_little() -> None:
    world, moves = begun(), random_actions(60)
    play(world, moves[:30])
    saved = world.snapshot()
    before = saved.state()[1]
    play(world, moves[30:])
    after = saved.state()[1]
    assert all(torch.equal(before[name], after[name]) for name in before)
    known, shared = world.history.places, saved.history.places
    assert known is not None and shared is not None and known.bytes >= shared.bytes


@SHAPES
def test_adopted_latents_lead_on_as_if_they_had_been_drawn(shape: GeneratorConfig) -> None:
    world, moves, kept = begun(shape=shape, dtype=torch.bfloat16), random_actions(16), []
    for move in moves[:10]:
        world.step(move)
        assert world.latents is not None
        kept.append(world.latents)
    expected = play(world, moves[10:])
    world = begun(shape=shape, dtype=torch.bfloat16)
    for move, latents in zip(moves[:10], kept, strict=True):
        world.adopt(latents.bfloat16().float(), move)  # as a session keeps them
        world.commit()
    assert np.array_equal(play(world, moves[10:]), expected)


@SHAPES
def test_a_neighbour_changes_no_bit_whatever_it_does(shape: GeneratorConfig) -> None:
    one, two = random_actions(20, 2, seed=1), random_actions(20, 2, seed=2)
    two[:, 0] = one[:, 0]
    both = [begun(2, seed=5, shape=shape, dtype=torch.bfloat16) for _ in range(2)]
    both[1].reset([5, 77], np.concatenate((Country().frames([(0, 0)]), Country(3).frames([(4, 4)]))))
    assert np.array_equal(play(both[0], one)[:, 0], play(both[1], two)[:, 0])


@SHAPES
def test_a_partial_reset_clears_one_world_and_changes_no_bit_of_the_other(shape: GeneratorConfig) -> None:
    world, moves = begun(2, shape=shape), random_actions(24, 2)
    expected = play(world, moves)[:, 0]
    pose, tiles = world.history.pose[0].copy(), world.stats()["tiles"]
    world = begun(2, shape=shape)
    first = play(world, moves[:9])[:, 0]
    frames = np.zeros((2, 3, HEIGHT, WIDTH, 3), np.uint8)  # of the world that goes on there is no picture
    frames[1] = Country(7).frames([(0, 0), (1, 0), (1, 1)])[0]
    acted = pressed("", "east", "north", batch=2)
    world.reset([9, 9], frames, acted, np.array([False, True]))
    assert world.history.places is not None and world.history.places.tiles(1) < 40
    assert np.array_equal(world.history.pose[1], [1, 1, 0])
    rest = play(world, moves[9:])[:, 0]
    assert np.array_equal(np.concatenate((first, rest)), expected)
    assert np.array_equal(world.history.pose[0], pose) and world.stats()["tiles"] == tiles


def test_a_world_is_the_same_alone_and_in_a_batch() -> None:
    many, one, moves = make_world(3), make_world(), random_actions(12, 3)
    frames = np.concatenate([Country(seed).frames([(0, 0)]) for seed in range(3)])
    many.reset([5, 6, 7], frames)
    one.reset(6, frames[1:2])
    for move in moves:
        apart = one.step(move[1:2]).astype(int) - many.step(move)[1:2]
        assert abs(apart).max() <= 1
    assert np.array_equal(one.history.pose[0], many.history.pose[1])


def test_folds_and_places_are_two_parts_of_one_memory() -> None:
    memory = Memory(MemoryConfig(block=2, budget=2 * SHAPE.tokens), WITH_WINDOW).start_from(make_generator(WITH_WINDOW))
    world, moves = begun(2, shape=WITH_WINDOW, memory="mag", memory_model=memory), random_actions(40, 2)
    play(world, moves[:20])
    stats = world.stats()
    assert stats["hot"] > 4 and stats["tiles"] > len(MOVING)
    saved = world.snapshot()
    kept = world.snapshot_from(*saved.state())
    expected = play(world, moves[20:])
    for moment in (saved, kept):
        world.restore(moment)
        assert np.array_equal(play(world, moves[20:]), expected)
    with pytest.raises(ValueError, match="a memory model is of no use to a generator that attends to no history"):
        make_world(memory_model=Memory(MemoryConfig(budget=50), SHAPE))


def test_warm_up_leaves_nothing_behind() -> None:
    world, moves = begun(), random_actions(6)
    expected = play(world, moves)
    world.warm_up()
    assert world.history.places is not None and world.history.places.bytes == 0
    world.reset(1, Country().frames([(0, 0)]))
    assert np.array_equal(play(world, moves), expected)


def test_what_a_world_knows_is_told_and_bounded_by_the_area() -> None:
    world = begun()
    stats = world.stats()
    assert stats["tiles"] == len(MOVING) and stats["places_bytes"] > 0
    play(world, pressed(*["dig"] * 20).swapaxes(0, 1))
    after = world.stats()
    assert all(after[name] == stats[name] for name in ("tiles", "places_bytes", "memory_bytes"))


def test_a_generator_with_sights_needs_to_know_where_the_player_is() -> None:
    with pytest.raises(ValueError, match="world: a generator that takes sights needs a motion model"):
        make_world(motion=None)


def damaged(tensors: dict[str, Tensor], name: str, **change: Any) -> dict[str, Tensor]:
    """The state with one number of a tensor replaced."""
    other = tensors[name].clone()
    other[change["at"]] = change["to"]
    return {**tensors, name: other}


def test_a_damaged_map_is_one_clear_line_and_nothing_is_lost() -> None:
    world, moves = begun(2), random_actions(30, 2)
    play(world, moves[:12])
    world.render(moves[12])
    meta, tensors = world.snapshot().state()
    tiles, latents = "cache.places.1.tiles", "cache.places.1.latents"
    far = torch.stack((torch.arange(90_000) * 16, torch.zeros(90_000), torch.zeros(90_000)), 1).long()
    wrong = [
        {name: tensor for name, tensor in tensors.items() if name != tiles},
        {name: tensor for name, tensor in tensors.items() if name != latents},
        {name: tensor for name, tensor in tensors.items() if name not in (tiles, latents)},
        {**tensors, tiles: tensors[tiles][:, :2]},
        {**tensors, tiles: tensors[tiles][0]},
        {**tensors, tiles: tensors[tiles].double()},
        {**tensors, latents: damaged(tensors, latents, at=(3, 2), to=1.0)[latents].double() * 1e300},
        {name: tensor for name, tensor in tensors.items() if name != "cache.latents"},
        damaged(tensors, "cache.count", at=1, to=2**63 - 1),
        damaged(tensors, "cache.pose", at=(1, 0), to=0.5),
        {**tensors, latents: tensors[latents][:-1]},
        {**tensors, latents: tensors[latents][:, :-1]},
        {**tensors, latents: tensors[latents].long()},
        {**tensors, tiles: far, latents: torch.zeros(90_000, C)},
        damaged(tensors, latents, at=(3, 2), to=float("nan")),
        damaged(tensors, tiles, at=(3, 2), to=-1),
        damaged(tensors, tiles, at=(3, 2), to=13),
        damaged(tensors, tiles, at=(3, 0), to=2**50),
        damaged(tensors, tiles, at=(3, 0), to=-(2**63)),
        damaged(tensors, tiles, at=3, to=tensors[tiles][4]),
        {name: tensor for name, tensor in tensors.items() if name != "drawn.sights"},
        {**tensors, "drawn.sights": tensors["drawn.sights"][..., :-1]},
        damaged(tensors, "drawn.sights", at=(0, 0, 0), to=float("inf")),
        damaged(tensors, "drawn.latents", at=(0, 0, 0), to=float("inf")),
        damaged(tensors, "drawn.pose", at=(1, 0), to=float("nan")),
        damaged(tensors, "drawn.pose", at=(1, 0), to=1e300),
        damaged(tensors, "cache.pose", at=(1, 0), to=1e300),
        {**tensors, "origins": torch.zeros(2, 2, dtype=torch.float64)},
        {**tensors, "origins": torch.full((2, 3), 1e300, dtype=torch.float64)},
    ]
    for i, some in enumerate(wrong):
        with pytest.raises(ValueError, match=r"^(world|history): [^\n]+$"):
            world.snapshot_from(meta, some)
            pytest.fail(f"number {i} was taken")
    world.snapshot_from(meta, tensors)
    for name in tensors:
        for nonsense in (tensors[name].flatten()[:1].sum(), tensors[name][None], torch.zeros(0, 7)):
            with pytest.raises(ValueError, match=r"^(world|history): [^\n]+$"):
                world.snapshot_from(meta, {**tensors, name: nonsense})
                pytest.fail(f"{name} of shape {tuple(nonsense.shape)} was taken")
    with pytest.raises(ValueError, match="slots cannot be"):
        world.snapshot_from(
            {**meta, "cache": {**meta["cache"], "slots": 4}}, {**tensors, "cache.time": torch.full((2, 4), -1)}
        )
