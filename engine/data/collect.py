"""Collect frames from a simulator: ``python -m engine collect WORLD --frames N --out DIR``.

Writes ``DIR/{train,validation,test}/shard-00000.safetensors`` and so on. A shard is a function of seed, split
and number alone, and appears under its name only when it is whole: a run that was killed is resumed by the
same command.
"""

import json
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro
from tqdm import tqdm

from engine.config import WorldConfig, load_world
from engine.data.contact_sheet import contact_sheet
from engine.data.policies import identity
from engine.data.shards import Job, Play, collect_episode, frames_in, has_rewards, make_shards, write_whole
from engine.data.workers import in_processes
from engine.errors import UserError
from engine.sources import make_source

__all__ = ["Args", "collect_episode", "run"]

VALIDATION_SHARE = 0.05


@dataclass
class Args:
    """Walk through a simulator and keep what it shows."""

    world: tyro.conf.Positional[str]
    """World, or path of a world's TOML file."""
    frames: int
    """Frames to have in the folder in the end."""
    out: Path
    """Folder to fill; a run that was stopped goes on there."""
    workers: int = 1
    """Processes that play at the same time."""
    seed: int = 0
    """Seed of the maps and walks."""
    split: Literal["all", "train", "validation", "test"] = "all"
    """Maps to walk on; 'all' is training maps and 5 % of validation maps."""
    episode_length: int = 200
    """Frames in an episode; each is on a map of its own."""
    frames_per_shard: int = 4000
    """Frames in a file."""
    policy: str = ""
    """Who plays: "uniform", nothing or any button, drawn for every frame; FILE.zip, a policy of Stable-Baselines3; or
    module:function, called with frame, info and a random generator for the buttons to hold. By default walks, or in
    worlds without "forward" and "back" random play that holds its buttons for some frames."""
    random: float = 0.0
    """Share of the episodes that are walks and random play all the same, with --policy."""


def plan_jobs(args: Args) -> list[Job]:
    """Return the shards that make up `args.frames`; the last one of a split may be shorter."""
    if args.split == "all":
        validation = round(args.frames * VALIDATION_SHARE)
        parts = {"train": args.frames - validation, "validation": validation}
    else:
        parts = {args.split: args.frames}
    jobs = []
    for split, frames in parts.items():
        for number, begin in enumerate(range(0, frames, args.frames_per_shard)):
            jobs.append(Job(split, number, min(args.frames_per_shard, frames - begin)))
    return jobs


def check(args: Args) -> None:
    """Raise UserError where a number makes no sense."""
    for name in ("frames", "workers", "episode_length", "frames_per_shard"):
        if getattr(args, name) < 1:
            raise UserError(f"--{name.replace('_', '-')} must be 1 or more, not {getattr(args, name)}")
    if args.seed < 0:
        raise UserError(f"--seed must be 0 or more, not {args.seed}")
    if not 0 <= args.random <= 1:
        raise UserError(f"--random must be from 0 to 1, not {args.random}")
    if args.random and not args.policy:
        raise UserError("--random is for --policy; without it all play is random")


def claim(args: Args, config: WorldConfig) -> None:
    """Note the settings in the folder, or compare: raises UserError where it was made with others."""
    settings = {
        "format": 1,
        "world": config.name,
        "buttons": list(config.buttons),
        "height": config.shape.height,
        "width": config.shape.width,
        "seed": args.seed,
        "source_options": dict(config.source_options),
        "frames_per_shard": args.frames_per_shard,
        "episode_length": args.episode_length,
        "policy": identity(args.policy),
        "random": args.random,
    }
    settings = json.loads(json.dumps(settings))
    path = args.out / "collect.json"
    if not path.exists():
        if next(args.out.glob("*/shard-*.safetensors"), None):
            raise UserError(f"{args.out} holds shards but no collect.json; choose another --out")
        write_whole(path, json.dumps(settings, indent=1).encode())
        return
    try:
        found = json.loads(path.read_text())
    except ValueError as error:
        raise UserError(f"{path} is not readable as JSON; choose another --out, or delete that folder") from error
    if isinstance(found, dict):  # a folder of an older version
        found = {"policy": "", "random": 0.0} | found
    for name, value in settings.items():
        if not isinstance(found, dict) or found.get(name) != value:
            had = found.get(name) if isinstance(found, dict) else found
            raise UserError(
                f"{args.out} was collected with {name} = {had!r}, now it is {value!r};"
                " choose another --out, or the same settings"
            )


def in_this_process(config: WorldConfig, out: Path, play: Play, jobs: list[Job]) -> Iterator[int]:
    """Make the shards; yields the number of frames made, after each episode."""
    with closing(make_source(config)) as env:
        yield from make_shards(env, jobs, play, out)


def run(args: Args) -> None:
    """Fill the folder, print frames a second. Raises UserError; KeyboardInterrupt when stopped."""
    check(args)
    config = load_world(args.world)
    args.out.mkdir(parents=True, exist_ok=True)
    claim(args, config)
    jobs = plan_jobs(args)
    missing = [job for job in jobs if frames_in(job.path(args.out)) < job.frames]
    for leftover in args.out.glob("*/.shard-*.tmp"):  # of a run that was killed while it wrote
        leftover.unlink(missing_ok=True)
    there = args.frames - sum(job.frames for job in missing)
    play = Play(args.seed, args.episode_length, args.policy, args.random)
    begin = time.perf_counter()
    work = in_this_process if args.workers == 1 else in_processes(args.workers)
    with tqdm(total=args.frames, initial=there, unit="frame", desc=config.name, smoothing=0.05) as bar:
        for frames in work(config, args.out, play, missing):
            bar.update(frames)
    seconds = time.perf_counter() - begin
    made = args.frames - there
    if made:
        stats = {
            "frames": made,
            "seconds": seconds,
            "frames_per_second": made / seconds,
            "workers": args.workers,
        }
        write_whole(args.out / "stats.json", json.dumps(stats, indent=1).encode())
        print(f"{made} frames in {seconds:.0f} s: {made / seconds:.0f} frames/s with {args.workers} worker(s)")
    sheet = args.out / "contact-sheet.png"
    write_whole(sheet, contact_sheet(jobs[0].path(args.out)))
    shards = sorted(args.out.glob("*/shard-*.safetensors"))
    print(f"{args.out} holds {sum(map(frames_in, shards))} frames; look at {sheet}")
    without = [path for path in shards if not has_rewards(path)]
    if without:
        print(
            f"{len(without)} of its {len(shards)} shards hold no rewards (an older version made them, such as"
            f" {without[0]}); delete those and run the same command again to have them made anew"
        )
