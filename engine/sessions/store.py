"""The files of a session: names, sizes and checksums are looked at before anything is believed or allocated."""

from __future__ import annotations

import itertools
import json
import os
import re
import stat
import zlib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from engine.errors import UserError
from engine.files import replace_file

INFO = "session.json"
LOG = "actions.ndjson"
START = "start.safetensors"
VIDEO = "video.mp4"

MAX_INFO_BYTES = 2**20
MAX_LINE_BYTES = 2**16
MAX_LOG_BYTES = 2**32
MAX_HEADER_BYTES = 2**20
MAX_CHUNK_BYTES = 2**28
MAX_KEYFRAME_BYTES = 2**28
MAX_ENTRIES = 100_000  # files of a folder that are looked at

_FOLDER = re.compile(r"[^\W.][^\\/:*?\"<>|\x00-\x1f]{0,199}")
_KEYFRAME = re.compile(r"keyframe-(\d{8})\.safetensors")


def chunk_name(first: int) -> str:
    """File of the chunk whose first frame is `first`."""
    return f"chunk-{first:08d}.safetensors"


def keyframe_name(frame: int) -> str:
    """File of the world's state after `frame`."""
    return f"keyframe-{frame:08d}.safetensors"


def is_folder_name(name: str) -> bool:
    """Whether this is the name of a folder and not a path: no separators, no `..`, no leading dot."""
    return _FOLDER.fullmatch(name) is not None


def free_name(folder: Path, taken: Collection[Path]) -> Path:
    """The folder itself while none is taken, and then the first of FOLDER-2, FOLDER-3, ... that is not there."""
    if not taken:
        return folder
    others = (folder.with_name(f"{folder.name}-{n}") for n in itertools.count(2))
    return next(path for path in others if path not in taken and not path.exists())


def open_plain(folder: Path, name: str, limit: int) -> Any:
    """Open a file of a session to read bytes. Raises UserError where it is none, a link, or above `limit` bytes."""
    path, where = folder / name, f"session {folder}: {name}"
    try:
        found = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{where} is missing; copy the whole folder again") from None
    if stat.S_ISLNK(found.st_mode) or not stat.S_ISREG(found.st_mode):
        raise UserError(f"{where} is a link or not a file; a session holds plain files only")
    if found.st_size > limit:
        raise UserError(f"{where} has {found.st_size} bytes, more than the {limit} that it may have")
    return open(os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)), "rb")


def read_json(folder: Path, name: str = INFO) -> dict[str, Any]:
    """The table in a JSON file. Raises UserError."""
    with open_plain(folder, name, MAX_INFO_BYTES) as file:
        data = file.read(MAX_INFO_BYTES)
    return parse_table(data, f"session {folder}: {name}")


def parse_table(data: bytes, where: str) -> dict[str, Any]:
    """The JSON table in these bytes. Raises UserError, opened by `where`."""
    try:
        table = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where} is not valid JSON ({str(error)[:80]})") from None
    if not isinstance(table, dict):
        raise UserError(f"{where} is not a JSON table")
    return table


def read_lines(folder: Path) -> Iterator[tuple[int, bytes]]:
    """Number (from 1) and bytes of each line of the log that ends in a newline; the rest was never finished."""
    with open_plain(folder, LOG, MAX_LOG_BYTES) as file:
        number = 0
        while line := file.readline(MAX_LINE_BYTES + 1):
            number += 1
            if not line.endswith(b"\n"):
                if len(line) > MAX_LINE_BYTES and line.strip(b"\0"):
                    raise UserError(f"session {folder}: {LOG} line {number} is longer than {MAX_LINE_BYTES} bytes")
                return
            yield number, line


def keyframes_in(folder: Path) -> list[int]:
    """Frames that have a keyframe, sorted."""
    found = []
    with os.scandir(folder) as entries:
        for count, entry in enumerate(entries):
            if count > MAX_ENTRIES:
                raise UserError(f"session {folder} holds more than {MAX_ENTRIES} files")
            if match := _KEYFRAME.fullmatch(entry.name):
                found.append(int(match[1]))
    return sorted(found)


def write_tensors(path: Path, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> int:
    """Write tensors, with `meta` as JSON and a CRC-32 over all bytes, whole or not at all; returns the bytes."""
    text = json.dumps(meta)
    data = safetensors.torch.save(dict(tensors), metadata={"meta": text, "crc32": str(_crc(tensors, text))})
    replace_file(path, data)
    return len(data)


def read_tensors(folder: Path, name: str, limit: int) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Meta and tensors that `write_tensors` wrote. Raises UserError where they are broken or altered."""
    where = f"session {folder}: {name}"
    with open_plain(folder, name, limit) as file:
        size = os.fstat(file.fileno()).st_size
        head = file.read(8)
        length = int.from_bytes(head, "little")
        if len(head) < 8 or length > min(MAX_HEADER_BYTES, size - 8):
            raise UserError(f"{where} is truncated or not a safetensors file; copy it again")
        header = file.read(length)
        table = parse_table(header, where)
        stated = table.pop("__metadata__", None)
        ends = [entry.get("data_offsets") if isinstance(entry, dict) else None for entry in table.values()]
        if any(not isinstance(end, list) or len(end) != 2 or type(end[1]) is not int for end in ends):
            raise UserError(f"{where} is not a whole safetensors file (its header)")
        if size != 8 + length + max((end[1] for end in ends if end), default=0):  # before that much is read
            raise UserError(f"{where} is truncated or altered: its size is not what its header says; copy it again")
        data = head + header + file.read(size - 8 - length)
    try:
        tensors = safetensors.torch.load(data)
    except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise UserError(f"{where} is not a whole safetensors file ({str(error)[:80]})") from None
    text = stated.get("meta", "") if isinstance(stated, dict) else ""
    if not isinstance(stated, dict) or stated.get("crc32") != str(_crc(tensors, text)):
        raise UserError(f"{where} is altered: its checksum differs; copy it again")
    return parse_table(text.encode(), where), tensors


def _crc(tensors: Mapping[str, Tensor], text: str) -> int:
    crc = zlib.crc32(text.encode())
    for name in sorted(tensors):
        crc = zlib.crc32(name.encode(), crc)
        if tensors[name].numel():
            crc = zlib.crc32(tensors[name].contiguous().view(-1).view(torch.uint8).numpy().data, crc)
    return crc
