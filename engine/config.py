"""Worlds and presets: frozen dataclasses that are read from TOML and written back to it."""

import json
import re
import sys
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from types import UnionType
from typing import Any, ClassVar, TypeVar, Union, get_args, get_origin, get_type_hints

from engine.errors import UserError, nearest, unknown

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

T = TypeVar("T")

_BUTTON = re.compile(r"[A-Za-z0-9_]+")


@dataclass(frozen=True, kw_only=True)
class Preset:
    """One size of world: the frame in pixels, the latent per patch, the generator's shape and its cache.

    `window` and `sink` count frames, `clip` is the largest rotary distance inside the window and `far` the
    largest one anywhere, both in frames.
    """

    height: int
    width: int
    patch: int
    latent: int
    dim: int
    depth: int
    heads: int
    window: int
    sink: int
    clip: int
    far: int
    name: str

    def __post_init__(self) -> None:
        assert self.height % self.patch == 0 and self.width % self.patch == 0, self
        assert self.dim % self.heads == 0, self

    @property
    def rows(self) -> int:
        """Patches from top to bottom."""
        return self.height // self.patch

    @property
    def columns(self) -> int:
        """Patches from left to right."""
        return self.width // self.patch

    @property
    def tokens(self) -> int:
        """Tokens of one frame, one a patch."""
        return self.rows * self.columns


def _preset(name: str, *numbers: int) -> Preset:
    names = [entry.name for entry in fields(Preset) if entry.name != "name"]
    return Preset(name=name, **dict(zip(names, numbers, strict=True)))


# name, height, width, patch, latent, dim, depth, heads, window, sink, clip, far
PRESETS: Mapping[str, Preset] = {
    preset.name: preset
    for preset in (
        _preset("pico", 48, 64, 16, 64, 128, 4, 2, 4, 1, 5, 8),  # for agents: fast, and remembers 4 frames
        _preset("nano", 48, 64, 16, 64, 192, 6, 3, 12, 2, 13, 32),
        _preset("lite", 96, 128, 16, 96, 256, 8, 4, 8, 2, 9, 32),
        _preset("base", 96, 128, 8, 48, 512, 12, 8, 8, 2, 9, 32),
    )
}


@dataclass(frozen=True, kw_only=True)
class WorldConfig:
    """One world, as ``worlds/NAME.toml`` describes it.

    Paths are relative to the project's root. `keys` maps a key's name, as ``pygame.key.name`` gives it, to a
    button; `source_options` are keyword arguments of the source. `frame_rate` is in frames a second of play.
    `odometry` says for a button how a step of it moves the player: forward and to the left, in any unit that makes
    a step about 1, and turned to the left in degrees; without it memory goes by looks alone. `field_of_view` is the
    horizontal one, in degrees.
    """

    NOT_IN_FILE: ClassVar[frozenset[str]] = frozenset({"name"})

    name: str = ""
    title: str
    preset: str
    source: str
    checkpoint: str
    buttons: tuple[str, ...]
    frame_rate: float = 12.0
    starts: str = ""
    field_of_view: float = 0.0
    keys: Mapping[str, str] = field(default_factory=dict)
    odometry: Mapping[str, tuple[float, float, float]] = field(default_factory=dict)
    source_options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raise UserError where the fields do not make a world."""
        if self.preset not in PRESETS:
            raise UserError(unknown("preset", self.preset, PRESETS))
        if not 0.0 < self.frame_rate <= 240.0:
            raise UserError(f"frame_rate must be above 0 and at most 240 frames a second, not {self.frame_rate}")
        for required in ("source", "checkpoint"):
            if not getattr(self, required):
                raise UserError(f"{required} must not be empty")
        self._check_buttons()
        self._check_keys()
        if not 0.0 <= self.field_of_view < 180.0:
            raise UserError(f"field_of_view must be from 0 to below 180 degrees, not {self.field_of_view}")
        for button, moved in self.odometry.items():
            if button not in self.buttons:
                raise UserError(f"odometry: {unknown('button', button, self.buttons)}")
            if len(moved) != 3 or not all(abs(value) <= 1000 for value in moved):
                raise UserError(f"odometry: {button}: expected [forward, left, degrees], not {list(moved)}")

    def _check_buttons(self) -> None:
        if not self.buttons:
            raise UserError("buttons must name at least one button")
        for button in self.buttons:
            if not _BUTTON.fullmatch(button) or button == "none":
                raise UserError(
                    f"buttons: {button!r} cannot name a button; use letters, digits and '_' (but not 'none')"
                )
        twice = sorted({button for button in self.buttons if self.buttons.count(button) > 1})
        if twice:
            raise UserError(f"buttons: {twice[0]!r} is there more than once")

    def _check_keys(self) -> None:
        for key, button in self.keys.items():
            if not key or key == "none":
                raise UserError(f"keys: {key!r} cannot name a key")
            if button not in self.buttons:
                raise UserError(f"keys: {key} = {button!r}: {unknown('button', button, self.buttons)}")
            if key in self.buttons and key != button:
                raise UserError(f"keys: {key} = {button!r}, but {key!r} is itself a button; rename one of them")

    @property
    def shape(self) -> Preset:
        """The preset that this world is built from."""
        return PRESETS[self.preset]

    @property
    def motion(self) -> tuple[tuple[float, float, float], ...]:
        """`odometry` in the order of the buttons; empty where the world has none."""
        nothing = (0.0, 0.0, 0.0)
        return tuple(self.odometry.get(button, nothing) for button in self.buttons) if self.odometry else ()

    @property
    def checkpoint_path(self) -> Path:
        """The checkpoint's folder, absolute; it may not be there yet."""
        return project_root() / Path(self.checkpoint).expanduser()

    @property
    def starts_path(self) -> Path | None:
        """The folder of start frames, absolute, or None where the world names none."""
        return project_root() / Path(self.starts).expanduser() if self.starts else None


def project_root() -> Path:
    """Return the folder above this package: where worlds/, assets/ and checkpoints/ lie."""
    return Path(__file__).resolve().parent.parent


def list_worlds() -> list[str]:
    """Return the names of the worlds in the project's worlds/ folder, sorted."""
    return sorted(path.stem for path in (project_root() / "worlds").glob("*.toml"))


def load_world(name_or_path: str | Path) -> WorldConfig:
    """Read the world called NAME from the project's worlds/ folder, or the one in the file at a path.

    A text with a folder in it, or that ends in ``.toml``, is a path. Raises UserError for an unknown world
    and for a file that does not describe one.
    """
    text = str(name_or_path)
    if isinstance(name_or_path, Path) or text.endswith(".toml") or "/" in text or "\\" in text:
        path = Path(name_or_path).expanduser()
    else:
        known = list_worlds()
        if text not in known:
            raise UserError(f"{unknown('world', text, known)} (or give the path of a .toml file)")
        path = project_root() / "worlds" / f"{text}.toml"
    return replace(from_toml(WorldConfig, path), name=path.stem)


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
    """Return a dataclass as TOML that `from_toml` reads back to an equal one. None is left out."""
    hidden: frozenset[str] = getattr(obj, "NOT_IN_FILE", frozenset())
    return _table({entry.name: getattr(obj, entry.name) for entry in fields(obj) if entry.name not in hidden}, "")


def _table(table: Mapping[str, Any], prefix: str) -> str:
    """Return the plain values of a table first, because a sub-table ends its parent."""
    lines, below = [], []
    for key, value in table.items():
        if is_dataclass(value) and not isinstance(value, type):
            value = {entry.name: getattr(value, entry.name) for entry in fields(value)}
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
