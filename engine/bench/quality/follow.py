"""Does it obey? Buttons read back by the probe from real and from generated frames, at the same actions."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from engine.bench.quality.probe import Probe, read_directions, shrunk, train_probe
from engine.bench.rollout import groups, reconstructed, rolled_out
from engine.bench.truth import axes_of, directions, free_steps, pick_maps, play_episodes
from engine.config import WorldConfig
from engine.measures import interval
from engine.world import World

PROBE_LENGTH = 21
"""Frames of an episode that the probe learns from."""
FOLLOWED = 32
"""Generated frames of an episode that the probe reads."""


def probe_for(world: World, config: WorldConfig, frames: int, seed: int) -> Probe:
    """Train the probe on about `frames` real frames of training maps, half of them through the world's codec."""
    axes = axes_of(config.buttons)
    count = max(2, round(frames / PROBE_LENGTH))
    maps = pick_maps("train", count, seed)
    played = play_episodes(config, (world.height, world.width), maps, PROBE_LENGTH, seed, "held")
    wanted = directions(axes, config.buttons, played.actions)[:, 1:]
    free = free_steps(axes, wanted, played.poses) & played.there[:, 1:]
    size = played.frames.shape[:2]
    seen = played.frames
    for i in tqdm(range(0, count, 2), desc="probe's frames", unit="map", leave=False):
        seen[i] = reconstructed(world.codec, seen[i], world.device)
    small = shrunk(seen.reshape(-1, *seen.shape[2:])).unflatten(0, size)
    return train_probe(small, wanted, free, axes, seed=seed, device=world.device)


def follow(
    world: World, probe: Probe, config: WorldConfig, maps: np.ndarray, start: int, seed: int, frames: int = FOLLOWED
) -> dict[str, Any]:
    """Agreement of the directions read with those held, all axes at once, in steps that moved freely in truth.

    Returns action_agreement (generated frames), action_agreement_real (real ones through the codec) and
    action_agreement_raw (as the simulator shows them), each with its interval; action_agreement_chance, for
    actions of other steps; by axis, by frames ahead; and the number of pairs.
    """
    axes = axes_of(config.buttons)
    right: dict[str, list[np.ndarray]] = {name: [] for name in ("generated", "real", "raw", "chance")}
    counted: list[np.ndarray] = []
    random = np.random.default_rng([seed, 3])
    total = -(-len(maps) // world.batch) * frames
    with tqdm(total=total, desc="action following", unit="frame", leave=False) as bar:
        for index, count in groups(len(maps), world.batch):
            played = play_episodes(config, (world.height, world.width), maps[index], start + frames, seed, "held")
            wanted = directions(axes, config.buttons, played.actions)[:, 1:]
            free = free_steps(axes, wanted, played.poses) & played.there[:, 1:]
            wanted, free = wanted[:count, start - 1 :], free[:count, start - 1 :]
            drawn = rolled_out(world, played, start, [seed + int(i) for i in index], bar)[:count]
            raw = played.frames[:count, start - 1 :]
            real = reconstructed(world.codec, raw, world.device)
            drawn = np.concatenate((real[:, :1], drawn), 1)
            for name, seen in (("generated", drawn), ("real", real), ("raw", raw)):
                right[name].append(_read(probe, seen) == wanted)
            others = wanted.reshape(-1, len(axes))[random.permutation(wanted.shape[0] * wanted.shape[1])]
            right["chance"].append(_read(probe, real) == others.reshape(wanted.shape))
            counted.append(free)
    free = np.concatenate(counted)
    scores = {name: np.concatenate(parts) for name, parts in right.items()}
    exact = {name: np.asarray(values.all(-1)) for name, values in scores.items()}
    found: dict[str, Any] = {"pairs": int(free.sum())}
    for name, key in (("generated", ""), ("real", "_real"), ("raw", "_raw"), ("chance", "_chance")):
        found[f"action_agreement{key}"] = _share(exact[name], free)
    found["by_axis"] = {
        axis.name: {name: _share(scores[name][..., k], free)["mean"] for name in ("generated", "real")}
        for k, axis in enumerate(axes)
    }
    found["by_frames_ahead"] = [
        {"from": first + 1, "to": min(first + 8, frames)}
        | {
            name: _share(exact[name][:, first : first + 8], free[:, first : first + 8])["mean"]
            for name in ("generated", "real")
        }
        for first in range(0, frames, 8)
    ]
    return found


def _read(probe: Probe, frames: np.ndarray) -> np.ndarray:
    """Frames uint8 (B, T, H, W, 3) -> directions int8 (B, T - 1, K)."""
    flat = torch.from_numpy(np.ascontiguousarray(frames))
    before, after = flat[:, :-1].flatten(0, 1), flat[:, 1:].flatten(0, 1)
    return read_directions(probe, before, after).reshape(frames.shape[0], frames.shape[1] - 1, -1)


def _share(right: np.ndarray, counted: np.ndarray) -> dict[str, float]:
    """Share of the counted (E, F) that are right, with its interval over episodes."""
    weights = counted.sum(1)
    return interval((right & counted).sum(1) / np.maximum(weights, 1), weights)
