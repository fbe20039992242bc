"""A damaged or hostile session folder opens, or is one clear line; it never harms and never takes much memory.

``LOCI_FULL_TESTS=1`` runs all 2,000 mutations.
"""

import json
import os
import random
import shutil
import struct
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.errors import UserError
from engine.sessions.reader import open_session
from engine.sessions.replay import Pictures, Replayer
from engine.sessions.store import INFO, LOG, START
from engine.sessions.tree import tree
from engine.world import World
from tests.support.long import FULL
from tests.support.sessions import branch, record
from tests.support.worlds import make_world

COUNT = 2000 if FULL else 60
NASTY: list[Any] = [
    None, True, -1, 0, 2**31, 2**63, 10**400, 1.5, float("nan"), "", "x", "../walk", "/etc", "..", ".", "a/b", "a\\b",
    "walk\x00", "C:", [], {}, [[]], "\ud800", "9" * 5000, ["x"] * 300, {"folder": "..", "id": "x", "frame": 0},
    {"folder": "/etc", "id": "x", "frame": 0}, {"folder": "walk", "id": "x", "frame": -5},
]  # fmt: skip

Mutation = Callable[[random.Random, Path], None]


def pick(rng: random.Random, folder: Path) -> Path:
    """A plain file: what an earlier mutation has put in its place is not followed."""
    return rng.choice(sorted(path for path in folder.iterdir() if path.is_file() and not path.is_symlink()))


def content(path: Path) -> bytes:
    """The bytes of a file; ValueError for a pipe, a link or a huge file, which an earlier mutation has made of it."""
    if path.is_symlink() or not path.is_file() or path.stat().st_size > 2**26:
        raise ValueError("not to be read here")
    return path.read_bytes()


def truncated(rng: random.Random, folder: Path) -> None:
    path = pick(rng, folder)
    data = content(path)
    path.write_bytes(data[: rng.randrange(len(data) + 1)])


def flipped(rng: random.Random, folder: Path) -> None:
    path = pick(rng, folder)
    data = bytearray(content(path))
    for _ in range(rng.randint(1, 4)):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)


def missing(rng: random.Random, folder: Path) -> None:
    pick(rng, folder).unlink()


def swapped(rng: random.Random, folder: Path) -> None:
    one, other = pick(rng, folder), pick(rng, folder)
    first, second = content(one), content(other)
    one.write_bytes(second)
    other.write_bytes(first)


def wrong_info(rng: random.Random, folder: Path) -> None:
    table = json.loads(content(folder / INFO))
    target = rng.choice([table, table["runtime"], *([table["parent"]] if "parent" in table else [])])
    name = rng.choice([*target, "parent", "extra"])
    if rng.random() < 0.15:
        target.pop(name, None)
    else:
        target[name] = rng.choice(NASTY)
    (folder / INFO).write_text(json.dumps(table))


def wrong_line(rng: random.Random, folder: Path) -> None:
    lines = content(folder / LOG).decode().splitlines()
    at = rng.randrange(len(lines))
    entry = json.loads(lines[at])
    entry[rng.choice([*entry, "memory", "steps", "frames_crc32", "reward"])] = rng.choice(NASTY)
    lines[at] = json.dumps(entry)
    (folder / LOG).write_text("\n".join(lines) + "\n")


def shuffled_lines(rng: random.Random, folder: Path) -> None:
    lines = content(folder / LOG).splitlines(keepends=True)
    kind = rng.randrange(5)
    if kind == 0:
        rng.shuffle(lines)
    elif kind == 1:
        lines.insert(rng.randrange(len(lines)), b"\xff\xfe garbage\n")
    elif kind == 2:
        lines.insert(rng.randrange(len(lines)), b"[" * 50_000 + b"\n")
    elif kind == 3:
        lines.append(b'{"type":"frame_input","action":[' + b"0," * 100_000 + b"0]}\n")
    else:
        del lines[rng.randrange(len(lines))]
    (folder / LOG).write_bytes(b"".join(lines))


def linked(rng: random.Random, folder: Path) -> None:
    path = pick(rng, folder)
    path.unlink()
    kind = rng.randrange(4)
    if kind == 0:
        path.symlink_to(folder.parent.parent / "secret")
    elif kind == 1:
        path.symlink_to(folder)
    elif kind == 2:
        path.mkdir()
    else:
        os.mkfifo(path)  # opening it would wait for ever


def huge_header(rng: random.Random, folder: Path) -> None:
    path = folder / rng.choice([p.name for p in folder.glob("*.safetensors")])
    data = content(path)
    kind = rng.randrange(3)
    if kind == 0:
        path.write_bytes(struct.pack("<Q", rng.choice([2**40, 2**63, len(data) * 2, 0])) + data[8:])
        return
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    name = rng.choice([name for name in header if name != "__metadata__"])
    if kind == 1:
        header[name]["shape"] = rng.choice([[2**31, 2**31], [2**62], [-1], [10**12], []])
    else:
        header["__metadata__"] = rng.choice([{}, {"meta": "[" * 5000}, {"meta": "{}", "crc32": "0"}])
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])


def sparse(rng: random.Random, folder: Path) -> None:
    with open(pick(rng, folder), "r+b") as file:
        file.truncate(rng.choice([2**34, 2**31, 2**33 + 5]))  # no bytes on the disk, but a size


MUTATIONS: list[Mutation] = [
    truncated, flipped, missing, swapped, wrong_info, wrong_line, shuffled_lines, linked, huge_header, sparse
]  # fmt: skip


def use(folder: Path, world: World) -> str | None:
    """Do all that a reader does; returns the message of a UserError, None where it opened."""
    try:
        session = open_session(folder)
        shown = Pictures(session, world.codec, lambda: Replayer(session, world))
        for index in sorted({0, 1, session.first, session.last // 2, session.last}):
            shown.frame(index)
        Replayer(session, world).go_to(session.last)
    except UserError as error:
        return str(error)
    return None


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("memory", ["window", "mag"])
def test_a_mutated_session_opens_or_is_one_clear_line(tmp_path: Path, memory: str) -> None:
    world = make_world(memory=memory)
    source = tmp_path / "source"
    recorder, _ = record(source / "walk", 140, world=world)
    Replayer(open_session(source / "walk"), world).go_to(130)
    branch(source / "walk-2", recorder, world, 130, 8, seed=1)
    (tmp_path / "secret").write_text("nobody may read or change this")
    refused = opened = 0
    longest, peak = 0.0, 0
    for number in range(COUNT):
        rng = random.Random(number)
        work = tmp_path / "work"
        shutil.copytree(source, work)
        victim = work / rng.choice(["walk", "walk-2"])
        for mutation in rng.sample(MUTATIONS, rng.choice([1, 1, 1, 2])):
            try:
                mutation(rng, victim)
            except (OSError, ValueError, KeyError, IndexError):
                continue  # the first mutation left nothing for the second
        names = sorted(path.name for path in work.iterdir())
        contents = {path: path.stat().st_mtime_ns for path in victim.iterdir() if path.is_file()}
        tracemalloc.start()
        began = time.perf_counter()
        for name in ("walk-2", "walk"):
            message = use(work / name, world)
            opened, refused = opened + (message is None), refused + (message is not None)
            assert message is None or (len(message) < 700 and "\n" not in message), message
        longest = max(longest, time.perf_counter() - began)
        peak = max(peak, tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        tree(work)
        assert sorted(path.name for path in work.iterdir()) == names  # nothing was written
        assert contents == {path: path.stat().st_mtime_ns for path in victim.iterdir() if path.is_file()}
        shutil.rmtree(work)
    assert (tmp_path / "secret").read_text() == "nobody may read or change this"
    assert refused > COUNT / 2 and opened > COUNT / 10
    assert peak < 2**28 and longest < 20
    print(f"{COUNT} folders: {refused} refusals, {opened} opened, longest {longest:.1f} s, {peak >> 20} MiB")


@pytest.mark.parametrize("name", ["../walk", "/etc", "..", ".hidden", "a/b", "a\\b", "C:x", "x\x00y", ""])
def test_a_parent_that_is_a_path_is_refused(tmp_path: Path, name: str) -> None:
    world = make_world()
    recorder, _ = record(tmp_path / "walk", 5, world=world)
    branch(tmp_path / "walk-2", recorder, world, 5, 2, seed=1)
    table = json.loads((tmp_path / "walk-2" / INFO).read_text())
    table["parent"]["folder"] = name
    (tmp_path / "walk-2" / INFO).write_text(json.dumps(table))
    with pytest.raises(UserError, match="name of a folder beside"):
        open_session(tmp_path / "walk-2")


def test_a_ring_of_parents_is_refused(tmp_path: Path) -> None:
    record(tmp_path / "walk", 5)
    table = json.loads((tmp_path / "walk" / INFO).read_text())
    table["parent"] = {"folder": "walk", "id": table["id"], "frame": 2}
    (tmp_path / "walk" / INFO).write_text(json.dumps(table))
    with pytest.raises(UserError, match="its own ancestor"):
        open_session(tmp_path / "walk")


def test_a_parent_that_is_gone_is_named(tmp_path: Path) -> None:
    world = make_world()
    recorder, _ = record(tmp_path / "walk", 5, world=world)
    branch(tmp_path / "walk-2", recorder, world, 5, 2, seed=1)
    (tmp_path / "walk").rename(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="its parent 'walk' must lie beside it"):
        open_session(tmp_path / "walk-2")
    (tmp_path / "elsewhere" / START).unlink()
