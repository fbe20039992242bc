"""Sampling: levels, paths, and noise that depends on seed and frame alone."""

import itertools

import pytest
import torch

from engine.model.sampler import denoising_step_list, mix, noise_for, sample


@pytest.mark.parametrize("steps", [1, 2, 4, 16])
def test_levels_fall_from_one_and_stay_above_zero(steps: int) -> None:
    levels = denoising_step_list(steps)
    assert levels[0] == 1 and len(levels) == steps
    assert all(a > b > 0 for a, b in itertools.pairwise(levels))


def test_a_larger_shift_spends_its_passes_nearer_to_noise() -> None:
    assert denoising_step_list(2, 1.0) == [1.0, 0.5]
    assert denoising_step_list(2, 3.0) == [1.0, 0.75]
    with pytest.raises(ValueError, match="at least 1"):
        denoising_step_list(0)


def test_noise_is_a_function_of_seed_and_frame() -> None:
    assert torch.equal(noise_for(3, 7, (4, 5)), noise_for(3, 7, (4, 5)))
    assert not torch.equal(noise_for(3, 7, (4, 5)), noise_for(3, 8, (4, 5)))
    assert not torch.equal(noise_for(3, 7, (4, 5)), noise_for(4, 7, (4, 5)))
    noise = noise_for(2**40, 10**9, (200, 200))
    assert abs(noise.mean().item()) < 0.02 and abs(noise.std().item() - 1) < 0.02


def test_a_perfect_predictor_is_followed_exactly_at_every_level() -> None:
    truth, noise = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    seen = []

    def predict(x: torch.Tensor, i: int, level: float) -> torch.Tensor:
        torch.testing.assert_close(x, mix(truth, noise, level), atol=1e-5, rtol=1e-4)
        seen.append(i)
        return truth

    torch.testing.assert_close(sample(predict, noise, denoising_step_list(4)), truth)
    assert seen == [0, 1, 2, 3]


def test_more_steps_sample_the_distribution_that_one_step_only_averages() -> None:
    """Two equally likely values, -1 and 1: the exact posterior mean is known; one pass gives 0, many give +-1."""

    def predict(x: torch.Tensor, _: int, level: float) -> torch.Tensor:
        return torch.tanh(x * (1 - level) / level**2)

    noise = torch.randn(4000, generator=torch.Generator().manual_seed(0))
    assert sample(predict, noise, denoising_step_list(1)).abs().mean() < 0.01
    many = sample(predict, noise, denoising_step_list(32))
    assert (many.abs() > 0.9).float().mean() > 0.9 and abs(many.mean().item()) < 0.05
