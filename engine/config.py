"""Worlds, as ``worlds/NAME.toml`` describes them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from engine.errors import UserError, unknown
from engine.presets import PRESETS, Preset
from engine.toml import SPARSE, from_toml

_BUTTON = re.compile(r"[A-Za-z0-9_]+")


VIEWS = ("top", "first-person")


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """How a world lies in space, as its source's ``info["pose"]`` tells: the table ``[geometry]`` of its file.

    view: `top`, seen from above, or `first-person`. step: how far a step goes, in the units of the pose. snap: whether
    every step goes whole steps, as in a world of tiles. Seen from above, a tile is one of the preset's patches; player:
    row and column, from 0 at the upper left, of the tile that shows the player; still_rows: how many of the lowest rows
    of tiles show no part of the world, such as an inventory.
    """

    view: str
    step: float = 1.0
    snap: bool = False
    player: tuple[int, ...] | None = None
    still_rows: int = field(default=0, metadata=SPARSE)

    def __post_init__(self) -> None:
        """Raise UserError where this is no geometry."""
        if self.view not in VIEWS:
            raise UserError(unknown("view", self.view, VIEWS))
        if not 0.0 < self.step <= 1e6:
            raise UserError(f"step must be above 0 and at most a million of the pose's units, not {self.step}")
        if self.view == "top" and self.player is None:
            raise UserError("view 'top' needs player = [row, column], the tile that shows the player")
        if self.view != "top" and (self.player is not None or self.still_rows):
            raise UserError(f"player and still_rows are for view 'top', this one is {self.view!r}")
        if self.player is not None and len(self.player) != 2:
            raise UserError(f"player: expected [row, column], not {list(self.player)}")

    def check_grid(self, rows: int, columns: int) -> None:
        """Raise UserError where the player or the still rows are not in a frame of so many tiles."""
        if not 0 <= self.still_rows < rows:
            raise UserError(f"still_rows must be from 0 to {rows - 1}: a frame has {rows} rows, not {self.still_rows}")
        moving = rows - self.still_rows
        if self.player is None or (0 <= self.player[0] < moving and 0 <= self.player[1] < columns):
            return
        raise UserError(
            f"player must be a row from 0 to {moving - 1} and a column from 0 to {columns - 1}, not {list(self.player)}"
        )


@dataclass(frozen=True, kw_only=True)
class WorldConfig:
    """One world, as ``worlds/NAME.toml`` describes it.

    Paths are relative to the project's root. `keys` maps a key's name, as ``pygame.key.name`` gives it, to a
    button; `source_options` are keyword arguments of the source. `frame_rate` is in frames a second of play.
    `odometry` says for a button how a step of it moves the player: forward and to the left, in any unit that makes
    a step about 1, and turned to the left in degrees; without it memory goes by looks alone. `field_of_view` is the
    horizontal one, in degrees. `geometry` says that true poses are known, so that motion can be learned from them.
    `exclusive`: of several buttons that are held, only the one that stands last in `buttons` counts; else all do.
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
    geometry: Geometry | None = None
    exclusive: bool = field(default=False, metadata=SPARSE)

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
        if self.geometry is not None:
            try:
                self.geometry.check_grid(self.shape.rows, self.shape.columns)
            except UserError as error:
                raise UserError(f"geometry: {error}") from None

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
