import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import pygame
import pytest
from PIL import Image

from engine.errors import UserError
from engine.game.controls import Controls
from engine.game.game import Game
from engine.game.hud import ACCENT
from engine.game.window import SMALLEST, START_SIZE, Settings, Window
from tests.support.fake_world import BUTTONS, KEYS, STARTS, FakeWorld


class Player:
    """A window that a test operates: it posts events and turns the loop itself."""

    def __init__(self, folder: Path, world: FakeWorld | None = None, exclusive: bool = False, **options: Any) -> None:
        self.world = world or FakeWorld()
        self.folder = folder
        settings = Settings(
            name="fake",
            title="Fake world",
            preview=options.pop("preview", STARTS["cave"]),
            rate=options.pop("rate", 200),
            video_rate=12,
            pictures=folder / "screenshots",
            recordings=folder / "recordings",
            **options,
        )
        self.window = Window(settings, Controls(KEYS, BUTTONS, exclusive), self.open)
        self.gate = threading.Event()
        self.gate.set()

    def open(self) -> Game:
        self.gate.wait(10)
        return Game(self.world, STARTS)

    def start(self) -> None:
        self.window.start()

    def until(self, true: Callable[[], Any], seconds: float = 30.0) -> Any:
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            self.window.turn()
            if value := true():
                return value
        raise AssertionError("it did not happen in time")

    def turns(self, seconds: float) -> None:
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            self.window.turn()

    def key(self, name: str, kind: str = "tap", mod: int = 0) -> None:
        code = pygame.key.key_code(name)
        for event in (pygame.KEYDOWN, pygame.KEYUP):
            if kind == "tap" or (kind == "down") == (event == pygame.KEYDOWN):
                pygame.event.post(pygame.event.Event(event, key=code, mod=mod))

    def settled(self) -> int:
        """The number of frames drawn, once no more come."""
        self.turns(0.1)
        return len(self.world.actions)


@pytest.fixture
def player(tmp_path: Path) -> Iterator[Player]:
    player = Player(tmp_path)
    player.start()
    player.until(lambda: player.window.worker.timings.frames >= 2)
    yield player
    player.window.close()


def screen() -> pygame.Surface:
    surface = pygame.display.get_surface()
    assert surface is not None
    return surface


def test_held_and_combined_keys_reach_the_world_and_the_panel(player: Player) -> None:
    player.key("w", "down")
    player.key("left", "down")
    player.until(lambda: player.world.actions[-1] == ("forward", "turn_left"))
    player.until(lambda: player.window.shown.taken.buttons == ("forward", "turn_left"))
    player.key("w", "up")
    player.until(lambda: player.world.actions[-1] == ("turn_left",))


def test_a_tap_between_two_frames_counts_once(tmp_path: Path) -> None:
    player = Player(tmp_path, rate=20)
    player.start()
    player.until(lambda: player.window.worker.timings.frames >= 1)
    player.key("w")
    player.turns(0.3)
    assert player.world.actions.count(("forward",)) == 1
    player.window.close()


def test_the_window_turns_at_sixty_hertz_while_a_frame_takes_long(tmp_path: Path) -> None:
    player = Player(tmp_path, FakeWorld(seconds=0.5), rate=0)
    player.start()
    player.until(lambda: "render" in player.world.calls)
    seconds = []
    for _ in range(20):
        began = time.perf_counter()
        player.window.turn()
        seconds.append(time.perf_counter() - began)
    # A sixtieth, with room for a busy machine; and no turn waits for the frame, which takes half a second.
    assert sorted(seconds)[10] < 0.05 and max(seconds) < 0.4
    player.window.close()


def test_the_start_is_shown_while_the_world_loads_and_quitting_then_works(tmp_path: Path) -> None:
    player = Player(tmp_path)
    player.gate.clear()
    player.start()
    player.turns(0.1)
    assert not player.window.worker.ready
    assert screen().get_at((480, 360))[:3] == (40, 40, 40)
    for key in ("r", "m", "f5", "f8", "f9", "backspace", ".", ",", "w"):
        player.key(key)
    pygame.event.post(pygame.event.Event(pygame.QUIT))
    player.until(lambda: not player.window.running)
    threading.Timer(0.2, player.gate.set).start()
    player.window.close()
    assert player.world.calls == []


def test_pause_single_step_and_going_on(player: Player) -> None:
    player.key(".")
    before = player.settled()
    assert player.settled() == before and player.window.worker.paused
    player.key(",")
    player.until(lambda: len(player.world.actions) == before + 1)
    assert player.settled() == before + 1
    player.key(".")
    player.until(lambda: len(player.world.actions) > before + 3)


def test_r_goes_to_the_next_start_and_shift_r_to_the_same(player: Player) -> None:
    player.key("r")
    player.until(lambda: player.window.shown.start == "hall")
    player.until(lambda: player.window.shown.index > 20)
    player.key("r", mod=pygame.KMOD_LSHIFT)
    player.until(lambda: player.window.shown.index < 15)
    assert player.window.shown.start == "hall"


def test_m_switches_the_memory_mode_live(player: Player) -> None:
    player.key("m")
    player.until(lambda: player.window.shown.stats["mode"] == "full")
    player.key("m")
    player.until(lambda: player.window.shown.stats["mode"] == "window")


def test_saving_and_loading_and_rewinding(player: Player) -> None:
    player.key(".")
    player.settled()
    saved = player.window.shown.index
    player.key("f5")
    player.key(".")
    player.until(lambda: player.window.shown.index > saved + 10)
    player.key(".")  # or a busy machine draws on before the window looks
    player.settled()
    player.key("f8")
    player.until(lambda: player.window.shown.index == saved)
    player.key(".")
    player.until(lambda: player.window.shown.index > saved + 10)
    player.key("backspace", "down")
    player.until(lambda: player.window.shown.index == saved)
    player.turns(0.05)
    assert player.window.shown.index == saved
    player.key("backspace", "up")
    player.until(lambda: player.window.shown.index > saved + 3)


def test_f12_saves_what_the_window_shows(player: Player) -> None:
    player.key("f12")
    player.key("f12")
    player.until(lambda: len(list((player.folder / "screenshots").glob("*"))) == 2)
    for path in (player.folder / "screenshots").iterdir():
        assert path.name.startswith("fake-") and Image.open(path).size == screen().get_size()
    assert "saved" in player.window.toast


def test_f9_starts_and_stops_a_recording(player: Player) -> None:
    player.key("f9")
    player.until(lambda: player.window.worker.recorder.on)
    count = player.world.time
    player.until(lambda: player.world.time > count + 5)
    player.key("f9")
    path = player.until(lambda: player.window.worker.recorder.saved)[0]
    player.until(lambda: "saved" in player.window.toast)
    assert path.parent == player.folder / "recordings" and len(iio.imread(path, plugin="pyav")) > 5


def test_a_folder_that_cannot_be_made_is_a_message_and_not_the_end(player: Player) -> None:
    (player.folder / "screenshots").write_text("in the way")
    player.key("f12")
    player.until(lambda: "screenshots" in player.window.toast)
    assert player.window.running


def test_the_frame_is_magnified_by_whole_pixels_in_the_middle(player: Player) -> None:
    player.key("tab")
    player.key(".")
    player.settled()
    width, height = screen().get_size()
    assert width % 64 == 0 and height == width * 3 // 4
    for size, scale in (((960, 720), 15), ((700, 500), 10), ((64, 48), 1)):
        pygame.display.set_mode(size, pygame.RESIZABLE)
        player.window.say("", 0)
        player.window.show_keys(0)
        player.key("left shift")
        player.turns(0.05)
        pixels = pygame.surfarray.array3d(screen()).swapaxes(0, 1)
        top, left = (size[1] - 48 * scale) // 2, (size[0] - 64 * scale) // 2
        inner = pixels[top : top + 48 * scale, left : left + 64 * scale]
        big = player.window.shown.frame.repeat(scale, 0).repeat(scale, 1)
        # the PAUSED badge covers the upper right corner
        assert np.array_equal(inner[24 * scale :], big[24 * scale :])


@pytest.mark.parametrize(("desktop", "scale"), [((1920, 1080), 5), ((1366, 768), 4), ((1280, 800), 5), ((200, 200), 1)])
def test_a_world_of_tiles_opens_with_square_pixels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, desktop: tuple[int, int], scale: int
) -> None:
    monkeypatch.setattr(pygame.display, "get_desktop_sizes", lambda: [desktop])
    player = Player(tmp_path, FakeWorld(height=144, width=144), preview=np.zeros((144, 144, 3), np.uint8))
    player.window.start()
    width, height = screen().get_size()
    assert (width, height) == (max(SMALLEST[0], 144 * scale), max(SMALLEST[1], 144 * scale))
    player.window.close()


def test_the_help_says_what_every_key_does_until_it_is_sent_away(player: Player) -> None:
    def seen() -> bool:
        player.turns(0.05)
        return bool((pygame.surfarray.array3d(screen()) == ACCENT).all(-1).any())

    player.key("tab")
    player.window.show_keys(0)
    assert not seen()
    player.key("f1")
    assert seen() and player.window.shows_keys
    player.key("f1")
    assert not seen() and not player.window.shows_keys
    player.key("escape")
    names = [item.name for item in player.window.commands.items()]
    for _ in range(names.index("keys")):
        player.key("down")
    player.key("return")
    assert seen() and not player.window.menu.is_open


def test_presses_between_two_frames_have_a_frame_each_where_a_frame_takes_one_button(tmp_path: Path) -> None:
    player = Player(tmp_path, rate=8, exclusive=True)
    player.start()
    player.until(lambda: player.window.worker.timings.frames >= 1)
    player.key("w", "down")
    player.key("left")
    player.key("right")
    player.turns(0.8)
    played = [held for held in player.world.actions if held]
    assert played[:5] == [("forward",), ("turn_left",), ("turn_right",), ("forward",), ("forward",)]
    player.window.close()


def test_a_window_smaller_than_the_frame_still_shows_it(tmp_path: Path) -> None:
    player = Player(tmp_path)
    player.start()
    for size in ((40, 30), (1, 1)):
        pygame.display.set_mode(size, pygame.RESIZABLE)
        player.key("tab")
        player.turns(0.05)
    player.window.close()


def test_f11_goes_to_full_screen_and_back(player: Player) -> None:
    player.key("f11")
    player.until(lambda: player.window.full_screen)
    player.turns(0.05)
    player.key("f11")
    player.until(lambda: not player.window.full_screen)
    player.turns(0.05)
    width, height = screen().get_size()
    assert width <= START_SIZE[0] and height <= START_SIZE[1] and width % 64 == 0 and height % 48 == 0


def test_the_menu_holds_the_game_and_does_what_its_rows_say(player: Player) -> None:
    player.key("w", "down")
    player.until(lambda: player.world.actions[-1] == ("forward",))
    player.key("escape")
    before = player.settled()
    assert player.window.menu.is_open and player.settled() == before

    def choose(label: str, key: str = "return") -> None:
        names = [item.name for item in player.window.commands.items()]
        while names[player.window.menu.selected] != label:
            player.key("down")
            player.turns(0.02)
        player.key(key)
        player.turns(0.05)

    choose("mode", "right")
    assert player.window.shown.stats["mode"] == "full"
    choose("steps", "left")
    assert player.window.shown.stats["steps"] == 1
    choose("next")
    assert not player.window.menu.is_open and player.window.shown.start == "hall"
    player.until(lambda: len(player.world.actions) > before + 2)
    assert player.world.actions[-1] == ()  # the key that was held is forgotten
    player.key("escape")
    player.turns(0.05)
    choose("quit")
    assert not player.window.running


def test_the_menu_can_be_used_with_the_mouse_and_the_gamepad(player: Player) -> None:
    player.key("escape")
    player.turns(0.05)
    names = [item.name for item in player.window.commands.items()]
    place = player.window.rows[names.index("next")].center
    pygame.event.post(pygame.event.Event(pygame.MOUSEMOTION, pos=place, rel=(0, 0), buttons=(0, 0, 0)))
    player.turns(0.05)
    assert player.window.menu.selected == names.index("next")
    pygame.event.post(pygame.event.Event(pygame.MOUSEBUTTONDOWN, pos=place, button=1))
    player.until(lambda: player.window.shown.start == "hall" and not player.window.menu.is_open)
    for button in (pygame.CONTROLLER_BUTTON_START, pygame.CONTROLLER_BUTTON_DPAD_UP):
        pygame.event.post(pygame.event.Event(pygame.CONTROLLERBUTTONDOWN, button=button))
    player.until(lambda: player.window.menu.is_open and player.window.menu.selected == len(names) - 1)
    pygame.event.post(pygame.event.Event(pygame.CONTROLLERBUTTONDOWN, button=pygame.CONTROLLER_BUTTON_B))
    player.until(lambda: not player.window.menu.is_open)


def test_a_pause_from_before_the_menu_outlasts_it(player: Player) -> None:
    player.key(".")
    for _ in range(2):
        player.key("escape")
        player.turns(0.05)
    assert player.window.worker.paused and not player.window.menu.is_open


def test_losing_the_keyboard_releases_the_keys(player: Player) -> None:
    player.key("w", "down")
    player.until(lambda: player.world.actions[-1] == ("forward",))
    pygame.event.post(pygame.event.Event(pygame.WINDOWFOCUSLOST))
    player.until(lambda: player.world.actions[-1] == ())


def test_the_latency_is_measured_from_the_key_to_the_flip(tmp_path: Path) -> None:
    player = Player(tmp_path, FakeWorld(seconds=0.03), rate=0)
    player.start()
    player.until(lambda: player.window.worker.timings.frames >= 3)
    player.key("w", "down")
    player.until(lambda: player.world.actions[-1] == ("forward",))
    player.turns(0.1)
    player.window.close()
    figures = player.window.worker.timings.summary()
    # At least the 30 ms that drawing takes; the upper ends leave room for a busy machine.
    assert 30 <= figures["key_to_frame_ms_p50"] < 300
    assert 30 <= figures["press_to_frame_ms_p50"] < 600


@pytest.mark.parametrize("error", [UserError("the weights are gone"), RuntimeError("a mistake")])
def test_run_raises_what_went_wrong_and_closes_the_window(tmp_path: Path, error: Exception) -> None:
    player = Player(tmp_path, FakeWorld(fail_at=3, error=error))
    with pytest.raises(type(error), match=str(error)):
        player.window.run()
    assert not pygame.display.get_init() and not any(t.name == "world" for t in threading.enumerate())


def test_run_ends_after_the_limit_and_leaves_the_recording(tmp_path: Path) -> None:
    script = np.tile(np.array([1, 0, 0, 0], np.uint8), (5, 1))
    player = Player(tmp_path, script=script, limit=8, record=tmp_path / "walk.mp4")
    player.window.run()
    assert player.world.actions == [("forward",)] * 5 + [()] * 3
    assert player.window.worker.recorder.saved == [tmp_path / "walk.mp4"]
    assert len(iio.imread(tmp_path / "walk.mp4", plugin="pyav")) == 9
    assert player.window.shown.index == 8


def test_an_interrupt_closes_everything_and_keeps_the_recording(tmp_path: Path) -> None:
    player = Player(tmp_path, record=tmp_path / "walk.mp4")
    turn, count = player.window.turn, iter(range(1000))

    def interrupted() -> None:
        turn()
        if next(count) == 20:
            raise KeyboardInterrupt

    player.window.turn = interrupted  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        player.window.run()
    assert player.window.worker.recorder.saved == [tmp_path / "walk.mp4"]
    assert len(iio.imread(tmp_path / "walk.mp4", plugin="pyav")) > 1


def test_quitting_takes_less_than_a_second() -> None:
    assert os.environ["SDL_VIDEODRIVER"] == "dummy"
    player = Player(Path("unused"))
    began = 0.0

    def quit_soon() -> None:
        nonlocal began
        time.sleep(0.3)
        began = time.perf_counter()
        pygame.event.post(pygame.event.Event(pygame.QUIT))

    threading.Thread(target=quit_soon).start()
    player.window.run()
    assert time.perf_counter() - began < 1.0


def test_a_screen_that_refuses_a_window_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any) -> None:
        raise pygame.error("no such mode")

    monkeypatch.setattr(pygame.display, "set_mode", refuse)
    with pytest.raises(UserError, match="no window could be opened"):
        Player(tmp_path).window.run()


def test_a_number_of_steps_that_the_menu_does_not_know_can_still_be_changed(player: Player) -> None:
    player.world.steps = 3
    player.window.commands.next_steps()
    player.until(lambda: player.world.steps == 1)


def test_the_end_of_a_life_is_told_and_waits_for_r_backspace_or_the_key_that_goes_on(tmp_path: Path) -> None:
    player = Player(tmp_path, FakeWorld(ends_at=range(6, 30)), figures=False)
    player.start()
    player.window.show_keys(0)

    def told() -> bool:
        player.turns(0.05)
        return bool((pygame.surfarray.array3d(screen()) == ACCENT).all(-1).any())

    player.until(lambda: player.window.worker.over)
    assert player.settled() == 6 and told() and player.window.shown.index == 6
    player.key("r")
    player.until(lambda: player.window.shown.start == "hall" and player.window.worker.over)
    assert player.settled() == 12 and told()
    player.key("backspace", "down")
    player.until(lambda: player.window.shown.index < 6)
    player.key("backspace", "up")
    player.until(lambda: player.window.worker.over)
    before = player.settled()
    player.key(",")
    assert player.settled() == before
    player.key(".")
    player.until(lambda: player.window.shown.index > 10)
    assert not told() and not player.window.worker.paused
    player.window.close()


def test_figures_may_begin_hidden_until_tab_shows_them(tmp_path: Path) -> None:
    player = Player(tmp_path, figures=False)
    player.start()
    player.until(lambda: player.window.worker.timings.frames >= 2)
    assert not player.window.hud_on
    player.key("tab")
    player.turns(0.05)
    assert player.window.hud_on
    player.window.close()
