"""Collect frames from a simulator: ``python -m engine collect WORLD --frames N --out DIR``.

Writes ``DIR/{train,validation,test}/shard-00000.safetensors`` and so on. A shard is a function of seed, split
and number alone, and appears under its name only when it is whole: a run that was killed is resumed by the
same command.
"""

import json
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from tqdm import tqdm

from engine.config import WorldConfig, load_world
from engine.data.contact_sheet import contact_sheet
from engine.data.options import CollectOptions
from engine.data.policies import identity
from engine.data.shards import Job, Play, frames_in, has_rewards, make_shards, write_whole
from engine.data.workers import in_processes
from engine.errors import UserError
from engine.pictures import png
from engine.sources import check_simulator, make_source

VALIDATION_SHARE = 0.05


def plan_jobs(options: CollectOptions) -> list[Job]:
    """Return the shards that make up `options.frames`; the last one of a split may be shorter."""
    if options.split == "all":
        validation = round(options.frames * VALIDATION_SHARE)
        parts = {"train": options.frames - validation, "validation": validation}
    else:
        parts = {options.split: options.frames}
    jobs = []
    for split, frames in parts.items():
        for number, begin in enumerate(range(0, frames, options.frames_per_shard)):
            jobs.append(Job(split, number, min(options.frames_per_shard, frames - begin)))
    return jobs


def check(options: CollectOptions) -> None:
    """Raise UserError where a number makes no sense."""
    for name in ("frames", "workers", "episode_length", "frames_per_shard"):
        if getattr(options, name) < 1:
            raise UserError(f"--{name.replace('_', '-')} must be 1 or more, not {getattr(options, name)}")
    if options.seed < 0:
        raise UserError(f"--seed must be 0 or more, not {options.seed}")
    if not 0 <= options.random <= 1:
        raise UserError(f"--random must be from 0 to 1, not {options.random}")
    if options.random and not options.policy:
        raise UserError("--random is for --policy; without it all play is random")


def claim(
    out: Path,
    config: WorldConfig,
    *,
    seed: int,
    episode_length: int,
    frames_per_shard: int,
    policy: str,
    random: float,
) -> None:
    """Note in the folder `out` what its data is made of, or compare with what is noted there.

    Args:
        out: the folder, which is there.
        config: the world that the data is of.
        seed, episode_length, frames_per_shard, random: as the options of `collect` have them.
        policy: who plays, as `engine.data.policies.identity` says it.

    Raises:
        UserError: the folder was made with other settings, or holds data that says nothing of them.
    """
    settings = {
        "format": 1,
        "world": config.name,
        "buttons": list(config.buttons),
        "height": config.shape.height,
        "width": config.shape.width,
        "seed": seed,
        "source_options": dict(config.source_options),
        "frames_per_shard": frames_per_shard,
        "episode_length": episode_length,
        "policy": policy,
        "random": random,
        "exclusive": config.exclusive,
    }
    settings = json.loads(json.dumps(settings))
    path = out / "collect.json"
    if not path.exists():
        if next(out.glob("*/shard-*.safetensors"), None):
            raise UserError(f"{out} holds shards but no collect.json; choose another --out")
        write_whole(path, json.dumps(settings, indent=1).encode())
        return
    try:
        found = json.loads(path.read_text())
    except ValueError as error:
        raise UserError(f"{path} is not readable as JSON; choose another --out, or delete that folder") from error
    if isinstance(found, dict):  # a folder of an older version
        found = {"policy": "", "random": 0.0, "exclusive": False} | found
    for name, value in settings.items():
        if not isinstance(found, dict) or found.get(name) != value:
            had = found.get(name) if isinstance(found, dict) else found
            raise UserError(
                f"{out} was collected with {name} = {had!r}, now it is {value!r};"
                " choose another --out, or the same settings"
            )


def in_this_process(config: WorldConfig, out: Path, play: Play, jobs: list[Job]) -> Iterator[int]:
    """Make the shards; yields the number of frames made, after each episode."""
    with closing(make_source(config)) as env:
        yield from make_shards(env, jobs, play, out)


def run(options: CollectOptions) -> None:
    """Fill the folder, print frames a second. Raises UserError; KeyboardInterrupt when stopped."""
    check(options)
    config = load_world(options.world)
    jobs = plan_jobs(options)
    missing = [job for job in jobs if frames_in(job.path(options.out)) < job.frames]
    if missing:
        check_simulator(config)
    options.out.mkdir(parents=True, exist_ok=True)
    claim(
        options.out,
        config,
        seed=options.seed,
        episode_length=options.episode_length,
        frames_per_shard=options.frames_per_shard,
        policy=identity(options.policy),
        random=options.random,
    )
    for leftover in options.out.glob("*/.shard-*.tmp"):  # of a run that was killed while it wrote
        leftover.unlink(missing_ok=True)
    there = options.frames - sum(job.frames for job in missing)
    play = Play(options.seed, options.episode_length, options.policy, options.random)
    begin = time.perf_counter()
    work = in_this_process if options.workers == 1 else in_processes(options.workers)
    with tqdm(total=options.frames, initial=there, unit="frame", desc=config.name, smoothing=0.05) as bar:
        for frames in work(config, options.out, play, missing):
            bar.update(frames)
    seconds = time.perf_counter() - begin
    made = options.frames - there
    if made:
        stats = {
            "frames": made,
            "seconds": seconds,
            "frames_per_second": made / seconds,
            "workers": options.workers,
        }
        write_whole(options.out / "stats.json", json.dumps(stats, indent=1).encode())
        print(f"{made} frames in {seconds:.0f} s: {made / seconds:.0f} frames/s with {options.workers} worker(s)")
    sheet = options.out / "contact-sheet.png"
    write_whole(sheet, png(contact_sheet(jobs[0].path(options.out))))
    shards = sorted(options.out.glob("*/shard-*.safetensors"))
    print(f"{options.out} holds {sum(map(frames_in, shards))} frames; look at {sheet}")
    without = [path for path in shards if not has_rewards(path)]
    if without:
        print(
            f"{len(without)} of its {len(shards)} shards hold no rewards (an older version made them, such as"
            f" {without[0]}); delete those and run the same command again to have them made anew"
        )
