"""Checkpoints: a folder of config.json and safetensors files, checked by sha256 and swapped in atomically.

The tensors lie in files that are named after their content, ``generator-1a2b3c4d.safetensors``, and
config.json says which ones belong together. A save writes new files, then renames config.json into place,
then removes what nothing names any more: at every moment the folder holds one whole checkpoint, the old or
the new.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from engine.errors import UserError
from engine.files import replace_file

FORMAT = "loci-checkpoint-1"
CONFIG = "config.json"
MAX_CONFIG_BYTES = 16 * 2**20

_GROUP = re.compile(r"[a-z][a-z0-9_]*")
_FILE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*\.safetensors")
_OWN = re.compile(r"[a-z][a-z0-9_]*-[0-9a-f]{8}\.safetensors|\.[A-Za-z0-9_.-]+\.tmp")


def save(folder: str | Path, config: Mapping[str, Any], tensors: Mapping[str, Mapping[str, Tensor]]) -> None:
    """Write a checkpoint: `config`, and for each group such as ``codec`` a file of named tensors.

    `config` is what JSON can hold; its entries ``format`` and ``files`` are set here. Tensors may have any
    dtype, such as bf16. Whatever checkpoint was in `folder` stays whole until the new one is. Raises
    UserError where `folder` is a file; an OSError, such as no space, leaves the old checkpoint.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"checkpoint {folder}: this is a file; expected a folder, or a name for a new one")
    folder.mkdir(parents=True, exist_ok=True)
    files: dict[str, dict[str, str | int]] = {}
    try:
        for group, named in tensors.items():
            assert _GROUP.fullmatch(group), f"{group!r} is not a name for a group of tensors"
            files[group] = _write_group(folder, group, named)
        text = json.dumps({**config, "format": FORMAT, "files": files}, indent=2, ensure_ascii=False)
        replace_file(folder / CONFIG, (text + "\n").encode("utf-8"))
    finally:
        # After a failure config.json still names the old files, and the new ones are what goes.
        _remove_stale(folder)


def load(folder: str | Path) -> tuple[dict[str, Any], dict[str, dict[str, Tensor]]]:
    """Read a checkpoint: its config and, by group, its tensors on the CPU in the dtypes of the save.

    Raises UserError for a folder that is not there or not a checkpoint, for a file that is missing,
    truncated, altered or a pickle, and for file names that lead out of the folder.
    """
    folder = Path(folder)
    config = read_config(folder)
    for _ in range(3):  # a trainer may swap in a newer checkpoint while this one is read
        try:
            return config, {group: _read_group(folder, group, entry) for group, entry in config["files"].items()}
        except UserError:
            before, config = config, read_config(folder)
            if before == config:
                raise
    raise UserError(f"checkpoint {folder}: it is replaced faster than it can be read; try again")


def _write_group(folder: Path, group: str, named: Mapping[str, Tensor]) -> dict[str, str | int]:
    data = safetensors.torch.save(_separate(named))
    digest = hashlib.sha256(data).hexdigest()
    name = f"{group}-{digest[:8]}.safetensors"
    replace_file(folder / name, data)
    return {"file": name, "sha256": digest, "bytes": len(data)}


def _separate(named: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors on the CPU, each contiguous in memory of its own, as safetensors needs them."""
    seen: set[int] = set()
    result = {}
    for name, tensor in named.items():
        tensor = tensor.detach().to("cpu").contiguous()
        storage = tensor.untyped_storage().data_ptr()
        if storage in seen:
            tensor = tensor.clone()
        seen.add(storage)
        result[name] = tensor
    return result


def _remove_stale(folder: Path) -> None:
    try:
        keep = {entry["file"] for entry in read_config(folder)["files"].values()}
    except UserError:
        if (folder / CONFIG).exists():
            return  # it may be mended by hand, and then these are its files
        keep = set()
    for path in folder.iterdir():
        if _OWN.fullmatch(path.name) and path.name not in keep:
            path.unlink(missing_ok=True)


def read_config(folder: Path) -> dict[str, Any]:
    """Read a checkpoint's ``config.json`` alone. Raises UserError where it is missing or not one."""
    where = f"checkpoint {folder}"
    path = folder / CONFIG
    if folder.is_file():
        kind = "a pickle, which is never read" if _is_pickle(folder) else "a file"
        raise UserError(f"{where}: this is {kind}; expected a folder with {CONFIG} and safetensors files")
    if not folder.is_dir():
        raise UserError(f"{where}: no such folder; train this world first, or name another checkpoint")
    if not path.is_file():
        raise UserError(f"{where}: no {CONFIG} in it; expected a folder that `train` wrote")
    if path.stat().st_size > MAX_CONFIG_BYTES:
        raise UserError(f"{where}: {CONFIG} is larger than {MAX_CONFIG_BYTES} bytes; this is not a checkpoint")
    try:
        config = json.loads(path.read_bytes().decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: {CONFIG} is not valid JSON ({error}); copy the checkpoint again") from None
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        got = config.get("format") if isinstance(config, dict) else config
        raise UserError(f"{where}: {CONFIG} has format {str(got)[:60]!r}; this version reads {FORMAT!r}")
    files = config.get("files")
    if not isinstance(files, dict):
        raise UserError(f"{where}: {CONFIG} has no table 'files'; copy the checkpoint again")
    for group, entry in files.items():
        if not (
            isinstance(entry, dict)
            and isinstance(entry.get("file"), str)
            and isinstance(entry.get("sha256"), str)
            and type(entry.get("bytes")) is int
        ):
            raise UserError(f"{where}: {CONFIG} does not give file, sha256 and bytes of {group!r}")
        if not _FILE.fullmatch(entry["file"]) or ".." in entry["file"]:
            raise UserError(f"{where}: {CONFIG} names {entry['file']!r}, which is not a safetensors file in the folder")
    return config


def _read_group(folder: Path, group: str, entry: Mapping[str, Any]) -> dict[str, Tensor]:
    path = folder / entry["file"]
    if not path.is_file():
        raise UserError(f"checkpoint {folder}: {path.name} is missing; copy the whole folder again")
    if _is_pickle(path):
        raise UserError(f"{path}: this is a pickle, which is never read; expected a safetensors file")
    size = path.stat().st_size
    if size != entry["bytes"]:
        what = "truncated" if size < entry["bytes"] else "altered"
        raise UserError(f"{path}: {what}: {size} bytes, but {CONFIG} says {entry['bytes']}; copy it again")
    data = path.read_bytes()  # checked and parsed from the same bytes, whatever happens to the file
    if hashlib.sha256(data).hexdigest() != entry["sha256"]:
        raise UserError(f"{path}: altered: its sha256 is not the one in {CONFIG}; copy it again")
    try:
        return _unpacked(safetensors.torch.load(data))
    except SafetensorError as error:
        raise UserError(f"{path}: not a safetensors file of {group!r}: {error}") from None


def in_8_bits(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Matrices as int8 with NAME.scale, one a row, beside them; the rest as it is. `load` gives floats again."""
    packed = {}
    for name, tensor in tensors.items():
        packed[name] = tensor
        if tensor.dim() == 2 and tensor.numel() and tensor.is_floating_point():
            scale = tensor.float().abs().amax(1, keepdim=True).clamp_min(1e-8) / 127
            packed |= {name: (tensor.float() / scale).round().char(), f"{name}.scale": scale}
    return packed


def _unpacked(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Inverse of `in_8_bits`."""
    scales = {f"{name}.scale" for name, tensor in tensors.items() if str(tensor.dtype) == "torch.int8"}
    return {
        name: tensor * tensors[f"{name}.scale"] if f"{name}.scale" in scales & tensors.keys() else tensor
        for name, tensor in tensors.items()
        if name not in scales
    }


def _is_pickle(path: Path) -> bool:
    """Return whether a file begins as a pickle or torch archive does and not as safetensors does.

    The first byte alone does not tell: a safetensors header of 128 bytes begins with 0x80, too.
    """
    with open(path, "rb") as file:
        head = file.read(9)
    length = int.from_bytes(head[:8], "little")
    if head[8:] == b"{" and length <= path.stat().st_size - 8:
        return False
    return head[:1] == b"\x80" or head[:2] == b"PK"
