"""True poses of collected frames, as play counts them: in steps, from where an episode began."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from engine.config import Geometry
from engine.data.poses import load_poses, load_steps
from engine.data.shards import checksums
from engine.errors import UserError

GEOMETRY = Geometry(view="first-person", step=24.0)


def write(folder: Path, *shards: tuple[Sequence[Sequence[float]], Sequence[int]]) -> Path:
    """Shards of poses x, y, z, degrees and of each frame's episode."""
    (folder / "train").mkdir(parents=True)
    for number, (poses, episode) in enumerate(shards):
        tensors = {"poses": np.array(poses, np.float32), "episode": np.array(episode, np.int32)}
        (folder / "train" / f"shard-{number:05}.safetensors").write_bytes(save(tensors, metadata=checksums(tensors)))
    return folder


def test_poses_are_in_steps_from_the_start_of_each_episode(tmp_path: Path) -> None:
    first = ([[100, 50, 7, 90], [100, 74, 7, 90], [100, 74, 7, 105], [0, 0, 0, 0], [48, 0, 0, 345]], [0, 0, 0, 1, 1])
    second = ([[5, 5, 0, 180], [5, -19, 0, 180]], [0, 0])  # numbers of episodes begin anew in each shard
    data = write(tmp_path, first, second)
    expected = [[0, 0, 0], [1, 0, 0], [1, 0, np.radians(15)], [0, 0, 0], [2, 0, np.radians(345)], [0, 0, 0], [0, 1, 0]]
    np.testing.assert_allclose(load_poses(data, "train", GEOMETRY), expected, atol=1e-6)


def test_steps_are_what_led_to_each_frame(tmp_path: Path) -> None:
    data = write(tmp_path, ([[0, 0, 0, 90], [0, 24, 0, 90], [-24, 24, 0, 90], [-24, 24, 0, 75]], [3, 3, 3, 3]))
    expected = [[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, -15]]
    np.testing.assert_allclose(load_steps(data, "train", GEOMETRY), expected, atol=1e-5)


@pytest.mark.parametrize(("pose", "message"), [(0.0, "told no poses"), (np.nan, "is no finite number")])
def test_data_without_poses_is_named(tmp_path: Path, pose: float, message: str) -> None:
    data = write(tmp_path, ([[pose] * 4] * 2, [0, 0]))
    with pytest.raises(UserError, match=message):
        load_poses(data, "train", GEOMETRY)
