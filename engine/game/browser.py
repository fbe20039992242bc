"""A window on recorded sessions: scrub, mark a part, keep it, compare two branches, and take over the keys."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pygame

from engine.actions import decode
from engine.errors import UserError
from engine.game.commands import new_file
from engine.game.hud import ACCENT, FAINT, TEXT, Hud
from engine.game.timeline import Timeline, bar_of, draw
from engine.pictures import save_picture
from engine.sessions.reader import Session
from engine.sessions.replay import Pictures
from engine.video import VideoWriter

POLL_MS = 12
BACKGROUND = (8, 9, 11)
HELP = (
    "drag or arrows scrub (Shift: 1 s) · Space plays · Enter: play from here\n"
    "I O mark a part · E saves it as video · T keeps it as a session of its own · C compares · Esc quits"
)


class Browser:
    """Shows sessions until the user quits, or wants to play from a frame.

    Args:
        shown: the session and its pictures.
        others: sessions of the same family to compare with, opened when they are wanted.
        compare: begin with the first of them beside it.
        trim: keeps the session up to a frame as a session of its own; returns its folder.
    """

    def __init__(
        self,
        shown: Pictures,
        others: list[Callable[[], Pictures]],
        *,
        at: int = 0,
        compare: bool = False,
        trim: Callable[[int], Path],
        recordings: Path = Path("recordings"),
        pictures: Path = Path("screenshots"),
    ) -> None:
        self.shown, self.session = shown, shown.session
        self.line = Timeline(self.session.last)
        self.line.go(at)
        self.beside: Pictures | None = None
        self.running, self.playing = True, False
        self.chosen: int | None = None  # the frame to play from
        self.toast, self._toast_until = HELP, time.perf_counter() + 8
        self._others, self._next_other = others, 0
        self._trim, self._recordings, self._pictures = trim, recordings, pictures
        self._hud, self._due = Hud(), 0.0
        if compare:
            self.compare()

    def run(self) -> int | None:
        """Show the window; returns the frame to play from, or None where the user quit."""
        try:
            self.start()
            while self.running:
                self.turn()
        finally:
            pygame.quit()
        return self.chosen

    def start(self) -> None:
        """Open the window."""
        pygame.display.init()
        pygame.font.init()
        pygame.display.set_caption(f"{self.session.folder.name} - Loci")
        pygame.key.set_repeat(300, 40)
        try:
            pygame.display.set_mode((960, 720), pygame.RESIZABLE)
        except pygame.error as error:
            raise UserError(f"no window could be opened ({error})") from error

    def turn(self) -> None:
        """Take in events, go on where it plays, and draw."""
        for event in [pygame.event.wait(POLL_MS), *pygame.event.get()]:
            self.handle(event)
        if not self.running:
            return
        now = time.perf_counter()
        if self.playing and now >= self._due:
            self._due = max(self._due + 1 / self.session.info.frame_rate, now)
            self.line.go(self.line.frame + 1)
            self.playing = self.line.frame < self.line.last
        self._draw()

    def handle(self, event: pygame.event.Event) -> None:
        """Take in one event."""
        if event.type == pygame.QUIT:
            self.running = False
        elif event.type == pygame.KEYDOWN:
            try:
                self._key(pygame.key.name(event.key).lower(), bool(event.mod & pygame.KMOD_SHIFT))
            except (UserError, OSError) as error:
                self.say(str(error))
        elif event.type == pygame.MOUSEBUTTONDOWN or (event.type == pygame.MOUSEMOTION and event.buttons[0]):
            screen = pygame.display.get_surface()
            assert screen is not None
            bar = bar_of(screen)
            if event.pos[1] >= bar.top - 20:
                self.playing = False
                self.line.go(self.line.at(event.pos[0], bar))

    def say(self, text: str, seconds: float = 4.0) -> None:
        """Show a message for a while."""
        self.toast, self._toast_until = text, time.perf_counter() + seconds

    def compare(self) -> None:
        """Show the next session of the family beside this one; after the last one none."""
        if self._next_other >= len(self._others):
            self.beside, self._next_other = None, 0
            if not self._others:
                self.say("there is no other session of this family to compare with")
            return
        self.beside = self._others[self._next_other]()
        self._next_other += 1
        self.say(f"{self.beside.session.folder.name}: the same up to frame {shared(self.session, self.beside.session)}")

    def _key(self, key: str, shift: bool) -> None:
        step = round(self.session.info.frame_rate) if shift else 1
        if key == "escape":
            self.running = False
        elif key in ("left", "right"):
            self.playing = False
            self.line.go(self.line.frame + (step if key == "right" else -step))
        elif key in ("home", "end"):
            self.line.go(0 if key == "home" else self.line.last)
        elif key == "space":
            self.playing, self._due = not self.playing, time.perf_counter()
        elif key in ("i", "o"):
            self.line.mark_begin() if key == "i" else self.line.mark_end()
        elif key == "e":
            self._export()
        elif key == "t":
            self.say(f"kept frames 0 to {self.line.end} as {self._trim(self.line.end).name}")
        elif key == "c":
            self.compare()
        elif key in ("return", "enter"):
            self.chosen, self.running = self.line.frame, False
        elif key == "f12":
            self._screenshot()

    def _export(self) -> None:
        path = new_file(self._recordings, self.session.folder.name, ".mp4")
        with VideoWriter(path, self.session.info.frame_rate) as video:
            for index in range(self.line.begin, self.line.end + 1):
                video.add(self.shown.frame(index))
        self.say(f"saved {path}")

    def _screenshot(self) -> None:
        screen = pygame.display.get_surface()
        assert screen is not None
        width, height = screen.get_size()
        pixels = np.frombuffer(pygame.image.tobytes(screen, "RGB"), np.uint8).reshape(height, width, 3)
        self.say(f"saved {save_picture(new_file(self._pictures, self.session.folder.name, '.png'), pixels)}")

    def _draw(self) -> None:
        screen = pygame.display.get_surface()
        assert screen is not None
        screen.fill(BACKGROUND)
        width, bar = screen.get_width(), bar_of(screen)
        sides = [self.shown] if self.beside is None else [self.shown, self.beside]
        for number, side in enumerate(sides):
            room = pygame.Rect(number * width // len(sides), 0, width // len(sides), bar.top - 30)
            self._draw_side(screen, side, room.inflate(-8, -8))
        draw(screen, self._hud, self.line, self.session, self.session.info.frame_rate)
        if time.perf_counter() < self._toast_until:
            self._hud.toast(screen, self.toast)
        pygame.display.flip()

    def _draw_side(self, screen: pygame.Surface, side: Pictures, room: pygame.Rect) -> None:
        session, index = side.session, min(self.line.frame, side.session.last)
        try:
            frame = side.frame(index)
        except UserError as error:
            self.say(str(error))
            frame = np.zeros((session.info.height, session.info.width, 3), np.uint8)
        height, width, _ = frame.shape
        scale = min(room.width / width, room.height / height)
        scale = int(scale) if scale >= 1 else scale
        picture = pygame.image.frombuffer(frame.tobytes(), (width, height), "RGB")
        picture = pygame.transform.scale(picture, (max(1, int(width * scale)), max(1, int(height * scale))))
        place = picture.get_rect(center=room.center)
        screen.blit(picture, place)
        self._hud.text(screen, session.folder.name, TEXT, (place.left + 6, place.top + 6), "topleft")
        held = decode(session.info.buttons, session.action(index)) if index else ()
        text = "ended" if self.line.frame > session.last else " + ".join(held).replace("_", " ") or "-"
        self._hud.text(screen, text, ACCENT if held else FAINT, (place.left + 6, place.bottom - 6), "bottomleft")


def shared(one: Session, other: Session) -> int:
    """The last frame that two sessions of a family have in common."""
    low, high = 0, min(one.last, other.last)
    while low < high:  # what is shared is a beginning
        middle = (low + high + 1) // 2
        if one.owner(middle).info.id == other.owner(middle).info.id:
            low = middle
        else:
            high = middle - 1
    return low
