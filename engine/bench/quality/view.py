"""How `bench quality` shows its figures: tables and a plot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from engine.bench import report
from engine.bench.quality.drift import Drift
from engine.bench.quality.tile_view import tables as tile_tables
from engine.bench.rollout import Scores
from engine.measures import interval, mean_seen


def tables(measured: dict[str, Any]) -> str:
    """The figures as text."""
    names = (
        ("codec PSNR, dB", "codec_psnr"),
        ("codec SSIM", "codec_ssim"),
        ("next frame PSNR, dB", "next_frame_psnr"),
        ("  against the codec's frame", "next_frame_psnr_codec"),
        ("  below the codec, dB", "next_frame_gap_db"),
        ("  SSIM", "next_frame_ssim"),
        ("actions read back, generated", "action_agreement"),
        ("  real, through the codec", "action_agreement_real"),
        ("  real", "action_agreement_raw"),
        ("  by chance", "action_agreement_chance"),
        ("  generated / real", "action_agreement_ratio"),
        ("sharpness drift", "sharpness_drift"),
        ("  in the simulator", "sharpness_drift_real"),
        ("  trend in 1000 frames", "sharpness_trend"),
        ("  trend in the simulator", "sharpness_trend_real"),
        ("luminance drift", "luminance_drift"),
        ("contrast drift", "contrast_drift"),
        ("saturation drift", "saturation_drift"),
    )
    parts = [
        report.table(
            ("measure", "mean [95 % interval]"),
            [(label, measured[name]) for label, name in names if name in measured],
            3,
        ),
        report.table(
            ("frames ahead", "PSNR, dB", "SSIM", "FLIP", "still PSNR", "codec PSNR"),
            [list(row.values()) for row in measured["rollout"]],
        ),
    ]
    if "by_axis" in measured:
        rows = [(name, entry["generated"], entry["real"]) for name, entry in measured["by_axis"].items()]
        rows += [
            (f"frames {entry['from']} to {entry['to']}", entry["generated"], entry["real"])
            for entry in measured["by_frames_ahead"]
        ]
        parts.append(report.table(("actions read back", "generated", "real"), rows))
    if "windows" in measured:
        looks = ("sharpness", "sharpness_real", "luminance", "luminance_real", "contrast", "saturation")
        rows = [(f"{entry['frame']}", *(entry[look]["mean"] for look in looks)) for entry in measured["windows"]]
        parts.append(report.table(("frame", *looks), rows))
    parts += tile_tables(measured)
    return "\n\n".join(parts)


def draw(path: Path, scores: Scores, drift: Drift | None) -> None:
    """Plot PSNR against frames ahead with its interval, and sharpness over time."""
    made, axes = report.figure(1 if drift is None else 2)
    ahead = np.arange(1, scores.psnr.shape[1] + 1)
    for values, label, color in (
        (scores.codec_psnr, "codec", "tab:green"),
        (scores.psnr, "generated", "tab:blue"),
        (scores.still_psnr, "start frame held still", "tab:gray"),
    ):
        spans = [interval(column) for column in values.T]
        low, mean, high = ([span[key] for span in spans] for key in ("low", "mean", "high"))
        axes[0].plot(ahead, mean, color=color, label=label)
        axes[0].fill_between(ahead, low, high, color=color, alpha=0.2, linewidth=0)
    axes[0].axhline(interval(mean_seen(scores.next_psnr))["mean"], ls="--", color="tab:blue", label="next frame")
    axes[0].set(xscale="log", xlabel="frames ahead", ylabel="PSNR, dB", title="Same actions as the simulator")
    axes[0].legend(fontsize="small")
    if drift is not None:
        for values, label, color in (
            (drift.real["sharpness"], "simulator, through the codec", "tab:green"),
            (drift.generated["sharpness"], "generated", "tab:blue"),
        ):
            average = mean_seen(values, 0)
            width = min(20, len(average))
            smooth = np.convolve(average, np.ones(width) / width, "valid")
            axes[1].plot(np.arange(width, len(average) + 1), smooth, color=color, label=label)
        axes[1].set(xlabel="frame (mean of the 20 up to it)", ylabel="mean gradient", ylim=(0, None))
        axes[1].set_title("Sharpness over time")
        axes[1].legend(fontsize="small")
    report.save_figure(path, made)
