import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import imageio.v3 as iio
import numpy as np
import pygame
import pytest
from PIL import Image

import play
from engine.config import WorldConfig, load_world, project_root
from engine.errors import UserError
from engine.game.window import Window
from engine.play import running
from tests.support.fake_world import STARTS, FakeWorld

WORLD = """
title = "A fake world"
preset = "nano"
source = "fake"
frame_rate = 100.0
checkpoint = "CHECKPOINT"
buttons = ["forward", "back", "turn_left", "turn_right"]
[keys]
w = "forward"
left = "turn_left"
"""

Run = Callable[..., tuple[int, str, str]]


class FakeLibrary(SimpleNamespace):
    """Stands in for engine.loading and notes what it was asked for."""

    def __init__(self) -> None:
        super().__init__(world=FakeWorld(), opened=[], error=None)

    def fitted(self, config: WorldConfig, checkpoint: str | None) -> WorldConfig:
        return config

    def load_starts(self, config: WorldConfig) -> dict[str, np.ndarray]:
        return dict(STARTS)

    def read_image(self, path: Path, height: int, width: int) -> np.ndarray:
        if not Path(path).is_file():
            raise UserError(f"{path}: no such file")
        return np.full((height, width, 3), 200, np.uint8)

    def open_world(self, config: WorldConfig, **options: Any) -> FakeWorld:
        self.opened.append(options)
        if self.error is not None:
            raise self.error
        return self.world


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> FakeLibrary:
    library = FakeLibrary()
    monkeypatch.setitem(sys.modules, "engine.loading", library)
    return library


@pytest.fixture
def run(tmp_path: Path, library: FakeLibrary, capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    path = tmp_path / "fake.toml"
    path.write_text(WORLD.replace("CHECKPOINT", (tmp_path / "weights").as_posix()))
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "config.json").write_text("{}")

    def call(*arguments: str) -> tuple[int, str, str]:
        status = play.main([str(path), *arguments])
        out, err = capsys.readouterr()
        return status, out, err

    yield call


def test_headless_play_prints_its_figures_and_json_on_the_last_line(run: Run, library: FakeLibrary) -> None:
    status, out, err = run("--headless", "--frames", "20", "--json", "--seed", "5", "--memory", "full")
    assert status == 0 and err == ""
    figures = json.loads(out.splitlines()[-1])
    assert figures["frames"] == 20 and figures["fps"] > 0 and figures["warmup_s"] == 0.25
    for key in ("key_to_frame_ms_p50", "key_to_frame_ms_p95", "frame_ms_p50", "frame_ms_p95", "frame_ms_max"):
        assert figures[key] >= 0, key
    assert figures["memory_bytes"] == 1_520_000 and figures["device"] == "cpu" and figures["preset"] == "nano"
    assert figures["seed"] == 5 and figures["start"] == "hall" and figures["world"] == "fake"
    assert {"mode", "steps", "dtype"} <= figures.keys() and not figures["window"]
    assert library.opened == [
        {"checkpoint": None, "device": "auto", "memory": "full", "memory_budget": None, "steps": None, "threads": None}
    ]
    assert "20 frames" in out.splitlines()[0]


def test_a_script_of_keys_plays_and_then_no_button_is_held(run: Run, library: FakeLibrary) -> None:
    status, _, _ = run("--headless", "--frames", "6", "--keys", "w-2, w+left-1, none-1, back-1")
    assert status == 0
    assert library.world.actions == [("forward",)] * 2 + [("forward", "turn_left"), (), ("back",), ()]


def test_headless_play_records_every_frame_and_saves_a_contact_sheet(run: Run, tmp_path: Path) -> None:
    video, sheet = tmp_path / "walk.mp4", tmp_path / "sheet.png"
    status, _, err = run("--headless", "--frames", "40", "--record", str(video), "--screenshot", str(sheet))
    assert status == 0 and f"saved {video}" in err and f"saved {sheet}" in err
    assert len(iio.imread(video, plugin="pyav")) == 41
    assert iio.immeta(video, plugin="pyav")["fps"] == 100
    assert Image.open(sheet).size == (2 * (6 * 65 - 1), 2 * (4 * 49 - 1))


def test_short_play_saves_a_short_contact_sheet(run: Run, tmp_path: Path) -> None:
    assert run("--headless", "--frames", "1", "--screenshot", str(tmp_path / "a.png"))[0] == 0
    assert Image.open(tmp_path / "a.png").size == (2 * (2 * 65 - 1), 2 * 48)


def test_a_picture_can_be_the_start(run: Run, tmp_path: Path) -> None:
    picture = tmp_path / "my room.jpg"
    picture.write_bytes(b"not read here")
    status, out, _ = run("--headless", "--frames", "2", "--image", str(picture), "--json")
    assert status == 0 and json.loads(out.splitlines()[-1])["start"] == "my room"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--frames", "0"), "--frames must be 1 or more, not 0"),
        (("--frames", "-3"), "--frames must be 1 or more"),
        (("--seed", "-1"), "--seed must be from 0"),
        (("--fps", "-1"), "--fps must be from 0"),
        (("--fps", "nan"), "--fps must be from 0"),
        (("--keys", "w-2, q-3"), "unknown button 'q'"),
        (("--keys", ""), "--keys: empty"),
        (("--start", "halls"), "unknown start 'halls'; known: cave, hall; nearest: 'hall'"),
        (("--image", "nowhere.png"), "nowhere.png: no such file"),
        (("--image", "a.png", "--start", "hall"), "give one of them"),
        (("--record", "nowhere/out.mp4"), "there is no folder nowhere"),
        (("--record", "out.avi"), "ends in .mp4, .gif, .png"),
        (("--screenshot", "out.jpg"), "ends in .png"),
        (("--checkpoint", "nowhere"), "there is no checkpoint in nowhere; train one"),
    ],
)
def test_bad_input_is_one_clear_line_before_anything_is_loaded(
    run: Run, library: FakeLibrary, arguments: tuple[str, ...], message: str
) -> None:
    for window in ((), ("--headless",)):
        status, out, err = run(*arguments, *window)
        assert status == 2 and out == ""
        assert err.startswith("error: ") and message in err and err.count("\n") == 1
    assert library.opened == []


@pytest.mark.parametrize("arguments", [("--steps", "3"), ("--memory", "ful"), ("--frames", "many"), ("--frame", "3")])
def test_what_the_command_line_does_not_know_ends_with_status_2(run: Run, arguments: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit) as caught:
        run(*arguments)
    assert caught.value.code == 2


def test_an_unknown_world_is_one_clear_line(library: FakeLibrary, capsys: pytest.CaptureFixture[str]) -> None:
    assert play.main(["doom-plian", "--headless"]) == 2
    assert "unknown world 'doom-plian'" in capsys.readouterr().err


def test_a_world_that_cannot_be_opened_is_one_clear_line_in_both_modes(run: Run, library: FakeLibrary) -> None:
    library.error = UserError("checkpoints/fake/nano: there is no checkpoint here")
    for window in ((), ("--headless",)):
        status, _, err = run(*window)
        assert status == 2 and err == "error: checkpoints/fake/nano: there is no checkpoint here\n"


def test_without_a_display_it_says_so_and_plays_headless(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    status, out, err = run("--frames", "3", "--json")
    assert status == 0 and err.startswith("no display") and err.count("\n") == 1
    assert json.loads(out.splitlines()[-1])["frames"] == 3


def test_a_display_that_cannot_be_opened_is_no_display(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    pygame.display.quit()
    monkeypatch.setenv("SDL_VIDEODRIVER", "no-such-driver")
    status, _, err = run("--frames", "3")
    assert status == 0 and err.startswith("no display")


def test_a_window_plays_its_script_records_and_prints_its_figures(
    run: Run, library: FakeLibrary, tmp_path: Path
) -> None:
    video, picture = tmp_path / "walk.gif", tmp_path / "last.png"
    status, out, err = run(
        *("--frames", "30", "--keys", "w-3", "--json", "--fps", "200"),
        *("--record", str(video), "--screenshot", str(picture)),
    )
    assert status == 0 and f"saved {video}" in err and f"saved {picture}" in err
    figures = json.loads(out.splitlines()[-1])
    assert figures["frames"] == 30 and figures["window"] and figures["key_to_frame_ms_p50"] > 0
    assert library.world.actions[:4] == [("forward",)] * 3 + [()]
    assert Image.open(picture).size == (640, 480) and video.exists()


def test_leaving_before_the_first_frame_still_prints_json(
    run: Run, library: FakeLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    def leave(self: Window) -> None:
        self.running = False

    class Slow(FakeWorld):
        def warm_up(self) -> float:
            time.sleep(0.3)
            return 0.3

    library.world = Slow()
    monkeypatch.setattr(Window, "turn", leave)
    status, out, _ = run("--json")
    figures = json.loads(out.splitlines()[-1])
    assert status == 0 and figures["frames"] == 0 and figures["fps"] is None


def test_a_recording_that_fails_ends_with_an_error_and_keeps_the_older_file(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from engine import video

    def full(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(video, "_write_mp4", full)
    (tmp_path / "walk.mp4").write_text("an older one")
    for window in ((), ("--headless",)):
        status, _, err = run("--frames", "5", "--record", str(tmp_path / "walk.mp4"), *window)
        assert status == 2 and "no space left" in err and "saved" not in err
    assert [p.name for p in tmp_path.glob("*walk*")] == ["walk.mp4"]
    assert (tmp_path / "walk.mp4").read_text() == "an older one"


def test_the_default_world_can_be_opened() -> None:
    config = load_world(running.DEFAULT_WORLD)
    assert (config.checkpoint_path / "config.json").is_file() and config.starts_path is not None


CODE = """
import sys, types
import play
import engine.play.running
from tests.support.fake_world import STARTS, FakeWorld
sys.modules["engine.loading"] = types.SimpleNamespace(
    fitted=lambda config, checkpoint: config,
    load_starts=lambda config: dict(STARTS),
    read_image=None,
    open_world=lambda config, **options: FakeWorld(seconds=0.01),
)
sys.exit(play.main(sys.argv[1:]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize("window", [True, False])
def test_ctrl_c_ends_with_130_and_the_recording_is_whole(tmp_path: Path, window: bool) -> None:
    (tmp_path / "fake.toml").write_text(WORLD.replace("CHECKPOINT", tmp_path.as_posix()))
    (tmp_path / "config.json").write_text("{}")
    video = tmp_path / "walk.mp4"
    arguments = [str(tmp_path / "fake.toml"), "--record", str(video), "--frames", "100000"]
    process = subprocess.Popen(
        [sys.executable, "-c", CODE, *arguments, *([] if window else ["--headless"])],
        cwd=project_root(),
        env={**os.environ, "SDL_VIDEODRIVER": "dummy"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # a background job ignores it
    )
    try:
        end = time.monotonic() + 20
        while not any(p.name.startswith(".walk.mp4.") for p in tmp_path.iterdir()):
            assert time.monotonic() < end and process.poll() is None
            time.sleep(0.02)
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == 130, err
    assert "interrupted" in err and "saved" in err and "Traceback" not in err
    assert len(iio.imread(video, plugin="pyav")) > 5
    assert sorted(p.name for p in tmp_path.iterdir()) == ["config.json", "fake.toml", "walk.mp4"]
