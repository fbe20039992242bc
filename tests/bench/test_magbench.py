import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine import cli
from engine.bench import magbench
from engine.bench.options import MagbenchOptions
from engine.errors import UserError
from engine.measures import BEST_PSNR, has_flip
from engine.video import VideoWriter

HEAD = "video_path,raw_caption,duration(sec)\n"
LENGTH = 28
"""Frames of a video of 1.5 s by the rule: its camera turns back at frame 21."""


def video(path: Path, frames: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with VideoWriter(path, 16, scale=1) as writer:
        for frame in frames:
            writer.add(frame)
    return path


def moving(length: int = LENGTH, height: int = 48, width: int = 64, late: int = 0) -> np.ndarray:
    """A bright square that moves by 2 pixels a frame over a coarse picture."""
    ground = np.random.default_rng(0).integers(60, 120, (6, 8, 3), np.uint8).repeat(height // 6, 0)
    ground = ground.repeat(width // 8, 1)
    frames = np.repeat(ground[None], length, 0)
    for i, frame in enumerate(frames):
        at = 2 * max(0, i - late)
        frame[10:26, at % (width - 16) : at % (width - 16) + 16] = 230
    return frames


@pytest.fixture(scope="module")
def encoded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoded")
    video(folder / "right.mp4", moving())
    video(folder / "late.mp4", moving(late=1))
    return folder


@pytest.fixture
def bench(tmp_path: Path, encoded: Path) -> MagbenchOptions:
    """Two videos, of which one is generated perfectly and one comes a frame late."""
    table = tmp_path / "list.csv"
    table.write_text(HEAD + 'a/one.mp4,"a room, a door",1.5\ntwo.mp4,"",1.5\n')
    for folder, name in (("truth", "right"), ("generated", "late")):
        (tmp_path / folder / "a").mkdir(parents=True)
        shutil.copy(encoded / "right.mp4", tmp_path / folder / "a" / "one.mp4")
        shutil.copy(encoded / f"{name}.mp4", tmp_path / folder / "two.mp4")
    return MagbenchOptions(table, tmp_path / "truth", tmp_path / "generated", json=tmp_path / "out" / "m.json")


@pytest.mark.parametrize(
    ("seconds", "frame"), [(1.0, 21), (1.5, 21), (2.75, 33), (2.8, 33), (2.84, 45), (5.0, 69), (10.0, 129)]
)
def test_the_camera_turns_back_on_the_border_of_a_block(seconds: float, frame: int) -> None:
    assert magbench.switch_frame(seconds) == frame
    assert (frame + 3) % 12 == 0 and 0 <= frame - int(seconds * 12) < 12


def test_both_alignments_are_scored_and_a_late_video_matches_better_than_it_aligns(
    bench: MagbenchOptions, capsys: pytest.CaptureFixture[str]
) -> None:
    magbench.run(bench)
    printed = capsys.readouterr().out
    assert "2 videos, 14 frames compared" in printed and "time-aligned" in printed and "matched" in printed
    assert bench.json is not None
    found = json.loads(bench.json.read_text())
    one, two = found["cells"]
    assert (one["video"], one["switch"], one["frames"]) == ("a/one.mp4", 21, LENGTH - 21)
    assert one["psnr"] == pytest.approx(BEST_PSNR, abs=1e-4) and one["ssim"] > 0.9999
    assert two["psnr_matched"] > two["psnr"] + 5 and two["ssim_matched"] > two["ssim"]
    assert found["psnr"] == pytest.approx((one["psnr"] + two["psnr"]) / 2, abs=1e-4)
    low, high = found["intervals"]["psnr"]
    assert low <= found["psnr"] <= high and found["videos"] == 2
    assert found["command"].startswith("python -m engine bench magbench --csv ")
    if has_flip():
        assert one["flip"] == 0.0 and two["flip"] > two["flip_matched"]


def test_videos_of_another_size_are_resized_with_a_note(
    bench: MagbenchOptions, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    video(tmp_path / "generated" / "a" / "one.mp4", moving(height=96, width=128))
    magbench.run(replace(bench, flip=False))
    assert "1 generated video(s) had another size" in capsys.readouterr().out
    assert bench.json is not None
    found = json.loads(bench.json.read_text())
    assert found["cells"][0]["resized_from"] == [96, 128] and found["flip"] is None
    assert found["command"].endswith("--no-flip")


def test_a_video_may_end_within_the_last_block_and_just_what_both_have_is_compared(
    bench: MagbenchOptions, tmp_path: Path
) -> None:
    video(tmp_path / "generated" / "two.mp4", moving(LENGTH - 3))
    magbench.run(bench)
    assert bench.json is not None
    assert json.loads(bench.json.read_text())["cells"][1]["frames"] == LENGTH - 21 - 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no column 'video_path'"),
        ("video,raw_caption,duration(sec)\nx.mp4,a,2\n", "no column 'video_path'; expected video_path, raw_caption"),
        (HEAD, "no videos are listed"),
        (HEAD + "\n , ,\n", "no videos are listed"),
        (HEAD + "x.mp4\n", "line 2: expected 3 columns, found 1"),
        (HEAD + ",a,2\n", "line 2: no video_path"),
        (HEAD + "two.mp4,a,2\n/etc/x.mp4,a,2\n", "line 3: video_path must lie within the folders, not '/etc/x.mp4'"),
        (HEAD + "a/../../x.mp4,a,2\n", "must lie within the folders"),
        (HEAD + "..\\x.mp4,a,2\n", "must lie within the folders"),
        (HEAD + "C:\\x.mp4,a,2\n", "must lie within the folders"),
        (HEAD + "two.mp4,a,long\n", "line 2: duration.sec. must be above 0 and at most 3600, not 'long'"),
        (HEAD + "two.mp4,a,nan\n", "must be above 0"),
        (HEAD + "two.mp4,a,-1\n", "must be above 0"),
        (HEAD + "two.mp4,a,1e9\n", "must be above 0"),
        (HEAD + "two.mp4,a,2\ntwo.mp4,b,2\n", "line 3: two.mp4 is listed before, in line 2"),
        (HEAD + "three.mp4,a,2\n", "three.mp4: there is no such video .*line 2"),
        (HEAD + "two.mp4,a,2.75\n", "two.mp4: too short: 28 frames, but the camera turns back at frame 33"),
    ],
)
def test_an_odd_list_is_one_clear_line(bench: MagbenchOptions, text: str, message: str) -> None:
    bench.csv.write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        magbench.run(bench)
    assert "\n" not in str(caught.value)
    assert bench.json is not None and not bench.json.exists()


def test_a_list_with_a_byte_order_mark_and_blanks_is_read(bench: MagbenchOptions) -> None:
    bench.csv.write_bytes(b"\xef\xbb\xbf" + b'video_path, raw_caption, duration(sec)\r\ntwo.mp4, "x, y", 1.5\r\n')
    assert magbench.read_list(bench.csv) == [magbench.Clip("two.mp4", 1.5, 2)]


def test_a_list_that_is_no_text_or_no_file_is_one_clear_line(bench: MagbenchOptions, tmp_path: Path) -> None:
    bench.csv.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="not UTF-8"):
        magbench.run(bench)
    for path, message in ((tmp_path, "a folder"), (tmp_path / "none.csv", "no such file")):
        with pytest.raises(UserError, match=message):
            magbench.run(replace(bench, csv=path))


@pytest.mark.parametrize("damage", ["missing", "short", "text", "cut off", "empty"])
@pytest.mark.parametrize("folder", ["truth", "generated"])
def test_a_missing_short_or_broken_video_exits_with_status_two(
    bench: MagbenchOptions, folder: str, damage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / folder / "two.mp4"
    if damage == "missing":
        path.unlink()
    elif damage == "short":
        video(path, moving(20))
    else:
        path.write_bytes({"text": b"not a video\n" * 99, "cut off": path.read_bytes()[:700], "empty": b""}[damage])
    words = ["--csv", str(bench.csv), "--truth", str(bench.truth), "--generated", str(bench.generated), "--no-flip"]
    assert cli.guarded(lambda: cli.main(["bench", "magbench", *words])) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(lines) == 1 and "two.mp4" in lines[0]


def test_a_generated_video_that_lacks_more_than_a_block_is_an_error(bench: MagbenchOptions, tmp_path: Path) -> None:
    video(tmp_path / "truth" / "two.mp4", moving(40))
    with pytest.raises(UserError, match="two.mp4: too short: 28 frames; the real video has 40"):
        magbench.run(replace(bench, flip=False))


def test_a_folder_that_is_none_is_an_error(bench: MagbenchOptions, tmp_path: Path) -> None:
    changed: dict[str, Any] = {"truth": tmp_path / "nowhere"}
    with pytest.raises(UserError, match="nowhere: expected a folder of videos"):
        magbench.run(replace(bench, **changed))
