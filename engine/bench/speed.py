"""``python -m engine bench speed WORLD``: is it real time?

Key to pixels, the whole step, memory, and what share of the machine's limits that is.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from engine import runtime
from engine.bench import report
from engine.bench.opening import check_shared, named, numbers, open_for
from engine.bench.options import SpeedOptions
from engine.bench.work import cold_bytes, copy_rate, frame_bytes, frame_flops, history_bytes, product_rate
from engine.config import WorldConfig, load_world
from engine.errors import UserError
from engine.history.filling import fill
from engine.history.names import MODES
from engine.loading import fitted
from engine.world import World

COMMAND = "bench speed"
CELL_FRAMES = 100
"""Frames timed in the cells beside the main one."""
CELL_SECONDS = 20.0
"""After which a cell that is not the main one ends, with at least 5 frames."""
MAX_BYTES = 8 * 10**9
GROWTH = 2.5
"""What a growing history needs while it is copied into a larger buffer, in sizes of its own."""
HELD = 12
"""Frames for which a direction is held."""


def check(options: SpeedOptions) -> tuple[list[int], list[int], list[str]]:
    """Return history lengths, batches and modes; raise UserError where an argument makes no sense."""
    check_shared(options)
    for name in ("frames", "repeats"):
        if getattr(options, name) < 1:
            raise UserError(f"--{name} must be 1 or more, not {getattr(options, name)}")
    modes = named(options.memory, "memory mode", MODES)
    return numbers(options.history, "--history"), numbers(options.batches, "--batches"), modes


def begin(world: World, seed: int) -> float:
    """Warm up, and start from a random picture: what is shown does not change how long it takes.

    Returns the seconds of the warm-up.
    """
    seconds = world.warm_up()
    random = np.random.default_rng(seed)
    shape = (world.batch, 1, world.height, world.width, 3)
    world.reset(seed, random.integers(0, 256, shape, np.uint8))
    return seconds


def timed(world: World, frames: int, seed: int, seconds: float | None, label: str) -> tuple[np.ndarray, np.ndarray]:
    """Play; returns seconds from key to pixels and seconds of the whole step, of each frame.

    Ends after `seconds`, but not before five frames.
    """
    random = np.random.default_rng(seed)
    pixels, whole = [], []
    stop = None if seconds is None else time.perf_counter() + seconds
    with tqdm(total=frames, desc=label, unit="frame", leave=False, mininterval=1.0) as bar:
        for i in range(frames):
            if i % HELD == 0:
                action = np.zeros((world.batch, len(world.buttons)), np.uint8)
                action[np.arange(world.batch), random.integers(len(world.buttons), size=world.batch)] = 1
            start = time.perf_counter()
            world.render(action)  # ends with the pixels on the CPU
            shown = time.perf_counter()
            world.commit()
            if world.device.type == "cuda":
                torch.cuda.synchronize(world.device)
            end = time.perf_counter()
            pixels.append(shown - start)
            whole.append(end - start)
            bar.update()
            if stop is not None and end > stop and i >= 4:
                break
    return np.array(pixels), np.array(whole)


def statistics(pixels: np.ndarray, whole: np.ndarray, batch: int) -> dict[str, Any]:
    """Percentiles in ms, frames a second over all worlds, and the worst step in medians."""
    found: dict[str, Any] = {"frames": len(whole), "fps": batch * len(whole) / whole.sum()}
    for name, values in (("key_to_frame_ms", pixels * 1e3), ("frame_ms", whole * 1e3)):
        for key, share in (("p50", 50), ("p95", 95), ("p99", 99), ("max", 100)):
            found[f"{name}_{key}"] = float(np.percentile(values, share))
    return found | {"hitch_ratio": found["frame_ms_max"] / found["frame_ms_p50"]}


def own_hitch(plays: list[np.ndarray]) -> float:
    """The engine's own worst frame, in medians: seconds of each frame of the same play, of each the shortest."""
    least = np.min(plays, 0)
    return float(least.max() / np.median(least))


def cell(options: SpeedOptions, config: WorldConfig, batch: int, mode: str, length: int | None) -> dict[str, Any]:
    """Time one cell of the table; a note in place of figures where it would need more than `MAX_BYTES`."""
    named = {"memory": mode, "batch": batch, "history": length}
    world = open_for(options, config, batch, mode)
    if length is not None:
        # In `mag` the cold folds count, in 8 bits, though most of them may lie on disk.
        each = {"full": GROWTH * history_bytes(world), "mag": cold_bytes(world)}
        need = int(batch * (length + CELL_FRAMES) * each.get(mode, 0))
        if need > MAX_BYTES:
            return named | {"note": f"left out: needs {need / 1e9:.1f} GB, more than {MAX_BYTES / 1e9:.0f}"}
    begin(world, options.seed)
    at_least = world.generator.config.sink + world.generator.config.window + 2
    fill(world.history, at_least if length is None else length)
    label = f"{mode}, batch {batch}" + (f", history {length}" if length is not None else "")
    frames = min(options.frames, CELL_FRAMES)
    pixels, whole = timed(world, frames, options.seed, CELL_SECONDS, label)
    stats = world.stats()
    names = ("memory_bytes", "cold_bytes", "tokens", "hot", "cold", "gone", "tiles", "places_bytes")
    found = {name: stats[name] for name in names if name in stats}
    return named | statistics(pixels, whole, batch) | found


def run(options: SpeedOptions) -> None:
    """Time, print a table, write the files that were asked for. Raises UserError."""
    lengths, batches, modes = check(options)
    config = fitted(load_world(options.world), options.checkpoint)
    plot = report.beside(options.json, options.plot)
    report.check_outputs(options.json, plot)
    world = open_for(options, config, 1, modes[0])
    result = report.header(COMMAND, options, config)
    plays, warmups = [], []
    for i in range(options.repeats):
        warmups.append(begin(world, options.seed))
        plays.append(timed(world, options.frames, options.seed, None, f"{modes[0]}, play {i + 1} of {options.repeats}"))
    pixels, whole = plays[int(np.argsort([np.median(each[1]) for each in plays])[len(plays) // 2])]
    flops, touched = frame_flops(world), frame_bytes(world)
    median = float(np.median(whole))
    matmul = runtime.matmul_rate(world.dtype, options.threads, device=world.device)
    products, copies = product_rate(world), copy_rate(world.device)
    result |= statistics(pixels, whole, 1) | {
        "memory": modes[0],
        "batch": 1,
        "hitch_ratio_own": own_hitch([each[1] for each in plays]),
        "repeats": options.repeats,
        "steps": world.steps,
        "device": str(world.device),
        "dtype": str(world.dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "warmup_s": warmups[0],
        "memory_bytes": world.stats()["memory_bytes"],
        "places_bytes": world.stats().get("places_bytes", 0),
        "flops_per_frame": flops,
        "matmul_flop_per_s": matmul,
        "matmul_share": flops / median / matmul,
        "matmul_flop_per_s_same_shapes": products,
        "matmul_share_same_shapes": flops / median / products,
        "bytes_per_frame": touched,
        "copy_bytes_per_s": copies,
        "bandwidth_share": touched / median / copies,
    }
    del world
    result["cells"] = [
        cell(options, config, batch, mode, length)
        for mode in modes
        for length in ([None] if mode == "window" else lengths)
        for batch in batches
    ]
    print(tables(result))
    if options.json is not None:
        report.save_json(options.json, result)
    if plot is not None:
        draw(plot, result, whole)


def tables(result: dict[str, Any]) -> str:
    """The figures as text."""
    columns = ("p50", "p95", "p99", "max")
    shares = [
        ("frames/s", result["fps"]),
        ("worst step / median", result["hitch_ratio"]),
        (f"  each frame at its best of {result['repeats']} plays", result["hitch_ratio_own"]),
        ("memory of the history, MB", (result["memory_bytes"] + result["places_bytes"]) / 1e6),
        ("GFLOP a frame", result["flops_per_frame"] / 1e9),
        ("share of the matrix-product rate", result["matmul_share"]),
        (f"  measured {result['matmul_flop_per_s'] / 1e9:.0f} GFLOP/s", None),
        ("share of the rate at the same shapes", result["matmul_share_same_shapes"]),
        (f"  measured {result['matmul_flop_per_s_same_shapes'] / 1e9:.0f} GFLOP/s", None),
        ("share of the copy bandwidth", result["bandwidth_share"]),
        (f"  measured {result['copy_bytes_per_s'] / 1e9:.1f} GB/s", None),
    ]
    title = (
        f"{result['world']} ({result['preset']}), {result['memory']}, {result['steps']} steps a frame, "
        f"{result['device']}, {result['dtype']}, {result['threads']} threads, {result['frames']} frames"
    )
    play = [
        ("key to pixels, ms", *(result[f"key_to_frame_ms_{key}"] for key in columns)),
        ("whole step, ms", *(result[f"frame_ms_{key}"] for key in columns)),
    ]
    heads = ("cell", "batch", "history", "key to pixels p50", "p95", "step p50", "p95", "max", "frames/s", "MB")
    names = ("key_to_frame_ms_p50", "key_to_frame_ms_p95", "frame_ms_p50", "frame_ms_p95", "frame_ms_max", "fps")
    rows, notes = [], []
    for entry in result["cells"]:
        named = (entry["memory"], entry["batch"], entry["history"])
        held = entry.get("memory_bytes", np.nan) + entry.get("places_bytes", 0)
        rows.append((*named, *(entry.get(name) for name in names), held / 1e6))
        if "note" in entry:
            notes.append("{}, batch {}, history {}: {}".format(*named, entry["note"]))
    parts = [report.table(("", *columns), play), report.table(("", "value"), shares), report.table(heads, rows)]
    return "\n\n".join([title, *parts, *notes])


def draw(path: Path, result: dict[str, Any], whole: np.ndarray) -> None:
    """Plot the step's time over play, against history and against batch."""
    made, axes = report.figure(3)
    axes[0].plot(whole * 1e3, lw=0.6)
    axes[0].axhline(result["frame_ms_p50"], color="tab:gray", ls="--", label="median")
    axes[0].set(xlabel="frame", ylabel="ms a step", title=f"Play, {result['memory']}", ylim=(0, None))
    cells = [entry for entry in result["cells"] if "note" not in entry]
    for i, batch in enumerate(sorted({entry["batch"] for entry in cells})):
        line = [(e["memory"], e["history"], e["frame_ms_p50"]) for e in cells if e["batch"] == batch and e["history"]]
        for mode, style in (("full", "o-"), ("mag", "s--")):
            points = [(h, ms) for m, h, ms in line if m == mode]
            if points:
                axes[1].plot(*zip(*sorted(points), strict=True), style, color=f"C{i}", label=f"{mode}, batch {batch}")
        for e in cells:
            if e["batch"] == batch and e["history"] is None:
                axes[1].axhline(e["frame_ms_p50"], color=f"C{i}", ls=":", label=f"{e['memory']}, batch {batch}")
    axes[1].set(xlabel="frames of history", ylabel="ms a step (median)", title="Against history", ylim=(0, None))
    for mode, length in dict.fromkeys((e["memory"], e["history"]) for e in cells):
        rates = [(e["batch"], e["fps"]) for e in cells if (e["memory"], e["history"]) == (mode, length)]
        axes[2].plot(*zip(*sorted(rates), strict=True), "o-", label=mode + (f", {length} frames" if length else ""))
    axes[2].set(xlabel="worlds at the same time", ylabel="frames/s", title="Against batch", ylim=(0, None))
    for ax in axes:
        if ax.get_legend_handles_labels()[0]:
            ax.legend(fontsize="x-small")
    report.save_figure(path, made)
