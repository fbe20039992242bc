from dataclasses import replace

import numpy as np
import pygame
import pytest

from engine.game.controls import Taken
from engine.game.hud import ACCENT, FAINT, TEXT, Hud, _wrap, lines, size_text
from engine.game.worker import Shown

STATS = {"memory_bytes": 1_572_864, "mode": "full", "hot": 14, "cold": 3, "gone": 0, "steps": 2}


def shown(*buttons: str) -> Shown:
    frame = np.zeros((48, 64, 3), np.uint8)
    return Shown(frame, 7, 0.0, Taken((), buttons, None), "hall", 3, STATS)


def test_the_panel_says_speed_latency_memory_and_what_the_frame_was_drawn_with() -> None:
    rows = lines(shown("forward", "turn_left"), rate=11.96, latency_ms=41.4, held=("left", "w"))
    values = {name: (value, colour) for name, value, colour in rows}
    assert values["speed"][0] == "12.0 frames/s" and values["key to pixels"][0] == "41 ms"
    assert values["memory"][0] == "full, 1.5 MiB" and values["frames"][0] == "14 hot, 3 cold"
    assert values["keys"] == ("Left W", ACCENT) and values["drawn with"] == ("forward + turn left", ACCENT)
    assert values["start"][0] == "hall, seed 3, frame 7" and values["steps"][0] == "2"


def test_a_world_with_places_says_how_many_tiles_it_remembers() -> None:
    stats = {**STATS, "hot": 0, "gone": 900, "tiles": 1234, "places_bytes": 524_288}
    values = {name: value for name, value, _ in lines(replace(shown(), stats=stats), rate=8, latency_ms=20, held=())}
    assert values["tiles"] == "1,234" and "frames" not in values and values["memory"] == "full, 2.0 MiB"


def test_the_panel_copes_with_nothing_measured_yet() -> None:
    rows = lines(shown(), rate=0.0, latency_ms=None, held=())
    assert ("key to pixels", "-", TEXT) in rows and ("drawn with", "-", FAINT) in rows


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 * 2**40, "5120.0 GiB")]
)
def test_sizes_are_written_for_people(count: int, text: str) -> None:
    assert size_text(count) == text


@pytest.mark.parametrize("size", [(1, 1), (64, 48), (320, 240), (3840, 2160)])
def test_everything_can_be_drawn_at_any_size(size: tuple[int, int]) -> None:
    screen, hud = pygame.Surface(size), Hud()
    hud.panel(screen, lines(shown("forward"), rate=12, latency_ms=40, held=("w",)), 6, 6)
    hud.badge(screen, "REC", ACCENT, size[0] - 6, 6)
    hud.toast(screen, "saved a/rather/long/path " * 20)
    hud.notice(screen, "You died", "R begins anew, Backspace goes back")
    hud.keys(screen, [], "Esc menu")
    hud.keys(screen, [("1", "place stone")] * 20, "Esc menu")
    places = hud.menu(screen, "A world", [("Resume", "Esc", FAINT), ("Quit", "", FAINT)], 1)
    assert len(places) == 2 and places[0].bottom <= places[1].top


@pytest.mark.parametrize("size", [(576, 576), (720, 720), (960, 720), (320, 240)])
def test_what_sixteen_buttons_do_fits_into_a_window(size: tuple[int, int]) -> None:
    screen = pygame.Surface(size)
    rest = [(str(number), f"make a stone pickaxe {number}") for number in range(10)]
    entries = [("Arrows or WASD", "move"), ("Space", "do"), ("E", "sleep"), *rest]
    place = Hud().keys(screen, entries, "F1 these keys · Tab figures · Esc menu")
    assert screen.get_rect().contains(place) and place.height < size[1] / 2
    keys = (pygame.surfarray.array3d(screen) == ACCENT).all(-1)
    assert keys[place.left : place.right, place.top : place.bottom].sum() == keys.sum() > 0


def test_text_on_the_panel_stands_out_from_a_white_frame() -> None:
    screen = pygame.Surface((640, 480))
    screen.fill((255, 255, 255))
    Hud().panel(screen, [("speed", "12", TEXT)], 0, 0)
    pixels = pygame.surfarray.array3d(screen)[12:40, 6:30].mean(-1)
    assert pixels.max() - pixels.min() > 120


def test_long_messages_break_at_spaces_and_at_line_ends() -> None:
    pygame.font.init()
    font = pygame.font.Font(None, 20)
    assert _wrap(font, "one two\nthree", 1000) == ["one two", "three"]
    assert _wrap(font, "one two three", font.size("one two")[0]) == ["one two", "three"]
    assert _wrap(font, "indivisible", 1) == ["indivisible"] and _wrap(font, "", 10) == [""]
