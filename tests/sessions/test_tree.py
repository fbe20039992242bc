from pathlib import Path

import pytest

from engine import cli
from engine.sessions.reader import open_session
from engine.sessions.replay import Replayer
from tests.support.sessions import branch, record
from tests.support.worlds import make_world


def test_the_tree_shows_who_comes_from_whom(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    world = make_world()
    recorder, _ = record(tmp_path / "walk", 30, world=world)
    replayer = Replayer(open_session(tmp_path / "walk"), world)
    for name, at in (("walk-2", 20), ("walk-3", 10)):
        replayer.go_to(at)
        branch(tmp_path / name, recorder, world, at, 3, seed=1)
    record(tmp_path / "other", 3)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "session.json").write_text("[]")
    (tmp_path / "no-session").mkdir()
    cli.main(["tree", str(tmp_path)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "walk  tiny  seed 3, cave, 30 frames (1 s)"
    assert lines[1] == "|-- walk-3  from frame 10, 3 frames of its own (0 s)"
    assert lines[2] == "`-- walk-2  from frame 20, 3 frames of its own (0 s)"
    assert lines[3].startswith("other") and lines[4].startswith("broken  cannot be opened") and len(lines) == 5
    cli.main(["tree", str(tmp_path / "walk-2")])
    assert capsys.readouterr().out.splitlines() == lines


@pytest.mark.parametrize("name", ["nowhere", "."])
def test_a_folder_without_sessions_is_one_line(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.guarded(lambda: cli.main(["tree", str(tmp_path / name)])) == 2
    assert capsys.readouterr().err.startswith("error: ")
