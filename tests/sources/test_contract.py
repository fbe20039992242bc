"""`Source`: what collecting, playing and measuring count on, run by every source."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from engine.config import WorldConfig, load_world
from engine.sources import make_source
from engine.sources.contract import Source
from tests.support import fake_room, fake_scroll, fake_source, leftovers
from tests.support.fake_stairs import stairs

HEIGHT, WIDTH = 18, 27  # Crafter's are 9 tiles by 9


def doom() -> WorldConfig:
    pytest.importorskip("vizdoom")
    return load_world("doom-plain")


def crafter() -> WorldConfig:
    pytest.importorskip("crafter")
    from engine.sources.crafter.source import BUTTONS

    return replace(fake_source.world(), source="crafter", buttons=BUTTONS, exclusive=True, source_options={"area": 24})


def with_poses(module: Any) -> WorldConfig:
    module.register()
    return replace(fake_source.world(), source=module.NAME, buttons=module.BUTTONS)


def skipping() -> WorldConfig:
    options = {"frame_skip": 3, "fit": "pad", "actions": {"down": 2, "up": 1}}
    return replace(stairs(), source_options=options)


WORLDS: dict[str, Callable[[], WorldConfig]] = {
    "Doom": doom,
    "Crafter": crafter,
    "Gymnasium, discrete": fake_source.world,
    "Gymnasium, with ends": stairs,
    "Gymnasium, frames skipped": skipping,
    "Gymnasium, with poses": lambda: with_poses(fake_scroll),
    "Gymnasium, with walls": lambda: with_poses(fake_room),
}


@pytest.fixture(params=WORLDS, scope="module")
def source(request: pytest.FixtureRequest) -> Iterator[Any]:
    opened = make_source(WORLDS[request.param](), height=HEIGHT, width=WIDTH)
    yield opened
    opened.close()


def play(source: Any, map_seed: int, count: int = 12) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Random play from a start, up to an end; frames uint8 (n, H, W, 3), and what was said of each."""
    frame, info = source.reset(options={"map_seed": map_seed})
    frames, infos = [frame], [info]
    for held in np.random.default_rng(0).integers(0, 2, (count, len(source.buttons)), np.uint8):
        frame, _, terminated, truncated, info = source.step(held)
        frames.append(frame)
        infos.append(info)
        if terminated or truncated:
            break
    return np.stack(frames), infos


def test_a_source_has_all_that_is_called(source: Any) -> None:
    assert isinstance(source, Source) and isinstance(source, gym.Env)
    assert len(set(source.buttons)) == len(source.buttons) > 0 and all(type(name) is str for name in source.buttons)


def test_its_spaces_are_those_of_its_frames_and_buttons(source: Any) -> None:
    assert source.observation_space == gym.spaces.Box(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
    assert source.action_space == gym.spaces.MultiBinary(len(source.buttons))
    assert (source.height, source.width) == (HEIGHT, WIDTH)
    frames, _ = play(source, 1)
    assert frames.dtype == np.uint8 and frames.shape[1:] == (HEIGHT, WIDTH, 3)


def test_what_a_step_gives_has_the_types_of_gymnasium(source: Any) -> None:
    _, info = source.reset(seed=1)
    assert isinstance(info, dict)
    _, reward, terminated, truncated, info = source.step(np.zeros(len(source.buttons), np.uint8))
    assert isinstance(reward, float) and type(terminated) is type(truncated) is bool and isinstance(info, dict)


def test_all_buttons_may_be_held_and_none(source: Any) -> None:
    source.reset(seed=1)
    for held in (np.zeros, np.ones):
        source.step(held(len(source.buttons), np.uint8))


def test_the_same_map_and_actions_show_the_same_frames_whatever_was_played_before(source: Any) -> None:
    first, said = play(source, 5)
    play(source, 6, 5)
    again, said_again = play(source, 5)
    assert np.array_equal(first, again) and len(said) == len(said_again)
    assert all(np.array_equal(a["pose"], b["pose"]) for a, b in zip(said, said_again, strict=True) if "pose" in a)


def test_maps_are_as_different_as_their_numbers(source: Any) -> None:
    assert any(not np.array_equal(play(source, 1, 0)[0], play(source, other, 0)[0]) for other in (2, 3))


def test_the_same_seed_begins_alike_and_without_one_it_goes_on(source: Any) -> None:
    first, second = source.reset(seed=7)[0], source.reset()[0]
    assert np.array_equal(source.reset(seed=7)[0], first)
    assert second.shape == first.shape


def test_a_frame_is_the_caller_s(source: Any) -> None:
    expected, _ = play(source, 4, 3)
    frame, _ = source.reset(options={"map_seed": 4})
    kept = frame.copy()
    for number, held in enumerate(np.random.default_rng(0).integers(0, 2, (3, len(source.buttons)), np.uint8), 1):
        frame[:] = 0
        frame = source.step(held)[0]
        assert np.array_equal(frame, expected[number])
    assert np.array_equal(kept, expected[0])


def test_poses_are_told_always_or_never(source: Any) -> None:
    _, infos = play(source, 2)
    assert len({"pose" in info for info in infos}) == 1
    for info in infos:
        if "pose" in info:
            assert info["pose"].dtype == np.float32 and info["pose"].shape == (4,) and 0 <= info["pose"][3] < 360


def test_what_it_says_of_its_ground_fits_its_poses(source: Any) -> None:
    frame, info = source.reset(options={"map_seed": 2})
    if hasattr(source.unwrapped, "clear"):
        clear = source.unwrapped.clear(np.array([info["pose"][:2], [1e9, 1e9]]))
        assert clear.dtype == bool and clear.tolist() == [True, False]
    if hasattr(source.unwrapped, "route"):
        assert all(len(point) == 2 for point in source.unwrapped.route(np.random.default_rng(0)))


@pytest.mark.filterwarnings("ignore:.*is different from the unwrapped version")
def test_it_passes_the_checks_of_gymnasium(source: Any) -> None:
    check_env(source, skip_render_check=True, skip_close_check=True)


@pytest.mark.parametrize("name", WORLDS)
def test_closing_leaves_nothing_and_may_be_done_twice(name: str) -> None:
    before = leftovers.files()
    opened = make_source(WORLDS[name](), height=HEIGHT, width=WIDTH)
    opened.reset(seed=0)
    opened.close()
    opened.close()
    assert leftovers.files() == before
