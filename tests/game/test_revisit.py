"""The revisit meter speaks when an old view comes back, and only then."""

import math

import numpy as np

from engine.game.revisit import AWAY, RevisitMeter


def picture(shade: int) -> np.ndarray:
    return np.full((4, 6, 3), shade, np.uint8)


def test_a_view_that_comes_back_is_compared_with_its_first_picture() -> None:
    meter = RevisitMeter()
    assert meter.see((0.0, 0.0, 0.0), picture(100), 0) is None
    for i in range(1, 24):
        assert meter.see((0.0, 0.0, math.radians(15 * i)), picture(10 * i), i) is None
    back = meter.see((0.0, 0.0, 2 * math.pi), picture(110), 24)
    assert back is not None and back.age == 24
    assert abs(back.psnr - 20 * math.log10(255 / 10)) < 1e-5
    assert meter.see((0.1, 0.0, 2 * math.pi), picture(100), 25) is not None  # still there


def test_standing_still_is_no_return() -> None:
    meter = RevisitMeter()
    assert all(meter.see((5.0, 1.0, 1.0), picture(9), i) is None for i in range(4 * AWAY))


def test_another_place_or_heading_is_no_return() -> None:
    meter = RevisitMeter()
    meter.see((0.0, 0.0, 0.0), picture(1), 0)
    assert meter.see((1.0, 0.0, 0.0), picture(1), 40) is None
    assert meter.see((0.0, 0.0, math.radians(15)), picture(1), 41) is None
    assert meter.see(None, picture(1), 42) is None and meter.last is None


def test_a_place_between_two_cells_is_found_whichever_way_its_coordinates_round() -> None:
    for x, back in ((0.49999999999999994, 0.5000000000000284), (0.9, 1.1), (-0.5, -0.49)):
        meter = RevisitMeter()
        meter.see((x, x, math.radians(7.49)), picture(1), 0)
        assert meter.see((back, back, math.radians(7.51)), picture(1), 40) is not None


def test_going_back_in_time_forgets_what_came_later() -> None:
    meter = RevisitMeter()
    meter.see((0.0, 0.0, 0.0), picture(1), 0)
    meter.see((9.0, 0.0, 0.0), picture(1), 5)
    meter.forget(after=2)
    assert meter.see((9.0, 0.0, 0.0), picture(1), 60) is None
    assert meter.see((0.0, 0.0, 0.0), picture(1), 61) is not None
    meter.forget()
    assert meter.see((0.0, 0.0, 0.0), picture(1), 99) is None
