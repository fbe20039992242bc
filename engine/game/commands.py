"""What the player can ask the window for, by key or by menu."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import pygame

from engine.errors import UserError
from engine.game import menu as menus
from engine.game.game import STEPS, Game
from engine.pictures import save_picture

if TYPE_CHECKING:
    from engine.game.window import Window

T = TypeVar("T")
JUMP_SECONDS = 10.0  # of play that Shift+Backspace goes back


class Commands:
    """Carries out commands; each returns at once and tells the player what it did."""

    def __init__(self, window: Window) -> None:
        self.window = window
        self._by_key = {
            "escape": self.open_menu,
            "tab": self.toggle_hud,
            "f1": self.toggle_keys,
            ".": self.toggle_pause,
            ",": self.single_step,
            "m": self.next_mode,
            "f5": self.save,
            "f8": self.load,
            "f9": self.toggle_recording,
            "f11": self.toggle_full_screen,
            "f12": self.screenshot,
        }
        self._was_paused = False
        self._before_ready = ("escape", "tab", "f1", "f11", "f12")

    def key(self, key: str, shift: bool = False) -> bool:
        """Carry out what this key stands for. Returns whether it stands for anything."""
        worker = self.window.worker
        if key not in self._by_key and key not in ("r", "backspace"):
            return False
        if not worker.ready and key not in self._before_ready:
            return True
        if key == "r":
            self.restart(other=not shift)
        elif key == "backspace" and shift:
            worker.jump_back(JUMP_SECONDS, self.window.settings.video_rate)
        elif key == "backspace":
            worker.rewind(True)
        else:
            self._by_key[key]()
        return True

    def menu_key(self, key: str) -> None:
        """A key while the menu is open."""
        menu, rows = self.window.menu, self.items()
        name = rows[menu.selected % len(rows)].name
        if key == "escape":
            self.close_menu()
        elif key in ("up", "w"):
            menu.move(-1, len(rows))
        elif key in ("down", "s"):
            menu.move(1, len(rows))
        elif key in ("return", "enter", "space"):
            self.choose(name)
        elif key in ("left", "a", "right", "d") and name in ("mode", "steps", "full_screen"):
            self.choose(name, -1 if key in ("left", "a") else 1)
        elif key in ("f11", "f12"):
            self._by_key[key]()

    def items(self) -> list[menus.Item]:
        """The menu's rows as they stand."""
        worker, stats = self.window.worker, self.window.shown.stats
        return menus.items(
            ready=worker.ready,
            mode=str(stats.get("mode", "?")),
            steps=stats.get("steps", "?"),
            full_screen=self.window.full_screen,
            recording=worker.recorder.on,
        )

    def choose(self, name: str, way: int = 1) -> None:
        """Carry out a menu row; `way` is -1 for the value before instead of the one after."""
        if name == "quit":
            self.window.running = False
        elif name == "mode":
            self.next_mode(way)
        elif name == "steps":
            self.next_steps(way)
        elif name == "full_screen":
            self.toggle_full_screen()
        else:
            self.close_menu()
            if name in ("restart", "next"):
                self.restart(other=name == "next")
            elif name == "record":
                self.toggle_recording()
            elif name == "keys":
                self.window.show_keys(math.inf)

    def open_menu(self) -> None:
        self.window.menu.open()
        self.window.release_keys()
        self._was_paused = self.window.worker.paused
        self.window.worker.pause(True)

    def close_menu(self) -> None:
        self.window.menu.close()
        self.window.worker.pause(self._was_paused)

    def toggle_hud(self) -> None:
        self.window.hud_on = not self.window.hud_on

    def toggle_keys(self) -> None:
        self.window.show_keys(0.0 if self.window.shows_keys else math.inf)

    def toggle_pause(self) -> None:
        worker = self.window.worker
        if worker.over:
            worker.go_on()
        else:
            worker.pause(not worker.paused)

    def single_step(self) -> None:
        self.window.worker.step()

    def restart(self, other: bool) -> None:
        self.window.worker.do(lambda game: game.restart(other))

    def save(self) -> None:
        self.window.worker.do(lambda game: game.save())
        self.window.say("saved here: F8 comes back")

    def load(self) -> None:
        self.window.worker.do(lambda game: game.load())

    def next_mode(self, way: int = 1) -> None:
        def switch(game: Game) -> None:
            stats = game.world.stats()
            mode = _after(stats["modes"], stats["mode"], way)
            game.set_mode(mode)
            self.window.say(f"memory: {mode}")

        self.window.worker.do(switch)

    def next_steps(self, way: int = 1) -> None:
        def switch(game: Game) -> None:
            game.world.set_steps(_after(STEPS, game.world.stats()["steps"], way))

        self.window.worker.do(switch)

    def toggle_recording(self) -> None:
        window = self.window
        if window.worker.recorder.on:
            window.worker.stop_recording()
            return
        try:
            path = new_file(window.settings.recordings, window.settings.name, ".mp4")
        except OSError as error:
            window.say(f"{window.settings.recordings}: {error.strerror}")
        else:
            window.worker.record(path, window.settings.video_rate)

    def toggle_full_screen(self) -> None:
        self.window.set_display(not self.window.full_screen)

    def screenshot(self) -> None:
        window, screen = self.window, pygame.display.get_surface()
        assert screen is not None
        width, height = screen.get_size()
        pixels = np.frombuffer(pygame.image.tobytes(screen, "RGB"), np.uint8).reshape(height, width, 3)
        try:
            path = save_picture(new_file(window.settings.pictures, window.settings.name, ".png"), pixels)
        except UserError as error:
            window.say(str(error))
        except OSError as error:
            window.say(f"{window.settings.pictures}: {error.strerror}")
        else:
            window.say(f"saved {path}")


def _after(values: Sequence[T], value: T, way: int) -> T:
    """The value that comes after this one (way 1) or before it (-1), in a circle."""
    return values[(values.index(value) + way) % len(values)] if value in values else values[0]


def new_file(folder: Path, name: str, extension: str) -> Path:
    """A path in the folder, which is made, that no file has; its name says when."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
    path, count = folder / f"{stem}{extension}", 1
    while path.exists():
        count += 1
        path = folder / f"{stem}-{count}{extension}"
    return path
