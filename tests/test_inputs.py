"""What counts of an action."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from engine.inputs import checked_action, counted

held = st.lists(st.integers(0, 1), min_size=1, max_size=6)


@given(held)
def test_of_buttons_that_exclude_each_other_the_last_counts(pressed: list[int]) -> None:
    found = counted(np.array(pressed, np.uint8), exclusive=True)
    last = max((i for i, value in enumerate(pressed) if value), default=None)
    assert found.dtype == np.uint8 and np.flatnonzero(found).tolist() == ([] if last is None else [last])
    assert np.array_equal(counted(found, exclusive=True), found)


@given(held)
def test_elsewhere_all_that_is_held_counts(pressed: list[int]) -> None:
    assert counted(np.array(pressed), exclusive=False).tolist() == pressed


def test_each_world_of_a_batch_has_its_own_last_button() -> None:
    actions = np.array([[1, 1, 0], [0, 0, 0], [1, 0, 1]], np.uint8)
    assert checked_action(actions, 3, 3, exclusive=True).tolist() == [[0, 1, 0], [0, 0, 0], [0, 0, 1]]
    assert checked_action(np.array([1, 1, 0]), 2, 3, exclusive=True).tolist() == [[0, 1, 0]] * 2
