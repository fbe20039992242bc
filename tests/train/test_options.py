"""Options of the stages: read without torch, refused where they make no sense, absent where they would do nothing."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tyro

from engine.config import project_root
from engine.errors import UserError
from engine.model.sampler import MAX_STEPS
from engine.train.options import MAX_PASSES, STAGES, chosen

FOLDERS = ["--data", "data", "--run", "run"]


def parsed(stage: str, *arguments: str) -> Any:
    return tyro.cli(STAGES[stage], args=[*FOLDERS, *arguments])


def test_options_are_there_without_torch() -> None:
    code = "import engine.train.options, sys; print([name for name in ('torch', 'numpy') if name in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=project_root(), check=True
    )
    assert result.stdout.strip() == "[]"


def test_a_world_may_be_asked_for_as_many_passes_as_it_can_make() -> None:
    assert MAX_PASSES == MAX_STEPS


@pytest.mark.parametrize("stage", STAGES)
def test_the_options_that_all_stages_share_are_read(stage: str) -> None:
    found = parsed(stage, "doom-plain", "--steps", "7", "--seed", "3")
    found.check()
    assert (found.world, found.steps, found.seed) == ("doom-plain", 7, 3)
    assert (found.data, found.run) == (Path("data"), Path("run"))
    assert chosen(found, "seed", "steps") == {"seed": 3, "steps": 7}


@pytest.mark.parametrize(
    ("stage", "option"),
    [
        *(("codec", option) for option in ("dtype", "compile", "init", "old", "ema", "play-steps")),
        *(("generator", option) for option in ("block", "rollouts", "stretches", "teacher-steps")),
        *(("memory", option) for option in ("old", "returns", "context-noise", "own-frames", "compile", "blocks")),
        *(("joint", option) for option in ("teacher-steps", "events")),
        *(("distill", option) for option in ("rollouts", "own-frames", "context-noise", "compile")),
        *(("heads", option) for option in ("compile", "codec", "preset", "ema", "play-steps")),
    ],
)
def test_an_option_that_a_stage_would_not_read_is_unknown(stage: str, option: str, capsys: Any) -> None:
    with pytest.raises(SystemExit) as caught:
        parsed(stage, f"--{option}", "1")
    assert caught.value.code == 2 and f"--{option}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("stage", "changes", "says"),
    [
        ("codec", {"minutes": 0}, "--minutes must be above 0, not 0"),
        ("codec", {"validate_every": -1}, "--validate-every must be above 0, not -1"),
        ("codec", {"lr": float("nan")}, "--lr must be above 0, not nan"),
        ("generator", {"steps": 0}, "--steps must be 1 or more, not 0"),
        ("generator", {"seed": -1}, "--seed must be 0 or more, not -1"),
        ("generator", {"old": 65}, "--old must be from 0 to 64, not 65"),
        ("generator", {"context_noise": 1.5}, "--context-noise must be from 0 to 1, not 1.5"),
        ("memory", {"play_steps": 65}, "--play-steps must be from 1 to 64, not 65"),
        ("memory", {"ema": float("nan")}, "--ema must be from 0 to 1, not nan"),
        ("joint", {"returns": -0.1}, "--returns must be from 0 to 1, not -0.1"),
        ("joint", {"rollouts": 2}, "--rollouts must be from 0 to 1, not 2"),
        ("distill", {"folded_share": 2}, "--folded-share must be from 0 to 1, not 2"),
        ("distill", {"teacher_steps": 65}, "--teacher-steps must be from 1 to 64, not 65"),
        ("distill", {"play_steps": 3}, "--teacher-steps must be a multiple of --play-steps"),
        ("heads", {"drawn": 1.1}, "--drawn must be from 0 to 1, not 1.1"),
        ("heads", {"old": -1}, "--old must be 0 or more, not -1"),
        ("heads", {"validation_frames": 0}, "--validation-frames must be 1 or more, not 0"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(stage: str, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError) as caught:
        STAGES[stage](Path("data"), Path("run"), **changes).check()
    assert str(caught.value) == says
