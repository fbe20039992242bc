"""The command line: what it prints, and that a user's mistake is one line and status 2."""

import os
import subprocess
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from engine import config
from engine.cli import dispatch as cli
from engine.cli.dispatch import COMMANDS, Command, guarded
from engine.errors import UserError

FIRSTS = ", ".join(dict.fromkeys(name.split()[0] for name in COMMANDS))


@dataclass
class FakeOptions:
    """Do something."""

    steps: int = 1


@pytest.fixture
def fake(monkeypatch) -> list[Any]:
    """Put a module of our own behind `train codec`; return what it was run with."""
    ran: list[Any] = []
    module = types.ModuleType("engine.fake")
    module.FakeOptions = FakeOptions  # type: ignore[attr-defined]
    module.run = ran.append  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "engine.fake", module)
    monkeypatch.setitem(COMMANDS, "train codec", Command("engine.fake:FakeOptions", "engine.fake:run", "learn"))
    return ran


def run(*arguments: str) -> int:
    return guarded(lambda: cli.main(arguments))


@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",), ("help",)])
def test_without_a_command_all_are_listed_with_a_line_each(capsys, arguments: tuple[str, ...]) -> None:
    assert run(*arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    for name, command in COMMANDS.items():
        assert any(line.startswith(f"  {name} ") and line.endswith(f" {command.what}") for line in lines)


def test_help_on_a_group_lists_its_commands(capsys) -> None:
    assert run("train", "--help") == 0
    out = capsys.readouterr().out
    assert "train codec" in out and "train generator" in out and "worlds" not in out


def test_a_command_gets_its_arguments(fake) -> None:
    assert run("train", "codec", "--steps", "7") == 0
    assert fake == [FakeOptions(steps=7)]


def test_a_commands_help_names_the_command_and_its_options(fake, capsys) -> None:
    with pytest.raises(SystemExit) as caught:
        run("train", "codec", "--help")
    out = capsys.readouterr().out
    assert caught.value.code == 0 and fake == []
    assert "usage: python -m engine train codec" in out and "--steps" in out


@pytest.mark.parametrize("arguments", [["--stesp", "7"], ["--steps", "many"], ["extra"]])
def test_a_wrong_option_ends_with_status_2(fake, capsys, arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run("train", "codec", *arguments)
    assert caught.value.code == 2 and fake == []
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["colect"],
            f"error: unknown command 'colect'; known: {FIRSTS}; nearest: 'collect'",
        ),
        (["--quick"], f"error: unknown command '--quick'; known: {FIRSTS}"),
        (
            ["train"],
            "error: train: expected codec or motion or generator or memory or joint or distill or heads after it",
        ),
        (
            ["train", "codek"],
            "error: train: expected codec or motion or generator or memory or joint or distill or heads, not 'codek'; "
            "nearest: 'codec'",
        ),
        (["bench", "--steps"], "error: bench: expected quality or revisit or magbench or speed, not '--steps'"),
    ],
)
def test_an_unknown_command_names_the_nearest(capsys, arguments: list[str], message: str) -> None:
    assert run(*arguments) == 2
    assert capsys.readouterr().err == f"{message}\n"


def test_the_function_s_module_is_imported_only_once_the_options_have_been_read(fake, monkeypatch, capsys) -> None:
    monkeypatch.setitem(COMMANDS, "train codec", Command("engine.fake:FakeOptions", "engine.absent:run", "learn"))
    for arguments, status in ((["--help"], 0), (["--steps", "many"], 2)):
        with pytest.raises(SystemExit) as caught:
            run("train", "codec", *arguments)
        assert caught.value.code == status
    capsys.readouterr()
    assert run("train", "codec", "--steps", "3") == 2
    assert "the command 'train codec' is not part of this installation" in capsys.readouterr().err


def test_a_command_that_is_not_there_says_so_and_the_others_work(capsys, monkeypatch) -> None:
    for missing in ("engine.absent:Options", "engine.absent.deeper:Options"):
        monkeypatch.setitem(COMMANDS, "collect", Command(missing, "engine.data.collect:run", "record"))
        assert run("collect") == 2
        assert "the command 'collect' is not part of this installation" in capsys.readouterr().err
    assert run("worlds") == 0


def test_every_command_of_the_table_is_there() -> None:
    for command in COMMANDS.values():
        for where in (command.options, command.run):
            module, _, name = where.partition(":")
            assert callable(getattr(import_module(module), name)), where


def test_a_missing_module_deeper_down_is_not_hidden(monkeypatch) -> None:
    def broken(name: str) -> Any:
        raise ModuleNotFoundError("No module named 'engine.other'", name="engine.other")

    monkeypatch.setattr(cli, "import_module", broken)
    with pytest.raises(ModuleNotFoundError):
        run("collect")


def raising(error: BaseException) -> Callable[[], Any]:
    def main() -> None:
        raise error

    return main


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (UserError("expected x,\n  got y"), 2, "error: expected x, got y"),
        (PermissionError(13, "Permission denied", "/a/b"), 2, "error: /a/b: Permission denied"),
        (OSError(28, "No space left on device"), 2, "error: No space left on device"),
        (OSError("odd"), 2, "error: odd"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (
            ModuleNotFoundError("No module named 'vizdoom'", name="vizdoom"),
            2,
            "error: this needs the package 'vizdoom': pip install -e '.[doom]'",
        ),
    ],
)
def test_what_a_user_can_cause_is_one_line(capsys, error: BaseException, status: int, line: str) -> None:
    assert guarded(raising(error)) == status
    assert capsys.readouterr().err == f"{line}\n"


@pytest.mark.parametrize("error", [ValueError("bug"), AssertionError(), ModuleNotFoundError("x", name="x")])
def test_a_mistake_of_the_program_keeps_its_traceback(error: Exception) -> None:
    with pytest.raises(type(error)):
        guarded(raising(error))


def test_the_status_is_what_main_returns() -> None:
    assert guarded(lambda: 3) == 3
    assert guarded(lambda: None) == 0


WORLD = """
title = "Plain rooms"
preset = "nano"
source = "doom"
checkpoint = "checkpoints/{name}/nano"
buttons = ["forward"]
"""


def test_worlds_are_listed_with_their_checkpoints_and_a_broken_one_says_why(
    tmp_path: Path, monkeypatch, capsys
) -> None:
    monkeypatch.setattr(config, "project_root", lambda: tmp_path)
    assert run("worlds") == 0
    assert "no worlds in" in capsys.readouterr().out
    (tmp_path / "worlds").mkdir()
    for name in ("plain", "rich"):
        (tmp_path / "worlds" / f"{name}.toml").write_text(WORLD.format(name=name))
    (tmp_path / "worlds" / "broken.toml").write_text("preset = ")
    (tmp_path / "checkpoints/plain/nano").mkdir(parents=True)
    (tmp_path / "checkpoints/plain/nano/config.json").write_text("{}")
    assert run("worlds") == 0
    broken, plain, rich = capsys.readouterr().out.splitlines()
    assert plain.split() == ["plain", "Plain", "rooms", "nano", "checkpoints/plain/nano"]
    assert rich.split() == ["rich", "Plain", "rooms", "nano", "no", "checkpoint", "yet"]
    assert broken.startswith("broken ") and "not valid TOML" in broken


def engine(*arguments: str, **options: Any) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "engine", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=config.project_root(), **options)


def test_the_module_can_be_run() -> None:
    result = engine()
    assert (result.returncode, result.stderr) == (0, "") and "train generator" in result.stdout
    result = engine("wurlds")
    assert (result.returncode, result.stdout) == (2, "") and "nearest: 'worlds'" in result.stderr
    assert engine("--version").stdout.startswith("loci-engine 0.")


@pytest.mark.skipif(os.name != "posix", reason="pipes are closed another way")
def test_a_closed_pipe_is_no_error() -> None:
    code = "from engine.cli.dispatch import guarded; import sys; sys.exit(guarded(lambda: print('x\\n' * 100_000)))"
    line = f'"{sys.executable}" -c "{code}" | head -1; echo ${{PIPESTATUS[0]}}'
    result = subprocess.run(["bash", "-c", line], capture_output=True, text=True, cwd=config.project_root(), check=True)
    assert (result.stdout.split(), result.stderr) == (["x", "0"], "")
