"""What `goldens.py` compares: ``python goldens_probe.py PART --keep DIR --work DIR`` prints a line of JSON a case.

It runs in a checkout of the project, whose `engine` it imports, and goes through public doors alone, so that the same
probe asks any two commits: what `engine` exports, ``python -m engine``, ``play.py``, and the files that these write.
A case's values are texts by name, in the order in which they came to be. What only the base makes, and both then
begin from, lies in --keep: data, a recorded session, a run to go on with.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

Values = dict[str, str]
Cases = Iterator[tuple[str, Callable[[], Values]]]

FRAMES = 64
"""That each case of play draws: past the first wrap-around of the window, and of the folds that are attended to."""
OTHER = {"window": "full", "full": "mag", "mag": "window"}
"""The mode that a case switches to and back from."""


@dataclass(frozen=True)
class Place:
    """Where a probe works. keep: what the base made; work: what is thrown away after; base: is this the base?"""

    keep: Path
    work: Path
    base: bool

    def kept(self, name: str, make: Callable[[Path], object]) -> Path:
        """What the base made under this name in `keep`; the base makes it where it is missing."""
        path = self.keep / name
        if not path.exists():
            if not self.base:
                raise RuntimeError(f"{path} is missing; delete {self.keep} so that the base makes it again")
            self.keep.mkdir(parents=True, exist_ok=True)
            begun = self.keep / f"unfinished-{name}"  # without a dot: play records a folder where a name has none
            shutil.rmtree(begun, ignore_errors=True)
            make(begun)
            begun.rename(path)
        return path


def python(*words: str | Path) -> str:
    """Run the interpreter in this checkout; returns its stdout. RuntimeError where it fails, with what it says last."""
    done = subprocess.run([sys.executable, *map(str, words)], capture_output=True, text=True)
    if done.returncode:
        said = done.stderr.strip().splitlines()[-1:] or done.stdout.strip().splitlines()[-2:]
        raise RuntimeError(f"exit status {done.returncode}: {'; '.join(said) or 'no message'}")
    return done.stdout


def engine(*words: str | Path) -> str:
    """``python -m engine ...``."""
    return python("-m", "engine", *words)


def digest(data: bytes | np.ndarray) -> str:
    """SHA-256 of bytes, or of an array's type, shape and values."""
    if isinstance(data, bytes):
        return hashlib.sha256(data).hexdigest()
    return f"{data.dtype} {data.shape} {digest(data.tobytes())}"


def tensors_of(path: Path, label: str) -> Values:
    """The digest of each tensor of a safetensors file, with its type and shape; its metadata does not count."""
    raw = path.read_bytes()
    end = 8 + int.from_bytes(raw[:8], "little")
    found: Values = {}
    for name, entry in sorted(json.loads(raw[8:end]).items()):
        if name != "__metadata__":
            first, last = entry["data_offsets"]
            found[f"{label} {name}"] = f"{entry['dtype']} {entry['shape']} {digest(raw[end + first : end + last])}"
    return found


# Play: what a world draws.


def opened(name: str, batch: int, **options: Any) -> tuple[Any, np.ndarray]:
    """A world of `engine`, and its start frames (n, H, W, 3)."""
    from engine import load_starts, load_world, open_world

    config = load_world(name)
    world = open_world(config, batch=batch, device="cpu", threads=1, **options)
    return world, np.stack(list(load_starts(config).values()))


def actions_of(world: Any, rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Random buttons, uint8 (*shape, A)."""
    return rng.integers(0, 2, (*shape, len(world.buttons)), np.uint8)


def one_world(name: str, frames: int = FRAMES, **options: Any) -> Values:
    """A single world from one real frame."""
    world, starts = opened(name, 1, **options)
    rng = np.random.default_rng(1)
    values = {"reset": digest(world.reset(5, starts[None, :1]))}
    for i in range(1, frames + 1):
        values[f"frame {i}"] = digest(world.step(actions_of(world, rng, 1)))
    return values


def three_worlds(name: str, mode: str) -> Values:
    """Three worlds, each with actions of its own, and everything that can happen to a batch in play.

    After frame 20 the second alone begins anew, from three real frames; frames 33 to 38 are drawn, taken back to the
    snapshot before them, and drawn under other actions; frames 43 to 53 are in another mode. Every other frame is
    rendered and committed in two calls.
    """
    world, starts = opened(name, 3, memory=mode)
    rng = np.random.default_rng(2)
    values = {"reset": digest(world.reset(7, starts[:3, None]))}

    def play(first: int, last: int, note: str = "") -> None:
        for i in range(first, last + 1):
            action = actions_of(world, rng, 3)
            if i % 2:
                frame = world.step(action)
            else:
                frame = world.render(action)
                world.commit()
            values[f"frame {i}{note}"] = digest(frame)

    play(1, 20)
    history, only = starts[:9].reshape(3, 3, *starts.shape[1:]), np.array([False, True, False])
    values["partial reset"] = digest(world.reset([1, 2, 3], history, actions_of(world, rng, 3, 3), only=only))
    play(21, 32)
    moment = world.snapshot()
    play(33, 38, ", first try")
    values["restore"] = digest(world.restore(moment))
    play(33, 42)
    world.set_mode(OTHER[mode])
    play(43, 53, f", in {OTHER[mode]}")
    world.set_mode(mode)
    play(54, FRAMES)
    return values


def play(place: Place) -> Cases:
    """Frames of the shipped worlds in all modes."""
    for name in ("doom-plain", "doom"):
        for mode in OTHER:
            yield f"{name} in {mode}", partial(one_world, name, memory=mode)
            yield f"{name} in {mode}, three worlds", partial(three_worlds, name, mode)
    options: dict[str, Any] = {"memory": "mag", "dtype": "fp32", "steps": 4, "memory_budget": 48}
    yield "doom-plain in mag, float32, 4 passes, 4 folds", partial(one_world, "doom-plain", 32, **options)


# Collect and train: what the commands write.

COLLECTED = {
    "doom-plain": "--frames 900 --episode-length 60 --frames-per-shard 300",
    "lake": "--frames 400 --episode-length 30 --policy uniform",
}
"""Worlds, and what is collected from each: the least that all stages accept."""
NEW_LAKE = (
    *("FrozenLake-v1", "--name", "lake", "--preset", "pico", "--steps", "10"),
    *("--make-option", 'desc=["SFFG","FHFF","FFHF","GFFG"]'),
)
"""A world with rewards and ends, for the heads: Gymnasium's frozen lake with some more goals."""


def world_of(place: Place, name: str) -> str:
    """What the commands call a world; the lake's file is made by the base (its start frames are not asked for)."""
    if name != "lake":
        return name
    return str(place.kept("lake-world", lambda folder: engine("new", *NEW_LAKE, "--folder", folder)) / "lake.toml")


def data_of(place: Place, name: str, out: Path | None = None) -> Path:
    """The base's data of a world; with `out` this checkout's own, made there."""
    if out is None:
        return place.kept(f"{name}-data", lambda folder: data_of(place, name, folder))
    engine("collect", world_of(place, name), "--out", out, *COLLECTED[name].split())
    return out


def shards(folder: Path) -> Values:
    """The tensors of all shards of a data folder."""
    values: Values = {}
    for path in sorted(folder.glob("*/shard-*.safetensors")):
        values |= tensors_of(path, path.relative_to(folder).with_suffix("").as_posix())
    return values


def collected(place: Place, name: str) -> Values:
    """The shards that this checkout collects."""
    return shards(data_of(place, name, None if place.base else place.work / f"{name}-data"))


def collect(place: Place) -> Cases:
    """Shards of the simulators."""
    for name in COLLECTED:
        yield name, partial(collected, place, name)


@dataclass(frozen=True)
class Leg:
    """Three steps of a training stage. run: folder in RUNS, where the options find those before it."""

    case: str
    stage: str
    run: str
    options: str = ""
    world: str = "doom-plain"


SHIPPED = "checkpoints/doom-plain/nano"
# With seed 4 the first steps of joint have, with rollouts, depths 0, 1, 2 and 1, without them folded history, a window
# alone, and frames that the generator has drawn itself.
ROLLOUTS = f"--init {SHIPPED} --block 1 --rollouts 0.5 --stretches 2 --seed 4"
LEGS = (
    Leg("codec", "codec", "codec"),
    Leg("generator", "generator", "generator", "--codec RUNS/codec --lr 0.02"),
    Leg("memory", "memory", "memory", "--init RUNS/generator --block 1"),
    Leg(
        "memory, low rank, registers",
        "memory",
        "registers",
        "--init RUNS/generator --block 4 --readout registers --registers 5 --rank 4 --budget 20",
    ),
    Leg("joint", "joint", "joint", "--init RUNS/memory --block 1 --seed 4"),
    Leg("joint with rollouts, from the shipped weights", "joint", "rollouts", ROLLOUTS),
    Leg("distill", "distill", "distill", "--init RUNS/rollouts --block 1 --teacher-steps 4 --stretches 2"),
    Leg("codec of the lake", "codec", "lake", world="lake"),
    Leg("generator of the lake", "generator", "lake", "--old 1", world="lake"),
    Leg("heads", "heads", "lake", world="lake"),
)
COMMON = "--batch 4 --warmup 1 --threads 1 --device cpu".split()
PRECISE = ("--dtype", "float32")  # what the codec is always trained in


def trained(place: Place, leg: Leg, steps: int = 3) -> Values:
    """Losses and exported weights of a run that is begun, or gone on with, until it has so many steps."""
    data = place.work / f"{leg.world}-data"
    if not data.exists():  # a copy of its own, for the latents are kept in it
        shutil.copytree(data_of(place, leg.world), data, ignore=shutil.ignore_patterns("latents-*"))
    runs = place.work / "runs"
    run = runs / leg.run
    options = [word.replace("RUNS", str(runs)) for word in leg.options.split()]
    options += PRECISE if leg.stage != "codec" else ()
    where: tuple[str | Path, ...] = (world_of(place, leg.world), "--data", data, "--run", run)
    engine("train", leg.stage, *where, "--steps", str(steps), *COMMON, *options)
    rows = (run / f"{leg.stage}-losses.csv").read_text().splitlines()
    values = {f"loss of row {number}": row for number, row in enumerate(rows)}
    for path in sorted(run.glob("*.safetensors")):  # PART-HASH.safetensors
        values |= tensors_of(path, f"weights of the {path.stem.rpartition('-')[0]}:")
    if leg.stage == "heads":
        values["heads.json"] = (run / "heads.json").read_text()
    return values


def continued(place: Place, leg: Leg) -> Values:
    """One more step of the run that the base began."""
    own = place.work / "runs" / leg.run
    begun = place.kept(f"{leg.run}-begun", lambda folder: shutil.copytree(own, folder))
    again = Leg(leg.case, leg.stage, f"{leg.run}-again", leg.options)
    shutil.copytree(begun, place.work / "runs" / again.run)
    return trained(place, again, steps=4)


def train(place: Place) -> Cases:
    """Every stage, each from what the ones before it have made in this checkout."""
    for leg in LEGS:
        yield leg.case, partial(trained, place, leg)
    leg = next(leg for leg in LEGS if leg.run == "rollouts")
    yield "joint with rollouts, a run of the base gone on with", partial(continued, place, leg)


# Sessions: what play records and replay draws again.

WALK = "doom-plain --headless --frames 140 --memory mag --seed 3 --device cpu --threads 1".split()
KEYS = "w-10, left-8, w+left-8, s-10, right-4"
VERIFIED = {"replay --verify": "exit status 0"}
OTHERS = "replay of HEAD's recording by BASE"


def recorded(folder: Path) -> Path:
    """A session of 140 frames, with a keyframe among them."""
    python("play.py", *WALK, "--keys", KEYS, "--record", folder)
    return folder


def own_session(place: Place) -> Values:
    """Record a session in this checkout: the base's stays, that of HEAD is for the base to draw again."""
    if place.base:
        place.kept("session", recorded)
    else:
        recorded(place.work / "session")
    return {"play.py --record": "exit status 0"}


def verified(place: Place, own: bool) -> Values:
    """Whether this checkout draws the base's session again, bit for bit, or that of HEAD in --work."""
    engine("replay", place.work / "session" if own else place.kept("session", recorded), "--verify")
    return VERIFIED


def sessions(place: Place) -> Cases:
    """The base's session drawn again here; `others` is the other way round."""
    yield "play.py --record", partial(own_session, place)
    yield "replay of BASE's recording", partial(verified, place, own=False)
    if place.base:
        yield OTHERS, lambda: VERIFIED  # what is hoped for, once HEAD has recorded one


def others(place: Place) -> Cases:
    """For the base alone: a session that HEAD recorded in --work."""
    yield OTHERS, partial(verified, place, own=True)


PARTS: dict[str, Callable[[Place], Cases]] = {
    "play": play,
    "collect": collect,
    "train": train,
    "sessions": sessions,
    "others": others,
}


def main() -> None:
    """Do a part's cases one after the other; one that fails says so, and the rest goes on."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--keep", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--base", action="store_true")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(143))  # so that the command in progress ends, too

    import engine as imported

    if not Path(imported.__file__ or "").is_relative_to(Path.cwd()):
        sys.exit(f"engine is that of {imported.__file__}, not that of {Path.cwd()}")
    for name, make in PARTS[args.part](Place(args.keep, args.work, args.base)):
        began = time.perf_counter()
        result: dict[str, Any] = {"case": name}
        try:
            result["values"] = make()
        except Exception as error:  # of whatever kind: the checkout that is asked may be broken
            result["failed"] = f"{type(error).__name__}: {' '.join(str(error).split())}"
        print(json.dumps(result | {"seconds": time.perf_counter() - began}), flush=True)


if __name__ == "__main__":
    main()
