"""``python -m engine bench quality WORLD``: does it obey and stay sharp? The simulator is the truth.

On test maps, which no training has seen: the codec's reconstruction, the next frame after real history, rollouts
under the simulator's actions, buttons read back from generated frames by a probe, and the drift of a long walk.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from tqdm import tqdm

from engine.bench import report
from engine.bench.opening import check_shared, open_for
from engine.bench.options import QualityOptions
from engine.bench.quality import tile_view, tiles, view
from engine.bench.quality.drift import Drift, free_play
from engine.bench.quality.drift import summary as drift_summary
from engine.bench.quality.follow import follow, probe_for
from engine.bench.rollout import SHOWN, Scores, compare, groups, moments
from engine.bench.tiles.reader import has_tiles
from engine.bench.truth import pick_maps, play_episodes
from engine.config import WorldConfig, load_world
from engine.errors import UserError, unknown
from engine.history.names import MODES
from engine.loading import fitted
from engine.measures import has_flip, interval, mean_seen
from engine.pictures import save_grid
from engine.sources import check_simulator
from engine.sources.splits import SPLITS
from engine.world import World

COMMAND = "bench quality"
SHEET_EPISODES = 8
LEAD_IN = 12
"""Frames of a walk before the history: at most so long it stands still at first."""


def check(options: QualityOptions) -> None:
    """Raise UserError where an argument makes no sense."""
    check_shared(options)
    for name in (
        "episodes",
        "frames",
        "history",
        "drift_worlds",
        "batch",
        "play_frames",
        "play_worlds",
        "survey_frames",
    ):
        if getattr(options, name) < 1:
            raise UserError(f"--{name.replace('_', '-')} must be 1 or more, not {getattr(options, name)}")
    for name in ("drift_frames", "probe_frames", "tile_frames", "effect_states", "survey_worlds"):
        if getattr(options, name) < 0:
            raise UserError(f"--{name.replace('_', '-')} must be 0 or more, not {getattr(options, name)}")
    for name in ("episodes", "drift_worlds", "play_worlds", "survey_worlds", "effect_states"):
        if getattr(options, name) > len(SPLITS["test"]):
            raise UserError(
                f"--{name.replace('_', '-')} must be at most {len(SPLITS['test'])}, the number of test maps,"
                f" not {getattr(options, name)}"
            )
    if options.memory not in MODES:
        raise UserError(unknown("memory mode", options.memory, MODES))


def against_truth(
    world: World, config: WorldConfig, options: QualityOptions, maps: np.ndarray
) -> tuple[Scores, list[list[Any]]]:
    """Score all episodes; also the rows of a sheet, real and generated in turn."""
    parts: list[Scores] = []
    rows: list[list[Any]] = []
    size = world.height, world.width
    total = -(-len(maps) // world.batch) * 2 * options.frames
    with tqdm(total=total, desc="rollouts", unit="frame") as bar:
        for index, count in groups(len(maps), world.batch):
            length = options.history + options.frames
            played = play_episodes(config, size, maps[index], LEAD_IN + length, options.seed, "walk")
            # A source whose episodes are short is measured from its first frame on.
            played = played.part(LEAD_IN if played.there.all() else 0, length)
            seeds = [options.seed + int(i) for i in index]
            scores, drawn = compare(world, played, options.history, seeds, count, bar)
            parts.append(scores)
            for i in range(min(count, SHEET_EPISODES - len(rows) // 2)):
                ahead = moments(options.frames, SHOWN)
                rows += [[played.frames[i, options.history + t - 1] for t in ahead], [drawn[i, t - 1] for t in ahead]]
    return Scores.joined(parts), rows


def figures(scores: Scores) -> dict[str, Any]:
    """Means and intervals over episodes of what was scored against the simulator."""
    found: dict[str, Any] = {
        "codec_psnr": _over_episodes(scores.codec_psnr),
        "codec_ssim": _over_episodes(scores.codec_ssim),
        "next_frame_psnr": _over_episodes(scores.next_psnr),
        "next_frame_psnr_codec": _over_episodes(scores.next_psnr_codec),
        "next_frame_ssim": _over_episodes(scores.next_ssim),
        "next_frame_gap_db": _over_episodes(scores.codec_psnr - scores.next_psnr),
    }
    found["rollout"] = [
        {
            "ahead": ahead,
            "psnr": interval(scores.psnr[:, ahead - 1]),
            "ssim": interval(scores.ssim[:, ahead - 1]),
            "flip": interval(scores.flip[:, i]),
            "still_psnr": interval(scores.still_psnr[:, ahead - 1]),
            "codec_psnr": interval(scores.codec_psnr[:, ahead - 1]),
        }
        for i, ahead in enumerate(moments(scores.psnr.shape[1]))
    ]
    found["rollout_psnr"] = [interval(column)["mean"] for column in scores.psnr.T]
    return found


def _over_episodes(values: np.ndarray) -> dict[str, float]:
    """(E, F) -> the mean over frames, with its interval over episodes."""
    return interval(mean_seen(values), np.isfinite(values).sum(1))


def run(options: QualityOptions) -> None:
    """Measure, print a table, write the files that were asked for. Raises UserError."""
    check(options)
    config = fitted(load_world(options.world), options.checkpoint)
    plot, sheet = report.beside(options.json, options.plot), options.sheet
    report.check_outputs(options.json, plot, sheet)
    check_simulator(config)
    world = open_for(options, config, min(options.batch, options.episodes), options.memory)
    result = report.header(COMMAND, options, config) | {
        "episodes": options.episodes,
        "frames": options.frames,
        "history": options.history,
        "memory": options.memory,
        "steps": world.steps,
        "device": str(world.device),
        "dtype": str(world.dtype).removeprefix("torch."),
    }
    maps = pick_maps("test", options.episodes, options.seed)
    scores, rows = against_truth(world, config, options, maps)
    measured = figures(scores)
    if options.probe_frames and not has_tiles(config):  # whose buttons are read by their effects
        probe = probe_for(world, config, options.probe_frames, options.seed)
        measured |= follow(world, probe, config, maps, options.history, options.seed)
        real = measured["action_agreement_real"]["mean"]
        measured["action_agreement_ratio"] = measured["action_agreement"]["mean"] / real if real else None
    drift: Drift | None = None
    if options.drift_frames:
        far = open_for(options, config, options.drift_worlds, options.memory)
        size, maps = (far.height, far.width), pick_maps("test", options.drift_worlds, options.seed)
        walks = play_episodes(config, size, maps, options.drift_frames + 1, options.seed, "walk")
        drift = free_play(far, walks, options.seed)
        measured |= drift_summary(drift) | {"drift_frames": options.drift_frames, "drift_worlds": options.drift_worlds}
    tiled: tiles.Tiled | None = None
    if has_tiles(config):
        tiled = tiles.measure(config, options)
        measured |= tiled.figures
    print(view.tables(measured))
    result |= separated(measured)
    if not has_flip():
        result["notes"] = ["flip is missing: the package flip-evaluator is not installed"]
    if options.json is not None:
        report.save_json(options.json, result)
    if plot is not None:
        view.draw(plot, scores, drift)
        if tiled is not None:
            tile_view.draw(plot.with_name(f"{plot.stem}-tiles{plot.suffix}"), tiled.figures)
    if sheet is not None:
        if tiled is not None:
            tile_view.save_sheets(sheet, tiled)
        heads = [f"+{ahead}" for ahead in moments(options.frames, SHOWN)]
        save_grid(sheet, rows, ["real", "generated"] * (len(rows) // 2), heads)
        if drift is not None:
            labels = [f"world {i}" for i in range(min(SHEET_EPISODES, len(drift.sheet)))]
            beside = sheet.with_name(f"{sheet.stem}-drift{sheet.suffix}")
            save_grid(
                beside, [list(row) for row in drift.sheet[:SHEET_EPISODES]], labels, [str(t) for t in drift.shown]
            )


def separated(measured: dict[str, Any]) -> dict[str, Any]:
    """Plain numbers under their names, and their intervals under "intervals"; the required fields always there."""
    plain: dict[str, Any] = dict.fromkeys(("action_agreement", "action_agreement_real", "sharpness_drift"))
    spans = {}
    for name, value in measured.items():
        if isinstance(value, dict) and value.keys() == {"mean", "low", "high"}:
            plain[name] = value["mean"]
            spans[name] = [value["low"], value["high"]]
        else:
            plain[name] = value
    return plain | {"intervals": spans}
