"""``python -m engine import SOURCES --world WORLD --out DIR``: play that was recorded becomes training data.

A source is a session, a folder of sessions, or a plain folder of videos in which each ``NAME.mp4`` (or .mkv, .webm,
.avi, .mov, .gif) has an ``NAME.actions.ndjson`` (or .csv, .json) beside it: frame by frame the buttons that led to it.
"""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from engine.actions import encode
from engine.config import WorldConfig, load_world
from engine.data.collect import claim
from engine.data.options import ImportOptions
from engine.data.shards import checksums, write_whole
from engine.errors import UserError
from engine.inputs import counted
from engine.pictures import resize
from engine.sessions.export import Episode, episode, opener
from engine.sessions.reader import open_session
from engine.sessions.store import INFO
from engine.sessions.tree import sessions_in

VIDEOS = (".mp4", ".mkv", ".webm", ".avi", ".mov", ".gif")
ACTIONS = (".actions.ndjson", ".actions.json", ".actions.csv")
MAX_ACTION_BYTES = 2**30

# frames uint8 (n, H, W, 3), actions uint8 (n, A) that led to them; where they are known, reward and terminated
Found = dict[str, np.ndarray]


def run(options: ImportOptions) -> None:
    """Write the shards. Raises UserError."""
    if not 0 <= options.validation < 1:
        raise UserError(f"--validation must be from 0 to below 1, not {options.validation}")
    config = load_world(options.world)
    if (options.out / "collect.json").exists():
        raise UserError(f"{options.out} holds data already; choose another --out")
    options.out.mkdir(parents=True, exist_ok=True)
    # The numbers are those that `collect` begins with: they say nothing of play that was recorded.
    claim(options.out, config, seed=0, episode_length=200, frames_per_shard=4000, policy="import", random=0.0)
    counts, frames, due = {"train": 0, "validation": 0}, 0, 0.0
    for number, found in enumerate(found_in(options, config)):
        due += options.validation
        split = "validation" if due >= 1 else "train"  # spread evenly, the same in every run
        due -= split == "validation"
        length = len(found["frames"])
        tensors = {
            **found,
            "actions": counted(found["actions"], config.exclusive),
            "poses": np.zeros((length, 4), np.float32),
            "episode": np.zeros(length, np.int32),
            "map_seed": np.array([number], np.int64),
        }
        tensors = {name: np.ascontiguousarray(value) for name, value in tensors.items()}  # safetensors takes no other
        path = options.out / split / f"shard-{counts[split]:05d}.safetensors"
        write_whole(path, save(tensors, metadata={"format": "loci-shard-1", **checksums(tensors)}))
        counts[split] += 1
        frames += length
    if not frames:
        raise UserError("no play was found in the sources")
    print(f"{options.out} holds {frames} frames in {counts['train']} + {counts['validation']} episodes")


def found_in(options: ImportOptions, config: WorldConfig) -> Iterator[Found]:
    """Every episode of the sources, in the world's size and buttons."""
    pictures = opener(checkpoint=options.checkpoint)
    for source in options.sources:
        videos = _videos(source)
        for video, actions in videos:
            yield _read_video(video, actions, config)
        if videos and not (source / INFO).is_file():
            continue
        for path in sessions_in(source):
            session = open_session(path)
            if session.last == session.first:
                continue
            if session.info.buttons != tuple(config.buttons):
                raise UserError(f"{path} has buttons {', '.join(session.info.buttons)}; {config.name} has others")
            entry = episode(session, pictures(session), whole=False)
            none = np.zeros((1, len(config.buttons)), np.uint8)
            found = {"frames": _sized(entry.frames, config), "actions": np.concatenate((none, entry.actions))}
            if session.results:
                found |= _results(entry, path)
            yield found


def _results(entry: Episode, path: Path) -> Found:
    """Rewards of a session that has them, and whether it ended by itself, as `collect` writes them."""
    rewards = np.append(0.0, entry.rewards)
    if not (np.abs(rewards) <= np.finfo(np.float32).max).all():
        raise UserError(f"{path} holds a reward that is no 32-bit number: {rewards[np.argmax(np.abs(rewards))]}")
    terminated = np.zeros(len(entry.frames), np.uint8)
    terminated[-1] = entry.over
    return {"reward": rewards.astype(np.float32), "terminated": terminated}


def _sized(frames: list[np.ndarray], config: WorldConfig) -> np.ndarray:
    height, width = config.shape.height, config.shape.width
    if frames[0].shape[:2] == (height, width):
        return np.stack(frames)
    return np.stack([resize(frame, height, width) for frame in frames])


def _videos(folder: Path) -> list[tuple[Path, Path]]:
    """The videos of a plain folder with their actions files, sorted."""
    if not folder.is_dir() or (folder / INFO).is_file():
        return []
    found = []
    for video in sorted(path for path in folder.iterdir() if path.suffix.lower() in VIDEOS):
        beside = [video.with_name(video.stem + ending) for ending in ACTIONS]
        there = [path for path in beside if path.is_file()]
        if not there:
            raise UserError(f"{video} has no actions file beside it; expected {beside[0].name}, one line a frame")
        found.append((video, there[0]))
    return found


def _read_video(video: Path, actions: Path, config: WorldConfig) -> Found:
    import av

    rows = _read_actions(actions, config)
    height, width = config.shape.height, config.shape.width
    frames: list[np.ndarray] = []
    try:
        with av.open(str(video)) as file:
            for frame in file.decode(video=0):
                if len(frames) > len(rows):
                    break
                frames.append(resize(frame.to_ndarray(format="rgb24"), height, width))
    except (av.error.FFmpegError, IndexError, ValueError) as error:
        raise UserError(f"{video} cannot be read as a video ({error})") from error
    if len(frames) == len(rows) + 1:  # one action fewer: those between the frames
        rows = [np.zeros(len(config.buttons), np.uint8), *rows]
    if len(frames) != len(rows) or not frames:
        raise UserError(f"{video} has {len(frames)} frames or more, {actions.name} has {len(rows)} actions")
    return {"frames": np.stack(frames), "actions": np.stack(rows)}


def _read_actions(path: Path, config: WorldConfig) -> list[np.ndarray]:
    """Actions (A,) of each frame. UserError where the file is not one."""
    if path.stat().st_size > MAX_ACTION_BYTES:
        raise UserError(f"{path} is larger than {MAX_ACTION_BYTES} bytes")
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix == ".csv":
            rows: list[Any] = [dict(row) for row in csv.DictReader(text.splitlines())]
        elif path.suffix == ".json":
            rows = json.loads(text)
        else:
            rows = [json.loads(line) for line in text.splitlines() if line.strip()]
    except (ValueError, RecursionError, csv.Error) as error:
        raise UserError(f"{path} cannot be read ({error})") from None
    if not isinstance(rows, list):
        raise UserError(f"{path}: expected a list, an action for each frame")
    return [_action(row, config, f"{path}: action {number}") for number, row in enumerate(rows)]


def _action(row: Any, config: WorldConfig, where: str) -> np.ndarray:
    """A list of 0 and 1, a list of names, a table with `action`, or a table of buttons with 0 and 1."""
    if isinstance(row, dict) and "action" in row:
        row = row["action"]
    if isinstance(row, dict):
        held = {"1": True, "1.0": True, "true": True, "0": False, "0.0": False, "false": False, "": False}
        values = {str(name): held.get(str(value).lower()) for name, value in row.items() if name != "frame"}
        if None in values.values():
            raise UserError(f"{where}: expected 0 or 1 for each button")
        row = [name for name, value in values.items() if value]
    if isinstance(row, list) and all(isinstance(name, str) for name in row):
        try:
            return encode(config.buttons, row)
        except UserError as error:
            raise UserError(f"{where}: {error}") from None
    if isinstance(row, list) and len(row) == len(config.buttons) and all(value in (0, 1) for value in row):
        return np.array(row, np.uint8)
    raise UserError(f"{where}: expected {len(config.buttons)} zeros and ones, or names of buttons")
