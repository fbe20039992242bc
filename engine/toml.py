"""Frozen dataclasses that are read from TOML and written back to it."""

import json
import re
import sys
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from engine.errors import UserError, nearest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

T = TypeVar("T")

SPARSE: Mapping[str, Any] = {"sparse": True}
"""Metadata of a field that is not written where it holds its default: files and digests are as if it were not there."""


def from_toml(cls: type[T], path: str | Path) -> T:
    """Read the dataclass `cls` from a TOML file; what is wrong is a UserError that names the file."""
    path = Path(path)
    try:
        text = path.read_bytes().decode("utf-8")
        table = tomllib.loads(text)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise UserError(f"{path}: this is a folder; expected a .toml file") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text (at byte {error.start}); expected a .toml file") from None
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path}: not valid TOML: {error}") from None
    return from_dict(cls, table, str(path))


def from_dict(cls: type[T], table: Mapping[str, Any], where: str) -> T:
    """Build the dataclass `cls` from plain values; `where` opens every message.

    Raises UserError for an unknown key (naming the nearest known one), a missing one and a wrong type.
    A list becomes a tuple where the field is one, an integer a float where the field is one.
    """
    hidden: frozenset[str] = getattr(cls, "NOT_IN_FILE", frozenset())
    known: dict[str, Field[Any]] = {entry.name: entry for entry in fields(cls) if entry.name not in hidden}  # type: ignore[arg-type]
    for key in table:
        if key not in known:
            guess = nearest(key, known)
            hint = f"did you mean {guess!r}?" if guess else f"known: {', '.join(known)}"
            raise UserError(f"{where}: unknown key {key!r}; {hint}")
    missing = [
        name
        for name, entry in known.items()
        if name not in table and entry.default is MISSING and entry.default_factory is MISSING
    ]
    if missing:
        raise UserError(f"{where}: missing {', '.join(repr(name) for name in missing)}")
    hints = get_type_hints(cls)
    values = {key: _convert(hints[key], value, f"{where}: {key}") for key, value in table.items()}
    try:
        return cls(**values)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None


def _convert(hint: Any, value: Any, where: str) -> Any:
    """Return `value` as the type `hint` wants it, or raise UserError."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if origin in (Union, UnionType):
        options = [option for option in arguments if option is not type(None)]
        assert len(options) == 1, f"{where}: only `X | None` is supported"
        return _convert(options[0], value, where)
    if is_dataclass(hint) and isinstance(value, dict):
        return from_dict(hint, value, where)  # type: ignore[arg-type]
    if origin in (tuple, list) and isinstance(value, (list, tuple)):
        return origin(_convert(arguments[0], entry, f"{where}[{i}]") for i, entry in enumerate(value))
    if origin in (dict, Mapping) and isinstance(value, Mapping):
        return {key: _convert(arguments[1], entry, f"{where}.{key}") for key, entry in value.items()}
    if hint is float and type(value) in (int, float):
        return float(value)
    if hint in (int, str, bool) and type(value) is hint:
        return value
    raise UserError(f"{where}: expected {_describe(hint)}, got {value!r}")


def _describe(hint: Any) -> str:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (tuple, list):
        return f"a list, each entry {_describe(arguments[0])}"
    if origin in (dict, Mapping) or is_dataclass(hint):
        return "a table"
    return {int: "an integer", float: "a number", str: "a text", bool: "true or false"}.get(hint, str(hint))


def to_toml(obj: Any) -> str:
    """Return a dataclass as TOML that `from_toml` reads back to an equal one. None is left out, and see `SPARSE`."""
    return _table(_written(obj), "")


def _written(obj: Any) -> dict[str, Any]:
    """The fields of a dataclass that a file holds."""
    hidden: frozenset[str] = getattr(obj, "NOT_IN_FILE", frozenset())
    found = [(entry, getattr(obj, entry.name)) for entry in fields(obj) if entry.name not in hidden]
    return {e.name: value for e, value in found if not (e.metadata.get("sparse") and value == e.default)}


def _table(table: Mapping[str, Any], prefix: str) -> str:
    """Return the plain values of a table first, because a sub-table ends its parent."""
    lines, below = [], []
    for key, value in table.items():
        if is_dataclass(value) and not isinstance(value, type):
            value = _written(value)
        if isinstance(value, Mapping):
            name = f"{prefix}{_key(key)}"
            below.append(f"\n[{name}]\n{_table(value, name + '.')}")
        elif value is not None:
            lines.append(f"{_key(key)} = {_value(value)}\n")
    return "".join(lines + below)


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _value(key)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)  # TOML writes inf and nan as Python does
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(_value(entry) for entry in value)}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{_key(key)} = {_value(entry)}' for key, entry in value.items())}}}"
    raise TypeError(f"TOML cannot hold a {type(value).__name__}")
