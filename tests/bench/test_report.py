import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from engine.bench import report
from engine.errors import UserError


@dataclass
class Args:
    world: str
    frames: int = 128
    drift_frames: int = 1000
    json: Path | None = None


def test_the_command_line_names_what_differs_from_the_defaults() -> None:
    args = Args("doom", frames=4, json=Path("my out/q.json"))
    assert report.command_line("bench quality", args) == (
        "python -m engine bench quality doom --frames 4 --json 'my out/q.json'"
    )


def test_json_has_no_nan_and_no_arrays(tmp_path: Path) -> None:
    values = {"a": np.float32(1.5), "b": float("nan"), "c": np.array([1.0, np.inf]), "d": (1, None), "e": np.int64(3)}
    report.save_json(tmp_path / "x.json", values)
    found = json.loads((tmp_path / "x.json").read_text())
    assert found == {"a": 1.5, "b": None, "c": [1.0, None], "d": [1, None], "e": 3}


def test_a_table_is_aligned_and_shows_intervals() -> None:
    rows = [("short", 1.234), ("a long name", {"mean": 2.0, "low": 1.0, "high": 3.0})]
    assert report.table(("measure", "value"), rows).splitlines() == [
        "measure                  value",
        "-----------  -----------------",
        "short                     1.23",
        "a long name  2.00 [1.00, 3.00]",
    ]
    assert report.text_of(None) == report.text_of(float("nan")) == "-"


def test_the_plot_lies_beside_the_json_unless_named() -> None:
    assert report.beside(Path("a/q.json"), None) == Path("a/q.png")
    assert report.beside(Path("a/q.json"), Path("p.png")) == Path("p.png")
    assert report.beside(None, None) is None


def test_folders_for_the_files_are_made_and_a_folder_in_their_place_is_refused(tmp_path: Path) -> None:
    report.check_outputs(tmp_path / "new" / "x.json", None)
    assert list((tmp_path / "new").iterdir()) == []
    with pytest.raises(UserError, match="is a folder"):
        report.check_outputs(tmp_path / "new")


def test_a_figure_is_a_png(tmp_path: Path) -> None:
    made, axes = report.figure(2)
    axes[0].plot([1, 2])
    report.save_figure(tmp_path / "x.png", made)
    assert (tmp_path / "x.png").read_bytes()[:4] == b"\x89PNG"
