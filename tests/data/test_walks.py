"""Walks: they come back, turn full circles, reach way points and leave walls."""

import numpy as np
import pytest

from engine.data.walks import FULL_TURN, Walker, follow, held_keys, inverse, leave_and_return, look, spin

BUTTONS = ("forward", "back", "turn_left", "turn_right", "strafe_left", "strafe_right")
MOVES = {"forward": (24, 0), "back": (-24, 0), "strafe_left": (0, 24), "strafe_right": (0, -24)}


class Plane:
    """An endless floor, or one with a wall at x = `wall`; 24 units or 15 degrees a step."""

    def __init__(self, wall: float = np.inf) -> None:
        self.pose, self.wall = np.zeros(4, np.float32), wall

    def press(self, pressed) -> np.ndarray:
        turn = 15 * (("turn_left" in pressed) - ("turn_right" in pressed))
        angle = np.radians(self.pose[3] + turn / 2)  # half way, so that the opposite undoes it
        for button in pressed:
            ahead, left = MOVES.get(button, (0, 0))
            self.pose[0] += ahead * np.cos(angle) - left * np.sin(angle)
            self.pose[1] += ahead * np.sin(angle) + left * np.cos(angle)
        self.pose[0] = min(self.pose[0], self.wall)
        self.pose[3] = (self.pose[3] + turn) % 360
        return self.pose.copy()


@pytest.mark.parametrize("seed", range(10))
def test_leave_and_return_ends_where_it_began(seed):
    plane = Plane()
    for pressed in leave_and_return(np.random.default_rng(seed), BUTTONS):
        plane.press(pressed)
    assert np.allclose(plane.pose, 0, atol=0.01)


@pytest.mark.parametrize("seed", range(10))
def test_a_look_aside_comes_back(seed):
    plane = Plane()
    steps = [plane.press(pressed) for pressed in look(np.random.default_rng(seed))]
    assert len(steps) >= 4 and plane.pose[3] == 0


@pytest.mark.parametrize("seed", range(10))
def test_a_spin_is_full_circles_one_way(seed):
    path = list(spin(np.random.default_rng(seed)))
    assert len(path) % FULL_TURN == 0 and len(set(path)) == 1


def test_both_ways_to_spin_are_taken():
    assert len({next(spin(np.random.default_rng(seed))) for seed in range(20)}) == 2


def test_inverse_reverses_order_and_buttons():
    path = [frozenset({"forward"}), frozenset({"turn_left", "back"}), frozenset({"fire"})]
    assert inverse(path) == [
        frozenset({"fire"}),
        frozenset({"turn_right", "forward"}),
        frozenset({"back"}),
    ]


@pytest.mark.parametrize("seed", range(20))
def test_held_keys_never_press_a_contrary_pair(seed):
    for pressed in held_keys(np.random.default_rng(seed), BUTTONS):
        assert not any({one, two} <= pressed for one, two in zip(BUTTONS[::2], BUTTONS[1::2], strict=True))


@pytest.mark.parametrize("seed", range(20))
def test_follow_reaches_its_way_points(seed):
    plane, goal = Plane(), (300.0, -200.0)
    walk = follow(np.random.default_rng(seed), [(200.0, 150.0), goal], plane.pose.copy())
    pressed, count = next(walk), 0
    with pytest.raises(StopIteration):
        while count < 200:
            pressed, count = walk.send(plane.press(pressed)), count + 1
    assert np.hypot(*(plane.pose[:2] - goal)) < 24


def run(seed, plane, length=600, **options):
    walker, pose, actions = Walker(BUTTONS, np.random.default_rng(seed), **options), plane.pose.copy(), []
    blocked = 0
    for _ in range(length):
        action = walker.act(pose)
        actions.append(action)
        after = plane.press([name for name, held in zip(BUTTONS, action, strict=True) if held])
        moves = action[[0, 1, 4, 5]].any()
        blocked += bool(moves and np.hypot(*(after[:2] - pose[:2])) < 5)
        pose = after
    return np.array(actions), blocked / length


def test_same_seed_gives_the_same_walk_and_another_seed_another():
    assert np.array_equal(run(1, Plane())[0], run(1, Plane())[0])
    assert not np.array_equal(run(1, Plane())[0], run(2, Plane())[0])


def test_all_kinds_of_actions_are_well_represented():
    def route(rng):
        return [tuple(rng.uniform(-500, 500, 2)) for _ in range(3)]

    actions = np.concatenate([run(seed, Plane(), route=route)[0] for seed in range(10)])
    assert actions[:, 0].mean() > 0.25
    assert actions.mean(0).min() > 0.03
    assert 0.03 < (actions.sum(1) == 0).mean() < 0.2
    assert (actions.sum(1) > 1).mean() > 0.05


def test_the_walker_turns_away_from_a_wall():
    shares = [run(seed, Plane(wall=10.0))[1] for seed in range(5)]
    assert max(shares) < 0.12


def test_buttons_that_no_walk_knows_are_played_too():
    walker = Walker(("jump", "fire", "left", "right"), np.random.default_rng(0))
    actions = np.array([walker.act(None) for _ in range(600)])
    assert actions.mean(0).min() > 0.15
    assert 0.05 < (actions.sum(1) == 0).mean() < 0.3 and (actions.sum(1) == 2).any() and actions.sum(1).max() == 2
    assert not (actions[:, 2] & actions[:, 3]).any()
    changes = np.flatnonzero((np.diff(actions, axis=0) != 0).any(1))
    held = np.diff(changes)
    assert held.min() == 1 and 2 < held.mean() < 4


def test_a_world_of_one_button_is_played():
    walker = Walker(("flap",), np.random.default_rng(0))
    assert 0.3 < np.mean([walker.act(None) for _ in range(200)]) < 0.95
