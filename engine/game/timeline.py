"""The timeline of a session: where things lie on it, and how it looks."""

from __future__ import annotations

from dataclasses import dataclass

import pygame

from engine.game.hud import ACCENT, FAINT, RED, TEXT, Hud
from engine.sessions.reader import Session

TRACK = (46, 51, 61)
PAST = (88, 96, 112)


@dataclass
class Timeline:
    """Frames 0 to `last`, the one that is shown, and the part that is marked; frames are whole numbers."""

    last: int
    frame: int = 0
    begin: int = 0
    end: int = 0

    def __post_init__(self) -> None:
        self.end = self.end or self.last

    def go(self, frame: int) -> None:
        """Show this frame, or the nearest that there is."""
        self.frame = min(max(frame, 0), self.last)

    def mark_begin(self) -> None:
        """The marked part begins here."""
        self.begin, self.end = self.frame, max(self.frame, self.end)

    def mark_end(self) -> None:
        """The marked part ends here."""
        self.begin, self.end = min(self.begin, self.frame), self.frame

    def place(self, frame: int, bar: pygame.Rect) -> int:
        """Where a frame lies, in pixels from the left of the window."""
        return bar.left + round(frame / max(1, self.last) * bar.width)

    def at(self, x: int, bar: pygame.Rect) -> int:
        """The frame that lies at `x` pixels."""
        return min(max(round((x - bar.left) / max(1, bar.width) * self.last), 0), self.last)


def bar_of(screen: pygame.Surface) -> pygame.Rect:
    """Where the timeline lies in a window."""
    width, height = screen.get_size()
    margin, thick = max(12, width // 40), max(8, height // 60)
    return pygame.Rect(margin, height - margin - 2 * thick, width - 2 * margin, thick)


def draw(screen: pygame.Surface, hud: Hud, line: Timeline, session: Session, rate: float) -> None:
    """Draw the bar: the past that is shared with ancestors darker, the marked part, and the frame that is shown."""
    bar = bar_of(screen)
    pygame.draw.rect(screen, PAST, bar, border_radius=4)
    own = pygame.Rect(line.place(session.first, bar), bar.top, 0, bar.height)
    own.width = bar.right - own.left
    pygame.draw.rect(screen, TRACK, own, border_radius=4)
    marked = pygame.Rect(line.place(line.begin, bar), bar.bottom + 3, 0, 3)
    marked.width = max(2, line.place(line.end, bar) - marked.left)
    pygame.draw.rect(screen, ACCENT, marked)
    branch: Session | None = session
    while branch is not None and branch.parent is not None:  # where each ancestor was left
        x = line.place(branch.first, bar)
        pygame.draw.line(screen, RED, (x, bar.top - 4), (x, bar.bottom + 4), 2)
        branch = branch.parent
    x = line.place(line.frame, bar)
    pygame.draw.rect(screen, TEXT, pygame.Rect(x - 3, bar.top - 5, 6, bar.height + 10), border_radius=3)
    hud.text(screen, clock(line.frame, rate), TEXT, (bar.left, bar.top - 8), "bottomleft")
    hud.text(screen, clock(line.last, rate), FAINT, (bar.right, bar.top - 8), "bottomright")


def clock(frame: int, rate: float) -> str:
    """A frame as time: ``0:12.5 (frame 150)``."""
    seconds = frame / rate
    return f"{int(seconds // 60)}:{seconds % 60:04.1f} (frame {frame})"
