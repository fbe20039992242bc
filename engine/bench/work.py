"""How much work a frame is, and what the machine can do at best."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import torch
from torch import nn

from engine.world import World


def frame_flops(world: World) -> int:
    """Floating-point operations of one frame of all worlds: matrix products of passes, commit, heads and decoding.

    The passes see the history as it is now. Two operations for each multiply-add; what is done to each number alone,
    such as a norm, is not counted.
    """
    c, k = world.generator.config, world.codec.config
    d, n, seen = c.dim, c.tokens, world.history.tokens_in_view
    attention = 2 * n * (seen + n) * d
    enter, leave = world.generator.enter.in_features, world.generator.leave.out_features
    tokens = n * ((enter + leave) * d + c.depth * (4 + 2 * c.mlp) * d * d) + c.depth * attention
    waves = world.generator.level.enter.in_features
    conditioning = waves * d + d * d + c.actions * d + d * d + 6 * d * d + 2 * d * d
    patch = k.patch * k.patch * 3
    decode = k.tokens * k.channels * patch
    if world.codec.deblock is not None:
        pixels = k.height * k.width // 4
        decode += pixels * sum(m.weight.numel() for m in world.codec.deblock.modules() if isinstance(m, nn.Conv2d))
    folds = world.mode == "mag" and world.memory_model is not None  # T frames every T frames: about one pass more
    passes = world.steps + _commits(world) + folds
    aside = _products(world.motion, "token", n) + _products(world.heads, "enter", n)
    return 2 * world.batch * (passes * (tokens + conditioning) + decode + aside)


def _commits(world: World) -> bool:
    """Whether a commit is a pass: for the keys and values of a window, or for heads."""
    return world.generator.config.window > 0 or world.heads is not None


def _products(network: nn.Module | None, of_tokens: str, tokens: int) -> int:
    """Multiply-adds of a network's linear layers for one frame; one of them is applied to each token."""
    if network is None:
        return 0
    layers = [(name, layer) for name, layer in network.named_modules() if isinstance(layer, nn.Linear)]
    return sum(layer.weight.numel() * (tokens if name == of_tokens else 1) for name, layer in layers)


def history_bytes(world: World) -> int:
    """Bytes that a frame of one world adds to what attention may read; 0 where it reads no history."""
    return world.history.bytes_of_a_frame if world.generator.config.window else 0


def cold_bytes(world: World) -> float:
    """Bytes that a frame of one world adds to cold storage, 0 without a memory model."""
    if world.memory_model is None:
        return 0.0
    c, memory = world.generator.config, world.memory_model.config
    numbers = 2 * c.depth * c.heads * memory.tokens(c) * (c.head_dim + 4)  # int8, and a float32 scale for each head
    return numbers / memory.block


def frame_bytes(world: World) -> int:
    """Bytes that one frame must read: weights and the history in view in every pass, that of commit included.

    What is in view are keys and values, and where there are places a sight of each token.
    """
    c = world.generator.config
    weights = sum(p.numel() * p.element_size() for p in world.generator.parameters())
    history = world.history.tokens_in_view / c.tokens * history_bytes(world)
    sights = 4 * c.tokens * (c.channels + 2) if c.sights else 0  # float32
    return round((world.steps + _commits(world)) * (weights + world.batch * (history + sights)))


def _best(work: Callable[[], object], device: torch.device, seconds: float) -> float:
    """Seconds of the quickest of the repetitions that fit into `seconds`; another process can only slow one down."""

    def once() -> float:
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - start

    once()
    best, stop = math.inf, time.perf_counter() + seconds
    while True:
        best = min(best, once())
        if time.perf_counter() >= stop:
            return best


@torch.inference_mode()
def product_rate(world: World, seconds: float = 0.5) -> float:
    """FLOP/s of a pass's matrix products alone: the generator's own weights and numbers of tokens, nothing between."""
    c = world.generator.config
    work = []
    for name, module in world.generator.named_modules():
        if isinstance(module, nn.Linear):
            rows = world.batch * (c.tokens if name in ("enter", "leave") or name.startswith("blocks.") else 1)
            work.append((torch.ones(rows, module.in_features, device=world.device, dtype=module.weight.dtype), module))
    flops = sum(2 * len(x) * module.weight.numel() for x, module in work)

    def products() -> None:
        for x, module in work:
            nn.functional.linear(x, module.weight)

    return flops / _best(products, world.device, seconds)


def copy_rate(device: torch.device, seconds: float = 0.5, megabytes: int = 256) -> float:
    """Bytes a second, read and written, of a large copy: the limit of memory."""
    source = torch.zeros(megabytes * 2**20, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * source.numel() / _best(lambda: target.copy_(source), device, seconds)
