"""Cached inference gives what one dense attention pass with the corresponding mask gives."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from engine.history.cache import Cache, Mode
from engine.model.attention import two_streams
from engine.model.generator import Clip, Generator, GeneratorConfig, rotate_time, teacher_forced

PLAIN = GeneratorConfig(
    rows=2, columns=3, channels=8, actions=2, dim=64, depth=2, heads=2, window=3, sink=1, clip=4, far=12
)
CONFIG = replace(PLAIN, motion=((1.0, 0.0, 0.0), (0.0, 0.5, 15.0)), fov=90.0)
POSES = np.random.default_rng(0).normal(size=(200, 3)) * (5.0, 5.0, 2.0)


def poses(frames: int, batch: int, first: int = 0) -> torch.Tensor:
    return torch.from_numpy(POSES[first : first + frames])[None].expand(batch, -1, -1)


def make_generator(seed: int = 0) -> Generator:
    torch.manual_seed(seed)
    generator = Generator(CONFIG).eval().requires_grad_(False)
    for p in generator.parameters():  # the zero-initialised ones too, or nothing would be seen
        p.add_(torch.randn_like(p) * 0.1)
    return generator


def history(frames: int, batch: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(1)
    latents = torch.randn(batch, frames, CONFIG.tokens, CONFIG.channels, generator=random)
    return latents, torch.randint(0, 2, (batch, frames, 2), generator=random).float()


def write(generator: Generator, cache: Cache, latents: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
    keys, values = [], []

    def attend(layer, q, k, v):
        keys.append(k)
        values.append(v)
        return cache.attend(layer, q, k, v)

    cache.prepare()
    pose = POSES[cache.count]
    rotation = generator.rotation(torch.from_numpy(pose[:, None]))
    out = generator(latents[:, None], torch.zeros(len(latents), 1), action[:, None], rotation, attend)
    cache.write(keys, values, pose=pose)
    return out[:, 0]


def dense(generator: Generator, latents: torch.Tensor, actions: torch.Tensor, sees: np.ndarray, clip: int):
    """One pass over all frames; sees[i, j]: frame i attends to frame j; ages above `clip` are read as `clip`."""
    n, frames = CONFIG.tokens, latents.shape[1]
    age = np.minimum(np.arange(frames)[:, None] - np.arange(frames), clip)

    def attend(layer, q, k, v):
        rows = []
        for i in range(frames):
            here = slice(i * n, (i + 1) * n)
            seen = [j for j in range(frames) if sees[i, j]]
            at = torch.cat([torch.arange(j * n, (j + 1) * n) for j in seen])
            position = torch.tensor([-age[i, j] for j in seen]).repeat_interleave(n)[None].expand(len(q), -1)
            keys = rotate_time(k[:, :, at], position)
            rows.append(F.scaled_dot_product_attention(q[:, :, here], keys, v[:, :, at]))
        return torch.cat(rows, 2)

    rotation = generator.rotation(poses(frames, len(latents)))
    return generator(latents, torch.zeros(latents.shape[:2]), actions, rotation, attend)


@pytest.mark.parametrize("mode", ["window", "full"])
def test_cached_frames_equal_one_dense_pass(mode: Mode) -> None:
    generator, frames = make_generator(), 11
    latents, actions = history(frames)
    cache = Cache(CONFIG, 2, mode, torch.device("cpu"), torch.float32)
    cached = torch.stack([write(generator, cache, latents[:, i], actions[:, i]) for i in range(frames)], 1)
    sees = np.tril(np.ones((frames, frames), bool))
    if mode == "window":
        for i in range(frames):
            for j in range(i):
                sees[i, j] = j < CONFIG.sink or j >= i - CONFIG.window
    expected = dense(generator, latents, actions, sees, cache.read_far)
    torch.testing.assert_close(cached, expected, atol=2e-5, rtol=1e-4)


def test_full_grows_past_its_first_buffers_without_changing_what_is_drawn() -> None:
    generator = make_generator()
    latents, actions = history(70, batch=1)
    small, large = (Cache(CONFIG, 1, "full", torch.device("cpu"), torch.float32) for _ in range(2))
    large._grow()
    for i in range(70):
        a = write(generator, small, latents[:, i], actions[:, i])
        b = write(generator, large, latents[:, i], actions[:, i])
        torch.testing.assert_close(a, b)
    assert small.time.shape[1] > 64 and small.used[0] == 70


def test_worlds_with_histories_of_unequal_length_draw_what_each_would_alone() -> None:
    generator = make_generator()
    latents, actions = history(6)
    both = Cache(CONFIG, 2, "window", torch.device("cpu"), torch.float32)
    for i in range(3):
        write(generator, both, latents[:, i], actions[:, i])
    both.clear(np.array([False, True]))  # the second begins anew
    for i in range(3, 6):
        out = write(generator, both, latents[:, i], actions[:, i])
    alone = Cache(CONFIG, 1, "window", torch.device("cpu"), torch.float32)
    for i in range(3, 6):
        expected = write(generator, alone, latents[1:, i], actions[1:, i])
    torch.testing.assert_close(out[1:], expected, atol=2e-5, rtol=1e-4)
    assert both.count.tolist() == [6, 3]


def test_switching_modes_keeps_what_is_in_view() -> None:
    generator = make_generator()
    latents, actions = history(9)
    window = Cache(CONFIG, 2, "window", torch.device("cpu"), torch.float32)
    full = Cache(CONFIG, 2, "full", torch.device("cpu"), torch.float32)
    for i in range(8):
        write(generator, window, latents[:, i], actions[:, i])
        write(generator, full, latents[:, i], actions[:, i])
    switched = window.converted("full").converted("window")
    expected = write(generator, window, latents[:, 8], actions[:, 8])
    torch.testing.assert_close(write(generator, switched, latents[:, 8], actions[:, 8]), expected)
    assert switched.used.tolist() == [4, 4] and switched.count.tolist() == [9, 9]
    shrunk = full.converted("window")
    assert sorted(shrunk.time[0].tolist()) == [0, 5, 6, 7]
    once = write(generator, shrunk.copy(), latents[:, 8], actions[:, 8])
    torch.testing.assert_close(write(generator, shrunk.converted("full"), latents[:, 8], actions[:, 8]), once)


def test_two_streams_equal_masked_attention_and_its_gradient() -> None:
    frames, length, n, e = 5, 3, 4, 16
    random = torch.Generator().manual_seed(3)
    q, k, v = (torch.randn(2, 3, (frames + length) * n, e, generator=random, requires_grad=True) for _ in range(3))
    frame = torch.arange(frames + length).repeat_interleave(n)
    row, column = frame[:, None], frame[None]
    clean = (row < frames) & (column <= row)
    noisy = (row >= frames) & ((column < row - length) | (column == row))
    expected = F.scaled_dot_product_attention(q, k, v, attn_mask=clean | noisy)
    out = two_streams(q, k, v, frames, n)
    torch.testing.assert_close(out, expected)
    weight = torch.randn(out.shape, generator=random)
    for a, b in zip(
        torch.autograd.grad((out * weight).sum(), (q, k, v)),
        torch.autograd.grad((expected * weight).sum(), (q, k, v)),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


def test_training_sees_what_play_sees() -> None:
    """The two-stream pass predicts what a cache filled with the same frames predicts."""
    generator, length = make_generator(), CONFIG.clip
    latents, actions = history(length)
    position = torch.arange(length)[None].expand(2, -1)
    noisy = torch.randn(latents.shape, generator=torch.Generator().manual_seed(5))
    clean, level = torch.zeros(2, length), torch.full((2, length), 0.7)
    clip = Clip(latents, actions, position, poses(length, 2), 0)
    expected = teacher_forced(generator, clip, latents, clean, noisy, level)
    cache = Cache(CONFIG, 2, "full", torch.device("cpu"), torch.float32)
    for i in range(length):
        cache.prepare()
        rotation = generator.rotation(poses(1, 2, i))
        drawn = generator(noisy[:, i : i + 1], level[:, :1], actions[:, i : i + 1], rotation, cache.attend)
        torch.testing.assert_close(drawn[:, 0], expected[:, i], atol=2e-5, rtol=1e-4)
        write(generator, cache, latents[:, i], actions[:, i])


def test_a_cleared_cache_is_as_large_as_a_new_one() -> None:
    generator = make_generator()
    latents, actions = history(70, batch=1)
    cache = Cache(CONFIG, 1, "full", torch.device("cpu"), torch.float32)
    size = cache.bytes
    for i in range(70):
        write(generator, cache, latents[:, i], actions[:, i])
    assert cache.bytes > size
    cache.clear()
    assert cache.bytes == size and cache.used.tolist() == [0]
