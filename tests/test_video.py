import errno
import threading
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest
from PIL import Image

from engine import video
from engine.errors import UserError


def frames(count: int, height: int = 48, width: int = 64) -> list[np.ndarray]:
    """Smooth and all different, so that a codec keeps them apart."""
    y, x = np.mgrid[:height, :width]
    return [
        np.stack([x * 200 // width, y * 200 // height, np.full_like(x, 10 * i % 250)], -1).astype(np.uint8)
        for i in range(count)
    ]


def test_an_mp4_holds_every_frame_at_its_rate_and_is_large_enough_to_watch(tmp_path: Path) -> None:
    path, drawn = tmp_path / "walk.mp4", frames(30)
    with video.VideoWriter(path, 12.0) as writer:
        for frame in drawn:
            writer.add(frame)
    read = iio.imread(path, plugin="pyav")
    assert read.shape == (30, 480, 640, 3)
    meta = iio.immeta(path, plugin="pyav")
    assert meta["fps"] == pytest.approx(12.0) and meta["codec"] == "h264"
    small = read[:, 5::10, 5::10].astype(int)
    assert np.abs(small - np.stack(drawn)).mean() < 6
    assert [p.name for p in tmp_path.iterdir()] == ["walk.mp4"]


def test_an_mp4_of_odd_sizes_is_padded_to_even_ones(tmp_path: Path) -> None:
    path = tmp_path / "odd.mp4"
    with video.VideoWriter(path, 10, scale=1) as writer:
        for frame in frames(3, 49, 65):
            writer.add(frame)
    assert iio.imread(path, plugin="pyav").shape == (3, 50, 66, 3)


def test_an_animated_png_is_lossless(tmp_path: Path) -> None:
    path, drawn = tmp_path / "walk.png", frames(5)
    with video.VideoWriter(path, 20) as writer:
        for frame in drawn:
            writer.add(frame)
    with Image.open(path) as image:
        read = []
        for i in range(getattr(image, "n_frames", 1)):
            image.seek(i)
            read.append(np.asarray(image.convert("RGB")))
            assert image.info["duration"] == pytest.approx(50, abs=1)
    assert np.array_equal(np.stack(read), np.stack(drawn))


def test_a_gif_holds_every_frame_and_loops(tmp_path: Path) -> None:
    path = tmp_path / "walk.gif"
    with video.VideoWriter(path, 12) as writer:
        for frame in frames(6):
            writer.add(frame)
    with Image.open(path) as image:
        assert getattr(image, "n_frames", 1) == 6 and image.size == (320, 240)
        assert image.info["duration"] == 80 and image.info["loop"] == 0


def test_a_frame_may_be_drawn_over_once_it_is_added(tmp_path: Path) -> None:
    path, frame = tmp_path / "a.png", frames(1)[0]
    expected = frame.copy()
    with video.VideoWriter(path, 10) as writer:
        writer.add(frame)
        frame[:] = 255
    assert np.array_equal(np.asarray(Image.open(path).convert("RGB")), expected)


def test_the_file_has_its_name_only_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "walk.mp4"
    writer = video.VideoWriter(path, 12)
    writer.add(frames(1)[0])
    assert not path.exists()
    writer.close()
    assert path.exists()
    before = path.stat().st_mtime_ns
    writer.close()
    assert path.stat().st_mtime_ns == before
    with pytest.raises(UserError, match="closed"):
        writer.add(frames(1)[0])


def test_an_exception_while_recording_keeps_what_was_recorded(tmp_path: Path) -> None:
    path = tmp_path / "walk.mp4"
    with pytest.raises(KeyboardInterrupt), video.VideoWriter(path, 12) as writer:
        for frame in frames(4):
            writer.add(frame)
        raise KeyboardInterrupt
    assert len(iio.imread(path, plugin="pyav")) == 4


def test_a_recording_without_frames_leaves_no_file(tmp_path: Path) -> None:
    video.VideoWriter(tmp_path / "none.mp4", 12).close()
    assert list(tmp_path.iterdir()) == []


def test_adding_waits_rather_than_drops_when_the_encoder_is_slow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, seen = threading.Event(), []

    def slow(path: Path, fps: float, first: np.ndarray, rest: Any) -> None:
        gate.wait(10)
        seen.extend([first, *rest])
        path.write_bytes(b"x")

    monkeypatch.setattr(video, "_write_mp4", slow)
    writer = video.VideoWriter(tmp_path / "a.mp4", 12, capacity=2)

    def add_all() -> None:
        for frame in frames(10):
            writer.add(frame)

    adder = threading.Thread(target=add_all, daemon=True)
    adder.start()
    adder.join(0.2)
    assert adder.is_alive()
    gate.set()
    adder.join(10)
    writer.close()
    assert len(seen) == 10


def test_a_full_disk_is_one_clear_error_and_never_a_hang(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, fps: float, first: np.ndarray, rest: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(video, "_write_mp4", full)
    writer = video.VideoWriter(tmp_path / "a.mp4", 12, capacity=2)
    with pytest.raises(UserError, match="no space left"):
        for frame in frames(50):
            writer.add(frame)
        writer.close()
        pytest.fail("nobody was told")
    with pytest.raises(UserError, match="no space left"):
        writer.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("walk.avi", "ends in .mp4, .gif, .png"),
        ("nowhere/walk.mp4", "there is no folder"),
        ("walk", "ends in"),
    ],
)
def test_a_bad_name_is_refused_at_once(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        video.VideoWriter(tmp_path / name, 12)


def test_a_folder_is_not_a_file(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").mkdir()
    with pytest.raises(UserError, match="folder"):
        video.VideoWriter(tmp_path / "a.mp4", 12)


@pytest.mark.parametrize("fps", [0, -1, float("nan"), float("inf")])
def test_a_rate_must_be_above_zero(tmp_path: Path, fps: float) -> None:
    with pytest.raises(UserError, match="rate"):
        video.VideoWriter(tmp_path / "a.mp4", fps)


def test_frames_of_another_size_or_type_are_refused(tmp_path: Path) -> None:
    with video.VideoWriter(tmp_path / "a.png", 12) as writer:
        writer.add(frames(1)[0])
        with pytest.raises(UserError, match="frames are"):
            writer.add(frames(1, 24, 32)[0])
        with pytest.raises(UserError, match="uint8"):
            writer.add(frames(1)[0].astype(np.float32))
