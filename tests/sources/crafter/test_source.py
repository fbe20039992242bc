"""Crafter as a source: the same in every process, one action a step, and what it tells."""

import hashlib
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

pytest.importorskip("crafter")

from engine.actions import encode
from engine.config import project_root
from engine.errors import UserError
from engine.sources.crafter.source import BUTTONS, CrafterEnv
from engine.sources.crafter.survivor import Survivor

PLAY = """
from tests.sources.crafter.test_source import CrafterEnv, digest
print(digest(CrafterEnv(varied=0.5, night=True)))
"""


def digest(env: CrafterEnv) -> str:
    """A hash of all that two episodes show and tell."""
    found = hashlib.sha256()
    for seed in (3, 2_000_004):
        frame, info = env.reset(options={"map_seed": seed})
        player = Survivor(env, np.random.default_rng(seed))
        for _ in range(100):
            found.update(frame.tobytes() + info["pose"].tobytes() + info["events"].tobytes())
            frame, reward, terminated, _, info = env.step(player.act())
            found.update(f"{reward:.3f}".encode())
            if terminated:
                break
    return found.hexdigest()


def small(**options: Any) -> CrafterEnv:
    """With a small map, for making a large one takes most of a second."""
    return CrafterEnv(**{"area": 24, **options})


def held(*names: str) -> np.ndarray:
    return encode(BUTTONS, names)


def facing(env: CrafterEnv, material: str | None = None) -> tuple[int, int]:
    """The tile in front of the player, which is given a material."""
    (x, y), (i, j) = env.player.pos, env.player.facing
    if material is not None:
        env.world[x + i, y + j] = material
    return int(x + i), int(y + j)


def test_a_map_seed_gives_the_same_frames_in_every_process() -> None:
    here = digest(CrafterEnv(varied=0.5, night=True))
    for count in (1_000, 50_000):  # things in memory lie elsewhere
        code = f"junk = [object() for _ in range({count})]\n{PLAY}"
        done = subprocess.run([sys.executable, "-c", code], cwd=project_root(), capture_output=True, text=True)
        assert done.stdout.strip() == here, done.stderr


def test_maps_differ_and_an_episode_can_be_played_again() -> None:
    env = CrafterEnv()
    first, info = env.reset(options={"map_seed": 1})
    assert first.shape == (144, 144, 3) and first.dtype == np.uint8 and info["map_seed"] == 1
    other, _ = env.reset(options={"map_seed": 2})
    again, _ = env.reset(options={"map_seed": 1})
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    drawn = [env.reset(seed=5)[1]["map_seed"] for _ in range(2)]
    assert drawn[0] == drawn[1] < 1_000_000


def test_a_step_moves_the_pose_unless_something_is_in_the_way() -> None:
    env = small()
    _, info = env.reset(options={"map_seed": 1})
    start = info["pose"]
    facing(env, "grass")
    env.player.facing = (1, 0)
    facing(env, "grass")
    *_, info = env.step(held("right"))
    assert (info["pose"] - start).tolist() == [1, 0, 0, 0]
    env.player.facing = (0, -1)
    facing(env, "grass")
    *_, info = env.step(held("up"))
    assert (info["pose"] - start).tolist() == [1, 1, 0, 0]  # north is up
    env.player.facing = (1, 0)
    facing(env, "stone")
    *_, info = env.step(held("right"))
    assert (info["pose"] - start).tolist() == [1, 1, 0, 0]


def test_of_several_buttons_the_last_of_the_list_counts_and_none_does_nothing() -> None:
    env = small()
    results = []
    for buttons in (["left", "down"], ["down"], ["right", "do"], ["do"], []):
        env.reset(options={"map_seed": 1})
        env.player.facing = (1, 0)
        facing(env, "tree")
        env.step(held(*buttons))
        results.append((tuple(env.player.pos), tuple(env.player.facing), env.player.inventory["wood"]))
    assert results[0] == results[1] and results[2] == results[3] and results[3][2] == 1
    assert results[4][1:] == ((1, 0), 0)


def test_events_are_told_each_time_and_rewarded_once() -> None:
    env = small()
    env.reset(options={"map_seed": 1})
    told, rewards = [], []
    for _ in range(2):
        facing(env, "tree")
        _, reward, *_, info = env.step(held("do"))
        told.append(info["events"][env.events.index("collect_wood")])
        rewards.append(reward)
    assert told == [1, 1] and rewards == [1.0, 0.0] and len(env.events) == 22


def test_lava_ends_the_episode_and_its_length_cuts_it_off() -> None:
    env = small(length=3)
    env.reset(options={"map_seed": 1})
    assert [env.step(held())[2:4] for _ in range(3)] == [(False, False), (False, False), (False, True)]
    env.reset(options={"map_seed": 1})
    env.player.facing = (1, 0)
    facing(env, "lava")
    _, reward, terminated, *_ = env.step(held("right"))
    assert terminated and reward < 0
    with pytest.raises(UserError, match="this episode is over"):
        env.step(held())


@pytest.mark.parametrize("near", ["water", "lava", "table", "diamond"])
def test_an_episode_can_begin_with_things_at_a_place(near: str) -> None:
    env = small()
    env.reset(options={"map_seed": 7, "inventory": {"wood": 5, "iron_pickaxe": 1}, "near": near})
    assert env.player.inventory["wood"] == 5 and env.player.inventory["iron_pickaxe"] == 1
    view = env.materials_in_view()
    assert view.shape == (7, 9) and near in (view[2, 4], view[4, 4], view[3, 3], view[3, 5])


def test_at_a_workshop_iron_tools_can_be_made_at_once() -> None:
    env = small()
    env.reset(options={"map_seed": 7, "inventory": {"wood": 2, "coal": 2, "iron": 2}, "near": "workshop"})
    for button in ("make_iron_pickaxe", "make_iron_sword"):
        env.step(encode(env.buttons, [button]))
    assert env.player.inventory["iron_pickaxe"] == env.player.inventory["iron_sword"] == 1


def test_varied_beginnings_are_at_a_workshop_often_enough_to_learn_from() -> None:
    env = small(varied=1.0)
    made = 0
    for seed in range(20):
        env.reset(options={"map_seed": seed})
        env.step(encode(env.buttons, ["make_iron_sword"]))
        made += int(env.player.achievements["make_iron_sword"])
    assert made >= 2


def test_a_share_of_the_maps_begins_in_another_way() -> None:
    plain, varied = small(), small(varied=0.5)
    differ = []
    for seed in range(12):
        usual, other = (env.reset(options={"map_seed": seed})[0] for env in (plain, varied))
        differ.append(not np.array_equal(usual, other))
    assert 2 <= sum(differ) <= 10


def test_it_gets_dark_at_night_without_noise_and_only_where_that_is_asked_for() -> None:
    frames = {}
    for night in (False, True):
        env = small(night=night)
        env.reset(options={"map_seed": 1})
        env._game._step = 209
        env.player.inventory["energy"] = 9
        frames[night] = [env.step(held())[0].astype(int) for _ in range(2)]
    dark, bright = (frames[night][0][:112] for night in (True, False))
    assert dark.max() < 0.8 * bright.max() and dark[..., 2].mean() > 0.9 * dark[..., 0].mean()  # and bluish
    tile = dark[:16, :16]
    assert len(np.unique(tile.reshape(-1, 3), axis=0)) < 40  # a texture, darker; noise would have hundreds of colours


def test_the_survivor_uses_every_button_bumps_into_things_and_comes_back() -> None:
    env = CrafterEnv(varied=0.5)
    pressed, bumps, places, returns, edges, frames = np.zeros(len(BUTTONS), int), 0, set(), 0, 0, 0
    for seed in range(8):
        _, info = env.reset(options={"map_seed": seed})
        player = Survivor(env, np.random.default_rng(seed))
        seen: dict[tuple[float, float], int] = {}
        for t in range(250):
            action, before = player.act(), info["pose"]
            *_, terminated, _, info = env.step(action)
            pressed += action
            moved = bool(action[:4].any()) and not action[4:].any()
            bumps += moved and np.array_equal(before, info["pose"])
            tile = (float(info["pose"][0]), float(info["pose"][1]))
            returns += t - seen.get(tile, t) > 20
            seen[tile] = t
            view = set(env.materials_in_view().ravel())
            places |= view
            edges, frames = edges + ("" in view), frames + 1
            if terminated:
                break
    assert (pressed > 0).all(), dict(zip(BUTTONS, pressed, strict=True))
    assert bumps > 150 and returns > 60
    assert edges < 0.05 * frames  # the map's end is nothing to learn
    assert {"water", "sand", "tree", "stone", "coal", "iron", "lava", "path", "table"} <= places


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"buttons": ("left", "jump")}, "unknown button of the Crafter source 'jump'"),
        ({"height": 96}, "multiples of 9 pixels up to 900, not 96x144"),
        ({"area": 8}, "area must be a whole number from 24 to 256, not 8"),
        ({"length": -1}, "length must be a whole number from 0"),
        ({"night": 1}, "night must be true or false"),
        ({"varied": 2}, "varied is a share from 0 to 1"),
        ({"varied": "much"}, "varied is a share from 0 to 1"),
        ({"nigth": True}, "unknown option of the Crafter source 'nigth'; .*nearest: 'night'"),
        ({"render_mode": "human"}, "render_mode must be"),
    ],
)
def test_an_option_out_of_range_is_one_clear_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        CrafterEnv(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"map_seed": -1}, "map_seed must be a whole number from 0"),
        ({"map_seed": 0.5}, "map_seed must be a whole number from 0"),
        ({"map_seed": 2**31}, "map_seed must be a whole number from 0 to 2147483647, not 2147483648"),
        ({"map_seed": float("nan")}, "map_seed must be a whole number from 0 to 2147483647, not nan"),
        ({"map_seed": "abc"}, "map_seed must be a whole number from 0 to 2147483647, not 'abc'"),
        ({"map_seed": [3]}, "map_seed must be a whole number from 0"),
        ({"mapseed": 3}, "unknown reset option of the Crafter source 'mapseed'; .*nearest: 'map_seed'"),
        ("map_seed", "reset options are a table, not 'map_seed'"),
        ({"inventory": ["wood"]}, "inventory is a table of items and counts, not"),
        ({"inventory": {"gold": 1}}, "unknown item of the Crafter source 'gold'"),
        ({"inventory": {"wood": 10}}, "inventory: wood must be a whole number from 0 to 9, not 10"),
        ({"near": "castle"}, "unknown place of the Crafter source 'castle'"),
    ],
)
def test_a_start_that_cannot_be_is_one_clear_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        small().reset(options=options)
    with pytest.raises(UserError, match="was not reset"):
        small().step(held())
