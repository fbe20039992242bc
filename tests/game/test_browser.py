"""The window on recorded sessions, operated by posted events."""

import json
from collections.abc import Iterator
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pygame
import pytest

import play
from engine.errors import UserError
from engine.game.browser import Browser, shared
from engine.game.resume import Resumer, check_folder, free_folder
from engine.game.review import Review
from engine.game.timeline import Timeline, bar_of, clock
from engine.sessions.reader import open_session
from engine.sessions.replay import Replayer, verify
from tests.support.environments import weights
from tests.support.sessions import CONFIG, WEIGHTS, branch, record
from tests.support.worlds import make_world


@pytest.fixture
def review(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Review]:
    world = make_world()
    recorder, _ = record(tmp_path / "walk", 60, world=world)
    Replayer(open_session(tmp_path / "walk"), world).go_to(40)
    branch(tmp_path / "walk-2", recorder, world, 40, 10, seed=1)
    monkeypatch.setattr("engine.game.review.open_world_of", lambda info: (make_world(), CONFIG, WEIGHTS))
    monkeypatch.setattr("engine.game.resume.open_world_of", lambda info: (make_world(), CONFIG, WEIGHTS))
    yield Review(tmp_path / "walk")
    pygame.quit()


def opened(review: Review, tmp_path: Path, at: int = 0, compare: Path | None = None) -> Browser:
    browser = review.browser(at, compare)
    browser._recordings = browser._pictures = tmp_path
    browser.start()
    browser.turn()
    return browser


def key(browser: Browser, name: str, mod: int = 0) -> None:
    browser.handle(pygame.event.Event(pygame.KEYDOWN, key=pygame.key.key_code(name), mod=mod))
    browser.turn()


def test_scrubbing_by_keys_and_mouse(review: Review, tmp_path: Path) -> None:
    browser = opened(review, tmp_path, at=10)
    assert browser.line.frame == 10
    for name, mod, frame in (("right", 0, 11), ("left", 0, 10), ("right", pygame.KMOD_SHIFT, 40), ("end", 0, 60)):
        key(browser, name, mod)
        assert browser.line.frame == frame
    screen = pygame.display.get_surface()
    assert screen is not None
    bar = bar_of(screen)
    event = pygame.event.Event(pygame.MOUSEBUTTONDOWN, pos=(bar.centerx, bar.centery), button=1)
    browser.handle(event)
    assert abs(browser.line.frame - 30) <= 1
    key(browser, "home")
    key(browser, "space")
    while browser.line.frame < 5:
        browser.turn()
    key(browser, "space")
    assert not browser.playing
    key(browser, "escape")
    assert not browser.running and browser.chosen is None


def test_a_part_is_marked_saved_and_kept(review: Review, tmp_path: Path) -> None:
    browser = opened(review, tmp_path, at=5)
    key(browser, "i")
    browser.line.go(24)
    key(browser, "o")
    key(browser, "e")
    (video,) = tmp_path.glob("*.mp4")
    assert len(iio.imread(video, plugin="pyav")) == 20
    key(browser, "t")
    kept = open_session(tmp_path / "walk-3")
    assert (kept.first, kept.last, kept.parent is not None) == (24, 24, True)
    assert verify(kept, make_world()).frames == 24
    key(browser, "f12")
    assert list(tmp_path.glob("*.png"))


def test_two_branches_stand_side_by_side(review: Review, tmp_path: Path) -> None:
    browser = opened(review, tmp_path, at=45, compare=tmp_path / "walk-2")
    assert browser.beside is not None and shared(browser.session, browser.beside.session) == 40
    screen = pygame.display.get_surface()
    assert screen is not None
    pixels = pygame.surfarray.array3d(screen)
    left, right = pixels[8:470, 100:400], pixels[488:950, 100:400]
    assert left.std() > 10 and right.std() > 10 and not np.array_equal(left, right)
    browser.line.go(20)
    browser.toast = ""
    browser.turn()
    key(browser, "c")
    assert browser.beside is None
    key(browser, "c")
    assert browser.beside is not None and browser.beside.session.folder.name == "walk-2"


def test_playing_from_here_is_a_branch_that_is_drawn_again(review: Review, tmp_path: Path) -> None:
    browser = opened(review, tmp_path, at=33)
    key(browser, "return")
    assert browser.chosen == 33
    folder = free_folder(review.session)
    resumer = Resumer(review.session, 33, folder)
    game = resumer()
    assert resumer.log is not None
    game.restart()
    for _ in range(8):
        game.render(["left"])
        game.commit()
    game.restart()  # to the same moment again: a second branch of it
    for _ in range(3):
        game.render(["back"])
        game.commit()
    resumer.log.finish()
    assert [path.name for path in resumer.log.sessions] == ["walk-3", "walk-3-2"]
    for path, count in zip(resumer.log.sessions, (8, 3), strict=True):
        session = open_session(path)
        assert (session.first, session.last) == (33, 33 + count) and session.info.parent is not None
        assert session.info.parent.folder == "walk" and verify(session, make_world()).differs is None


def test_a_branch_lies_beside_its_parent(review: Review, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="lies beside its parent"):
        check_folder(tmp_path / "elsewhere" / "x", review.session)


def test_the_timeline_stays_within_the_session() -> None:
    line = Timeline(100)
    line.go(500)
    assert line.frame == 100
    line.go(30)
    line.mark_end()
    line.go(50)
    line.mark_begin()
    assert (line.begin, line.end) == (50, 50)
    bar = pygame.Rect(10, 0, 200, 8)
    assert [line.at(x, bar) for x in (0, 10, 110, 999)] == [0, 0, 50, 100]
    assert clock(150, 12.0) == "0:12.5 (frame 150)"


def test_a_world_goes_on_from_a_recorded_frame(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = tmp_path / "walk", tmp_path / "other"
    tiny = ["--checkpoint", str(weights())]
    assert play.main(["doom-plain", "--headless", *tiny, "--frames", "12", "--record", str(first)]) == 0
    arguments = ["--headless", *tiny, "--session", str(first), "--at", "7", "--frames", "5", "--keys", "left-5"]
    assert play.main([*arguments, "--record", str(second), "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["frames"] == 5
    session = open_session(second)
    assert (session.first, session.last) == (7, 12) and session.info.parent is not None
    for wrong, message in (
        (["--at", "99"], "has frames 0 to 12, not 99"),
        (["--at", "-1"], "not -1"),
        (["--start", "x"], "a start of its own"),
        (["--memory", "window"], "leave out --memory"),
        (["--memory-budget", "9"], "leave out --memory-budget"),
        (["--steps", "4"], "leave out --steps"),
        (["--seed", "3"], "leave out --seed"),
        (["--record", str(tmp_path / "a" / "b")], "lies beside its parent"),
    ):
        assert play.main(["--headless", "--session", str(first), *wrong]) == 2
        assert message in capsys.readouterr().err
    assert play.main(["--headless", "--at", "3"]) == 2 and "need --session" in capsys.readouterr().err
