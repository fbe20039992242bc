"""Folded memory: sliced, cached inference gives what one dense pass over the folds gives; nothing is silently lost."""

import json
from dataclasses import replace
from typing import TypeVar

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from engine.history.cache import Cache, Mode
from engine.history.cold import ColdStore
from engine.history.state import cache_from, state_of
from engine.model import odometry
from engine.model.attention import two_streams
from engine.model.generator import Clip, Generator, GeneratorConfig, rotate_time, teacher_forced
from engine.model.memory import Memory, MemoryConfig, new_delta, with_delta

CONFIG = GeneratorConfig(
    rows=2,
    columns=3,
    channels=8,
    actions=2,
    dim=64,
    depth=3,
    heads=2,
    window=4,
    sink=1,
    clip=5,
    far=12,
    motion=((1.0, 0.0, 0.0), (0.0, 0.0, 15.0)),
    fov=90.0,
)
N = CONFIG.tokens
CPU = torch.device("cpu")
M = TypeVar("M", bound=torch.nn.Module)


def shaken(model: M, seed: int) -> M:
    """With no weight left at zero, or nothing would be seen."""
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn(p.shape, generator=random) * 0.1)
    model.eval().requires_grad_(False)
    return model


def models(shape: MemoryConfig, config: GeneratorConfig = CONFIG) -> tuple[Generator, Memory]:
    torch.manual_seed(0)
    generator = shaken(Generator(config), 1)
    return generator, shaken(Memory(shape, config).start_from(generator), 2)


class Player:
    """Plays fixed latents and actions into a cache, as `World` does."""

    def __init__(self, generator: Generator, memory: Memory, mode: Mode = "mag", batch: int = 2, **options) -> None:
        self.generator, self.memory, self.batch = generator, memory, batch
        self.cache = Cache(generator.config, batch, mode, CPU, torch.float32, memory.config, **options)
        random = torch.Generator().manual_seed(7)
        self.latents = torch.randn(batch, 120, N, CONFIG.channels, generator=random)
        self.actions = torch.randint(0, 2, (batch, 120, 2), generator=random).float()

    def step(self) -> torch.Tensor:
        cache, t = self.cache, self.cache.count
        latents, action = (x[np.arange(self.batch), t] for x in (self.latents, self.actions))
        motion = self.generator.config.motion
        pose = cache.pose
        if motion:
            pose = np.where(t[:, None] > 0, odometry.advance(cache.pose, action.numpy(), motion), 0.0)
        keys, values = [], []

        def attend(layer, q, k, v):
            keys.append(k)
            values.append(v)
            return cache.attend(layer, q, k, v)

        cache.prepare()
        rotation = self.generator.rotation(torch.from_numpy(pose[:, None]))
        out = self.generator(latents[:, None], torch.zeros(self.batch, 1), action[:, None], rotation, attend)
        cache.write(keys, values, pose=pose)
        cache.remember(latents, action)
        cache.fold(self.memory)
        return out[:, 0]

    def run_into_a_fold(self, after: int) -> None:
        """Play until a block is half folded, and at least `after` are done."""
        while not (self.cache.folding and self.cache.folding.jobs and len(self.cache.cold[0]) >= after):
            self.step()

    def run(self, frames: int) -> torch.Tensor:
        return torch.stack([self.step() for _ in range(frames)], 1)


def dense(player: Player, frames: int, shown: list[dict]) -> torch.Tensor:
    """One pass over all frames of world 0: frame i attends to the frames and the folds that `shown[i]` names."""
    generator, memory = player.generator, player.memory
    c, t = generator.config, memory.config.block
    latents, actions = player.latents[:1, :frames], player.actions[:1, :frames]
    pose = torch.from_numpy(odometry.integrate(actions[0].numpy(), [0], c.motion))[None]
    folds = []
    for first in range(c.sink, frames - t + 1, t):
        part = slice(first, first + t)
        folds.append(memory.fold(latents[:, part], actions[:, part], pose[:, part]))
    far = player.cache.read_far

    def attend(layer, q, k, v):
        rows = []
        for i in range(frames):
            seen = [*shown[i]["frames"], i]
            at = torch.cat([torch.arange(j * N, (j + 1) * N) for j in seen])
            age = torch.tensor([-min(i - j, far) for j in seen]).repeat_interleave(N)[None]
            keys, values = [rotate_time(k[:, :, at], age)], [v[:, :, at]]
            for block in shown[i]["blocks"]:
                folded_k, folded_v = (as_stored(x) for x in folds[block][layer])
                keys.append(rotate_time(folded_k, torch.full((1, folded_k.shape[2]), -far)))
                values.append(folded_v)
            here = slice(i * N, (i + 1) * N)
            rows.append(F.scaled_dot_product_attention(q[:, :, here], torch.cat(keys, 2), torch.cat(values, 2)))
        return torch.cat(rows, 2)

    return generator(latents, torch.zeros(1, frames), actions, generator.rotation(pose), attend)


def as_stored(x: torch.Tensor) -> torch.Tensor:
    """In 8 bits, as cold storage keeps it."""
    scale = x.abs().amax(-1, keepdim=True).clamp_min(1e-8) / 127
    return (x / scale).round() * scale


@pytest.mark.parametrize(
    "shape",
    [
        MemoryConfig(block=3, budget=4 * N),
        MemoryConfig(block=2, readout="registers", registers=4, budget=17),
        MemoryConfig(block=4, budget=2 * N),
        MemoryConfig(block=1, budget=3 * N),
    ],
)
def test_sliced_and_cached_folds_equal_one_dense_pass(shape: MemoryConfig) -> None:
    generator, memory = models(shape)
    player, frames, shown, drawn = Player(generator, memory), 40, [], []
    for _ in range(frames):
        cache = player.cache
        there = {"frames": sorted(cache.time[0][cache.time[0] >= 0]), "blocks": list(cache.hot[0][cache.hot[0] >= 0])}
        shown.append(there)
        drawn.append(player.step())
    last = shown[-1]
    assert len(last["blocks"]) == shape.budget // shape.tokens(CONFIG)
    for i, there in enumerate(shown):  # every frame of the window is there, and the sink
        assert set(range(max(0, i - CONFIG.window), i)) | set(range(min(i, CONFIG.sink))) <= set(there["frames"])
    covered = CONFIG.sink + shape.block * len(player.cache.cold[0])
    assert covered >= min(set(last["frames"]) - {0})  # no gap between folds and window
    torch.testing.assert_close(torch.stack(drawn, 1)[:1], dense(player, frames, shown), atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("block", [1, 2, 3, 5])
def test_folding_in_slices_is_folding_at_once(block: int) -> None:
    _, memory = models(MemoryConfig(block=block))
    latents, actions = torch.randn(2, block, N, CONFIG.channels), torch.ones(2, block, 2)
    pose = torch.randn(2, block, 3, dtype=torch.float64)
    state = memory.begin(latents, actions, pose)
    while state.layer < CONFIG.depth:
        state = memory.advance(state, 2)
    for (a, b), (c, d) in zip(state.folded, memory.fold(latents, actions, pose), strict=True):
        torch.testing.assert_close(a, c, rtol=0, atol=0)
        torch.testing.assert_close(b, d, rtol=0, atol=0)


def test_the_paper_s_rule_keeps_the_last_frame_of_a_block_that_sees_itself_both_ways() -> None:
    _, memory = models(MemoryConfig())
    latents, actions = torch.randn(1, 3, N, CONFIG.channels), torch.ones(1, 3, 2)
    pose = torch.randn(1, 3, 3, dtype=torch.float64)
    folded = memory.fold(latents, actions, pose)
    assert len(folded) == CONFIG.depth and folded[0][0].shape == (1, CONFIG.heads, N, CONFIG.head_dim)
    other = latents.clone()
    other[:, 0] += 1.0  # the first layer's keys of the last frame know nothing of the first frame, the second's do
    changed = memory.fold(other, actions, pose)
    torch.testing.assert_close(changed[0], folded[0])
    assert (changed[1][0] - folded[1][0]).abs().max() > 1e-3


def test_a_snapshot_in_the_middle_of_a_fold_goes_on_alike() -> None:
    generator, memory = models(MemoryConfig(budget=2 * N))
    player = Player(generator, memory)
    player.run_into_a_fold(after=1)
    kept = player.cache.copy()
    once = player.run(20)
    assert len(player.cache.cold[0]) > len(kept.cold[0])
    player.cache = kept
    torch.testing.assert_close(player.run(20), once, rtol=0, atol=0)


def test_worlds_with_unequal_histories_fold_as_each_would_alone() -> None:
    generator, memory = models(MemoryConfig(budget=2 * N))
    both, alone = Player(generator, memory), Player(generator, memory, batch=1)
    both.run(11)
    both.cache.clear(np.array([False, True]))
    alone.latents, alone.actions = both.latents[1:], both.actions[1:]
    torch.testing.assert_close(both.run(30)[1:], alone.run(30), atol=2e-5, rtol=1e-4)
    assert both.cache.hot[1].tolist() == alone.cache.hot[0].tolist()


def test_switching_modes_keeps_folds_and_forgets_only_what_the_window_lost() -> None:
    generator, memory = models(MemoryConfig(budget=3 * N))
    player = Player(generator, memory)
    player.run(30)
    mag = player.cache
    full = mag.converted("full")
    assert (full.hot >= 0).sum() == sum(map(len, mag.cold)) and (full.used == mag.used).all()
    window = mag.converted("window")
    assert (window.used == CONFIG.sink + CONFIG.window).all() and len(window.cold[0]) == len(mag.cold[0])
    back = window.converted("mag")
    assert len(back.cold[0]) == len(mag.cold[0])
    assert (back.hot >= 0).all()  # the very next frame sees its memory
    player.cache = back
    player.run(20)
    assert len(player.cache.cold[0]) > len(mag.cold[0])


def test_full_history_can_be_folded_afterwards() -> None:
    generator, memory = models(MemoryConfig(budget=3 * N))
    player = Player(generator, memory, mode="full")
    player.run(41)
    cache = player.cache.converted("mag")
    cache.fold(memory, all_at_once=True)
    cache = cache.converted("mag")
    frames = cache.used + 3 * np.array([len(store) for store in cache.cold])
    assert (frames == 41).all() and cache.time.shape[1] == CONFIG.sink + CONFIG.window + 6
    player.cache = cache
    player.run(10)


def test_a_budget_below_one_block_and_a_missing_memory_are_refused() -> None:
    shape = MemoryConfig()
    with pytest.raises(ValueError, match="budget of 5 tokens is smaller than one folded block, 6"):
        Cache(CONFIG, 1, "mag", CPU, torch.float32, shape, budget=5)
    with pytest.raises(ValueError, match="smaller than one folded block"):
        Cache(CONFIG, 1, "window", CPU, torch.float32, shape, budget=5)  # M would switch to mag
    with pytest.raises(ValueError, match="needs a checkpoint with a memory model"):
        Cache(CONFIG, 1, "mag", CPU, torch.float32)
    for bad in ({"block": 0}, {"readout": "all"}, {"registers": 3}, {"readout": "registers"}, {"rank": -1}):
        with pytest.raises(ValueError, match="memory: "):
            MemoryConfig(**bad)


def test_cold_blocks_come_back_from_ram_and_from_disk() -> None:
    random = torch.Generator().manual_seed(0)
    blocks = [torch.randn(2, 3, 2, 5, 16, generator=random) for _ in range(7)]
    one = ColdStore()
    one.append(blocks[0][0], blocks[0][1], np.zeros(3), np.ones(4))
    store = ColdStore(ram_bytes=3 * one.bytes)
    for i, (keys, values) in enumerate(blocks):
        store.append(keys, values, np.array([i, 0.0, 0.0]), np.ones(4))
    assert len(store) == 7 and store.bytes == 3 * one.bytes and store.disk_bytes == 4 * one.bytes
    for i, block in enumerate(blocks):
        for stored, real in zip(store.load(i), block, strict=True):
            assert (stored - real).abs().max() <= real.abs().max() / 250


def test_copies_of_a_store_share_its_rows_until_they_part() -> None:
    store, block = ColdStore(), torch.ones(1, 1, 2, 16)
    moments = []
    for i in range(60):  # a game keeps a moment every few frames
        store.append(block, block, np.array([i, 0.0, 0.0]), np.ones(2))
        moments.append(store.copy())
    assert all(kept._rows is store._rows for kept in moments)
    assert [len(kept) for kept in moments] == list(range(1, 61)) and len(moments[9].poses) == 10
    back = moments[9]
    back.append(3 * block, block, np.array([-1.0, 0.0, 0.0]), np.ones(2))
    assert back._rows is not store._rows and back.poses[10, 0] == -1 and store.poses[10, 0] == 10
    assert back.nearest(1, np.array([-1.0, 0.0, 0.0]), np.ones(2)) == [10]


def test_copies_of_a_store_go_their_own_ways() -> None:
    store, block = ColdStore(ram_bytes=0), torch.ones(1, 1, 2, 16)
    store.append(block, block, np.zeros(3), np.ones(2))
    other = store.copy()
    store.append(2 * block, block, np.ones(3), np.ones(2))
    other.append(3 * block, block, 2 * np.ones(3), np.ones(2))
    assert store.poses[1, 0] == 1 and other.poses[1, 0] == 2
    assert round(float(store.load(1)[0].mean())) == 2 and round(float(other.load(1)[0].mean())) == 3


def test_recall_prefers_the_nearest_views_the_oldest_of_equal_ones_and_no_repetition() -> None:
    store, block = ColdStore(), torch.ones(1, 1, 2, 16)
    for x, heading in ((0, 0.0), (0, 0.0), (30, 0.0), (0, 0.5), (0, 3.0), (0.5, 0.02)):
        store.append(block, block, np.array([x, 0.0, heading]), np.ones(2))
    assert store.nearest(3, np.zeros(3), np.ones(2)) == [0, 3, 2]
    assert sorted(store.nearest(6, np.zeros(3), np.ones(2))) == list(range(6))
    assert store.nearest(0, np.zeros(3), np.ones(2)) == []


def test_on_a_way_that_was_walked_before_the_next_step_s_view_is_recalled_too() -> None:
    store, block = ColdStore(), torch.ones(1, 1, 2, 16)
    for x in range(20):
        store.append(block, block, np.array([x, 0.0, 0.0]), np.ones(2))
    assert set(store.nearest(5, np.array([10.0, 0.0, 0.0]), np.ones(2))) == {8, 9, 10, 11, 12}


def test_without_odometry_recall_goes_by_looks() -> None:
    config = replace(CONFIG, motion=(), fov=0.0)
    generator, memory = models(MemoryConfig(budget=2 * N), config)
    player = Player(generator, memory, batch=1)
    player.run(30)
    player.latents[:, 30] = player.latents[:, 9]  # the last frame of block 2 (frames 7, 8, 9)
    player.step()
    assert 2 in player.cache.hot[0]


def test_folded_keys_reach_every_token_of_both_streams_with_their_gradient() -> None:
    frames, length, n, e, prefix = 4, 3, 4, 16, 10
    random = torch.Generator().manual_seed(3)
    q = torch.randn(2, 3, (frames + length) * n, e, generator=random, requires_grad=True)
    k, v = (torch.randn(2, 3, prefix + q.shape[2], e, generator=random, requires_grad=True) for _ in range(2))
    frame = torch.arange(frames + length).repeat_interleave(n)
    row, column = frame[:, None], frame[None]
    clean = (row < frames) & (column <= row)
    noisy = (row >= frames) & ((column < row - length) | (column == row))
    mask = torch.cat((torch.ones(len(frame), prefix, dtype=torch.bool), clean | noisy), 1)
    expected = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    out = two_streams(q, k, v, frames, n)
    torch.testing.assert_close(out, expected)
    weight = torch.randn(out.shape, generator=random)
    for a, b in zip(
        torch.autograd.grad((out * weight).sum(), (q, k, v)),
        torch.autograd.grad((expected * weight).sum(), (q, k, v)),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


def test_training_on_folds_sees_what_play_sees() -> None:
    generator, memory = models(MemoryConfig(budget=8 * N))
    random = torch.Generator().manual_seed(4)
    latents, actions = torch.randn(1, 1, 3, N, 8, generator=random), torch.ones(1, 3, 2)
    pose = torch.randn(1, 3, 3, dtype=torch.float64, generator=random)
    folded = memory.fold(latents[0], actions, pose)
    cache = Cache(CONFIG, 1, "mag", CPU, torch.float32, memory.config)
    keys, values = (torch.stack([as_stored(pair[i][0]) for pair in folded]) for i in (0, 1))
    cache.cold[0].append(keys, values, pose[0, -1].numpy(), np.ones(24))
    cache._heat(0, 0, 0)
    x, level = torch.randn(1, 1, N, 8, generator=random), torch.full((1, 1), 0.6)
    here = torch.randn(1, 1, 3, dtype=torch.float64, generator=random)
    cache.prepare()
    played = generator(x, level, actions[:, :1], generator.rotation(here), cache.attend)
    clip = Clip(x, actions[:, :1], torch.zeros(1, 1), here, 0)
    stored = [(as_stored(k), as_stored(v)) for k, v in folded]
    position = torch.full((1, N), -cache.read_far)
    seen = teacher_forced(generator, clip, x, torch.zeros(1, 1), x, level, stored, position)
    torch.testing.assert_close(played, seen, atol=2e-5, rtol=1e-4)


def test_a_low_rank_memory_starts_as_the_generator_and_stores_less() -> None:
    generator, _ = models(MemoryConfig())
    factors = new_delta(generator, 4, torch.Generator().manual_seed(0))
    weights = {name: p.detach() for name, p in generator.named_parameters()}
    for name, value in with_delta(weights, factors).items():
        torch.testing.assert_close(value, weights[name])
    assert sum(f.numel() for f in factors.values()) < 0.3 * sum(w.numel() for w in weights.values())
    factors["blocks.0.qkv.weight.b"] += 1.0
    assert not torch.equal(with_delta(weights, factors)["blocks.0.qkv.weight"], weights["blocks.0.qkv.weight"])


def test_a_cache_in_the_middle_of_a_fold_survives_a_file() -> None:
    generator, memory = models(MemoryConfig(budget=2 * N))
    player = Player(generator, memory)
    player.run_into_a_fold(after=4)
    meta, tensors = state_of(player.cache)
    assert meta["jobs"] and any(name.startswith("cold.1.") for name in tensors)
    meta = json.loads(json.dumps(meta))
    expected = player.run(20)
    player.cache = cache_from(CONFIG, meta, tensors, CPU, torch.float32, memory)
    torch.testing.assert_close(player.run(20), expected, rtol=0, atol=0)


def test_a_state_that_does_not_fit_is_named() -> None:
    generator, memory = models(MemoryConfig(budget=2 * N))
    player = Player(generator, memory)
    player.run_into_a_fold(after=4)
    meta, tensors = state_of(player.cache)
    wrong = [
        ({**meta, "mode": "forever"}, tensors),
        ({**meta, "blocks": 10**6}, tensors),
        ({**meta, "recall": 3}, tensors),
        ({**meta, "filled": -1}, tensors),
        ({**meta, "jobs": [{"worlds": [5], "layer": 1}]}, tensors),
        ({**meta, "jobs": [{"worlds": [0], "layer": 99}]}, tensors),
        (meta, {**tensors, "hot": tensors["hot"] + 99}),
        (meta, {**tensors, "pose": tensors["pose"] * torch.nan}),
        (meta, {**tensors, "cold.0.blocks": tensors["cold.0.blocks"][:, :-1]}),
        (meta, {name: tensor for name, tensor in tensors.items() if name != "cold.1.poses"}),
        (meta, {**tensors, "pending.0.latents": torch.zeros(1, 2, 3)}),
    ]
    for some_meta, some_tensors in wrong:
        with pytest.raises(ValueError, match="cache: |cold storage: "):
            cache_from(CONFIG, some_meta, some_tensors, CPU, torch.float32, memory)
    with pytest.raises(ValueError, match="memory model"):
        cache_from(CONFIG, meta, tensors, CPU, torch.float32)
