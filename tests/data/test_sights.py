"""What places would have told of collected frames (`engine.data.sights`)."""

from dataclasses import replace

import numpy as np
import torch

from engine.data.sights import Sights, ages_of
from engine.model.generator import GeneratorConfig
from engine.model.sights import CHANGED, Layout

CONFIG = GeneratorConfig(
    rows=4, columns=5, channels=3, actions=2, dim=32, depth=1, heads=2, window=0, sink=0, clip=1, far=2,
    sights=True, still_rows=1, player=7,
)  # fmt: skip
LAYOUT = Layout.of(CONFIG)


def walk(steps: list[tuple[int, int]], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Latents (T, 20, 3) and tiles (T, 2) of a walk over a land that never changes, whose inventory always does."""
    land = np.random.default_rng(seed).normal(size=(40, 40, 3)).astype(np.float32) * 5
    at = np.cumsum([(0, 0), *steps], 0)
    frames = np.random.default_rng(1).normal(size=(len(at), 20, 3)).astype(np.float32)
    for frame, (x, y) in zip(frames, at, strict=True):
        frame[LAYOUT.moving] = land[20 + x + LAYOUT.east, 20 + y + LAYOUT.north]
    return frames, at


def gathered(latents: np.ndarray, tiles: np.ndarray, ages: np.ndarray) -> Sights:
    return Sights(torch.from_numpy(latents), torch.from_numpy(ages), torch.from_numpy(tiles), LAYOUT, CONFIG.columns)


WALK = [(1, 0), (1, 0), (0, 1), (0, 1), (-1, 0), (0, 0), (0, -1), (0, -1), (-1, 0)]


def test_a_sight_is_what_the_same_tile_showed_whatever_was_walked_meanwhile() -> None:
    latents, tiles = walk(WALK)
    sights = gathered(latents, tiles, ages_of(latents, tiles, LAYOUT)).of(torch.arange(len(latents)))
    there = sights[..., 3] > 0
    moving = torch.from_numpy(LAYOUT.moving)
    seen, real = sights[..., :3][:, moving], torch.from_numpy(latents)[:, moving]
    assert torch.equal(seen[there[:, moving]], real[there[:, moving]])
    assert not sights[0].any(), "nothing was seen before the first frame"
    assert there[-1].all(), "the player came back: all of it was seen before"
    assert not there[1].all(), "a new column came into view"


def test_ages_count_from_the_newest_sight() -> None:
    latents, tiles = walk(WALK)
    ages = ages_of(latents, tiles, LAYOUT)
    assert set(ages[6][LAYOUT.moving]) == {1}, "he stood still: all was there a frame ago"
    last = dict(zip(LAYOUT.moving.tolist(), ages[-1][LAYOUT.moving].tolist(), strict=True))
    assert last[0] == 9, "the upper left tile was in view in the first frame alone"
    assert (ages[1:, LAYOUT.still] == 1).all() and (ages[0] == 0).all()


def test_what_stands_still_is_seen_in_the_frame_before() -> None:
    latents, tiles = walk(WALK)
    sights = gathered(latents, tiles, ages_of(latents, tiles, LAYOUT)).of(torch.tensor([3, 4]))
    still = torch.from_numpy(LAYOUT.still)
    assert torch.equal(sights[:, still, :3], torch.from_numpy(latents)[2:4, still])


def test_the_player_s_own_token_is_no_sight_of_his_tile() -> None:
    latents, tiles = walk([(1, 0), (1, 0)])
    latents[1, CONFIG.player] = 99
    latents[2, CONFIG.player] = 98
    sights = gathered(latents, tiles, ages_of(latents, tiles, LAYOUT)).of(torch.tensor([2]))
    assert (sights[0, CONFIG.player, :3] == 99).all()
    assert not (sights[0, CONFIG.player - 1, :3] == 99).any(), "where he stood is what was seen before he came"
    assert sights[0, CONFIG.player - 1, 3] == 1


def test_asleep_nothing_known_is_overwritten() -> None:
    latents, tiles = walk([(0, 0)] * 5)
    bright = latents[0, LAYOUT.moving].copy()
    latents[2:4, LAYOUT.moving] += 2 * CHANGED
    ages = ages_of(latents, tiles, LAYOUT)
    assert ages[:, LAYOUT.moving].max(1).tolist() == [0, 1, 1, 2, 3, 1]
    sights = gathered(latents, tiles, ages).of(torch.tensor([4]))
    assert np.array_equal(sights[0, LAYOUT.moving, :3].numpy(), bright)


def test_in_a_rollout_what_was_drawn_is_seen_in_the_place_of_what_was_real() -> None:
    latents, tiles = walk(WALK)
    sights = gathered(latents, tiles, ages_of(latents, tiles, LAYOUT))
    first = torch.tensor([3, 4])
    own = torch.full((2, 4, 20, 3), 7.0) + torch.arange(4)[None, :, None, None]
    seen = sights.of(first + 2, own, first)
    source, _, age = sights.sources(first + 2)
    later = (source >= first[:, None]) & (age > 0)
    assert torch.equal(seen[..., 0][later], 7.0 + (source - first[:, None])[later])
    plain = sights.of(first + 2)
    assert torch.equal(seen[~later], plain[~later]) and later.any() and (~later).any()


def test_a_layout_without_still_rows_has_the_player_alone_standing_still() -> None:
    layout = Layout.of(replace(CONFIG, still_rows=0))
    assert layout.still.tolist() == [7] and len(layout.moving) == 19
