"""What recording costs: ``python -m tests.support.session_cost [WORLD] [BLOCKS]``, on an idle machine.

Plays blocks of 100 frames as fast as the model draws, in turn without a recording, with one, and with one and its
video; the medians of the blocks are compared, so that what else the machine does strikes all three alike.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from engine.config import load_world
from engine.game.game import Game
from engine.game.log import SessionLog
from engine.loading import load_starts, open_world
from engine.sessions.info import info_of_world
from engine.sessions.replay import weights_of

BLOCK = 100
WAYS = ("no recording", "session", "session and video")


def main(name: str, blocks: int) -> None:
    config = load_world(name)
    world = open_world(config)
    world.warm_up()
    weights, starts = weights_of(config.checkpoint_path), load_starts(config)
    rng = np.random.default_rng(0)
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    drawing: dict[str, list[float]] = {way: [] for way in WAYS}
    rewinds: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        logs: list[SessionLog | None] = [None]
        for way in WAYS[1:]:
            path = Path(folder) / way.replace(" ", "-")
            logs.append(
                SessionLog(
                    path,
                    lambda game: info_of_world(game.world, config, weights, seed=game.seed, start=game.start),
                    video="video" in way,
                )
            )
        games = [Game(world, starts, log=log) for log in logs]
        moments = []
        for game in games:
            game.restart()
            moments.append(world.snapshot())
        for _ in range(blocks):
            for number, (way, game) in enumerate(zip(WAYS, games, strict=True)):
                world.restore(moments[number])
                began, cpu = time.perf_counter(), time.thread_time()
                for _ in range(BLOCK):
                    game.render([b for b in config.buttons if rng.random() < 0.2])
                    game.commit()
                seconds[way].append((time.perf_counter() - began) / BLOCK)
                drawing[way].append((time.thread_time() - cpu) / BLOCK)
                moments[number] = world.snapshot()
        for number, game in enumerate(games[:1]):
            world.restore(moments[number])
            while game.index > 130 and len(rewinds) < 5:
                began = time.perf_counter()
                game.rewind(round(10 * config.frame_rate))
                rewinds.append(time.perf_counter() - began)
        for log in logs:
            if log is not None:
                log.finish(None)
        base, base_cpu = statistics.median(seconds[WAYS[0]]), statistics.median(drawing[WAYS[0]])
        for way in WAYS:
            wall, cpu = statistics.median(seconds[way]), statistics.median(drawing[way])
            print(
                f"{way:20} {1000 * wall:7.2f} ms a frame ({100 * (wall / base - 1):+.1f} %), the drawing"
                f" thread's own time {1000 * cpu:.2f} ms ({100 * (cpu / base_cpu - 1):+.1f} %)"
            )
        for log in logs:
            for path in log.sessions if log is not None else []:
                sizes: dict[str, int] = {}
                for file in path.iterdir():
                    kind = file.name.split("-")[0].split(".")[0]
                    sizes[kind] = sizes.get(kind, 0) + file.stat().st_size
                frames = blocks * BLOCK
                each = ", ".join(f"{kind} {size / frames:.0f}" for kind, size in sorted(sizes.items()))
                print(f"{path.name}: {sum(sizes.values()) / frames:.0f} bytes a frame ({each})")
    print(f"10 s back: {1000 * statistics.median(rewinds):.1f} ms (most {1000 * max(rewinds):.1f})")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "doom-plain", int(sys.argv[2]) if len(sys.argv) > 2 else 10)
