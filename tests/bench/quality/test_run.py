import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from engine import cli
from engine.bench.options import QualityOptions
from engine.bench.quality import follow as following
from engine.bench.quality import run as quality
from engine.bench.quality.probe import Probe
from engine.bench.truth import Episodes, axes_of, directions, play_episodes
from engine.config import load_world
from engine.errors import UserError
from engine.loading import open_world
from engine.world import World
from tests.support.fake_scroll import BUTTONS, write_world

NEEDED = ("codec_psnr", "next_frame_psnr", "action_agreement", "action_agreement_real", "sharpness_drift")


def arguments(folder: Path, **changes: Any) -> QualityOptions:
    given = QualityOptions(
        world=str(write_world(folder)),
        episodes=3,
        batch=2,
        frames=6,
        history=3,
        drift_frames=12,
        drift_worlds=2,
        probe_frames=200,
        json=folder / "out" / "q.json",
    )
    return replace(given, **changes)


def test_it_writes_json_a_plot_and_sheets_and_the_same_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = arguments(tmp_path, sheet=tmp_path / "sheet.png")
    quality.run(args)
    printed = capsys.readouterr().out
    assert "codec PSNR" in printed and "frames ahead" in printed and "forward/back" in printed
    found = json.loads((tmp_path / "out" / "q.json").read_text())
    for name in NEEDED:
        assert isinstance(found[name], float), name
        low, high = found["intervals"][name]
        assert low <= found[name] <= high
    assert found["next_frame_gap_db"] == pytest.approx(found["codec_psnr"] - found["next_frame_psnr"], abs=1e-4)
    assert found["action_agreement_ratio"] == pytest.approx(
        found["action_agreement"] / found["action_agreement_real"], abs=1e-4
    )
    assert {"command", "seed", "date", "hardware", "checkpoint", "preset"} <= found.keys()
    assert "bench quality" in found["command"] and "--episodes 3" in found["command"]
    assert found["checkpoint"]["notes"] == {"generator_steps": 0}
    assert [row["ahead"] for row in found["rollout"]] == [1] and len(found["rollout_psnr"]) == 6
    sizes = {name: Image.open(tmp_path / name).size for name in ("out/q.png", "sheet.png", "sheet-drift.png")}
    assert sizes["sheet.png"][1] > 6 * 96 and sizes["sheet-drift.png"][1] > 2 * 96  # 3 pairs of rows; 2 rows
    quality.run(args)
    again = json.loads((tmp_path / "out" / "q.json").read_text())
    assert found | {"date": ""} == again | {"date": ""}


def test_parts_may_be_left_out_and_the_fields_are_there(tmp_path: Path) -> None:
    quality.run(arguments(tmp_path, drift_frames=0, probe_frames=0, episodes=1, memory="full", steps=1))
    found = json.loads((tmp_path / "out" / "q.json").read_text())
    assert found["sharpness_drift"] is None and found["action_agreement"] is None
    assert found["memory"] == "full" and found["steps"] == 1


def test_a_source_that_ends_episodes_early_is_measured_as_far_as_it_goes(tmp_path: Path) -> None:
    args = arguments(tmp_path, probe_frames=0)
    quality.run(replace(args, world=str(write_world(tmp_path, ends=5))))
    found = json.loads((tmp_path / "out" / "q.json").read_text())
    assert found["rollout_psnr"][2] is not None and found["rollout_psnr"][3:] == [None] * 3
    assert found["sharpness_drift"] is not None and found["sharpness_drift_real"] is None


@pytest.mark.parametrize("obedient", [True, False])
def test_agreement_is_that_of_what_was_held_with_what_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, obedient: bool
) -> None:
    """Frames carry what led to them in a pixel; the rollout writes the truth, or always `forward`."""
    config = load_world(write_world(tmp_path))
    world = open_world(config, batch=2)
    axes = axes_of(config.buttons)

    def marked(frames: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        frames = frames.copy()
        frames[..., 0, : len(axes), 0] = wanted + 1
        return frames

    def play(*args: Any) -> Episodes:
        played = play_episodes(*args)
        return replace(played, frames=marked(played.frames, directions(axes, BUTTONS, played.actions)))

    def roll(world: World, played: Episodes, start: int, *_: Any) -> np.ndarray:
        ahead = played.frames[:, start:]
        return ahead if obedient else marked(ahead, np.array([1, 0]))

    monkeypatch.setattr(following, "play_episodes", play)
    monkeypatch.setattr(following, "rolled_out", roll)
    monkeypatch.setattr(following, "reconstructed", lambda codec, frames, device: frames)
    monkeypatch.setattr(
        following,
        "read_directions",
        lambda probe, before, after: after[:, 0, : len(axes), 0].numpy().astype(np.int8) - 1,
    )
    probe = Probe(len(axes), 48, 64)
    found = following.follow(world, probe, config, np.array([2_000_000, 2_000_001, 2_000_002]), 3, 0)
    assert found["action_agreement_real"]["mean"] == 1.0 and found["action_agreement_raw"]["mean"] == 1.0
    if obedient:
        assert found["action_agreement"]["mean"] == 1.0
    else:
        assert found["action_agreement"]["mean"] < 0.6
        assert found["by_axis"]["turn_left/turn_right"]["generated"] < 1.0
    assert found["action_agreement_chance"]["mean"] < 0.6
    assert 20 < found["pairs"] <= 3 * following.FOLLOWED


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frames": 0}, "--frames must be 1 or more, not 0"),
        ({"episodes": 0}, "--episodes must be 1 or more, not 0"),
        ({"episodes": 1001}, "--episodes must be at most 1000"),
        ({"seed": -1}, "--seed must be 0 or more"),
        ({"steps": 0}, "--steps must be from 1 to 64"),
        ({"memory": "ful"}, "unknown memory mode 'ful'; .*nearest: 'full'"),
        ({"checkpoint": Path("nowhere")}, "nowhere"),
        ({"device": "gpu"}, "unknown device"),
    ],
)
def test_what_cannot_be_measured_is_one_clear_line(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        quality.run(arguments(tmp_path, **change))
    assert not (tmp_path / "out" / "q.json").exists()


def test_a_file_that_cannot_be_written_is_found_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is a folder"):
        quality.run(arguments(tmp_path, json=tmp_path))


def test_zero_frames_on_the_command_line_exit_with_status_two(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for bench in ("quality", "speed"):
        words = ["bench", bench, str(write_world(tmp_path)), "--frames", "0"]
        assert cli.guarded(lambda words=words: cli.main(words)) == 2  # type: ignore[misc]
        assert capsys.readouterr().err == "error: --frames must be 1 or more, not 0\n"
