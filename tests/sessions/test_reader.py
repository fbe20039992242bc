"""Sessions: what is recorded is there, opens, and is drawn again bit for bit."""

import errno
import json
import os
import threading
import time
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest
import torch

from engine.errors import UserError
from engine.sessions.reader import open_session
from engine.sessions.recorder import SessionRecorder
from engine.sessions.replay import Pictures, Replayer, describe, reasons, verify
from engine.sessions.store import LOG, chunk_name
from engine.sessions.writer import SessionWriter
from engine.world import World
from tests.support.long import FULL
from tests.support.sessions import CONFIG, WEIGHTS, branch, info_for, moves, play_into, record
from tests.support.worlds import make_world, pictures


def begun(folder: Path, world: World, messages: list[str]) -> SessionRecorder:
    """A recording of the world from a start picture, without video; what ends it goes to `messages`."""
    start = pictures(1, 1)
    world.reset(3, start)
    still = np.zeros((1, 3), np.uint8)
    return SessionRecorder(folder, info_for(world), start=(start[0], still), fail=messages.append, video=False)


def test_a_recorded_session_opens_with_every_frame_and_action(tmp_path: Path) -> None:
    _, seen = record(tmp_path / "walk", 300)
    session = open_session(tmp_path / "walk")
    assert (session.first, session.last, session.ended) == (0, 300, True)
    assert np.array_equal(session.actions(1, 300), moves(300))
    shown = Pictures(session, make_world().codec)
    for index in (0, 1, 127, 128, 129, 300):
        assert np.array_equal(shown.frame(index), seen[index])
    assert "frames 0 to 300 (10 s), seed 3" in describe(session)
    with pytest.raises(UserError, match="frames 0 to 300, not 301"):
        session.action(301)


@pytest.mark.parametrize("memory", ["window", "full", "mag"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_session_is_drawn_again_bit_for_bit_from_any_frame(tmp_path: Path, memory: str, dtype: torch.dtype) -> None:
    _, seen = record(tmp_path / "walk", 170, world=make_world(memory=memory, dtype=dtype))
    session, world = open_session(tmp_path / "walk"), make_world(memory=memory, dtype=dtype)
    assert verify(session, world).differs is None
    assert verify(session, world, 77, 150).frames == 74
    replayer = Replayer(session, world)
    for index in (145, 3, 128, 169):
        assert np.array_equal(replayer.go_to(index), seen[index])
        assert np.array_equal(replayer.step(), seen[index + 1])


def test_modes_and_steps_that_the_player_changed_are_drawn_again(tmp_path: Path) -> None:
    changes = {5: ("full",), 40: ("window",), 60: ("full", "window"), 61: ("full", "window", "full")}
    record(tmp_path / "walk", 90, before=lambda i: changes.get(i, ()))
    session, world = open_session(tmp_path / "walk"), make_world()
    assert verify(session, world).differs is None and world.mode == "full"
    assert session.change(62) == (("full", "window", "full"), 0)


def test_the_first_frame_that_differs_is_named_and_why_it_may(tmp_path: Path) -> None:
    record(tmp_path / "walk", 100)
    session, other = open_session(tmp_path / "walk"), make_world(seed=1)
    verdict = verify(session, other)
    assert verdict.differs == 1 and "apart" in verdict.what
    why = reasons(session.info, other, CONFIG, {**WEIGHTS, "generator": "0" * 64})
    assert why == ["other weights of the generator"]
    other = make_world()  # the pixels alone: the same latents, another picture of them
    decode = other.codec.decode
    other.codec.decode = lambda latents: decode(latents * 0.5)  # type: ignore[method-assign]
    verdict = verify(session, other, 40)
    assert verdict.differs == 65 and "pixels of frames 65 to 96" in verdict.what
    assert verify(session, other).differs == 1


@pytest.mark.parametrize("memory", ["window", "full", "mag"])
def test_a_branch_of_a_branch_equals_playing_straight_through(tmp_path: Path, memory: str) -> None:
    world = make_world(memory=memory)
    recorder, seen = record(tmp_path / "root", 60, world=world)
    session = open_session(tmp_path / "root")
    Replayer(session, world).go_to(33)
    own = branch(tmp_path / "a", recorder, world, 33, 30, seed=1)
    straight = make_world(memory=memory)
    straight.reset(3, pictures(1, 1))
    played = np.concatenate((moves(33), moves(30, 1)))
    expected = [straight.step(move)[0] for move in played]
    assert all(np.array_equal(a, b) for a, b in zip([*seen[1:34], *own], expected, strict=True))
    child = open_session(tmp_path / "a")
    assert (child.first, child.last) == (33, 63) and child.owner(33) is child.parent and child.owner(34) is child
    assert np.array_equal(child.actions(1, 63), played)
    again = make_world(memory=memory)
    assert verify(child, again).differs is None and verify(child, again, 34).frames == 30
    assert Replayer(child, again).go_to(20).tobytes() == seen[20].tobytes()
    assert not (tmp_path / "a" / chunk_name(1)).exists()  # the past is not copied


@pytest.mark.parametrize("memory", ["window", "mag"])
def test_branches_from_random_frames_equal_playing_straight_through(tmp_path: Path, memory: str) -> None:
    world, rng = make_world(memory=memory), np.random.default_rng(5)
    recorder, _ = record(tmp_path / "root", 200, world=world)
    session = open_session(tmp_path / "root")
    again = make_world(memory=memory)
    for number in range(100 if FULL else 5):
        at = int(rng.integers(0, 200))
        Replayer(session, world).go_to(at)
        own = branch(tmp_path / f"b{number}", recorder, world, at, 3, seed=number)
        straight = make_world(memory=memory)
        straight.reset(3, pictures(1, 1))
        for move in moves(200)[:at]:
            straight.step(move)
        expected = [straight.step(move)[0] for move in moves(3, number)]
        assert all(np.array_equal(a, b) for a, b in zip(own, expected, strict=True)), at
        assert verify(open_session(tmp_path / f"b{number}"), again, at).differs is None


def test_the_video_is_there_at_the_end(tmp_path: Path) -> None:
    recorder, _ = record(tmp_path / "walk", 20, video=True)
    assert recorder.saved == tmp_path / "walk" / "video.mp4"
    assert len(iio.imread(recorder.saved, plugin="pyav")) == 21
    assert not [p.name for p in (tmp_path / "walk").iterdir() if p.name.startswith(".")]


def test_a_session_being_recorded_can_be_read(tmp_path: Path) -> None:
    world = make_world()
    recorder, seen = record(tmp_path / "walk", 50, world=world, close=False)
    while not recorder._queue.empty():
        pass
    session = open_session(tmp_path / "walk")
    assert not session.ended and session.last >= 49
    recorder.close()
    pictures_of = Pictures(session, world.codec, lambda: Replayer(session, make_world()))
    assert np.array_equal(pictures_of.frame(49), seen[49])


def test_latents_that_a_crash_took_are_drawn_anew(tmp_path: Path) -> None:
    _, seen = record(tmp_path / "walk", 150)
    (tmp_path / "walk" / chunk_name(129)).unlink()
    lines = (tmp_path / "walk" / LOG).read_bytes().splitlines(keepends=True)
    (tmp_path / "walk" / LOG).write_bytes(b"".join(lines[:-2]) + lines[-2][:20] + b"\0" * 50)
    session = open_session(tmp_path / "walk")
    assert session.last == 149 and not session.ended
    shown = Pictures(session, make_world().codec, lambda: Replayer(session, make_world()))
    assert all(np.array_equal(shown.frame(i), seen[i]) for i in (128, 131, 132, 149, 140))
    assert verify(session, make_world()).differs is None
    with pytest.raises(UserError, match="was lost in a crash"):
        Pictures(session, make_world().codec).frame(140)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_a_full_disk_is_one_message_and_what_was_written_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    world, messages = make_world(), list[str]()
    recorder = begun(tmp_path / "walk", world, messages)
    append = SessionWriter._append

    def full(self: SessionWriter, entry: dict[str, Any]) -> None:
        if entry.get("frame", 0) > 70:
            os.write(self._log, b'{"type":"frame_in')
            raise OSError(number, os.strerror(number))
        append(self, entry)

    monkeypatch.setattr(SessionWriter, "_append", full)
    play_into(recorder, world, moves(200))
    recorder.close()
    assert len(messages) == 1 and ("no space left" in messages[0] or "the recording ends here" in messages[0])
    session = open_session(tmp_path / "walk")
    assert session.last == 70 and verify(session, make_world()).differs is None


def test_a_disk_that_hangs_never_holds_up_play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate, world, messages = threading.Event(), make_world(), list[str]()
    recorder = begun(tmp_path / "walk", world, messages)
    write = SessionWriter.write
    monkeypatch.setattr(SessionWriter, "write", lambda self, drawn: (gate.wait(20), write(self, drawn)))
    monkeypatch.setattr("engine.sessions.recorder.CAPACITY", 8)
    recorder._queue.maxsize = 8
    play_into(recorder, world, moves(30))
    assert len(messages) == 1 and "too slow" in messages[0]
    gate.set()
    recorder.close()
    assert open_session(tmp_path / "walk").last == 9


def test_a_folder_that_is_there_already_is_refused(tmp_path: Path) -> None:
    record(tmp_path / "walk", 3)
    with pytest.raises(UserError, match="there already"):
        record(tmp_path / "walk", 3)
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="file"):
        record(tmp_path / "file" / "walk", 3)
    with pytest.raises(UserError, match="choose a name"):
        record(tmp_path / ".hidden", 3)
    (tmp_path / "empty").mkdir()
    record(tmp_path / "empty", 3)
    assert open_session(tmp_path / "empty").last == 3


def test_the_log_says_what_the_generator_used_and_checks_every_32_frames(tmp_path: Path) -> None:
    record(tmp_path / "walk", 70)
    lines = [json.loads(line) for line in (tmp_path / "walk" / LOG).read_text().splitlines()]
    assert [line["type"] for line in lines] == ["session_start", *["frame_input"] * 70, "session_end"]
    assert lines[5]["frame"] == 5 and lines[5]["action"] == moves(70)[4].tolist()
    assert [line["frame"] for line in lines if "frames_crc32" in line] == [32, 64, 70]


def test_a_video_that_takes_too_long_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(frame: np.ndarray, scale: int) -> np.ndarray:
        time.sleep(0.05)
        return frame

    monkeypatch.setattr("engine.video.magnify", slow)
    recorder, _ = record(tmp_path / "walk", 100, video=True, close=False)
    began = time.perf_counter()
    recorder.close(timeout=1.0)
    assert time.perf_counter() - began < 20 and recorder.saved is None
    assert not [path.name for path in (tmp_path / "walk").iterdir() if "video" in path.name]
    session = open_session(tmp_path / "walk")
    assert session.ended and session.last == 100


@pytest.mark.timeout(60)
def test_any_error_of_the_writer_is_told_and_closing_never_waits_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, messages = make_world(), list[str]()
    recorder = begun(tmp_path / "walk", world, messages)
    recorder._queue.maxsize = 4

    def fail(self: SessionWriter, drawn: Any) -> None:
        raise RuntimeError("stack expects each tensor\nto be equal size")

    monkeypatch.setattr(SessionWriter, "write", fail)
    play_into(recorder, world, moves(10))
    recorder.close()
    assert len(messages) == 1 and not recorder._thread.is_alive()
    assert "RuntimeError: stack expects each tensor to be equal size; the recording ends here" in messages[0]


@pytest.mark.timeout(60)
def test_ending_while_the_disk_hangs_returns_at_once_and_what_waits_is_still_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, world = threading.Event(), make_world()
    recorder = begun(tmp_path / "walk", world, [])
    write, taken = SessionWriter.write, threading.Event()

    def hang(self: SessionWriter, drawn: Any) -> None:
        taken.set()
        gate.wait(30)
        write(self, drawn)

    monkeypatch.setattr(SessionWriter, "write", hang)
    recorder._queue.maxsize = 8
    play_into(recorder, world, moves(1))
    assert taken.wait(10)
    play_into(recorder, world, moves(8))  # the queue is full
    began = time.perf_counter()
    recorder.close(timeout=0.1)
    assert time.perf_counter() - began < 5 and recorder._thread.is_alive()
    gate.set()
    recorder.close()
    session = open_session(tmp_path / "walk")
    assert recorder.error is None and session.last == 9 and session.ended
