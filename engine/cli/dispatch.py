"""``python -m engine COMMAND``: collect, train and measure worlds, each in a module that is loaded on use.

A command's module has a dataclass `Args`, which tyro reads from the command line, and ``run(args)``.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

from engine import runtime
from engine.errors import UserError, nearest, unknown

PROGRAM = "python -m engine"

# command: its module and what it does
COMMANDS: dict[str, tuple[str, str]] = {
    "new": ("engine.cli.new", "make a world of any Gymnasium environment"),
    "collect": ("engine.data.collect", "record frames and actions from a world's simulator"),
    "starts": ("engine.data.starts", "take start frames from test maps"),
    "train codec": ("engine.train.stages.codec", "learn the frame <-> latent codec from collected frames"),
    "train generator": ("engine.train.stages.generator", "learn to draw the next frame, in resumable legs"),
    "train memory": ("engine.train.stages.memory", "learn to fold blocks of frames, in resumable legs"),
    "train joint": ("engine.train.stages.joint", "learn to draw from folded history, generator and memory together"),
    "train distill": ("engine.train.stages.distill", "learn to draw well in few passes, on its own rollouts"),
    "train heads": ("engine.train.stages.heads", "learn to read reward and termination off a generator"),
    "bench quality": ("engine.bench.quality.run", "compare a world with its simulator under the same actions"),
    "bench revisit": ("engine.bench.revisit.run", "leave places and come back: does it remember them?"),
    "bench magbench": ("engine.bench.magbench", "score any system's videos by the paper's MAG-Bench files"),
    "bench speed": ("engine.bench.speed", "time a world from key to pixels"),
    "import": ("engine.data.importing", "make training data of sessions, or of videos with their actions"),
    "export": ("engine.sessions.export", "turn recorded sessions into videos and data sets"),
    "replay": ("engine.sessions.replay", "show a recorded session again, or draw it anew and compare"),
    "tree": ("engine.sessions.tree", "print the family tree of recorded sessions"),
    "ship": ("engine.cli.ship", "make a small checkpoint of a run"),
    "worlds": ("engine.cli.worlds", "list the worlds and whether each has a checkpoint"),
}

# package: the extra of this project that installs it
_EXTRAS = {
    "ale_py": "envs",
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
    runtime.setup()  # the module may import torch
    module = _load(command)
    import tyro

    return module.run(tyro.cli(module.Args, prog=f"{PROGRAM} {command}", args=rest)) or 0


def _overview(names: Sequence[str] | dict[str, Any]) -> str:
    width = max(len(name) for name in names)
    lines = [f"  {name:<{width}}  {COMMANDS[name][1]}" for name in names]
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


def _load(command: str) -> Any:
    name = COMMANDS[command][0]
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not (name == error.name or name.startswith(f"{error.name}.")):
            raise
        raise UserError(f"the command {command!r} is not part of this installation") from None
