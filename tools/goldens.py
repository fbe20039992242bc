"""Check that this working tree (HEAD) behaves to the bit like a commit: ``python tools/goldens.py BASE``.

For changes that must change nothing. Both, one after the other on this machine and one thread, draw frames of the
shipped worlds in all memory modes, collect, train each stage for three steps, record and replay sessions; see
`goldens_probe.py`, which goes through public doors alone. A row a case says `equal`, or what differs first.

What BASE gave is kept, its data, session and a run to go on with beside it (about 100 MB), in .git/loci-goldens/COMMIT
or --keep DIR/COMMIT, so that the next check against the same commit only asks HEAD; delete the folder to ask anew.

Exit status: 0 where all cases are equal, 1 where one differs, 2 where it cannot be said (an unknown commit, a base
that fails), 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PROBE = Path(__file__).with_name("goldens_probe.py")
PARTS = ("play", "collect", "train", "sessions")
NEEDS = {"train": ("collect",)}
"""Parts of BASE whose data another one begins from."""
SHORT = 40
"""Characters of a value that a row still shows; longer ones, such as digests, are only named."""


class GoldensError(Exception):
    """Why nothing can be said; one line."""


@dataclass(frozen=True)
class Result:
    """What a probe says of a case: values by name, or why there are none."""

    values: dict[str, str]
    failed: str = ""
    seconds: float = 0.0


def first_difference(base: Result, head: Result | None) -> str:
    """What differs first in the order of the base's values, or an empty text where nothing does."""
    if head is None:
        return "HEAD does not get so far"
    if head.failed:
        return f"fails: {head.failed}"
    for name in [*base.values, *head.values]:
        one, two = base.values.get(name), head.values.get(name)
        if one is None or two is None:
            return f"{name} is only in {'HEAD' if one is None else 'BASE'}"
        if one != two:
            shown = len(one) <= SHORT and len(two) <= SHORT
            return f"{name} differs" + (f": {one} in BASE, {two} in HEAD" if shown else "")
    return ""


def git(*words: str, otherwise: str = "") -> str:
    """Run git on this repository; returns its stdout. GoldensError with `otherwise` or its message where it fails."""
    try:
        done = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True)
    except FileNotFoundError:
        raise GoldensError("git is not installed") from None
    if done.returncode:
        raise GoldensError(otherwise or " ".join(done.stderr.split()))
    return done.stdout.strip()


def commit_of(name: str) -> str:
    """The full hash of a commit. GoldensError where there is none of this name."""
    unknown = f"expected a commit of this repository, not {name!r}; `git log` shows them"
    return git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}", otherwise=unknown)


def check_out(commit: str, folder: Path) -> Path:
    """The files of a commit in a new folder, without an entry in the repository's list of worktrees."""
    folder.mkdir()
    archive = folder.with_suffix(".tar")
    git("archive", "--format", "tar", "--output", str(archive), commit)
    shutil.unpack_archive(archive, folder)
    archive.unlink()
    return folder


def environment(checkout: Path) -> dict[str, str]:
    """What both checkouts run under: their own engine first, one thread, no GPU, no window, no sound."""
    fixed = {
        "PYTHONPATH": str(checkout),
        "PYTHONHASHSEED": "0",
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "SDL_VIDEODRIVER": "dummy",
        "SDL_AUDIODRIVER": "dummy",
    }
    return {**os.environ, **fixed}


def probe(checkout: Path, part: str, keep: Path, work: Path, base: bool) -> Iterator[tuple[str, Result]]:
    """Run a part of the probe in a checkout; gives its cases as they are done. GoldensError where it breaks off."""
    command = [sys.executable, str(PROBE), part, "--keep", str(keep), "--work", str(work), *["--base"] * base]
    work.mkdir(parents=True, exist_ok=True)
    with (
        (work / f"{part}.log").open("w+") as log,
        subprocess.Popen(
            command, cwd=checkout, env=environment(checkout), stdout=subprocess.PIPE, stderr=log, text=True
        ) as process,
    ):
        try:
            assert process.stdout is not None
            for line in process.stdout:
                told = json.loads(line)
                yield told["case"], Result(told.get("values", {}), told.get("failed", ""), told["seconds"])
            if process.wait():
                log.seek(0)
                raise GoldensError((log.read().strip().splitlines() or [f"exit status {process.returncode}"])[-1])
        finally:
            process.terminate()  # no harm where it has ended


def made_by() -> dict[str, str]:
    """What the base's results depend on beside the commit."""
    packages = {name: version(name) for name in ("torch", "numpy")}
    found = {"probe": hashlib.sha256(PROBE.read_bytes()).hexdigest(), "python": platform.python_version()}
    return {**found, **packages, "machine": f"{platform.node()} {platform.machine()}"}


class Base:
    """The commit to compare with: checked out when it is asked for something that is not kept yet."""

    def __init__(self, commit: str, folder: Path, scratch: Path) -> None:
        self.commit, self.folder, self.scratch = commit, folder, scratch
        self._checkout: Path | None = None
        note = folder / "made-by.json"
        if not note.exists() or json.loads(note.read_text()) != made_by():  # of another probe or torch, or cut off
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            note.write_text(json.dumps(made_by(), indent=1))

    @property
    def checkout(self) -> Path:
        if self._checkout is None:
            self._checkout = check_out(self.commit, self.scratch / "base")
        return self._checkout

    def results(self, part: str) -> dict[str, Result]:
        """What the commit gives in a part, kept or made now. GoldensError where a case fails."""
        path = self.folder / f"{part}.json"
        if not path.exists():
            made = {}
            for case, result in probe(self.checkout, part, self.folder, self.scratch / "base-work", base=True):
                if result.failed:
                    raise GoldensError(f"{self.commit[:12]} cannot be compared with; {part}: {case}: {result.failed}")
                say(f"  BASE  {part}: {case} ({result.seconds:.1f} s)")
                made[case] = result.values
            begun = path.with_suffix(".tmp")
            begun.write_text(json.dumps(made, indent=1))
            begun.replace(path)
        return {case: Result(values) for case, values in json.loads(path.read_text()).items()}


def head_results(base: Base, part: str) -> Iterator[tuple[str, Result]]:
    """What this working tree gives in a part; its session is then drawn again by the base."""
    work = base.scratch / "head-work"
    yield from probe(ROOT, part, base.folder, work, base=False)
    if part == "sessions":
        yield from probe(base.checkout, "others", base.folder, work, base=True)


def compare(base: Base, part: str, row: Callable[[str, str, float], None]) -> int:
    """Compare a part, a row a case; returns how many differ. GoldensError where the base fails."""
    for needed in NEEDS.get(part, ()):
        base.results(needed)
    left, differ, broken = base.results(part), 0, ""
    try:
        for case, result in head_results(base, part):
            found = first_difference(left.pop(case, Result({})), result)
            row(f"{part}: {case}", found, result.seconds)
            differ += bool(found)
    except GoldensError as error:
        broken = str(error)
    for case, missing in left.items():
        row(f"{part}: {case}", f"HEAD breaks off: {broken}" if broken else first_difference(missing, None), 0.0)
    return differ + len(left)


def say(text: str) -> None:
    """Progress, for people."""
    print(text, file=sys.stderr, flush=True)


def print_row(case: str, difference: str, seconds: float) -> None:
    """A row of the table."""
    print(f"{case:<68} {seconds:5.1f} s  {difference or 'equal'}", flush=True)


def run(base: str, only: Sequence[str] = PARTS, keep: Path | None = None) -> int:
    """Compare with a commit; prints the table, returns the exit status. GoldensError where nothing can be said."""
    began, commit = time.perf_counter(), commit_of(base)
    keep = keep or Path(git("rev-parse", "--path-format=absolute", "--git-common-dir")) / "loci-goldens"
    cases: list[str] = []
    differ = 0

    def row(*cells: Any) -> None:
        cases.append(cells[0])
        print_row(*cells)

    with tempfile.TemporaryDirectory(prefix="loci-goldens-") as scratch:
        kept = Base(commit, keep.absolute() / commit, Path(scratch))
        say(f"BASE is {commit}, kept in {kept.folder}; HEAD is {ROOT}")
        for part in PARTS:
            if part in only:
                differ += compare(kept, part, row)
    verdict = f"{differ} of {len(cases)} cases differ" if differ else f"all {len(cases)} cases are equal"
    print(f"{verdict}, {time.perf_counter() - began:.0f} s")
    return 1 if differ else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", metavar="BASE", help="a commit, by any name that git knows")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="compare these parts alone")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="where BASE's results are kept")
    args = parser.parse_args(arguments)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the checkout is removed then, too
    try:
        return run(args.base, args.only, args.keep)
    except GoldensError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    finally:
        signal.signal(signal.SIGTERM, before)


if __name__ == "__main__":
    sys.exit(main())
