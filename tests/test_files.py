"""What is written is there whole or not at all, and one module sees to it."""

import ast
import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.config import project_root
from engine.errors import UserError
from engine.files import NewFile, check_path, is_full, new_folder, replace_file, write_error


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def full(*arguments: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_replaced_file_is_whole_and_leaves_nothing_beside(tmp_path: Path) -> None:
    replace_file(tmp_path / "a.json", b"old")
    replace_file(str(tmp_path / "a.json"), b"new")
    assert names(tmp_path) == ["a.json"]
    assert (tmp_path / "a.json").read_bytes() == b"new"


@pytest.mark.parametrize(("owner", "method"), [(os, "fsync"), (os, "replace"), (Path, "write_bytes")])
def test_a_write_that_fails_keeps_the_old_file_and_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: object, method: str
) -> None:
    path = tmp_path / "a.json"
    replace_file(path, b"old")
    with monkeypatch.context() as patch:
        patch.setattr(owner, method, full)
        with pytest.raises(OSError, match="No space left on device") as error:
            replace_file(path, b"new")
    assert (error.value.filename, error.value.filename2) == (str(path), None)
    assert names(tmp_path) == ["a.json"] and path.read_bytes() == b"old"


def test_a_file_is_flushed_to_the_disk_before_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    sync, replace = os.fsync, os.replace

    def flush(handle: int) -> None:
        done.append("flush")
        sync(handle)

    def rename(old: str, new: str) -> None:
        done.append("rename")
        replace(old, new)

    monkeypatch.setattr(os, "fsync", flush)
    monkeypatch.setattr(os, "replace", rename)
    replace_file(tmp_path / "a", b"x")
    assert done[:2] == ["flush", "rename"]
    assert done[2:] == (["flush"] if os.name == "posix" else [])  # of the folder


def test_a_file_that_is_written_bit_by_bit_has_its_name_when_it_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    path.write_text("old")
    new = NewFile(path)
    with open(new.temporary, "a") as file:
        file.write("one ")
        file.write("two")
    assert path.read_text() == "old"
    new.keep()
    new.drop()
    assert names(tmp_path) == ["film.mp4"] and path.read_text() == "one two"


def test_a_file_that_is_dropped_leaves_nothing(tmp_path: Path) -> None:
    one, two = NewFile(tmp_path / "a"), NewFile(tmp_path / "a")  # which are not in each other's way
    assert one.temporary != two.temporary and len(names(tmp_path)) == 2
    for new in (one, two, two):
        new.drop()
    assert names(tmp_path) == []


def test_where_no_file_can_be_made_is_said_at_once(tmp_path: Path) -> None:
    path = tmp_path / "absent" / "a"
    with pytest.raises(FileNotFoundError) as error:
        NewFile(path)
    assert error.value.filename == str(path)


def test_a_folder_has_its_name_when_it_is_filled(tmp_path: Path) -> None:
    path = tmp_path / "walk"
    path.mkdir()  # empty, so that it gives way
    with new_folder(path) as made:
        (made / "info").write_text("x")
        assert made.parent == tmp_path and names(path) == []
    assert names(tmp_path) == ["walk"] and names(path) == ["info"]
    with pytest.raises(OSError), new_folder(path) as made:
        (made / "other").write_text("y")
    assert names(tmp_path) == ["walk"] and names(path) == ["info"]


def test_a_folder_that_could_not_be_filled_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), new_folder(tmp_path / "walk") as made:
        (made / "info").write_text("x")
        raise KeyboardInterrupt
    assert names(tmp_path) == []


def test_where_a_file_may_not_go_is_said_before_it_is_made(tmp_path: Path) -> None:
    (tmp_path / "folder.png").mkdir()
    assert check_path(str(tmp_path / "a.PNG"), (".png",)) == tmp_path / "a.PNG"
    for name, message in (
        ("a.bmp", r"ends in \.png, \.gif"),
        ("absent/a.png", "there is no folder .*absent; make it first"),
        ("folder.png", "this is a folder"),
    ):
        with pytest.raises(UserError, match=message):
            check_path(tmp_path / name, (".png", ".gif"))


def test_a_full_disk_is_told_from_other_errors() -> None:
    path, disk, quota, other = Path("a.mp4"), errno.ENOSPC, errno.EDQUOT, errno.EACCES
    assert [is_full(OSError(number, "")) for number in (disk, quota, other)] == [True, True, False]
    assert str(write_error(path, OSError(disk, "x"))) == "a.mp4: no space left on the disk; the file was not written"
    assert str(write_error(path, OSError(other, "Permission denied"))) == (
        "a.mp4: could not be written (Permission denied)"
    )


MAY_WRITE = {
    "engine/files.py",
    "engine/sources/doom/wad.py",  # a map for the simulator, in a folder of its own that goes with it
}
WRITING = ("write_bytes", "write_text", "rename", "renames", "link", "mkstemp", "NamedTemporaryFile")


def writes(text: str) -> Iterator[str]:
    """Yield the calls that write a whole file, or give one another name, as `line: call`."""
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        name = called.rpartition(".")[2]
        renames = called in ("os.replace", "shutil.move") or (
            name == "replace" and "." in called and len(node.args) == 1 and not node.keywords  # a text's takes two
        )
        arguments = [*node.args, *(entry.value for entry in node.keywords)]
        modes = [entry.value for entry in arguments if isinstance(entry, ast.Constant) and isinstance(entry.value, str)]
        opens = name == "open" and called != "av.open" and any(re.fullmatch("[wx][bt+]*", mode) for mode in modes)
        if name in WRITING or renames or opens:
            yield f"{node.lineno}: {called}"


def test_only_one_module_of_the_engine_writes_files_and_renames() -> None:
    root = project_root()
    found = {
        path.relative_to(root).as_posix(): lines
        for path in sorted((root / "engine").rglob("*.py"))
        if (lines := list(writes(path.read_text(encoding="utf-8"))))
    }
    assert set(found) == MAY_WRITE, found


def test_a_second_writer_would_be_found() -> None:
    for line in (
        "os.replace(a, b)",
        "temporary.replace(path)",
        "path.rename(other)",
        "path.write_bytes(data)",
        "open(path, 'wb')",
        "path.open(mode='x')",
        "shutil.move(a, b)",
        "tempfile.NamedTemporaryFile()",
    ):
        assert list(writes(line)) == [f"1: {line.partition('(')[0]}"]
    for line in ("text.replace('a', 'b')", "replace(info, id=1)", "open(path, 'rb')", "path.open('a')", "open(path)"):
        assert list(writes(line)) == []
