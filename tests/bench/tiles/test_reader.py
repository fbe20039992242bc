"""What real frames show is read without a mistake, and noise does not confuse the reader."""

from functools import lru_cache

import numpy as np
import pytest

pytest.importorskip("crafter")

from engine.bench.tiles.patches import MATERIALS, THINGS, Film, Palette, cut, joined
from engine.bench.tiles.reader import Nearest, TileReader
from engine.sources.crafter.source import CrafterEnv
from engine.sources.crafter.survivor import Survivor


@lru_cache
def reader(night: bool = False, size: int = 144) -> TileReader:
    return TileReader(size, size, night)


def played(size: int = 144, seeds: range = range(4), steps: int = 40) -> list[dict[str, np.ndarray]]:
    """Frames of play on small maps, with what they truly show."""
    env = CrafterEnv(height=size, width=size, area=24, varied=0.8)
    found = []
    for seed in seeds:
        frame, _ = env.reset(options={"map_seed": seed})
        player = Survivor(env, np.random.default_rng(seed))
        for step in range(steps):
            x, y = env.player.pos
            things = np.full((7, 9), "", object)
            for thing in env.world.objects:
                row, column = thing.pos[1] - y + 3, thing.pos[0] - x + 4
                if 0 <= row < 7 and 0 <= column < 9:
                    things[row, column] = thing.texture
            items = np.array(list(env.player.inventory.values()))
            found.append({"frame": frame, "materials": env.materials_in_view(), "things": things, "items": items})
            if step == 30:
                env.player.inventory["energy"], env.player.sleeping = 5, True
            frame, _, over, _, _ = env.step(player.act())
            if over:
                break
    return found


@pytest.mark.parametrize("size", [144, 63])
def test_real_frames_are_read_without_a_mistake(size: int) -> None:
    asleep = 0
    for shown in played(size):
        seen = reader(size=size).read(shown["frame"])
        assert (np.array(MATERIALS)[seen.materials] == shown["materials"]).all()
        assert (np.array(THINGS)[seen.things] == shown["things"]).all()
        assert (seen.items == shown["items"]).all()
        asleep += bool(seen.asleep)
    assert asleep > 5


def test_a_world_with_nights_is_read_in_the_dark() -> None:
    env = CrafterEnv(area=24, night=True)
    env.reset(options={"map_seed": 1})
    for light in (0.05, 0.35, 0.8):
        env.world.daylight = light
        seen = reader(night=True).read(env.redraw())
        assert (np.array(MATERIALS)[seen.materials] == env.materials_in_view()).mean() > 0.98


def test_noise_and_leading_axes_change_nothing() -> None:
    frames = np.stack([shown["frame"] for shown in played(seeds=range(1), steps=6)])
    noise = np.random.default_rng(0).normal(0, 10, frames.shape)
    noisy = np.clip(frames + noise, 0, 255).astype(np.uint8)
    one, two = reader().read(frames), reader().read(noisy.reshape(2, 3, 144, 144, 3))
    assert two.materials.shape == (2, 3, 7, 9) and two.items.shape == (2, 3, 16)
    assert (two.materials.reshape(one.materials.shape) == one.materials).all()
    assert (two.things.reshape(one.things.shape) == one.things).all()
    assert (two.items.reshape(one.items.shape) == one.items).all()


def test_the_tile_ahead_is_the_one_that_the_player_faces() -> None:
    env = CrafterEnv(area=24)
    env.reset(options={"map_seed": 1})
    for facing, place in (((-1, 0), (3, 3)), ((1, 0), (3, 5)), ((0, -1), (2, 4)), ((0, 1), (4, 4))):
        env.player.facing = facing
        assert tuple(int(value) for value in reader().read(env.redraw()).ahead()) == place
    env.player.sleeping = True
    assert tuple(int(value) for value in reader().read(env.redraw()).ahead()) == (3, 4)


def test_a_film_of_numbers_of_patches_gives_its_frames_back_and_is_read_like_them() -> None:
    frames = np.stack([shown["frame"] for shown in played(seeds=range(2), steps=5)]).reshape(2, 5, 144, 144, 3)
    palette = Palette()
    numbers = np.stack([palette.add(frame) for frame in frames.reshape(-1, 144, 144, 3)])
    film = Film(numbers.reshape(2, 5, 9, 9), palette.patches)
    assert film.shape == frames.shape and len(palette) < 150
    assert np.array_equal(film[:, 1:4], frames[:, 1:4]) and np.array_equal(film[1, 2], frames[1, 2])
    assert np.array_equal(film[np.array([1])][:, :], frames[1:])
    one, two = reader().read(frames), reader().read(film)
    assert np.array_equal(one.materials, two.materials) and np.array_equal(one.items, two.items)
    assert np.array_equal(joined(cut(frames)), frames)


def test_the_nearest_patch_is_found_with_its_distance() -> None:
    patches = np.stack([np.full((4, 4, 3), shade, np.uint8) for shade in (0, 100, 200)])
    nearest = Nearest(patches)
    assert nearest.of(patches + np.uint8(20)).tolist() == [0, 1, 2]
    assert nearest.psnr(patches).tolist() == [100.0] * 3
    assert nearest.psnr(patches[1] + np.uint8(5)) == pytest.approx(20 * np.log10(255 / 5))
