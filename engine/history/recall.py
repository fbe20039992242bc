"""Recall: which of a world's cold blocks a frame should see."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from engine.history.cold import ColdStore


@dataclass(frozen=True)
class Moment:
    """Where a world is: the frames that it has seen, its pose (3,), or None without odometry, and its look (D,)."""

    count: int
    pose: np.ndarray | None
    look: np.ndarray


Recall = Callable[[ColdStore, int, Moment], list[int]]
"""(store, how many, where the world is) -> numbers of blocks, the most wanted first, so many or fewer."""


def by_relevance(store: ColdStore, count: int, moment: Moment) -> list[int]:
    """Those that were seen nearest to here, or, without poses, that look most like the last frame."""
    return store.nearest(count, moment.pose, moment.look)


def newest(store: ColdStore, count: int, moment: Moment) -> list[int]:
    """The newest blocks, for comparisons."""
    return list(range(max(0, len(store) - count), len(store)))


def at_random(store: ColdStore, count: int, moment: Moment) -> list[int]:
    """Blocks that the frame's number picks, for comparisons."""
    pick = np.random.default_rng(moment.count).permutation(len(store))[:count]
    return [int(i) for i in pick]


def changes(wanted: list[int], hot: np.ndarray) -> list[tuple[int, int]]:
    """Which block goes into which slot, so that the blocks that are wanted are among the hot ones.

    hot: the blocks that are in the slots now, -1 for none. Slots whose block is wanted stay as they are.
    """
    missing = [block for block in wanted if block not in hot]
    free = [slot for slot in range(len(hot)) if hot[slot] not in wanted]
    return list(zip(missing, free, strict=False))


RECALLS: dict[str, Recall] = {"relevance": by_relevance, "recent": newest, "random": at_random}
"""Ways of recall by name."""
