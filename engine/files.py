"""Files and folders that are there whole or not at all, and what a user is told where they cannot be written.

Whoever writes something that must be whole writes it by way of this module, which alone renames.
"""

import errno
import itertools
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from engine.errors import UserError

_NUMBERS = itertools.count()


def replace_file(path: str | Path, data: bytes) -> None:
    """Write `data` to a file beside `path`, flush it to the disk, and rename it to `path`.

    Raises OSError, always with the name of `path`: a write to a full disk has none of its own. What was at `path`
    is then still there.
    """
    new = NewFile(path)
    try:
        with _named(new.path):
            new.temporary.write_bytes(data)
        new.keep()
    finally:
        new.drop()


class NewFile:
    """A file that is written bit by bit under another name, and then gets its own.

    Write to `temporary`, which lies beside `path`, is there and is empty; then call `keep`, or `drop`. Raises OSError
    with the name of `path` where no file can be made there.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.temporary = _beside(self.path)
        with _named(self.path):
            self.temporary.touch()

    def keep(self) -> None:
        """Flush what was written, by now closed, to the disk and rename it to `path`. Raises OSError, as above."""
        with _named(self.path):
            with open(self.temporary, "r+b") as file:
                os.fsync(file.fileno())
            os.replace(self.temporary, self.path)
            _sync_folder(self.path.parent)

    def drop(self) -> None:
        """Remove what was written, where it has not become `path`. May be called again."""
        self.temporary.unlink(missing_ok=True)


@contextmanager
def new_folder(path: str | Path) -> Iterator[Path]:
    """Make a folder: the one to fill lies beside `path`, and gets that name at the end of the block.

    After an error nothing is left of it. An empty folder may be at `path` already; OSError where anything else is.
    """
    path = Path(path)
    temporary = _beside(path)
    shutil.rmtree(temporary, ignore_errors=True)  # of a process that was killed and had the same number
    temporary.mkdir()
    try:
        yield temporary
        if path.exists():
            path.rmdir()
        temporary.rename(path)
        _sync_folder(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def check_path(path: str | os.PathLike[str], extensions: Sequence[str]) -> Path:
    """The path as a `Path`, if a file with one of these extensions can be written there; else `UserError`."""
    path = Path(path)
    if path.suffix.lower() not in extensions:
        raise UserError(f"{path}: expected a file name that ends in {', '.join(extensions)}")
    if not path.parent.is_dir():
        raise UserError(f"{path}: there is no folder {path.parent}; make it first")
    if path.is_dir():
        raise UserError(f"{path}: expected a file name, this is a folder")
    if not os.access(path.parent, os.W_OK):
        raise UserError(f"{path}: the folder {path.parent} cannot be written to")
    return path


def write_error(path: Path, error: OSError) -> UserError:
    """What to tell the user where `path` could not be written."""
    if is_full(error):
        return UserError(f"{path}: no space left on the disk; the file was not written")
    return UserError(f"{path}: could not be written ({error.strerror or error})")


def is_full(error: OSError) -> bool:
    """Whether there was no space left, on the disk or of what the user may take of it."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def _beside(path: Path) -> Path:
    """A name in the folder of `path` that nobody else writes to: of this process, and there only of this call."""
    return path.with_name(f".{path.name}.{os.getpid()}.{next(_NUMBERS)}.tmp")


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Let an OSError carry the name of `path`, and no temporary one."""
    try:
        yield
    except OSError as error:
        error.filename, error.filename2 = str(path), None
        raise


def _sync_folder(folder: Path) -> None:
    """Flush a rename to the disk; only POSIX systems can."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
