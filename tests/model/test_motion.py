"""Motion: what is said of a step is rounded, neighbours change nothing, and mistakes are counted right."""

import numpy as np
import pytest
import torch

from engine.model import odometry
from engine.model.motion import Motion, MotionConfig, rounded, wrong
from tests.support.models import shaken


def test_a_step_leads_to_a_pose_and_the_poses_tell_the_step() -> None:
    random = np.random.default_rng(0)
    pose, step = random.normal(size=(50, 3)) * (9, 9, 3), random.normal(size=(50, 3)) * (1, 1, 60)
    np.testing.assert_allclose(odometry.step_between(pose, odometry.moved_by(pose, step)), step, atol=1e-9)
    east, north = np.array([2.0, 1.0, 0.0]), np.array([2.0, 1.0, np.pi / 2])
    np.testing.assert_allclose(odometry.moved_by(east, np.array([1.0, 0.0, 0.0])), [3, 1, 0])
    np.testing.assert_allclose(odometry.moved_by(north, np.array([1.0, 0.5, 0.0])), [1.5, 2, np.pi / 2])
    assert odometry.step_between(np.zeros(3), np.array([0, 0, np.radians(350)]))[2] == pytest.approx(-10)


def test_what_is_said_is_rounded_to_whole_steps_or_finely() -> None:
    said = np.array([[0.96, -0.04, 0.02], [-0.3, 0.49, -1.1]])
    assert rounded(said, snap=True).tolist() == [[1, 0, 0], [0, 0, -15]]
    fine = rounded(said, snap=False)
    np.testing.assert_allclose(fine, said * (1, 1, 15), atol=1 / 15)
    assert (fine * (64, 64, 8) == np.round(fine * (64, 64, 8))).all()


def test_the_usual_step_of_the_buttons_counts_unless_something_else_is_clearly_said() -> None:
    motion = Motion(MotionConfig(6, 8, 3))
    motion.usual.copy_(torch.tensor([[1.0, 0, 0], [0, 0.5, 0], [0, 0, 1.0]]))
    action = torch.tensor([[1.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 0, 1], [0, 0, 1]])
    said = torch.tensor([[0.8, 0.1, 0], [0.3, 0, 0], [1.1, 0.4, 0], [0, 0, 0.7], [0, 0, 0.1]])
    expected = np.array([[1, 0, 0], [0.3, 0, 0], [1, 0.5, 0], [0, 0, 15], [0, 0, 1.5]])
    np.testing.assert_allclose(motion.decided(said, action), expected, atol=1 / 16)


def test_mistakes_are_those_that_lead_elsewhere() -> None:
    real = np.array([[1.0, 0, 0], [1, 0, 0], [1, 0, 0], [0, 0, 179], [0, 0, 15]])
    said = np.array([[1.0, 0, 0], [0, 0, 0], [1, 0.05, 0], [0, 0, -180], [0, 0, 12]])
    assert wrong(said, real, snap=True).tolist() == [False, True, True, True, True]
    assert wrong(said, real, snap=False).tolist() == [False, True, False, False, True]


@pytest.mark.parametrize("snap", [False, True])
def test_a_neighbour_changes_no_bit_of_a_step(snap: bool) -> None:
    torch.manual_seed(0)
    motion = shaken(Motion(MotionConfig(81, 48, 16, snap=snap)), seed=1, amount=0.2)
    latents, action = torch.randn(5, 81, 48), torch.randint(0, 2, (5, 16)).float()
    together = motion.step(latents, action)
    assert together.dtype == np.float64 and together.shape == (5, 3) and together.any()
    for b in range(5):
        assert np.array_equal(motion.step(latents[b : b + 1], action[b : b + 1])[0], together[b])


def test_a_shape_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="motion: hidden must be at least 1 and at most 16384, got 0"):
        MotionConfig(6, 8, 2, hidden=0)
