"""Shards: episodes from a simulator in a safetensors file, which is there whole or not at all."""

import json
import zlib
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from safetensors.numpy import save

from engine.data.policies import Player, player_for, walks
from engine.errors import UserError
from engine.files import is_full, replace_file
from engine.inputs import counted
from engine.sources.contract import events_in, is_exclusive
from engine.sources.splits import SPLITS


@dataclass(frozen=True)
class Job:
    """One shard to make: `number` counts from 0 within the split, `frames` > 0."""

    split: str
    number: int
    frames: int

    def path(self, out: Path) -> Path:
        """Return the shard's file in the folder `out`."""
        return out / self.split / f"shard-{self.number:05d}.safetensors"


@dataclass(frozen=True)
class Play:
    """How shards are played: seed of maps and walks, frames in an episode, and who plays, see `player_for`."""

    seed: int
    length: int
    policy: str = ""
    random: float = 0.0


def collect_episode(
    env: gym.Env[Any, Any], map_seed: int, length: int, rng: np.random.Generator, player: Player | None = None
) -> dict[str, np.ndarray]:
    """Play `length` >= 1 frames on one map; fewer where the source ends the episode. player: the walks by default.

    Returns frames uint8 (length, H, W, 3), actions uint8 (length, A), where ``actions[i]`` is what counted of the
    buttons that led to ``frames[i]`` and ``actions[0]`` is zero; poses float32 (length, 4), zero where the source has
    none; reward float32 (length,) of the step that led to the frame, 0 at first; and terminated uint8 (length,), 1 on
    the last frame where the source ended the episode there. A truncation gives 0, also where the source calls it an
    end, too. Where the source tells events, also events uint8 (length, E): which of them happened in that step.
    """
    buttons, exclusive = env.get_wrapper_attr("buttons"), is_exclusive(env)
    frame, info = env.reset(seed=map_seed, options={"map_seed": map_seed})
    act = (player or walks(env))(rng)
    frames = np.empty((length, *frame.shape), np.uint8)
    actions = np.zeros((length, len(buttons)), np.uint8)
    poses = np.zeros((length, 4), np.float32)
    reward, ended = np.zeros(length, np.float32), np.zeros(length, np.uint8)
    told = events_in(env, info)
    events = None if told is None else np.zeros((length, len(told)), np.uint8)
    terminated = truncated = False
    for index in range(length):
        if index:
            actions[index] = counted(act(frame, info), exclusive)
            frame, reward[index], terminated, truncated, info = env.step(actions[index])
        frames[index] = frame
        poses[index] = info.get("pose", 0.0)
        if events is not None:
            events[index] = info["events"]
        ended[index] = terminated and not truncated
        if terminated or truncated:
            break
    played = {"frames": frames, "actions": actions, "poses": poses, "reward": reward, "terminated": ended}
    played |= {} if events is None else {"events": events}
    return {name: values[: index + 1] for name, values in played.items()}


def make_shards(env: gym.Env[Any, Any], jobs: Iterable[Job], play: Play, out: Path) -> Iterator[int]:
    """Play shards and write them; yields the number of frames made, after each episode."""
    player = player_for(env, play.policy, play.random)
    for job in jobs:
        write_whole(job.path(out), (yield from make_shard(env, job, play, player)))


def make_shard(env: gym.Env[Any, Any], job: Job, play: Play, player: Player) -> Generator[int, None, bytes]:
    """Play the episodes of a shard; yields each one's frames, returns safetensors bytes."""
    rng = np.random.default_rng([play.seed, list(SPLITS).index(job.split), job.number])
    episodes: list[dict[str, np.ndarray]] = []
    map_seeds: list[int] = []
    split = SPLITS[job.split]
    left = job.frames
    while left > 0:
        map_seed, walk_seed = int(rng.integers(split.start, split.stop)), int(rng.integers(2**62))
        episode = collect_episode(env, map_seed, min(play.length, left), np.random.default_rng(walk_seed), player)
        episodes.append(episode)
        map_seeds.append(map_seed)
        left -= len(episode["actions"])
        yield len(episode["actions"])
    tensors = {name: np.concatenate([entry[name] for entry in episodes]) for name in episodes[0]}
    lengths = [len(entry["actions"]) for entry in episodes]
    tensors["episode"] = np.repeat(np.arange(len(episodes), dtype=np.int32), lengths)
    tensors["map_seed"] = np.array(map_seeds, np.int64)
    return save(tensors, metadata={"format": "loci-shard-1", **checksums(tensors)})


def checksums(tensors: Mapping[str, np.ndarray]) -> dict[str, str]:
    """CRC-32 of each tensor's bytes, as a shard's metadata holds them: ``crc32.NAME``."""
    return {f"crc32.{name}": str(zlib.crc32(np.ascontiguousarray(value).data)) for name, value in tensors.items()}


def header_of(path: Path) -> dict[str, Any]:
    """Return what the shard at `path` says of each tensor, and its ``__metadata__``; empty where it is not whole."""
    try:
        with open(path, "rb") as file:
            size = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(min(size, 1 << 20)))
        end = max(entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__")
        return header if path.stat().st_size == 8 + size + end else {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def metadata_of(path: Path) -> dict[str, str]:
    """Return the texts that the shard at `path` holds beside its tensors; empty where it is not whole."""
    return dict(header_of(path).get("__metadata__") or {})


def frames_in(path: Path) -> int:
    """Return how many frames the shard at `path` holds; 0 where there is none, or it is cut short."""
    try:
        return int(header_of(path)["frames"]["shape"][0])
    except (KeyError, IndexError, TypeError, ValueError):
        return 0


def has_rewards(path: Path) -> bool:
    """Say whether the shard at `path` holds rewards; those that older versions collected do not."""
    return {"reward", "terminated"} <= header_of(path).keys()


def write_whole(path: Path, data: bytes) -> None:
    """Write a file and the folder for it, as `replace_file` does. Raises UserError where the disk is full."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        replace_file(path, data)
    except OSError as error:
        if is_full(error):
            raise UserError(
                f"no space left on the disk for {path}; free some and run the same command again,"
                " what is complete is kept"
            ) from error
        raise
