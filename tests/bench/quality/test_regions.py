"""Next frames by region: what stands still is known, and an error counts where it is."""

import numpy as np
import pytest

pytest.importorskip("crafter")

from engine.bench.quality.regions import by_region, still_tiles
from engine.measures import BEST_PSNR
from engine.sources.crafter.source import BUTTONS, CrafterEnv


def walk() -> tuple[np.ndarray, np.ndarray]:
    """Three frames: at first, after a step to the right, and after a tile has changed."""
    env = CrafterEnv(area=24)
    frame, info = env.reset(options={"map_seed": 1})
    for thing in env.world.objects:
        if thing is not env.player:
            env.world.remove(thing)
    x, y = (int(value) for value in env.player.pos)
    env.world[x + 1, y] = "grass"
    frames, poses = [env.redraw()], [info["pose"]]
    frame, *_, info = env.step(np.eye(16, dtype=np.uint8)[BUTTONS.index("right")])
    frames.append(frame)
    poses.append(info["pose"])
    env.world[x + 1, y - 2] = "table"
    frame, *_, info = env.step(np.zeros(16, np.uint8))
    return np.stack([*frames, frame]), np.stack([*poses, info["pose"]])


def test_tiles_stand_still_that_were_in_view_and_look_the_same() -> None:
    frames, poses = walk()
    assert poses[1, 0] == poses[0, 0] + 1
    still = still_tiles(frames, poses)
    assert not still[0].any() and not still[:, 7:].any() and not still[:, 3, 4].any()
    assert not still[1, :7, 8].any() and not still[1, 3, 3]  # new on the right; where he stood is grass now
    assert still[1].sum() == 7 * 8 - 2
    assert not still[2, 1, 4] and still[2].sum() >= 7 * 9 - 2 - 1


def test_an_error_counts_where_it_is() -> None:
    frames, poses = walk()
    still = still_tiles(frames, poses)
    assert set(by_region(frames, frames, still).values()) == {BEST_PSNR}
    worse = frames.copy()
    worse[:, 112:] ^= 8
    found = by_region(frames, worse, still)
    assert found["still"] == BEST_PSNR and found["inventory"] == pytest.approx(20 * np.log10(255 / 8))
    assert found["inventory"] < found["all"] < found["still"]
    assert np.isnan(by_region(frames, worse, np.zeros_like(still))["still"])
