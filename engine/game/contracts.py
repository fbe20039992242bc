"""What a game is played with: a world that can be played, and a log that is told of what was played.

``tests/game/test_contracts.py`` holds every implementation to these promises.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

if TYPE_CHECKING:
    from engine.game.game import Game


@runtime_checkable
class Playable(Protocol):
    """One world in play: drawn by a model (`engine.world.World` with B = 1), or by a simulator (`SourceWorld`).

    Frames are uint8 (1, H, W, 3), of one size; each is a new array, which the caller may keep and write to. Actions
    are uint8 (1, A): 1 for each of `buttons` that is held, in their order.

    The order of calls: `reset` first, then for each frame `render` and `commit`. `reset`, `snapshot`, `restore`,
    `set_mode` and `set_steps` are called after a `reset` or a `commit`, never between `render` and `commit`. The same
    seed, start, actions, modes and steps give the same frames. All calls come from one thread at a time. A call out of
    order is the caller's mistake, and may raise anything.

    A world may have the attributes ``latents``, float32 (1, N, C) of the frame that was rendered last, or None;
    ``exclusive``, whether of several buttons that are held only the last one counts; and ``ended``, bool (1,): whether
    the player's life ended with the frame that was committed last. Who calls begins anew then, or goes on all the same.
    """

    @property
    def buttons(self) -> tuple[str, ...]:
        """Names of the A buttons; each once."""

    @property
    def device(self) -> Any:
        """Where frames are drawn; ``str`` of it is shown."""

    def reset(self, seed: int, frames: np.ndarray, actions: np.ndarray | None = None) -> np.ndarray:
        """Begin anew; returns the first frame.

        Args:
            seed: of everything that is left to chance, from 0.
            frames: the history to begin from, uint8 (1, n, H, W, 3), n >= 1; a simulator begins with its own frame.
            actions: what led to those frames, uint8 (1, n, A); nothing was held by default.
        """

    def render(self, action: np.ndarray) -> np.ndarray:
        """Draw the frame that an action leads to; `commit` must follow before anything else."""

    def commit(self) -> None:
        """Go on to the frame that was rendered last; ``stats()["frames"]`` grows by one, or an episode begins at 0."""

    def snapshot(self) -> Any:
        """This moment, to come back to as often as wanted; what is played later does not change it.

        Raises UserError where the world cannot be copied; ``stats()["memory_bytes"]`` is then 0.
        """

    def restore(self, snapshot: Any) -> Any:
        """Go back to a moment of this world, with the memory mode of that time. Raises UserError as `snapshot` does."""

    def set_mode(self, mode: str) -> None:
        """Remember in another way, one of ``stats()["modes"]``."""

    def set_steps(self, steps: int) -> None:
        """Take so many passes a frame: 1, 2 or 4; ignored where a frame has none."""

    def stats(self) -> dict[str, Any]:
        """Figures of the present moment, at any time; at least these.

        Returns:
            memory_bytes: of what a snapshot copies; 0: there are no snapshots.
            frames: since the beginning.
            mode: how the world remembers, a name. modes: all that it can, a tuple.
            steps: passes a frame; 0: there are none.
            pose: where the player is, (forward, left, degrees), where the world knows; else None, or left out.
        """


@runtime_checkable
class Log(Protocol):
    """Is told of everything that a game's frames depend on; see `engine.game.log.SessionLog`.

    The game calls it on the thread that plays, in this order: `restarted` first, and at each new beginning; for each
    frame, after it was committed, `wants_state` and `drawn`. `mark` and `went_back` come between frames, `may_switch`
    and `switched` around a change of the memory mode. `finish` comes once, at the end.

    No call waits for a disk, but for `finish`; and none raises because something cannot be kept: `say` then gets one
    line, `on` turns false, and the game goes on.
    """

    say: Callable[[str], None]
    """Takes a line for the player, on any thread; whoever shows lines puts it here before the game begins."""

    @property
    def on(self) -> bool:
        """Whether frames are kept: not before the first `restarted`, nor after a failure."""

    def restarted(self, game: Game) -> None:
        """The game has begun anew, with `game.frame`, and at the moment `game.origin` where it goes on from one."""

    def wants_state(self) -> bool:
        """Whether the next `drawn` should bring a snapshot."""

    def drawn(self, game: Game, action: np.ndarray, state: Any) -> None:
        """The frame `game.frame` was committed.

        Args:
            game: the game; its world's ``latents`` are those of the frame.
            action: the buttons that led to it, uint8 (A,). Nobody writes to it or to the frame from now on.
            state: the world's snapshot after the frame where `wants_state` asked for one, else None.
        """

    def may_switch(self) -> bool:
        """Whether the memory mode may be set once more before the next frame."""

    def switched(self, mode: str) -> None:
        """The memory mode was set to `mode`."""

    def mark(self) -> Any:
        """The present moment, to be given to `went_back`; None where nothing is kept."""

    def went_back(self, mark: Any, snapshot: Any) -> None:
        """The game is again where `mark` was taken, and the world is restored to `snapshot`."""

    def finish(self, timeout: float | None = 8.0) -> None:
        """Keep what is still waiting; what takes longer than `timeout` seconds and can be made anew is left out."""
