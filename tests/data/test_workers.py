"""Workers that die are replaced, and leave nothing."""

import multiprocessing
import os
import signal
from pathlib import Path

import pytest

pytest.importorskip("vizdoom")

from engine.config import load_world
from engine.data.collect import plan_jobs
from engine.data.options import CollectOptions
from engine.data.shards import Play, frames_in
from engine.data.workers import in_processes
from engine.sources.doom.orphans import SHARED_MEMORY, instances_in
from tests.support import leftovers


def test_a_worker_that_dies_is_replaced_and_its_shards_are_made(tmp_path: Path) -> None:
    jobs = plan_jobs(
        CollectOptions("doom-plain", 400, tmp_path, split="train", episode_length=50, frames_per_shard=100)
    )
    work = in_processes(2)(load_world("doom-plain"), tmp_path, Play(0, 50), jobs)
    next(work)
    os.kill(multiprocessing.active_children()[0].pid or 0, signal.SIGKILL)
    for _ in work:
        pass
    assert [frames_in(job.path(tmp_path)) for job in jobs] == [100] * 4


@pytest.mark.skipif(not SHARED_MEMORY.is_dir(), reason="shared memory is looked for on Linux")
def test_nothing_is_left_of_a_worker_that_was_killed_while_its_simulator_ran(tmp_path: Path) -> None:
    options = CollectOptions("doom-plain", 200, tmp_path, split="train", episode_length=50, frames_per_shard=100)
    jobs = plan_jobs(options)
    work = in_processes(1)(load_world("doom-plain"), tmp_path, Play(0, 50), jobs)
    next(work)
    (worker,) = multiprocessing.active_children()
    (engine,) = instances_in(worker.pid or 0)
    assert list(SHARED_MEMORY.glob(f"*{engine}")) and leftovers.files()
    os.kill(worker.pid or 0, signal.SIGKILL)
    work.close()  # type: ignore[attr-defined]
    assert leftovers.processes() == [] and leftovers.files() == []
    assert not list(SHARED_MEMORY.glob(f"*{engine}"))
