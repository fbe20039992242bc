from functools import lru_cache
from typing import Any

import numpy as np
import pytest

from engine.bench.quality import drift
from engine.measures import appearance


@lru_cache
def looks(change: str) -> dict[str, np.ndarray]:
    """How 300 frames of 4 worlds look that become blurred or dark by and by."""
    random = np.random.default_rng(0)
    found: dict[str, list[np.ndarray]] = {name: [] for name in drift.LOOKS}
    for t in range(300):
        x = random.integers(40, 200, (4, 6, 8, 3)).repeat(4, 1).repeat(4, 2).astype(float)
        share = t / 299
        if change == "blur":
            soft = (np.roll(x, 2, 2) + x + np.roll(x, -2, 2)) / 3
            x = (1 - share) * x + share * soft
        elif change == "dark":
            x *= 1 - share / 2
        for name, values in appearance(x.astype(np.uint8)).items():
            found[name].append(values)
    return {name: np.stack(values, 1) for name, values in found.items()}


def measured(change: str) -> dict[str, Any]:
    sheet = np.zeros((4, 1, 24, 32, 3), np.uint8)
    return drift.summary(drift.Drift(looks(change), looks("none"), [1], sheet))


def test_pictures_that_stay_as_they_are_do_not_drift() -> None:
    found = measured("none")
    for name in drift.LOOKS:
        assert abs(found[f"{name}_drift"]["mean"]) < 0.05
    assert abs(found["sharpness_trend"]["mean"]) < 0.1


def test_pictures_that_become_blurred_are_found_and_the_simulator_is_not_blamed() -> None:
    found = measured("blur")
    assert found["sharpness_drift"]["mean"] < -0.15 and found["sharpness_drift"]["high"] < -0.1
    assert found["laplacian_drift"]["mean"] < -0.2
    assert found["sharpness_trend"]["mean"] < -0.5  # in 1,000 frames, and this took 300
    assert abs(found["sharpness_drift_real"]["mean"]) < 0.05
    assert abs(found["luminance_drift"]["mean"]) < 0.05


def test_pictures_that_become_dark_are_found() -> None:
    found = measured("dark")
    # from 0.97 of the light around frame 20 to 0.53 in the last window
    assert found["luminance_drift"]["mean"] == pytest.approx(0.53 / 0.97 - 1, abs=0.04)
    assert found["contrast_drift"]["mean"] == pytest.approx(0.53 / 0.97 - 1, abs=0.06)
    assert abs(found["saturation_drift"]["mean"]) < 0.06


def test_the_windows_lie_around_their_frames_and_within_the_play() -> None:
    assert drift.windows(1000) == {
        20: slice(0, 40),
        100: slice(80, 120),
        500: slice(480, 520),
        1000: slice(960, 1000),
    }
    for length in (1, 3, 30, 150):
        spans = drift.windows(length)
        assert max(spans) == length and spans[length].stop == length
        assert all(0 <= span.start < span.stop <= length for span in spans.values())


def test_a_source_that_ended_early_counts_as_far_as_it_went() -> None:
    real = looks("none") | {"sharpness": looks("none")["sharpness"].copy()}
    real["sharpness"][1, 100:] = np.nan
    found = drift.summary(drift.Drift(looks("none"), real, [1], np.zeros((4, 1, 24, 32, 3), np.uint8)))
    assert np.isfinite(found["sharpness_drift_real"]["mean"])
