"""Sessions as data sets of other libraries, written by those libraries: Minari and LeRobot."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from engine.errors import UserError

if TYPE_CHECKING:
    from engine.sessions.export import Episode
    from engine.sessions.reader import Session


def _word(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "world"


def to_minari(episodes: Iterable[Episode], found: list[Session], out: Path, name: str) -> tuple[int, str]:
    """A Minari data set in the folder `out`; returns the number of episodes and the data set's name.

    Observations are the frames, uint8 (H, W, 3), lossless; actions MultiBinary, one for each button.
    """
    import gymnasium as gym
    import minari
    from minari.data_collector import EpisodeBuffer

    info = found[0].info
    name = name or f"loci/{_word(info.world)}-v0"
    if not re.fullmatch(r"[\w/-]+-v\d+", name):
        raise UserError(f"--name {name!r}: Minari's names are like loci/{_word(info.world)}-v0")
    buffers = [
        EpisodeBuffer(
            id=number,
            observations=np.stack(entry.frames),
            actions=entry.actions.astype(np.int8),
            rewards=list(entry.rewards),
            terminations=[False] * (len(entry.actions) - 1) + [entry.over],
            truncations=[False] * (len(entry.actions) - 1) + [entry.cut],
            infos=None,
        )
        for number, entry in enumerate(episodes)
    ]
    if not buffers:
        raise UserError("these sessions have no frames to export")
    before = os.environ.get("MINARI_DATASETS_PATH")
    os.environ["MINARI_DATASETS_PATH"] = str(out.absolute())
    try:
        out.mkdir(parents=True)
        minari.create_dataset_from_buffers(
            dataset_id=name,
            buffer=buffers,
            observation_space=gym.spaces.Box(0, 255, (info.height, info.width, 3), np.uint8),
            action_space=gym.spaces.MultiBinary(len(info.buttons)),
            description=f"Play in {info.world}, recorded with Loci. Buttons: {', '.join(info.buttons)}.",
            algorithm_name="play",
            jpeg_encoding=False,  # or the pictures would not come back as they were
        )
    except BaseException:
        shutil.rmtree(out, ignore_errors=True)
        raise
    finally:
        if before is None:
            del os.environ["MINARI_DATASETS_PATH"]
        else:
            os.environ["MINARI_DATASETS_PATH"] = before
    return len(buffers), name


def to_lerobot(episodes: Iterable[Episode], found: list[Session], out: Path, name: str) -> tuple[int, str]:
    """A LeRobot data set (v3) in the folder `out`; returns the number of episodes and the data set's name.

    Pictures are kept as images, lossless. Each frame stands with the action that led on from it.
    """
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    info = found[0].info
    name = name or f"loci/{_word(info.world)}"
    features = {
        "observation.image": {
            "dtype": "image",
            "shape": (info.height, info.width, 3),
            "names": ["height", "width", "channels"],
        },
        "action": {"dtype": "float32", "shape": (len(info.buttons),), "names": list(info.buttons)},
        "next.reward": {"dtype": "float32", "shape": (1,), "names": None},
        "next.done": {"dtype": "bool", "shape": (1,), "names": None},
    }
    data = LeRobotDataset.create(
        repo_id=name, fps=max(1, round(info.frame_rate)), features=features, root=out, use_videos=False
    )
    count = 0
    for entry in episodes:
        for index, action in enumerate(entry.actions):
            data.add_frame(
                {
                    "observation.image": entry.frames[index],
                    "action": action.astype(np.float32),
                    "next.reward": np.array([entry.rewards[index]], np.float32),
                    "next.done": np.array([entry.over and index == len(entry.actions) - 1]),
                    "task": f"play {info.world}",
                }
            )
        data.save_episode()
        count += 1
    if not count:
        shutil.rmtree(out, ignore_errors=True)
        raise UserError("these sessions have no frames to export")
    data.finalize()
    return count, name
