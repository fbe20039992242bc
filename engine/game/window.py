"""The window: events in, the newest frame out. It never waits for the model; see `engine.game.worker`."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pygame

from engine.errors import UserError
from engine.game.commands import Commands
from engine.game.controls import Controls
from engine.game.game import Game
from engine.game.gamepad import MENU_KEYS, Gamepads, Pad
from engine.game.hud import ACCENT, FAINT, RED, Hud, lines
from engine.game.keys import help_of
from engine.game.menu import Menu
from engine.game.worker import NOTHING, Shown, Worker

POLL_MS = 12  # the longest sleep of the loop; an event or a new frame wakes it
REDRAW_SECONDS = 0.25  # figures are renewed this often when nothing else changes
TOAST_SECONDS = 3.0
HELP_SECONDS = 8.0
OVER = ("The end", "R begins anew · Backspace goes back · . goes on")
HELP_LAST = "F1 these keys · Tab figures · Esc menu"
START_SIZE = (960, 720)  # the window opens at the largest whole multiple of the frame within this
SMALLEST = (320, 240)
BACKGROUND = (8, 9, 11)
WAKE = pygame.USEREVENT + 1


@dataclass(frozen=True)
class Settings:
    """What a window shows and where it keeps things.

    `preview`, uint8 (H, W, 3), is shown while the model loads. `rate` is the largest number of frames a
    second, 0 for no limit; `video_rate` is that of recordings. `script` and `limit` are those of `Worker`;
    `record` is a file that recording starts with. `figures`: whether they are shown from the beginning.
    """

    name: str
    title: str
    preview: np.ndarray
    rate: float
    video_rate: float
    script: np.ndarray | None = None
    limit: int | None = None
    record: Path | None = None
    figures: bool = True
    pictures: Path = Path("screenshots")
    recordings: Path = Path("recordings")


class Window:
    """A window in which a game is played, by :meth:`run`."""

    def __init__(self, settings: Settings, controls: Controls, open_game: Callable[[], Game]) -> None:
        self.settings = settings
        self.controls = controls
        self.worker = Worker(
            open_game,
            controls,
            rate=settings.rate,
            script=settings.script,
            limit=settings.limit,
            notify=self._wake,
        )
        self.menu = Menu()
        self.commands = Commands(self)
        self.shown = Shown(settings.preview, 0, None, NOTHING, "", 0)
        self.hud_on = settings.figures
        self.full_screen = False
        self.running = True
        self._hud = Hud()
        self._gamepads = Gamepads(Pad(controls))
        self._waking = False
        self.rows: list[pygame.Rect] = []
        self.toast, self._toast_until = "", 0.0
        self._help, self._help_until = help_of(controls.keys, controls.buttons), 0.0
        self._drawn = 0.0

    def run(self) -> None:
        """Play until the player quits, the limit is reached or something goes wrong, which is raised here."""
        try:
            self.start()
            while self.running:
                self.turn()
        finally:
            self.close()

    def start(self) -> None:
        """Open the window and begin to open the game."""
        pygame.display.init()
        pygame.font.init()
        pygame.display.set_caption(f"{self.settings.title} - Loci")
        try:
            self.set_display(full_screen=False)
        except pygame.error as error:
            raise UserError(f"no window could be opened ({error}); --headless plays without one") from error
        self._gamepads.start()
        if self.settings.record is not None:
            self.worker.record(self.settings.record, self.settings.video_rate)
        self.show_keys(HELP_SECONDS)
        self.worker.start()

    def close(self) -> None:
        """Close the window and end the game; a recording is finished."""
        self._gamepads.close()
        pygame.quit()  # first, so that nobody looks at a dead window while the last frame is drawn
        self.worker.stop()

    def turn(self) -> None:
        """Wait for an event or a frame, at most POLL_MS; take in all events; show what changed."""
        changed = False
        for event in [pygame.event.wait(POLL_MS), *pygame.event.get()]:
            if event.type == WAKE:
                self._waking = False
            elif event.type != pygame.NOEVENT:
                self.handle(event)
                changed = True
        self.worker.check()
        message = self.worker.message()
        if message is not None:
            self.say(message)
        new = self.worker.newest()
        if new is not None:
            self.shown = new
        elif self.worker.finished:
            self.running = False
        now = time.perf_counter()
        if new is not None or changed or now - self._drawn >= REDRAW_SECONDS:
            self._drawn = now
            self._draw()
            if new is not None and new.began is not None:
                self.worker.timings.shown(new.began, new.taken.pressed_at, time.perf_counter())

    def handle(self, event: pygame.event.Event) -> None:
        """Take in one event."""
        if event.type == pygame.QUIT:
            self.running = False
        elif event.type == pygame.KEYDOWN:
            self._key(pygame.key.name(event.key).lower(), bool(event.mod & pygame.KMOD_SHIFT))
        elif event.type == pygame.KEYUP:
            key = pygame.key.name(event.key).lower()
            self.controls.release(key)
            if key == "backspace":
                self.worker.rewind(False)
        elif event.type == pygame.WINDOWFOCUSLOST:
            self.release_keys()  # their release would never be seen
        elif event.type == pygame.CONTROLLERBUTTONDOWN and (
            self.menu.is_open or event.button == pygame.CONTROLLER_BUTTON_START
        ):
            self._key(MENU_KEYS.get(event.button, ""), False)
        elif self.menu.is_open and event.type in (pygame.MOUSEMOTION, pygame.MOUSEBUTTONDOWN):
            self._mouse(event)
        else:
            self._gamepads.handle(event)

    def release_keys(self) -> None:
        """No key is down any more, as far as the game knows."""
        self._gamepads.pad.release_all()
        self.controls.release_all()
        self.worker.rewind(False)

    def say(self, text: str, seconds: float = TOAST_SECONDS) -> None:
        """Show a message for a while."""
        self.toast, self._toast_until = text, time.perf_counter() + seconds

    @property
    def shows_keys(self) -> bool:
        """Whether the help says now what the keys do."""
        return time.perf_counter() < self._help_until

    def show_keys(self, seconds: float) -> None:
        """Say for a while what the keys do; 0 seconds: no more."""
        self._help_until = time.perf_counter() + seconds

    def set_display(self, full_screen: bool) -> None:
        """Make the window, or put it on the full screen, or back."""
        self.full_screen = full_screen
        self._drawn = 0.0
        if full_screen:
            pygame.display.set_mode((0, 0), pygame.FULLSCREEN)
            return
        height, width, _ = self.settings.preview.shape
        desktop = pygame.display.get_desktop_sizes()[0]
        most = [min(START_SIZE[i], int(0.9 * desktop[i])) for i in (0, 1)]
        scale = max(1, min(most[0] // width, most[1] // height))
        size = (max(SMALLEST[0], scale * width), max(SMALLEST[1], scale * height))
        pygame.display.set_mode(size, pygame.RESIZABLE)

    # --- details ---

    def _wake(self) -> None:
        """Called on the worker's thread: there is something to show."""
        if not self._waking:
            self._waking = True
            with contextlib.suppress(pygame.error):  # the window is closing; without it the loop looks by itself
                pygame.event.post(pygame.event.Event(WAKE))

    def _key(self, key: str, shift: bool) -> None:
        if self.menu.is_open:
            self.commands.menu_key(key)
        elif not self.commands.key(key, shift):
            self.controls.press(key)

    def _mouse(self, event: pygame.event.Event) -> None:
        for i, row in enumerate(self.rows):
            if row.collidepoint(event.pos):
                self.menu.selected = i
                if event.type == pygame.MOUSEBUTTONDOWN and event.button == 1:
                    self.commands.choose(self.commands.items()[i].name)

    def _draw(self) -> None:
        screen = pygame.display.get_surface()
        assert screen is not None
        screen.fill(BACKGROUND)
        self._draw_frame(screen)
        now, worker = time.perf_counter(), self.worker
        width, height = screen.get_size()
        margin = max(6, height // 60)
        if self.hud_on and worker.ready:
            figures = lines(
                self.shown,
                rate=worker.timings.rate(),
                latency_ms=worker.timings.latency_ms(),
                held=self.controls.held(),
            )
            self._hud.panel(screen, figures, margin, margin)
        top = margin
        for on, text, colour in (
            (not worker.ready, "LOADING" + "." * (int(2 * now) % 4), ACCENT),
            (worker.recording, "REC", RED),
            (worker.rewinding, "REWIND", ACCENT),
            (worker.paused and worker.ready, "PAUSED", ACCENT),
        ):
            if on:
                top = self._hud.badge(screen, text, colour, width - margin, top)
        if worker.over and not self.menu.is_open:
            self._hud.notice(screen, *OVER)
        if now < self._toast_until and not self.menu.is_open:
            self._hud.toast(screen, self.toast)
        elif self.shows_keys and not self.menu.is_open:
            self._hud.keys(screen, self._help, HELP_LAST)
        if self.menu.is_open:
            rows = [
                (item.label, item.value or item.key, ACCENT if item.value else FAINT) for item in self.commands.items()
            ]
            self.rows = self._hud.menu(screen, self.settings.title, rows, self.menu.selected)
        pygame.display.flip()

    def _draw_frame(self, screen: pygame.Surface) -> None:
        """The frame in the middle, magnified by the largest whole number that fits."""
        height, width, _ = self.shown.frame.shape
        picture = pygame.image.frombuffer(self.shown.frame.tobytes(), (width, height), "RGB")
        room = screen.get_size()
        scale = min(room[0] // width, room[1] // height)
        if scale >= 1:
            picture = pygame.transform.scale(picture, (width * scale, height * scale))
        else:
            share = min(room[0] / width, room[1] / height)
            picture = pygame.transform.smoothscale(picture, (max(1, int(width * share)), max(1, int(height * share))))
        screen.blit(picture, picture.get_rect(center=(room[0] // 2, room[1] // 2)))
