"""Long free play: do pictures stay as sharp and as well lit as they began?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from engine.bench.rollout import moments, reconstructed
from engine.bench.truth import Episodes
from engine.measures import appearance, interval, mean_seen, relative_change
from engine.world import World

MOMENTS = (20, 100, 500, 1000, 2000)
"""Frames around which the windows lie that are compared, the first with the last."""
WINDOW = 40
SHOWN = (1, 20, 100, 500, 1000, 2000)
"""Frames that a sheet shows."""
LOOKS = ("sharpness", "laplacian", "luminance", "contrast", "saturation")


@dataclass(frozen=True)
class Drift:
    """How frames 1..F of B worlds look: by name float64 (B, F), generated and real (through the codec).

    sheet: generated frames at `shown`, uint8 (B, len(shown), H, W, 3).
    """

    generated: dict[str, np.ndarray]
    real: dict[str, np.ndarray]
    shown: list[int]
    sheet: np.ndarray


def free_play(world: World, episodes: Episodes, seed: int) -> Drift:
    """Start from each episode's first frame and go on under its actions, T - 1 frames long."""
    frames, actions = episodes.frames, episodes.actions
    length = frames.shape[1] - 1
    shown = moments(length, SHOWN)
    if length not in shown:
        shown.append(length)
    looks: dict[str, list[np.ndarray]] = {name: [] for name in LOOKS}
    kept = []
    world.reset(seed, frames[:, :1])
    for t in tqdm(range(1, length + 1), desc="free play", unit="frame", leave=False):
        drawn = world.step(actions[:, t])
        for name, values in appearance(drawn).items():
            looks[name].append(values)
        if t in shown:
            kept.append(drawn)
    real: dict[str, list[np.ndarray]] = {name: [] for name in LOOKS}
    for episode, count in zip(frames, episodes.lengths, strict=True):
        found = appearance(reconstructed(world.codec, episode[1:], world.device))
        for name, values in found.items():
            real[name].append(np.where(np.arange(1, length + 1) < count, values, np.nan))
    return Drift(
        {name: np.stack(values, 1) for name, values in looks.items()},
        {name: np.stack(values) for name, values in real.items()},
        shown,
        np.stack(kept, 1),
    )


def windows(length: int) -> dict[int, slice]:
    """The windows of an array of frames 1..length, by the frame in their middle; the last one ends with it."""
    found = {}
    width = max(1, min(WINDOW, length // 4))
    for moment in sorted({*moments(length, MOMENTS), length}):
        end = min(length, moment + width // 2)
        found[moment] = slice(max(0, end - width), end)
    return found


def trend(values: np.ndarray) -> dict[str, float]:
    """Relative change in 1,000 frames, by a straight line through all of (B, F), with its interval over worlds."""
    slopes, means = [], []
    for row in values:
        seen = np.flatnonzero(np.isfinite(row))
        slopes.append(np.polyfit(seen, row[seen], 1)[0] * 1000 if len(seen) > 1 else np.nan)
        means.append(row[seen].mean() if len(seen) else 0.0)
    weight = np.array(means)
    return interval(np.array(slopes) / np.where(weight > 0, weight, np.nan), weight)


def summary(drift: Drift) -> dict[str, Any]:
    """Figures of the first window against the last: NAME_drift, NAME_drift_real, sharpness_trend, and the windows."""
    length = drift.generated["sharpness"].shape[1]
    spans = windows(length)
    first, last = min(spans), max(spans)
    found: dict[str, Any] = {}
    for name in LOOKS:
        for suffix, values in (("", drift.generated[name]), ("_real", drift.real[name])):
            means = {moment: mean_seen(values[:, span]) for moment, span in spans.items()}
            found[f"{name}_drift{suffix}"] = relative_change(means[first], means[last])
    for suffix, values in (("", drift.generated["sharpness"]), ("_real", drift.real["sharpness"])):
        found[f"sharpness_trend{suffix}"] = trend(values)
    found["windows"] = [
        {
            "frame": moment,
            "from": span.start + 1,
            "to": span.stop,
            **{name: interval(mean_seen(drift.generated[name][:, span])) for name in LOOKS},
            **{f"{name}_real": interval(mean_seen(drift.real[name][:, span])) for name in LOOKS},
        }
        for moment, span in spans.items()
    ]
    return found
