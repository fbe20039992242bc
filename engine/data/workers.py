"""Collecting in several processes: each plays its own simulator, none outlives the run."""

import multiprocessing
import os
import queue
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType
from typing import Any

from engine.config import WorldConfig
from engine.data.shards import Job, Play, frames_in, make_shards
from engine.errors import UserError
from engine.sources import make_source
from engine.sources.doom.orphans import end_group

Work = Callable[[WorldConfig, Path, Play, list[Job]], Iterator[int]]


TRIES = 3
"""A simulator crashes once in some hundred starts; what it had not finished is then made anew."""


class WorkerDied(UserError):
    """A worker process was killed or crashed."""


def in_processes(workers: int) -> Work:
    """Return a function that makes shards in `workers` processes and yields the frames made, as they come."""

    def work(config: WorldConfig, out: Path, play: Play, jobs: list[Job]) -> Iterator[int]:
        for left in reversed(range(TRIES)):
            try:
                yield from once(config, out, play, jobs)
                return
            except WorkerDied:
                if not left:
                    raise
                jobs = [job for job in jobs if frames_in(job.path(out)) < job.frames]

    def once(config: WorldConfig, out: Path, play: Play, jobs: list[Job]) -> Iterator[int]:
        context = multiprocessing.get_context("spawn")
        tasks, results = context.Queue(), context.Queue()
        count = min(workers, len(jobs))
        for job in jobs:
            tasks.put(job)
        for _ in range(count):
            tasks.put(None)
        folder = Path(tempfile.mkdtemp(prefix="loci-collect-"))  # of all temporary files of the workers
        processes: list[BaseProcess] = [
            context.Process(target=_worker, args=(config, out, play, tasks, results, folder), daemon=True)
            for _ in range(count)
        ]
        try:
            for process in processes:
                process.start()
            yield from _gather(processes, results)
        finally:
            for process in processes:
                if process.is_alive():
                    process.terminate()
            for process in processes:
                process.join()
                if process.exitcode and process.pid:
                    end_group(process.pid)  # it was killed: its simulator goes on
            shutil.rmtree(folder, ignore_errors=True)

    return work


def _gather(processes: list[BaseProcess], results: Any) -> Iterator[int]:
    """Yield what the workers report until all are done; raises what one of them raised."""
    running = len(processes)
    while running:
        try:
            message = results.get(timeout=1.0)
        except queue.Empty:
            dead = [process for process in processes if process.exitcode not in (None, 0)]
            if dead:
                raise WorkerDied(
                    f"a worker process ended with status {dead[0].exitcode} (killed, or out of memory?);"
                    " run the same command again, complete shards are kept"
                ) from None
            continue
        if isinstance(message, BaseException):
            raise message
        if message is None:
            running -= 1
        else:
            yield message


def _worker(config: WorldConfig, out: Path, play: Play, tasks: Any, results: Any, folder: Path) -> None:
    def leave(number: int, frame: FrameType | None) -> None:
        sys.exit(0)  # as an exception, so that the simulator is closed on the way out

    if hasattr(os, "setpgrp"):
        os.setpgrp()  # a group of its own, with its simulator: they can be ended together
    tempfile.tempdir = str(folder)
    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends the workers
    parent = os.getppid()
    try:
        with closing(make_source(config)) as env:
            for frames in make_shards(env, iter(tasks.get, None), play, out):
                results.put(frames)
                if os.getppid() != parent:  # the run was killed
                    return
        results.put(None)
    except (UserError, OSError, ModuleNotFoundError) as error:
        results.put(error)
