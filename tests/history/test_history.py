"""Cached, sliced and recalled history gives what one dense attention pass with the corresponding mask gives."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from engine.history import history as histories
from engine.history.filling import fill
from engine.history.frame import Frame
from engine.history.history import History
from engine.model import odometry
from engine.model.generator import Clip, Generator, GeneratorConfig, rotate_time, teacher_forced
from engine.model.memory import MemoryConfig
from tests.support import tiles
from tests.support.histories import CONFIG, CPU, N, Player, as_stored, make_generator, make_models


def poses_of(player: Player, frames: int) -> Tensor:
    """Poses (B, frames, 3) that a player's actions lead to."""
    motion = player.generator.config.motion
    found = [odometry.integrate(actions[:frames].numpy(), [0], motion) for actions in player.actions]
    return torch.from_numpy(np.stack(found))


def in_view(history: History) -> dict[str, list[int]]:
    """Which frames and blocks the next frame of world 0 sees."""
    time, hot = history.buffers.time[0], history.buffers.hot[0]
    return {"frames": sorted(time[time >= 0].tolist()), "blocks": hot[hot >= 0].tolist()}


def dense(player: Player, frames: int, shown: list[dict[str, list[int]]]) -> Tensor:
    """One pass over all frames of all worlds: frame i attends to the frames and the folds that `shown[i]` names."""
    generator, memory, far = player.generator, player.memory, player.history.read_far
    latents, actions, pose = player.latents[:, :frames], player.actions[:, :frames], poses_of(player, frames)
    folds = []
    if memory is not None:
        t = memory.config.block
        for first in range(generator.config.sink, frames - t + 1, t):
            part = slice(first, first + t)
            folds.append(memory.fold(latents[:, part], actions[:, part], pose[:, part]))

    def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        rows = []
        for i in range(frames):
            seen = [*shown[i]["frames"], i]
            at = torch.cat([torch.arange(j * N, (j + 1) * N) for j in seen])
            age = torch.tensor([-min(i - j, far) for j in seen]).repeat_interleave(N)[None].expand(len(q), -1)
            keys, values = [rotate_time(k[:, :, at], age)], [v[:, :, at]]
            for block in shown[i]["blocks"]:
                folded_k, folded_v = (as_stored(x) for x in folds[block][layer])
                keys.append(rotate_time(folded_k, torch.full((len(q), folded_k.shape[2]), -far)))
                values.append(folded_v)
            here = slice(i * N, (i + 1) * N)
            rows.append(F.scaled_dot_product_attention(q[:, :, here], torch.cat(keys, 2), torch.cat(values, 2)))
        return torch.cat(rows, 2)

    outputs: list[Tensor] = []
    generator(latents, torch.zeros(latents.shape[:2]), actions, generator.rotation(pose), attend, outputs)
    return outputs[-1]


@pytest.mark.parametrize("mode", ["window", "full"])
def test_cached_frames_equal_one_dense_pass(mode: str) -> None:
    player, frames = Player(make_generator(), mode=mode), 11
    cached = player.run(frames)
    shown = []
    for i in range(frames):
        seen = [j for j in range(i) if mode == "full" or j < CONFIG.sink or j >= i - CONFIG.window]
        shown.append({"frames": seen, "blocks": []})
    torch.testing.assert_close(cached, dense(player, frames, shown), atol=1e-4, rtol=1e-3)


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
    generator, memory = make_models(shape)
    player, frames, shown, drawn = Player(generator, memory, batch=1), 40, [], []
    for _ in range(frames):
        shown.append(in_view(player.history))
        drawn.append(player.step())
    last = shown[-1]
    assert len(last["blocks"]) == shape.budget // shape.tokens(CONFIG)
    for i, there in enumerate(shown):  # every frame of the window is there, and the sink
        assert set(range(max(0, i - CONFIG.window), i)) | set(range(min(i, CONFIG.sink))) <= set(there["frames"])
    covered = CONFIG.sink + shape.block * len(player.history.cold[0])
    assert covered >= min(set(last["frames"]) - {0})  # no gap between folds and window
    torch.testing.assert_close(torch.stack(drawn, 1), dense(player, frames, shown), atol=1e-4, rtol=1e-3)


def test_full_grows_past_its_first_buffers_without_changing_what_is_drawn() -> None:
    generator = make_generator()
    small, large = (Player(generator, mode="full", batch=1) for _ in range(2))
    large.history.buffers = large.history.buffers.grown(64)
    for _ in range(70):
        torch.testing.assert_close(small.step(), large.step())
    assert small.history.buffers.slots > 64 and small.history.buffers.used[0] == 70


def test_worlds_with_histories_of_unequal_length_draw_what_each_would_alone() -> None:
    generator = make_generator()
    both, alone = Player(generator, mode="window"), Player(generator, mode="window", batch=1)
    both.run(3)
    both.history.clear(np.array([False, True]))  # the second begins anew
    alone.latents, alone.actions = both.latents[1:], both.actions[1:]
    torch.testing.assert_close(both.run(3)[1:], alone.run(3), atol=2e-5, rtol=1e-4)
    assert both.history.count.tolist() == [6, 3]


def test_worlds_with_unequal_histories_fold_as_each_would_alone() -> None:
    generator, memory = make_models(MemoryConfig(budget=2 * N))
    both, alone = Player(generator, memory), Player(generator, memory, batch=1)
    both.run(11)
    both.history.clear(np.array([False, True]))
    alone.latents, alone.actions = both.latents[1:], both.actions[1:]
    torch.testing.assert_close(both.run(30)[1:], alone.run(30), atol=2e-5, rtol=1e-4)
    assert both.history.buffers.hot[1].tolist() == alone.history.buffers.hot[0].tolist()


def test_switching_between_window_and_full_keeps_what_is_in_view() -> None:
    generator = make_generator()
    window, switched, full = (Player(generator, mode=mode) for mode in ("window", "window", "full"))
    for player in (window, switched, full):
        player.run(8)
    switched.history.set_mode("full")
    switched.history.set_mode("window")
    torch.testing.assert_close(switched.step(), window.step())
    assert switched.history.buffers.used.tolist() == [5, 5] and switched.history.count.tolist() == [9, 9]
    full.history.set_mode("window")
    assert sorted(full.history.buffers.time[0].tolist()) == [0, 4, 5, 6, 7]
    kept = full.history.copy()
    once = full.step()
    full.history = kept
    full.history.set_mode("full")
    torch.testing.assert_close(full.step(), once)


def test_switching_modes_keeps_folds_and_forgets_only_what_the_window_lost() -> None:
    generator, memory = make_models(MemoryConfig(budget=3 * N))
    player = Player(generator, memory)
    player.run(30)
    used, folds = player.history.buffers.used, list(map(len, player.history.cold))
    full = player.history.copy()
    full.set_mode("full")
    assert (full.buffers.hot >= 0).sum() == sum(folds) and (full.buffers.used == used).all()
    player.history.set_mode("window")
    assert (player.history.buffers.used == CONFIG.sink + CONFIG.window).all()
    assert list(map(len, player.history.cold)) == folds
    player.history.set_mode("mag")
    assert list(map(len, player.history.cold)) == [n + 1 for n in folds]  # what was half folded is done at once
    assert (player.history.buffers.hot >= 0).all()  # the very next frame sees its memory
    player.run(20)
    assert len(player.history.cold[0]) > folds[0] + 1


def test_full_history_can_be_folded_afterwards() -> None:
    generator, memory = make_models(MemoryConfig(budget=3 * N))
    player = Player(generator, memory, mode="full")
    player.run(41)
    player.history.set_mode("mag")
    history = player.history
    frames = history.buffers.used + 3 * np.array([len(store) for store in history.cold])
    assert (frames == 41).all() and history.buffers.slots == CONFIG.sink + CONFIG.window + 6
    player.run(10)


def test_a_switch_recalls_once_and_one_that_is_refused_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    generator, memory = make_models(MemoryConfig(budget=3 * N))
    player, calls = Player(generator, memory, mode="full"), []
    player.run(30)
    relevance = histories.RECALLS["relevance"]

    def counted(*asked: Any) -> list[int]:
        calls.append(asked)
        return relevance(*asked)

    monkeypatch.setitem(histories.RECALLS, "relevance", counted)
    with pytest.raises(ValueError, match="must be one of window, full, mag, got 'maq'"):
        player.history.set_mode("maq")
    assert player.history.mode == "full" and not calls
    player.history.set_mode("mag")
    assert len(calls) == player.batch


def test_a_snapshot_in_the_middle_of_a_fold_goes_on_alike() -> None:
    generator, memory = make_models(MemoryConfig(budget=2 * N))
    player = Player(generator, memory)
    player.run_into_a_fold(after=1)
    kept = player.history.copy()
    once = player.run(20)
    assert len(player.history.cold[0]) > len(kept.cold[0])
    player.history = kept
    torch.testing.assert_close(player.run(20), once, rtol=0, atol=0)


def test_without_odometry_recall_goes_by_looks() -> None:
    generator, memory = make_models(MemoryConfig(budget=2 * N), replace(CONFIG, motion=(), fov=0.0))
    player = Player(generator, memory, batch=1)
    player.run(30)
    player.latents[:, 30] = player.latents[:, 9]  # the last frame of block 2 (frames 7, 8, 9)
    player.step()
    assert 2 in player.history.buffers.hot[0]


@pytest.mark.parametrize("recall", ["recent", "random"])
def test_other_ways_of_recall_bring_blocks_too(recall: str) -> None:
    generator, memory = make_models(MemoryConfig(budget=3 * N))
    player = Player(generator, memory, batch=1, recall=recall)
    player.run(40)
    hot, folds = set(player.history.buffers.hot[0].tolist()), len(player.history.cold[0])
    assert len(hot) == 3 and hot <= set(range(folds))
    assert recall != "recent" or hot == {folds - 3, folds - 2, folds - 1}


def test_what_cannot_be_remembered_is_refused() -> None:
    generator, memory = make_models(MemoryConfig())
    for mode in ("mag", "window"):  # M would switch to mag
        with pytest.raises(ValueError, match="memory budget of 5 tokens is smaller than one folded block, 6"):
            History(generator, 1, mode, CPU, torch.float32, memory, budget=5)
    with pytest.raises(ValueError, match="needs a checkpoint with a memory model"):
        History(generator, 1, "mag", CPU, torch.float32)
    with pytest.raises(ValueError, match="recall must be one of relevance, recent, random, got 'newest'"):
        History(generator, 1, "mag", CPU, torch.float32, memory, recall="newest")


def draw(history: History, generator: Generator, x: Tensor, level: Tensor, action: Tensor, pose: Tensor) -> Tensor:
    return generator(x, level, action, generator.rotation(pose), history.attend)


def test_training_sees_what_play_sees() -> None:
    """The two-stream pass predicts what a history of the same frames predicts."""
    generator, length = make_generator(), CONFIG.clip
    player = Player(generator, mode="full")
    latents, actions, poses = player.latents[:, :length], player.actions[:, :length], poses_of(player, length)
    position = torch.arange(length)[None].expand(2, -1)
    noisy = torch.randn(latents.shape, generator=torch.Generator().manual_seed(5))
    clean, level = torch.zeros(2, length), torch.full((2, length), 0.7)
    clip = Clip(latents, actions, position, poses, 0)
    expected = teacher_forced(generator, clip, latents, clean, noisy, level)
    for i in range(length):
        at = slice(i, i + 1)
        drawn = draw(player.history, generator, noisy[:, at], level[:, :1], actions[:, at], poses[:, at])
        torch.testing.assert_close(drawn[:, 0], expected[:, i], atol=2e-5, rtol=1e-4)
        player.step()


def test_training_on_folds_sees_what_play_sees() -> None:
    generator, memory = make_models(MemoryConfig(budget=8 * N))
    random = torch.Generator().manual_seed(4)
    latents, actions = torch.randn(1, 1, 3, N, 8, generator=random), torch.ones(1, 3, 2)
    pose = torch.randn(1, 3, 3, dtype=torch.float64, generator=random)
    folded = memory.fold(latents[0], actions, pose)
    history = History(generator, 1, "mag", CPU, torch.float32, memory)
    keys, values = (torch.stack([as_stored(pair[i][0]) for pair in folded]) for i in (0, 1))
    history.cold[0].append(keys, values, pose[0, -1].numpy(), np.ones(24))
    history._recall(0)
    x, level = torch.randn(1, 1, N, 8, generator=random), torch.full((1, 1), 0.6)
    here = torch.randn(1, 1, 3, dtype=torch.float64, generator=random)
    played = draw(history, generator, x, level, actions[:, :1], here)
    clip = Clip(x, actions[:, :1], torch.zeros(1, 1), here, 0)
    stored = [(as_stored(k), as_stored(v)) for k, v in folded]
    position = torch.full((1, N), -history.read_far)
    seen = teacher_forced(generator, clip, x, torch.zeros(1, 1), x, level, stored, position)
    torch.testing.assert_close(played, seen, atol=2e-5, rtol=1e-4)


def test_a_cleared_history_is_as_large_as_a_new_one() -> None:
    player = Player(make_generator(), mode="full", batch=1)
    size = player.history.buffers.bytes
    player.run(70)
    assert player.history.buffers.bytes > size
    player.history.clear()
    assert player.history.buffers.bytes == size and player.history.buffers.used.tolist() == [0]


@pytest.mark.parametrize("mode", ["window", "full", "mag"])
def test_a_filled_history_is_as_long_as_it_says_and_goes_on(mode: str) -> None:
    generator, memory = make_models(MemoryConfig(budget=3 * N))
    player = Player(generator, memory, mode=mode)
    player.step()
    fill(player.history, 90)
    assert player.history.count.tolist() == [90, 90]
    assert mode != "mag" or (len(player.history.cold[0]) > 20 and (player.history.buffers.hot >= 0).all())
    player.run(5)
    with pytest.raises(ValueError, match="at most 1 frames before filling it"):
        fill(player.history, 200)


def test_a_filled_history_can_be_folded_and_one_without_a_sink_filled() -> None:
    shape = MemoryConfig(budget=3 * N)
    player = Player(*make_models(shape), mode="full")
    player.step()
    fill(player.history, 60)
    player.history.set_mode("mag")
    player.run(8)
    assert player.history.counts(0)["gone"] == 0 and player.history.counts(0)["frames"] == 68
    player = Player(*make_models(shape, replace(CONFIG, sink=0)), mode="window")
    player.step()
    fill(player.history, 30)
    assert player.history.count.tolist() == [30, 30]


@pytest.mark.parametrize("shape", [tiles.SHAPE, tiles.WITH_WINDOW])
def test_a_filled_history_knows_places_along_a_long_walk(shape: GeneratorConfig) -> None:
    history = History(make_generator(shape), 2, "mag", CPU, torch.float32)
    fill(history, 50)
    assert history.count.tolist() == [50, 50] and (history.pose[:, 0] == 50).all()
    assert history.places is not None and history.places.tiles(1) == 4 * (5 + 49)  # he does not stand where he stood
    sights = history.sights(history.pose)
    assert sights is not None and sights[..., shape.channels].all()


def test_a_frame_of_some_worlds_leaves_the_others_as_they_are() -> None:
    generator, memory = make_models(MemoryConfig(budget=3 * N))
    player = Player(generator, memory)
    player.run(20)
    before = in_view(player.history)
    player.history.append(Frame(torch.randn(2, N, 8), torch.ones(2, 2), np.ones((2, 3))), np.array([False, True]))
    assert in_view(player.history) == before and player.history.count.tolist() == [20, 21]
