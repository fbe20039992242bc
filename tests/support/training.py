"""Data and a world to train on in seconds: a picture that gets bluer, with rewards and ends; no simulator is needed."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save

from engine import checkpoint
from engine.config import Geometry
from engine.data.shards import checksums
from engine.model.codec import Codec, CodecConfig
from engine.model.generator import Generator, GeneratorConfig
from engine.toml import to_toml
from tests.support import fake_source

GOAL = 200


def episode(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """A picture that gets bluer with `right`: -1 a step, +100 and the end at blue 200; some never come there."""
    place, frames, actions, reward = 10 * int(rng.integers(6, 14)), [], [], [0.0]
    length = 60 if rng.random() < 0.7 else int(rng.integers(3, 20))
    while True:
        frames.append(np.full((48, 64, 3), (30, 30, place), np.uint8))
        actions.append(np.array([0, 0], np.uint8))
        if place >= GOAL or len(frames) == length:
            break
        actions[-1][int(rng.random() < 0.75)] = 1
        place = int(np.clip(place + 10 * (2 * actions[-1][1].astype(int) - 1), 0, 255))
        reward.append(99.0 if place >= GOAL else -1.0)
    moved = np.concatenate((np.zeros((1, 2), np.uint8), np.stack(actions)[:-1]))  # what led to each frame
    ended = np.zeros(len(frames), np.uint8)
    ended[-1] = place >= GOAL
    poses = np.zeros((len(frames), 4), np.float32)
    poses[:, 0] = [frame[0, 0, 2] for frame in frames]  # how blue it is, is where one stands
    return {
        "frames": np.stack(frames),
        "actions": moved,
        "poses": poses,
        "reward": np.array(reward, np.float32),
        "terminated": ended,
        "events": events_of(poses[:, 0]),
    }


def events_of(blue: np.ndarray) -> np.ndarray:
    """What happens at each frame, uint8 (length, 3): it becomes blue beyond 150, it comes to the goal, and nothing."""
    before = np.append(blue[:1], blue[:-1])
    crossed, never = (blue > 150) & (before <= 150), np.zeros(len(blue), bool)
    return np.stack((crossed, (blue >= GOAL) & (before < GOAL), never), 1).astype(np.uint8)


def firsts(events: np.ndarray) -> np.ndarray:
    """1 where one of the events (length, E) of an episode happens for the first time."""
    seen: set[int] = set()
    found = np.zeros(len(events), np.float32)
    for frame, happened in enumerate(events):
        new = set(np.flatnonzero(happened).tolist()) - seen
        found[frame], seen = float(bool(new)), seen | new
    return found


def write_data(
    folder: Path, episodes: int = 40, without: tuple[str, ...] = (), stripes: int = 0, events: bool = False
) -> Path:
    """Write a folder as collect does, of so many episodes in each split; returns it.

    without: names of what the data lacks. stripes: how much redder every other column is than its neighbours. events:
    with them, and the first time of each kind is rewarded by 1.
    """
    without = without if events else (*without, "events")
    for number, (split, count) in enumerate((("train", episodes), ("validation", episodes))):
        rng = np.random.default_rng(number)
        made = [episode(rng) for _ in range(count)]
        tensors = {name: np.concatenate([e[name] for e in made]) for name in made[0] if name not in without}
        tensors["frames"][:, :, ::2, 0] += np.uint8(stripes)
        lengths = [len(e["frames"]) for e in made]
        if events:
            tensors["reward"] += np.concatenate([firsts(e["events"]) for e in made])
        tensors["episode"] = np.repeat(np.arange(count, dtype=np.int32), lengths)
        (folder / split).mkdir(parents=True)
        (folder / split / "shard-00000.safetensors").write_bytes(save(tensors, metadata=checksums(tensors)))
    (folder / "collect.json").write_text(json.dumps({"buttons": ["left", "right"], "height": 48, "width": 64}))
    return folder


def write_world(folder: Path, geometry: Geometry | None = None, sights: bool = False) -> Path:
    """A world's file and beside it a checkpoint whose generator is random, but its codec sees blue.

    sights: the generator takes those of a world whose player is in the middle, and has no window.
    """
    folder.mkdir(exist_ok=True)
    config = replace(fake_source.world(), geometry=geometry)
    path = folder / "square.toml"
    path.write_text(to_toml(config).replace("checkpoints/square", str(folder / "square")))
    torch.manual_seed(0)
    codec = Codec(CodecConfig(48, 64, 16, 24))
    codec.basis.copy_(torch.linalg.qr(torch.randn(codec.basis.shape)).Q)
    shape = GeneratorConfig(3, 4, 24, 2, 32, 2, heads=2, window=7, sink=1, clip=8, far=20)
    if sights:
        shape = replace(shape, window=0, sink=0, clip=1, sights=True, player=6)
    generator = Generator(shape)
    parts = {"codec": asdict(codec.config), "generator": asdict(generator.config)}
    described = {"world": "square", "preset": "nano", "buttons": ["left", "right"], **parts}
    weights = {n: p.detach().half() for n, p in generator.named_parameters()}
    checkpoint.save(folder / "square", described, {"codec": dict(codec.state_dict()), "generator": weights})
    return path
