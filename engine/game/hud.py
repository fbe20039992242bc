"""What is drawn over the frame: figures, messages, badges and the menu."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import pygame

from engine.game.keys import key_label
from engine.game.worker import Shown

Colour = tuple[int, int, int]

PANEL = (12, 14, 18, 190)
TEXT = (232, 234, 237)
FAINT = (158, 164, 174)
ACCENT = (255, 196, 84)
RED = (235, 72, 66)


def size_text(count: float) -> str:
    """Bytes for people: 1536 -> '1.5 KiB'."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    raise AssertionError("unreachable")


def lines(shown: Shown, *, rate: float, latency_ms: float | None, held: Sequence[str]) -> list[tuple[str, str, Colour]]:
    """The panel's rows: what, how much, and the colour of that. `held` are the keys that are down now."""
    stats: dict[str, Any] = shown.stats
    revisit = stats.get("revisit")
    held_bytes = stats.get("memory_bytes", 0) + stats.get("places_bytes", 0)
    used = " + ".join(button.replace("_", " ") for button in shown.taken.buttons)
    return [
        ("speed", f"{rate:.1f} frames/s", TEXT),
        ("key to pixels", "-" if latency_ms is None else f"{latency_ms:.0f} ms", TEXT),
        ("memory", f"{stats.get('mode', '?')}, {size_text(held_bytes)}", TEXT),
        (*_remembered(stats), TEXT),
        ("revisit", "-" if revisit is None else f"{revisit.psnr:.1f} dB, as {revisit.age} frames ago", TEXT),
        ("steps", str(stats.get("steps", "?")), TEXT),
        ("start", f"{shown.start}, seed {shown.seed}, frame {shown.index}", TEXT),
        ("keys", " ".join(map(key_label, held)) or "-", ACCENT if held else FAINT),
        ("drawn with", used or "-", ACCENT if used else FAINT),
    ]


def _remembered(stats: dict[str, Any]) -> tuple[str, str]:
    """What is remembered, and how much of it: tiles in a world with places, else frames."""
    if "tiles" in stats:
        return "tiles", f"{stats['tiles']:,}"
    kept = [f"{stats[name]} {name}" for name in ("hot", "cold", "gone") if stats.get(name)]
    return "frames", ", ".join(kept) or "0 hot"


class Hud:
    """Draws with pygame's own font, in a size that follows the window's."""

    @functools.cached_property
    def _fonts(self) -> dict[int, pygame.font.Font]:
        pygame.font.init()
        return {}

    def _font(self, screen: pygame.Surface, share: float = 1.0) -> pygame.font.Font:
        width, height = screen.get_size()
        size = max(11, round(min(height / 26, width / 34) * share))
        if size not in self._fonts:
            self._fonts[size] = pygame.font.Font(None, size)
        return self._fonts[size]

    def panel(self, screen: pygame.Surface, rows: Sequence[tuple[str, str, Colour]], left: int, top: int) -> None:
        """Rows of a name and a value on a translucent panel with its corner at (left, top)."""
        font = self._font(screen, 0.9)
        line = round(font.get_linesize() * 1.15)
        pad = line // 2
        names = [font.render(name, True, FAINT) for name, _, _ in rows]
        values = [font.render(value, True, colour) for _, value, colour in rows]
        column = max(name.get_width() for name in names) + pad
        # a width in steps, so that the panel does not tremble with every digit
        width = -(-max(value.get_width() for value in values) // (3 * line)) * 3 * line
        self._box(screen, pygame.Rect(left, top, column + width + 2 * pad, line * len(rows) + pad))
        for i, (name, value) in enumerate(zip(names, values, strict=True)):
            y = top + pad // 2 + i * line + 1
            screen.blit(name, (left + pad, y))
            screen.blit(value, (left + pad + column, y))

    def text(self, screen: pygame.Surface, text: str, colour: Colour, place: tuple[int, int], corner: str) -> None:
        """A line of text; `corner` of it, as pygame names them, is at `place`."""
        word = self._font(screen, 0.9).render(text, True, colour)
        rect = word.get_rect(**{corner: place})
        self._box(screen, rect.inflate(8, 4))
        screen.blit(word, rect)

    def badge(self, screen: pygame.Surface, text: str, colour: Colour, right: int, top: int) -> int:
        """A word with a dot, its upper right corner at (right, top). Returns where the next one goes."""
        font = self._font(screen)
        word = font.render(text, True, TEXT)
        pad = font.get_linesize() // 2
        dot = font.get_linesize() // 3
        rect = pygame.Rect(0, top, word.get_width() + 3 * pad + dot, font.get_linesize() + pad)
        rect.right = right
        self._box(screen, rect)
        pygame.draw.aacircle(screen, colour, (rect.left + pad + dot // 2, rect.centery), dot // 2 + 1)
        screen.blit(word, (rect.left + 2 * pad + dot, rect.top + pad // 2 + 1))
        return rect.bottom + pad // 2

    def toast(self, screen: pygame.Surface, text: str) -> None:
        """A message at the bottom, broken into lines where it is long."""
        font = self._font(screen)
        width, height = screen.get_size()
        rows = [font.render(row, True, TEXT) for row in _wrap(font, text, width - 4 * font.get_linesize())]
        line, pad = font.get_linesize(), font.get_linesize() // 2
        rect = pygame.Rect(0, 0, max(row.get_width() for row in rows) + 2 * pad, line * len(rows) + round(1.5 * pad))
        rect.midbottom = (width // 2, height - pad)
        self._box(screen, rect)
        for i, row in enumerate(rows):
            screen.blit(row, row.get_rect(midtop=(width // 2, rect.top + round(0.75 * pad) + i * line)))

    def notice(self, screen: pygame.Surface, title: str, text: str) -> pygame.Rect:
        """A title and a line under it, in the middle. Returns the place taken."""
        font, big = self._font(screen), self._font(screen, 1.8)
        pad, room = font.get_linesize(), screen.get_width() - 4 * font.get_linesize()
        rows = [big.render(title, True, ACCENT), *(font.render(row, True, TEXT) for row in _wrap(font, text, room))]
        box = pygame.Rect(0, 0, max(row.get_width() for row in rows), sum(row.get_height() for row in rows))
        box = box.inflate(2 * pad, pad)
        box.center = (screen.get_width() // 2, screen.get_height() // 2)
        self._box(screen, box)
        top = box.top + pad // 2
        for row in rows:
            screen.blit(row, row.get_rect(midtop=(box.centerx, top)))
            top += row.get_height()
        return box

    def keys(self, screen: pygame.Surface, entries: Sequence[tuple[str, str]], last: str) -> pygame.Rect:
        """Keys and what they do at the bottom, in as many columns as fit, over a last line. Returns the place taken."""
        font = self._font(screen, 0.9)
        line, pad = round(font.get_linesize() * 1.15), font.get_linesize() // 2
        words = [(font.render(f"{key} ", True, ACCENT), font.render(what, True, TEXT)) for key, what in entries]
        column = max((key.get_width() + what.get_width() for key, what in words), default=0) + 2 * pad
        fitting = max(1, (screen.get_width() - 2 * pad) // column)
        rows = -(-len(words) // fitting)
        columns = -(-len(words) // max(1, rows))  # those that are filled
        below = font.render(last, True, FAINT)
        box = pygame.Rect(0, 0, max(columns * column, below.get_width() + 2 * pad), line * (rows + 1) + pad)
        box.midbottom = (screen.get_width() // 2, screen.get_height() - pad)
        self._box(screen, box)
        for i, (key, what) in enumerate(words):
            place = (box.left + pad + i // rows * column, box.top + pad // 2 + i % rows * line + 1)
            screen.blit(key, place)
            screen.blit(what, (place[0] + key.get_width(), place[1]))
        screen.blit(below, below.get_rect(midtop=(box.centerx, box.top + pad // 2 + rows * line + 1)))
        return box

    def menu(
        self, screen: pygame.Surface, title: str, rows: Sequence[tuple[str, str, Colour]], selected: int
    ) -> list[pygame.Rect]:
        """A menu of label and value rows over a dimmed frame. Returns the rows' places, for the mouse."""
        width, height = screen.get_size()
        dim = pygame.Surface((width, height), pygame.SRCALPHA)
        dim.fill((0, 0, 0, 120))
        screen.blit(dim, (0, 0))
        font, big = self._font(screen, 1.2), self._font(screen, 1.5)
        line = round(font.get_linesize() * 1.5)
        labels = [(font.render(a, True, TEXT), font.render(b, True, colour)) for a, b, colour in rows]
        head = big.render(title, True, TEXT)
        inner = max(head.get_width(), max(a.get_width() + b.get_width() for a, b in labels) + 3 * line)
        box = pygame.Rect(0, 0, min(width, inner + 2 * line), line * len(rows) + head.get_height() + round(1.5 * line))
        box.center = (width // 2, height // 2)
        self._box(screen, box, (*PANEL[:3], 235))
        screen.blit(head, (box.left + line, box.top + line // 2))
        top = box.top + line + head.get_height()
        places = []
        for i, (label, value) in enumerate(labels):
            place = pygame.Rect(box.left + line // 2, top + i * line, box.width - line, line)
            if i == selected:
                pygame.draw.rect(screen, (58, 64, 76), place, border_radius=6)
            screen.blit(label, label.get_rect(midleft=(box.left + line, place.centery)))
            screen.blit(value, value.get_rect(midright=(box.right - line, place.centery)))
            places.append(place)
        return places

    def _box(self, screen: pygame.Surface, rect: pygame.Rect, colour: tuple[int, int, int, int] = PANEL) -> None:
        box = pygame.Surface(rect.size, pygame.SRCALPHA)
        pygame.draw.rect(box, colour, box.get_rect(), border_radius=6)
        screen.blit(box, rect)


def _wrap(font: pygame.font.Font, text: str, width: int) -> list[str]:
    """Break a text into lines of at most `width` pixels where it has spaces, and at its line ends."""
    rows = []
    for line in text.split("\n"):
        row = ""
        for word in line.split():
            longer = f"{row} {word}".strip()
            if row and font.size(longer)[0] > width:
                rows.append(row)
                longer = word
            row = longer
        rows.append(row)
    return rows
