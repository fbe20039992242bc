"""Where a frame is seen from: as motion or keys say, as true poses tell, or where it fits what is known."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from engine.history.history import History
from engine.history.places import FARTHEST
from engine.model import odometry
from engine.model.motion import Motion, rounded
from engine.model.sights import FEWEST

EXCUSED = 4
"""Tiles that may have changed before an observed frame is thought to be seen from elsewhere than motion says.

A creature that walks along with a player on an empty field would take him with it: it changes two tiles, and had he
stood still, none. So two of them are excused, for motion is wrong far less often than that happens. Measured on
Crafter's own frames: with two tiles excused one right step in 3,300 was taken for another, with four none, and four of
five wrong ones are still set right.
"""


class Navigator:
    """Tells the poses (B, 3) of the frames to come.

    motion: tells what a step will really be. keys: what each button asks for (see `odometry`), where there is no
    motion. tiles: poses are whole tiles, and nobody turns: a world that is seen from above.
    """

    def __init__(self, motion: Motion | None, keys: odometry.Motion, tiles: bool) -> None:
        self.motion, self.keys, self.tiles = motion, keys, tiles

    @property
    def knows(self) -> bool:
        """Whether poses mean something."""
        return self.motion is not None or bool(self.keys)

    def following(self, history: History, action: np.ndarray) -> np.ndarray:
        """Where the worlds will be after an action (B, A); the first frame is where they begin."""
        if not self.knows:
            return history.pose
        if self.motion is not None:
            step = self.motion.step(history.latents, torch.from_numpy(action).to(history.latents.device))
        else:
            step = np.asarray(action, np.float64) @ np.asarray(self.keys, np.float64)
        return self._moved(history, step)

    def registered(self, history: History, latents: Tensor, action: np.ndarray) -> np.ndarray:
        """Where frames were really seen from, of which latents (B, N, C) and the actions (B, A) are known.

        Where motion says, or, where a standing player or the usual step of the buttons explains far better what is
        seen, there. Each world is looked at alone.
        """
        said = self.following(history, action)
        if history.places is None:
            return said
        others = (self._moved(history, np.zeros((history.batch, 3))), self._moved(history, self._usual(action)))
        found = said.copy()
        for b in np.flatnonzero(history.count).tolist():
            changed, known = history.places.misfit(b, said[b], latents[b])
            if changed <= EXCUSED:
                continue
            best = (changed - EXCUSED) / known
            for other in others:
                changed, known = history.places.misfit(b, other[b], latents[b])
                if known >= FEWEST and changed / known < best:
                    best, found[b] = changed / known, other[b]
        return found

    def _usual(self, action: np.ndarray) -> np.ndarray:
        """The usual step of buttons (B, A), float64 (B, 3)."""
        if self.motion is None:
            return np.asarray(action, np.float64) @ np.asarray(self.keys, np.float64)
        usual = self.motion.usual.double().cpu().numpy()
        return rounded(np.asarray(action, np.float64) @ usual, snap=True)

    def _moved(self, history: History, step: np.ndarray) -> np.ndarray:
        """Poses (B, 3) after steps (B, 3); the first frame of a world is where it begins."""
        if self.tiles:
            after = np.rint(odometry.moved_by(history.pose, step * (1.0, 1.0, 0.0))) + 0.0  # no negative zero
            after = np.clip(after, -FARTHEST, FARTHEST)
        else:
            after = odometry.moved_by(history.pose, step)
        return np.where(history.count[:, None] > 0, after, 0.0)


class Origins:
    """Where worlds began, as true poses tell: float64 `at` (B, 3), not a number where nobody told.

    tiles: as for `Navigator`.
    """

    def __init__(self, batch: int, tiles: bool) -> None:
        self.at, self.tiles = np.full((batch, 3), np.nan), tiles

    def forget(self, only: np.ndarray | None = None) -> None:
        """Nobody has told yet, in all worlds or those of `only` (B,) bool."""
        self.at = self.at.copy()
        self.at[slice(None) if only is None else np.asarray(only, bool)] = np.nan

    def relative(self, told: np.ndarray, pose: np.ndarray, only: np.ndarray | None = None) -> np.ndarray:
        """Where the worlds are, float64 (B, 3), by true poses (B, 3).

        pose: where they are otherwise thought to be, from which it follows where those began that were told of nothing
        before.
        """
        new = np.isnan(self.at[:, 0])
        if only is not None:
            new &= np.asarray(only, bool)
        self.at = np.where(new[:, None], _origin(told, pose), self.at)
        found = odometry.seen_from(self.at, told)
        if self.tiles:
            found = np.rint(found * (1.0, 1.0, 0.0)) + 0.0
        return np.where(np.isnan(self.at), pose, found)


def _origin(told: np.ndarray, pose: np.ndarray) -> np.ndarray:
    """The true poses (B, 3) from which those that were told are seen at `pose` (B, 3)."""
    heading = told[:, 2] - pose[:, 2]
    cos, sin = np.cos(heading), np.sin(heading)
    x = told[:, 0] - (pose[:, 0] * cos - pose[:, 1] * sin)
    y = told[:, 1] - (pose[:, 0] * sin + pose[:, 1] * cos)
    return np.stack((x, y, heading), -1)
