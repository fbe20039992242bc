"""Doom engines whose owner was killed: they wait for ever, and hold shared memory that nobody else removes."""

import os
import signal
from contextlib import suppress
from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")  # where Linux shows it
PROCESSES = Path("/proc")
OPTION = "+viz_instance_id"  # of an engine's command line; the name of its shared memory follows


def end_group(group: int) -> None:
    """Kill the processes of a group, and remove the shared memory of the engines among them.

    Does nothing where the group is gone, or the system has no groups (Windows). Shared memory is looked for on Linux.
    """
    if not hasattr(os, "killpg"):
        return
    instances = instances_in(group)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)
    for instance in instances:
        for shared in SHARED_MEMORY.glob(f"ViZDoom*{instance}"):
            with suppress(OSError):
                shared.unlink()


def instances_in(group: int) -> list[str]:
    """Names of the engines in a group of processes, on Linux."""
    found = []
    for folder in PROCESSES.glob("[0-9]*"):
        with suppress(OSError):  # it ended meanwhile
            if os.getpgid(int(folder.name)) != group:
                continue
            words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
            if OPTION in words[:-1]:
                found.append(words[words.index(OPTION) + 1])
    return [name for name in found if name.isalnum()]
