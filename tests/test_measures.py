import numpy as np
import pytest
import torch

from engine import measures as metrics


def noise(shape: tuple[int, ...] = (4, 48, 64, 3), seed: int = 0) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(40, 200, (shape[0], 12, 16, 3), np.uint8)
    return coarse.repeat(4, 1).repeat(4, 2)


def blurred(frames: np.ndarray) -> np.ndarray:
    x = frames.astype(np.float64)
    for axis in (1, 2):
        x = (np.roll(x, 1, axis) + x + np.roll(x, -1, axis)) / 3
    return x.astype(np.uint8)


def test_psnr_of_known_errors() -> None:
    a = noise()
    b = a.copy()
    b[1] += 5  # mean square 25
    b[2, :, :, 0] += 30  # mean square 900 / 3
    found = metrics.psnr(a, b)
    assert found[1] == pytest.approx(10 * np.log10(255**2 / 25))
    assert found[2] == pytest.approx(10 * np.log10(255**2 / 300))
    assert found[0] == pytest.approx(metrics.BEST_PSNR)


def test_the_mean_psnr_is_that_of_the_pictures_and_tensors_do_as_well_as_arrays() -> None:
    a = noise()
    b = a + np.array([5, 5, 10, 10], np.uint8)[:, None, None, None]
    by_5, by_10 = 20 * np.log10(255 / 5), 20 * np.log10(255 / 10)  # 34.15 and 28.13 dB
    assert metrics.mean_psnr(a, b) == pytest.approx((by_5 + by_10) / 2)
    one, two = torch.from_numpy(a), torch.from_numpy(b)
    assert metrics.mean_psnr(one, two) == metrics.mean_psnr(a, b)
    assert metrics.psnr(one, two).tolist() == metrics.psnr(a, b).tolist()
    with torch.inference_mode():  # where stages are validated
        assert metrics.mean_psnr(one + 0, two) == metrics.mean_psnr(a, b)


def test_a_table_of_psnr_has_that_of_every_pair() -> None:
    a, b = noise()[:2], noise(seed=1)[:3]
    table = metrics.psnr_table(a, b)
    assert table.shape == (2, 3)
    for i in range(2):
        assert table[i] == pytest.approx(metrics.psnr(a[[i, i, i]], b))


def test_ssim_is_one_for_equal_pictures_and_falls_with_noise() -> None:
    a = noise()
    random = np.random.default_rng(1)
    little, much = (np.clip(a + random.normal(0, s, a.shape), 0, 255).astype(np.uint8) for s in (5, 40))
    assert metrics.ssim(a, a) == pytest.approx(1.0)
    assert (metrics.ssim(a, a) > metrics.ssim(a, little)).all()
    assert (metrics.ssim(a, little) > metrics.ssim(a, much)).all()
    assert metrics.ssim(a[:1], much[:1]) == pytest.approx(metrics.ssim(a, much)[:1], abs=1e-5)


@pytest.mark.skipif(not metrics.has_flip(), reason="flip-evaluator is not installed")
def test_flip_is_zero_for_equal_pictures_and_near_one_for_black_and_white() -> None:
    a = noise()[:2]
    black, white = np.zeros_like(a), np.full_like(a, 255)
    assert metrics.flip(a, a) == pytest.approx(0.0)
    assert (metrics.flip(a, blurred(a)) > 0.01).all()
    assert (metrics.flip(black, white) > 0.9).all()


def test_flip_is_not_a_number_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "has_flip", lambda: False)
    assert np.isnan(metrics.flip(noise(), noise())).all()


def test_sharpness_falls_when_pictures_are_blurred() -> None:
    sharp, soft = metrics.appearance(noise()), metrics.appearance(blurred(noise()))
    assert (soft["sharpness"] < 0.9 * sharp["sharpness"]).all()
    assert (soft["laplacian"] < 0.5 * sharp["laplacian"]).all()
    assert soft["luminance"] == pytest.approx(sharp["luminance"], abs=1.5)


def test_sharpness_is_the_length_of_the_gradient_of_the_luminance() -> None:
    across = np.broadcast_to(np.arange(0, 60, 3, dtype=np.uint8)[:, None], (20, 20, 3))  # 3 levels a pixel
    slanted = np.add.outer(np.arange(0, 60, 3), np.arange(0, 80, 4)).astype(np.uint8)[..., None].repeat(3, 2)
    flat = np.full((20, 20, 3), 90, np.uint8)
    pictures = np.stack([across, across.swapaxes(0, 1), slanted, flat])
    found = metrics.sharpness(pictures)
    assert found == pytest.approx([3, 3, 5, 0], abs=1e-4)
    assert found.tolist() == metrics.appearance(pictures)["sharpness"].tolist()
    assert found.tolist() == metrics.sharpness(torch.from_numpy(pictures)).tolist()


def test_looks_of_plain_pictures() -> None:
    frames = np.zeros((2, 48, 64, 3), np.uint8)
    frames[0] = (200, 0, 0)
    frames[1, :, :32] = 100
    looks = metrics.appearance(frames)
    assert looks["luminance"] == pytest.approx([200 * 0.299, 50])
    assert looks["contrast"] == pytest.approx([0, 50], abs=1e-3)
    assert looks["saturation"] == pytest.approx([1, 0])
    assert looks["sharpness"] == pytest.approx([0, 100 / 63], abs=1e-4)


def test_pictures_of_another_kind_are_refused() -> None:
    with pytest.raises(ValueError, match="expected uint8 pictures"):
        metrics.psnr(noise().astype(np.float32), noise())
    with pytest.raises(ValueError, match="unequal shapes"):
        metrics.psnr(noise()[:2], noise())


def test_an_interval_holds_the_mean_and_narrows_with_more_episodes() -> None:
    random = np.random.default_rng(0)
    few, many = (metrics.interval(random.normal(10, 1, n)) for n in (8, 800))
    assert few["low"] < 10 < few["high"] and many["low"] < 10 < many["high"]
    assert many["high"] - many["low"] == pytest.approx(4 / np.sqrt(800), rel=0.2)
    assert (many["high"] - many["low"]) * 3 < few["high"] - few["low"]


def test_an_interval_weighs_episodes_and_leaves_out_empty_ones() -> None:
    found = metrics.interval(np.array([1.0, 0.0, np.nan, 5.0]), np.array([30, 10, 7, 0]))
    assert found["mean"] == pytest.approx(0.75)
    assert np.isnan(metrics.interval(np.array([np.nan]))["mean"])


def test_a_relative_change_is_that_of_the_means() -> None:
    found = metrics.relative_change(np.array([10.0, 30.0]), np.array([9.0, 27.0]))
    assert found == pytest.approx({"mean": -0.1, "low": -0.1, "high": -0.1})
