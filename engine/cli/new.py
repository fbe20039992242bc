"""``python -m engine new ENV_ID``: a world over any Gymnasium environment, tried out, and its file worlds/NAME.toml."""

import json
import re
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from engine.cli.options import NewOptions
from engine.config import WorldConfig, project_root
from engine.data.starts import write_starts
from engine.errors import UserError, unknown
from engine.files import replace_file
from engine.game.controls import RESERVED, key_names
from engine.presets import PRESETS
from engine.sources import make_source
from engine.sources.gymnasium.buttons import buttons_for, keys_for
from engine.sources.gymnasium.find import open_environment
from engine.sources.gymnasium.fit import WHOLE
from engine.sources.gymnasium.source import check_region
from engine.toml import to_toml

NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
RATE = 12.0
"""Frames a second where the environment says none."""
STARTS = 8


def run(options: NewOptions) -> None:
    """Write the world's file and its start frames, and say what to do next. Raises UserError."""
    name = options.name or name_from(options.env)
    path = check(options, name)
    settings = dict(pair for entry in options.make_option for pair in map(option, entry))
    config = describe(options, name, settings)
    with closing(make_source(config)) as source:
        print("\n".join(tried(source, options.steps)))
        starts = config.starts_path
        assert starts is not None
        write_starts(source, starts, "test", STARTS)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():  # made by somebody else in the meantime
        raise UserError(f"{path} is there already; choose another --name")
    text = f"# Made of {options.env}; change what you like, before frames are collected.\n{to_toml(config)}"
    replace_file(path, text.encode())
    print(f"wrote {path} and {STARTS} start frames into {config.starts}\n")
    print("\n".join(next_steps(config, name if options.folder is None else str(path))))


def name_from(env: str) -> str:
    """``ALE/Freeway-v5`` -> ``freeway``."""
    plain = re.sub(r"-v\d+$", "", re.split("[/:]", env)[-1]).lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")


def check(options: NewOptions, name: str) -> Path:
    """Return the file to write. Raises UserError where the arguments, or that file, stand against it."""
    if not NAME.fullmatch(name):
        raise UserError(f"--name must be small letters, digits, - and _, not {name!r}")
    if options.preset not in PRESETS:
        raise UserError(unknown("preset", options.preset, PRESETS))
    if not 1 <= options.frame_skip <= 1000:
        raise UserError(f"--frame-skip must be from 1 to 1000, not {options.frame_skip}")
    check_region(options.region)
    if options.steps < 1:
        raise UserError(f"--steps must be 1 or more, not {options.steps}")
    path = (options.folder or project_root() / "worlds") / f"{name}.toml"
    starts = project_root() / places(options, name)[0]
    for there in (path, starts):
        if there.exists():
            raise UserError(f"{there} is there already; choose another --name")
    return path


def places(options: NewOptions, name: str) -> tuple[str, str]:
    """Where start frames and weights go, as a world's file says it: from the project's root, where they are in it."""
    if options.folder is None:
        return f"assets/{name}", f"checkpoints/{name}/{options.preset}"
    folder = options.folder.expanduser().absolute()
    if folder.is_relative_to(project_root()):
        folder = folder.relative_to(project_root())
    return (folder / name / "starts").as_posix(), (folder / name / options.preset).as_posix()


def option(text: str) -> tuple[str, Any]:
    """``key=value`` with the value as JSON reads it, or else as text. Raises UserError."""
    key, equals, value = text.partition("=")
    if not equals or not key.isidentifier():
        raise UserError(f"--make-option: expected KEY=VALUE, such as render_fps=30, not {text!r}")
    try:
        read = json.loads({"True": "true", "False": "false"}.get(value, value))
    except ValueError:
        return key, value
    if read is None:
        raise UserError(f"--make-option {key}: a world's file cannot hold null; leave it out")
    return key, read


def describe(options: NewOptions, name: str, settings: dict[str, Any]) -> WorldConfig:
    """The world of the environment, with buttons, keys and frame rate. Raises UserError."""
    with closing(open_environment(options.env, settings)) as env:
        try:
            found = buttons_for(env, options.buttons)
        except UserError as error:
            raise UserError(f"{options.env}: {error}") from None
        keys = keys_for(env, found, RESERVED)
        rate = options.frame_rate or frame_rate(env, options.frame_skip, settings)
    if found.idle_is_first:
        print(f"no action of {options.env} is known to do nothing: without a button {found.names[0]!r} is taken")
    source_options: dict[str, Any] = {"idle": found.idle, "frame_skip": options.frame_skip, "fit": options.fit}
    if found.actions is not None:
        source_options["actions"] = dict(found.actions)
    if settings:
        source_options["make"] = settings
    if options.region != WHOLE:
        source_options["region"] = list(options.region)
    starts, checkpoint = places(options, name)
    return WorldConfig(
        name=name,
        title=options.title or options.env,
        preset=options.preset,
        source=options.env,
        checkpoint=checkpoint,
        starts=starts,
        buttons=found.names,
        frame_rate=rate,
        keys={key: button for key, button in keys.items() if key in key_names()},
        source_options=source_options,
    )


def frame_rate(env: gym.Env[Any, Any], frame_skip: int, settings: dict[str, Any]) -> float:
    """Frames a second: those of the environment's metadata, by all steps that are skipped; from 1 to 60."""
    rate = env.metadata.get("render_fps")
    if not isinstance(rate, int | float) or not 0 < rate < 1e6:
        return RATE
    for key in ("frame_skip", "frameskip"):
        if type(settings.get(key)) is int and settings[key] > 1:
            rate /= settings[key]
    return float(round(min(max(rate / frame_skip, 1.0), 60.0), 2))


def tried(source: gym.Env[Any, Any], steps: int) -> list[str]:
    """Play at random for `steps` frames, and say what was seen."""
    rng = np.random.default_rng(0)
    frame, _ = source.reset(seed=0)
    first, changed, rewards, lengths, age = frame, False, [], [], 0
    began = time.perf_counter()
    for _ in range(steps):
        action = np.zeros(source.action_space.shape or (), np.uint8)
        action[rng.integers(len(action))] = 1
        frame, reward, terminated, truncated, _ = source.step(action)
        changed, age = changed or bool((frame != first).any()), age + 1
        rewards.append(float(reward))
        if terminated or truncated:
            lengths.append(age)
            age = 0
            source.reset()
    rate = steps / (time.perf_counter() - began)
    names = ", ".join(source.get_wrapper_attr("buttons"))
    lines = [
        f"frames of {frame.shape[0]}x{frame.shape[1]} pixels; {len(action)} buttons: {names}",
        f"{steps} frames at random: {rate:.0f} a second, rewards from {min(rewards):g} to {max(rewards):g}, "
        + (f"{len(lengths)} episodes ended, the shortest after {min(lengths)}" if lengths else "no episode ended"),
    ]
    if not changed:
        lines.append("warning: the picture never changed; is something to be pressed first, or --frame-skip higher?")
    return lines


def next_steps(config: WorldConfig, world: str) -> list[str]:
    """The commands that make the world play."""
    data, runs, weights = f"data/{config.name}", f"runs/{config.name}", f"--checkpoint runs/{config.name}"
    learn = f"{world} --data {data} --run {runs} --minutes"
    return [
        "next:",
        f"  python -m engine collect {world} --frames 30000 --out {data}",
        f"  python -m engine train codec {learn} 2",
        f"  python -m engine train generator {learn} 10",
        f"  python play.py {world} {weights}",
        f"  python -m engine bench quality {world} {weights} --sheet {config.name}.png",
        f"  python -m engine ship {runs} --to {config.checkpoint}",
    ]
