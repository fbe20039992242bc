"""``python -m engine COMMAND``: which commands there are, and how the one that was asked for is carried out."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from engine import runtime
from engine.errors import UserError, nearest, unknown

PROGRAM = "python -m engine"


@dataclass(frozen=True)
class Command:
    """A command: where its options and the function that does it lie, as ``module:name``, and what it does.

    The options are a dataclass in a module that imports nothing large, for it is all that ``--help`` needs; the
    function takes them, and its module is imported only when they have been read.
    """

    options: str
    run: str
    what: str


COMMANDS = {
    "new": Command("engine.cli.options:NewOptions", "engine.cli.new:run", "make a world of any Gymnasium environment"),
    "collect": Command(
        "engine.data.options:CollectOptions",
        "engine.data.collect:run",
        "record frames and actions from a world's simulator",
    ),
    "starts": Command(
        "engine.data.options:StartsOptions", "engine.data.starts:run", "take start frames from test maps"
    ),
    "train codec": Command(
        "engine.train.options:CodecOptions",
        "engine.train.stages.codec:run",
        "learn the frame <-> latent codec from collected frames",
    ),
    "train motion": Command(
        "engine.train.options:MotionOptions",
        "engine.train.stages.motion:run",
        "learn what a step will really be, walls included",
    ),
    "train generator": Command(
        "engine.train.options:GeneratorOptions",
        "engine.train.stages.generator:run",
        "learn to draw the next frame, in resumable legs",
    ),
    "train memory": Command(
        "engine.train.options:MemoryOptions",
        "engine.train.stages.memory:run",
        "learn to fold blocks of frames, in resumable legs",
    ),
    "train joint": Command(
        "engine.train.options:JointOptions",
        "engine.train.stages.joint:run",
        "learn to draw from folded history, generator and memory together",
    ),
    "train distill": Command(
        "engine.train.options:DistillOptions",
        "engine.train.stages.distill:run",
        "learn to draw well in few passes, on its own rollouts",
    ),
    "train heads": Command(
        "engine.train.options:HeadsOptions",
        "engine.train.stages.heads:run",
        "learn to read reward and termination off a generator",
    ),
    "bench quality": Command(
        "engine.bench.options:QualityOptions",
        "engine.bench.quality.run:run",
        "compare a world with its simulator under the same actions",
    ),
    "bench revisit": Command(
        "engine.bench.options:RevisitOptions",
        "engine.bench.revisit.run:run",
        "leave places and come back: does it remember them?",
    ),
    "bench magbench": Command(
        "engine.bench.options:MagbenchOptions",
        "engine.bench.magbench:run",
        "score any system's videos by the paper's MAG-Bench files",
    ),
    "bench speed": Command(
        "engine.bench.options:SpeedOptions", "engine.bench.speed:run", "time a world from key to pixels"
    ),
    "import": Command(
        "engine.data.options:ImportOptions",
        "engine.data.importing:run",
        "make training data of sessions, or of videos with their actions",
    ),
    "export": Command(
        "engine.sessions.options:ExportOptions",
        "engine.sessions.export:run",
        "turn recorded sessions into videos and data sets",
    ),
    "replay": Command(
        "engine.sessions.options:ReplayOptions",
        "engine.sessions.replay:run",
        "show a recorded session again, or draw it anew and compare",
    ),
    "tree": Command(
        "engine.sessions.options:TreeOptions",
        "engine.sessions.tree:run",
        "print the family tree of recorded sessions",
    ),
    "ship": Command("engine.cli.options:ShipOptions", "engine.cli.ship:run", "make a small checkpoint of a run"),
    "worlds": Command(
        "engine.cli.options:WorldsOptions",
        "engine.cli.worlds:run",
        "list the worlds and whether each has a checkpoint",
    ),
}

# package: the extra of this project that installs it
_EXTRAS = {
    "ale_py": "envs",
    "crafter": "crafter",
    "h5py": "export",
    "lerobot": "lerobot",
    "matplotlib": "train",
    "minari": "export",
    "minigrid": "envs",
    "omg": "doom",
    "omgifol": "doom",
    "stable_baselines3": "rl",
    "tensorboard": "train",
    "torchmetrics": "train",
    "vizdoom": "doom",
}


def guarded(main: Callable[[], Any]) -> int:
    """Call `main` and return the exit status: what a user can cause ends in one line, without a traceback.

    UserError, OSError and a missing optional package give ``error: ...`` on stderr and 2, Ctrl+C gives 130.
    A closed pipe, as in ``| head``, is no error. Everything else is a mistake of the program and passes.
    """
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        status = main()
        sys.stdout.flush()
        return status if isinstance(status, int) else 0
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the exit flushes into it again
        return 0
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in _EXTRAS:
            raise
        return _fail(f"this needs the package {package!r}: pip install -e '.[{_EXTRAS[package]}]'")
    except UserError as error:
        return _fail(str(error))
    except OSError as error:
        where = f"{error.filename}: " if error.filename is not None else ""
        return _fail(f"{where}{error.strerror or error}")


def _fail(message: str) -> int:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    return 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that `arguments` (by default the process's own) name, see `COMMANDS`; returns its status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words and words[0] == "--version":
        import engine

        print(f"loci-engine {engine.__version__}")
        return 0
    if not words or words[0] in ("-h", "--help", "help"):
        print(_overview(COMMANDS))
        return 0
    command, rest = _pick(words)
    if command is None:
        print(_overview([name for name in COMMANDS if name.startswith(f"{words[0]} ")]))
        return 0
    try:
        return carry_out(COMMANDS[command], rest, f"{PROGRAM} {command}")
    except ModuleNotFoundError as error:
        if not _lacks(COMMANDS[command], error):
            raise
        raise UserError(f"the command {command!r} is not part of this installation") from None


def carry_out(command: Command, words: Sequence[str] | None = None, program: str | None = None) -> int:
    """Read a command's options from the command line and do it.

    Args:
        command: the command.
        words: what follows its name; by default the process's own arguments.
        program: how its help calls it; by default as the process was started.

    Returns:
        The exit status, 0 where the command's function gives none.

    Raises:
        SystemExit: after ``--help`` (0), and for options that the command does not have (2).
        UserError: what the user gave cannot work.
    """
    runtime.setup()  # before torch, which the command may import
    import tyro

    options = tyro.cli(_named(command.options), prog=program, args=words)
    return _named(command.run)(options) or 0


def _named(where: str) -> Any:
    module, _, name = where.partition(":")
    return getattr(import_module(module), name)


def _lacks(command: Command, error: ModuleNotFoundError) -> bool:
    """Whether one of the command's own modules is what was not found."""
    modules = [where.partition(":")[0] for where in (command.options, command.run)]
    return any(f"{module}.".startswith(f"{error.name}.") for module in modules)


def _overview(names: Sequence[str] | dict[str, Any]) -> str:
    width = max(len(name) for name in names)
    lines = [f"  {name:<{width}}  {COMMANDS[name].what}" for name in names]
    return "\n".join([f"usage: {PROGRAM} COMMAND ...", "", *lines, "", f"{PROGRAM} COMMAND --help tells more."])


def _pick(words: Sequence[str]) -> tuple[str | None, list[str]]:
    """Return the command and what follows it; none where only help on a group such as `train` is wanted."""
    first = words[0]
    if first in COMMANDS:
        return first, list(words[1:])
    seconds = [name.split()[1] for name in COMMANDS if name.startswith(f"{first} ")]
    if not seconds:
        firsts = dict.fromkeys(name.split()[0] for name in COMMANDS)
        raise UserError(unknown("command", first, firsts))
    second = words[1] if len(words) > 1 else ""
    if second in ("-h", "--help", "help"):
        return None, []
    if second not in seconds:
        guess = nearest(second, seconds)
        hint = f"; nearest: {guess!r}" if guess else ""
        came = f", not {second!r}{hint}" if second else " after it"
        raise UserError(f"{first}: expected {' or '.join(seconds)}{came}")
    return f"{first} {second}", list(words[2:])
