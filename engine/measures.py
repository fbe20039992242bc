"""Measures of pictures, arrays or tensors uint8 (n, H, W, 3), and intervals over episodes: each is here, once."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from engine.errors import UserError

Frames = np.ndarray | Tensor
BEST_PSNR = 10 * float(np.log10(255.0**2 / 1e-3))
"""Equal pictures have no ratio; they count as this many dB, 78.1."""
LUMA = (0.299, 0.587, 0.114)
RESAMPLES = 2000


def _pictures(frames: Frames) -> Tensor:
    """Float (n, 3, H, W), 0..255. ValueError for anything but uint8 (n, H, W, 3)."""
    tensor = torch.as_tensor(frames)
    if tensor.dtype != torch.uint8 or tensor.dim() != 4 or tensor.shape[-1] != 3:
        raise ValueError(f"expected uint8 pictures (n, H, W, 3), got {tensor.dtype} {tuple(tensor.shape)}")
    return tensor.movedim(-1, 1).float()


def _pair(a: Frames, b: Frames) -> tuple[Tensor, Tensor]:
    one, two = _pictures(a), _pictures(b)
    if one.shape != two.shape:
        raise ValueError(f"pictures of unequal shapes {tuple(one.shape)} and {tuple(two.shape)}")
    return one, two


def _array(values: Tensor) -> np.ndarray:
    return values.cpu().numpy().astype(np.float64)


def psnr(a: Frames, b: Frames) -> np.ndarray:
    """Peak signal-to-noise ratio of each picture, (n,), in dB, at most `BEST_PSNR`."""
    return _array(_psnr(a, b))


def mean_psnr(a: Frames, b: Frames) -> float:
    """Mean of `psnr` over the pictures, in dB."""
    return float(_psnr(a, b).mean())


def _psnr(a: Frames, b: Frames) -> Tensor:
    one, two = _pair(a, b)
    error = (one - two).square().mean((1, 2, 3)).clamp_min(1e-3)
    return 10 * torch.log10(255.0**2 / error)


def psnr_table(a: Frames, b: Frames) -> np.ndarray:
    """PSNR of each picture of `a` (n, H, W, 3) against each of `b` (m, H, W, 3): (n, m), in dB, at most `BEST_PSNR`."""
    one, two = _pictures(a).flatten(1), _pictures(b).flatten(1)
    if one.shape[1] != two.shape[1]:
        raise ValueError(f"pictures of unequal sizes, {one.shape[1]} and {two.shape[1]} numbers")
    error = one.new_zeros((len(one), len(two)), dtype=torch.float64)
    for x, y in zip(one.split(65536, 1), two.split(65536, 1), strict=True):  # in float64 whole numbers are exact
        x, y = x.double(), y.double()
        error += x.square().sum(1)[:, None] - 2 * (x @ y.T) + y.square().sum(1)
    return (10 * torch.log10(255.0**2 / (error / one.shape[1]).clamp_min(1e-3))).cpu().numpy()


def ssim(a: Frames, b: Frames) -> np.ndarray:
    """Structural similarity of each picture, (n,), 1 for equal ones (Wang et al. 2004; Gaussian window of 11)."""
    try:
        from torchmetrics.functional.image import structural_similarity_index_measure as measure
    except ModuleNotFoundError as error:
        raise UserError("this needs the package 'torchmetrics': pip install -e '.[train]'") from error
    one, two = _pair(a, b)
    parts = [
        torch.as_tensor(measure(x, y, data_range=255.0, reduction="none")).reshape(len(x))
        for x, y in zip(one.split(64), two.split(64), strict=True)
    ]
    return _array(torch.cat(parts))


def has_flip() -> bool:
    """Whether the package ``flip-evaluator`` is there; it has no build for some systems."""
    return find_spec("flip_evaluator") is not None


def flip(reference: Frames, test: Frames) -> np.ndarray:
    """LDR-FLIP (Andersson et al. 2020) of each picture, (n,): 0 equal, 1 as different as can be; NaN without it.

    At the evaluator's usual 67 pixels a degree.
    """
    one, two = _pair(reference, test)
    if not has_flip():
        return np.full(len(one), np.nan)
    import flip_evaluator

    pairs = zip(*((x.movedim(1, -1) / 255).contiguous().cpu().numpy() for x in (one, two)), strict=True)
    return np.array([flip_evaluator.evaluate(x, y, "LDR", applyMagma=False)[1] for x, y in pairs], np.float64)


def sharpness(frames: Frames) -> np.ndarray:
    """How sharp each picture is, (n,): the mean length of its luminance's gradient, in levels of 0..255 a pixel.

    Of two ways of measuring it, this one stayed (the other was the mean difference of neighbours in each colour): a
    slanted edge counts as an upright one does, a change of hue alone is no edge, and the README's figures of drift
    were measured so.
    """
    return appearance(frames)["sharpness"]


def appearance(frames: Frames) -> dict[str, np.ndarray]:
    """How pictures look, each (n,): sharpness, laplacian, luminance, contrast, saturation.

    sharpness: see there; laplacian: variance of the luminance's Laplacian; contrast: its standard deviation (all in
    0..255 levels); saturation: mean of (max - min) / max over the colours, 0..1.
    """
    found: dict[str, list[Tensor]] = {}
    for part in torch.as_tensor(frames).split(256):
        for name, value in _looks(_pictures(part)).items():
            found.setdefault(name, []).append(value)
    return {name: _array(torch.cat(parts)) for name, parts in found.items()}


def _looks(x: Tensor) -> dict[str, Tensor]:
    """`appearance` of float (n, 3, H, W)."""
    luma = (x * x.new_tensor(LUMA)[:, None, None]).sum(1)  # (n, H, W)
    dx, dy = luma[:, :-1, 1:] - luma[:, :-1, :-1], luma[:, 1:, :-1] - luma[:, :-1, :-1]
    kernel = x.new_tensor([[[[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]]]])
    top = x.amax(1)
    return {
        "sharpness": torch.hypot(dx, dy).mean((1, 2)),
        "laplacian": F.conv2d(luma[:, None], kernel).flatten(1).var(1, correction=0),
        "luminance": luma.mean((1, 2)),
        "contrast": luma.flatten(1).std(1, correction=0),
        "saturation": ((top - x.amin(1)) / top.clamp_min(1.0)).mean((1, 2)),
    }


def mean_seen(values: np.ndarray, axis: int = -1) -> np.ndarray:
    """Mean over an axis of what is not NaN; NaN where nothing is left."""
    seen = np.isfinite(values)
    return np.where(seen, values, 0.0).sum(axis) / np.where(seen.any(axis), seen.sum(axis), np.nan)


def interval(values: np.ndarray, weights: np.ndarray | None = None, seed: int = 0) -> dict[str, float]:
    """Mean over episodes, with its 95 % interval: {"mean", "low", "high"}; NaN where there is nothing.

    values (E,), one for each episode, NaN where it has none; weights (E,): how much each counts. The interval is
    the bootstrap's, over episodes, because the frames of one episode are no independent samples.
    """
    values = np.asarray(values, np.float64)
    weights = np.ones_like(values) if weights is None else np.asarray(weights, np.float64)
    keep = np.isfinite(values) & (weights > 0)
    values, weights = values[keep], weights[keep]
    if not len(values):
        return {"mean": np.nan, "low": np.nan, "high": np.nan}
    pick = np.random.default_rng(seed).integers(len(values), size=(RESAMPLES, len(values)))
    means = (values * weights)[pick].sum(1) / weights[pick].sum(1)
    low, high = np.quantile(means, (0.025, 0.975))
    return {"mean": float((values * weights).sum() / weights.sum()), "low": float(low), "high": float(high)}


def relative_change(before: np.ndarray, after: np.ndarray, seed: int = 0) -> dict[str, float]:
    """(mean after - mean before) / mean before over episodes (E,), with its 95 % interval as `interval` gives it."""
    before, after = np.asarray(before, np.float64), np.asarray(after, np.float64)
    return interval(after / np.where(before > 0, before, np.nan) - 1.0, before, seed)
