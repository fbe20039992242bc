"""Files that are there whole or not at all."""

import os
from pathlib import Path


def replace_file(path: str | Path, data: bytes) -> None:
    """Write `data` to a file beside `path`, flush it to the disk, and rename it to `path`.

    Raises OSError, always with the name of `path`: a write to a full disk has none of its own.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        error.filename, error.filename2 = str(path), None
        raise
    finally:
        temporary.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Flush a rename to the disk; only POSIX systems can."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
