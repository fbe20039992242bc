"""``python -m engine bench revisit WORLD``: does it remember? Places that are left and seen again, on test maps.

Walks are those of `engine.bench.revisit.tasks`; the simulator plays them and is the truth. With `truth` history
the history is filled with real frames up to the return, which is then drawn under the true actions and compared
with the simulator; with `generated` history all but the first frames are drawn, and the return is compared with
the world's own frames of the first sight. Every mode meets the same walks and the same noise.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from engine.bench import report
from engine.bench.opening import check_shared, named, numbers, open_for
from engine.bench.options import HISTORIES, TASKS, TILE_TASKS, RevisitOptions
from engine.bench.revisit import chart, view
from engine.bench.revisit.cells import Cell, Key, collected
from engine.bench.revisit.errand import ErrandTime
from engine.bench.revisit.errands import Errands
from engine.bench.revisit.play import Played, ceiling, cut, joined, play, scores
from engine.bench.revisit.tasks import MAX_SCORED, MIN_GAP, REAL, Timetable
from engine.bench.revisit.truth import Visits, check_source, visits
from engine.bench.rollout import groups
from engine.bench.tiles.atlas import Tile
from engine.bench.tiles.reader import TileReader, has_tiles
from engine.config import WorldConfig, load_world
from engine.errors import UserError
from engine.files import check_path
from engine.history.names import MODES
from engine.loading import fitted
from engine.measures import has_flip
from engine.sources import make_source
from engine.sources.splits import SPLITS
from engine.world import Snapshot, World

COMMAND = "bench revisit"
MAX_GAP = 100_000
FULL_BYTES = 2 * 10**9
"""What the histories of a batch in the mode `full` may take, with what they need while they grow."""
FULL_GROWTH = 2.5
TRUTH_BYTES = 4 * 10**8
"""What the simulator's frames of a batch may take."""


@dataclass(frozen=True)
class Choice:
    """What the options name."""

    tasks: list[str]
    gaps: list[int]
    modes: list[str]
    histories: list[str]


def check(options: RevisitOptions, config: WorldConfig) -> Choice:
    """Read the lists; raise UserError where an argument makes no sense."""
    default = ",".join(TILE_TASKS if has_tiles(config) else TASKS)
    check_shared(options)
    for name, top in (("episodes", len(SPLITS["test"])), ("scored", MAX_SCORED), ("batch", 4096)):
        if not 1 <= getattr(options, name) <= top:
            raise UserError(f"--{name} must be from 1 to {top}, not {getattr(options, name)}")
    gaps = numbers(options.gaps, "--gaps")
    for gap in gaps:
        if not MIN_GAP <= gap <= MAX_GAP:
            raise UserError(f"--gaps must be from {MIN_GAP} to {MAX_GAP} frames, not {gap}")
    return Choice(
        named(options.tasks or default, "task", (*TASKS, *TILE_TASKS)),
        sorted(gaps),
        named(options.modes, "memory mode", MODES),
        named(options.history, "history", HISTORIES),
    )


class Worlds:
    """Worlds by mode and batch, opened on first use, each with a snapshot of how it was then."""

    def __init__(self, options: RevisitOptions, config: WorldConfig) -> None:
        self.options, self.config = options, config
        self._open: dict[tuple[str, int], tuple[World, Snapshot]] = {}

    def get(self, mode: str, batch: int) -> tuple[World, Snapshot]:
        """Return a world and its first moment."""
        if (mode, batch) not in self._open:
            opened = open_for(self.options, self.config, batch, mode)
            self._open[mode, batch] = opened, opened.snapshot()
        return self._open[mode, batch]

    def batch(self, mode: str, group: int, length: int) -> int:
        """Worlds at the same time for a group of walks: fewer in `full`, whose history grows with the walk."""
        if mode != "full":
            return group
        world, _ = self.get(mode, 1)
        c = world.generator.config
        if not c.window:  # it attends to no frames, and keeps none
            return group
        # Keys, values, and at most as much again for the part of the keys that is rotated anew.
        frame = 3 * c.depth * c.tokens * c.dim * world.dtype.itemsize
        most = max(1, int(FULL_BYTES / (FULL_GROWTH * frame * length)))
        return -(-group // -(-group // most))


def measure(
    worlds: Worlds,
    group: Visits,
    choice: Choice,
    cells: dict[Key, Cell],
    bar: tqdm,
    errands: Errands | None = None,
) -> list[Any]:
    """Let every mode play a group of walks in every history; returns what may be shown of the first walk.

    errands: where the walks are errands.
    """
    seed, given = worlds.options.seed, errands is not None and worlds.options.true_poses
    length, count = group.time.length, len(group.map_seeds)
    fixed = ceiling(worlds.get(choice.modes[0], worlds.batch(choice.modes[0], count, length))[0], group)
    shown = []
    for history in choice.histories:
        first: dict[str, Played] = {}
        for mode in choice.modes:
            batch = worlds.batch(mode, count, length)
            world, fresh = worlds.get(mode, batch)
            parts: list[Played] = []
            walked: list[list[Tile]] | None = None
            for index, whole in groups(count, batch):

                def advance(frames: int, share: int = whole) -> None:
                    bar.update(frames * share)

                part, player = group.part(index), None
                if errands is not None and history == "generated":
                    player = errands.walkers(part)
                parts.append(cut(play(world, fresh, part, history, seed, advance, player, given), whole))
                if player is not None:
                    walked = [*(walked or []), *player.tiles[:whole]]
            played = joined(parts)
            cell = cells.setdefault((group.task, history, group.time.gap, mode), Cell())
            found = scores(group, played, history) | fixed
            if errands is not None:
                found |= chart.scores(errands.reader, group, played, walked)
                if walked is not None:
                    found = chart.without_lost(found)
            cell.parts.append(found)
            cell.seconds += played.seconds
            cell.bytes, cell.batch = max(cell.bytes, played.bytes), max(cell.batch, batch)
            first[mode] = cut(played, 1)
        shown.append(view.Shown(history, group.part(np.array([0])), first))
    return shown


def walks_of(
    worlds: Worlds, env: Any, world: World, task: str, time: Timetable | ErrandTime
) -> tuple[Errands | None, Iterator[Visits]]:
    """The walks of a task and timetable, in groups that fit into memory; and how errands are scored, where they are."""
    options = worlds.options
    most = min(options.batch, options.episodes)
    if isinstance(time, ErrandTime):
        reader = TileReader.of(worlds.config, world.height, world.width)
        errands = Errands(reader, worlds.config.buttons, options.seed)
        return errands, errands.visits(env, time, options.episodes, most)
    held = TRUTH_BYTES // (time.length * world.height * world.width * 3)
    group_size = max(1, min(most, held))
    return None, visits(env, task, time, options.seed, options.episodes, group_size)


def notes(worlds: Worlds, choice: Choice) -> list[str]:
    """What a reader of the figures must know."""
    found = [
        "psnr_matched takes, for each frame, the nearest one by PSNR of the return segment (truth history) or of the"
        " first sight (generated history); the paper takes the nearest by LPIPS",
        "lpips is not measured: its weights are not at hand",
        "a generated history that has gone blank or stands still agrees with itself: there, psnr speaks of memory only"
        " as far as it lies above psnr_still, and psnr_truth says whether the pictures are still of this world",
        "frame_ms_p50 is a step of `batch` worlds together",
    ]
    if set(choice.tasks) & set(TILE_TASKS):
        found.append(
            "map_consistency, of errands: of the tiles in the last frame that were seen before the return and never"
            " changed, the share drawn as the same material; the simulator's player is kept fed; a generated history is"
            " walked by what is drawn, so that psnr_truth says nothing of it"
        )
    if not has_flip():
        found.append("flip is missing: the package flip-evaluator is not installed")
    kept = worlds.get(choice.modes[0], 1)[0].generator.config
    if choice.gaps[0] <= kept.window:
        found.append(f"a gap of {choice.gaps[0]} frames lies within the window of {kept.window}")
    if kept.sink > REAL:
        found.append(f"the sink of {kept.sink} frames may hold views of the place")
    return found


def run(options: RevisitOptions) -> None:
    """Measure, print a table, write the files that were asked for. Raises UserError."""
    config = fitted(load_world(options.world), options.checkpoint)
    choice = check(options, config)
    check_source(config, choice.tasks)
    plot = report.beside(options.json, options.plot)
    if plot is not None and options.sheet is not None and plot.resolve() == options.sheet.resolve():
        raise UserError(f"{plot} is named for the plot and for the sheet; the plot goes beside the JSON: choose --plot")
    report.check_outputs(options.json, plot, options.video, options.sheet)
    if options.video is not None:
        check_path(options.video, (".mp4", ".gif"))
    worlds = Worlds(options, config)
    for mode in choice.modes:  # a checkpoint that lacks one is found before the work
        worlds.get(mode, 1)
    world, _ = worlds.get(choice.modes[0], 1)
    result = report.header(COMMAND, options, config) | {
        "episodes": options.episodes,
        "scored": options.scored,
        "steps": world.steps,
        "device": str(world.device),
        "dtype": str(world.dtype).removeprefix("torch."),
        "notes": notes(worlds, choice),
    }
    cells: dict[Key, Cell] = {}
    shown: list[view.Shown] = []
    plan: list[tuple[str, Timetable | ErrandTime]] = [
        (task, (ErrandTime if task in TILE_TASKS else Timetable)(gap, options.scored))
        for task in choice.tasks
        for gap in choice.gaps
    ]
    total = options.episodes * len(choice.modes) * len(choice.histories) * sum(time.length for _, time in plan)
    with (
        closing(make_source(config, height=world.height, width=world.width)) as env,
        tqdm(total=total, unit="frame", smoothing=0.05) as bar,
    ):
        for task, time in plan:
            bar.set_description(f"{task}, gap {time.gap}")
            errands, walks = walks_of(worlds, env, world, task, time)
            for number, group in enumerate(walks):
                found = measure(worlds, group, choice, cells, bar, errands)
                shown += found if number == 0 else []
            if options.json is not None:
                whole = (task, time) == plan[-1]
                report.save_json(options.json, result | {"complete": whole} | collected(cells, options.episodes))
    result |= collected(cells, options.episodes)
    print(view.tables(result))
    if plot is not None:
        view.draw(plot, result["cells"])
    if options.sheet is not None:
        view.save_sheet(options.sheet, shown)
    if options.video is not None:
        view.save_video(options.video, shown, config.frame_rate)
