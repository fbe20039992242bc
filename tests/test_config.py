"""Worlds and presets in TOML."""

from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import config
from engine.config import Geometry, WorldConfig, load_world
from engine.errors import UserError
from engine.presets import PRESETS
from engine.toml import from_dict, from_toml, to_toml, tomllib

WORLD = """
title = "Doom, plain rooms"
preset = "nano"
source = "doom"
frame_rate = 12
checkpoint = "checkpoints/doom-plain/nano"
starts = "assets/doom-plain"
buttons = ["forward", "back", "turn_left"]
[keys]
w = "forward"
left = "turn_left"
[source_options]
style = "plain"
rooms = 7
"""

TOP = '[geometry]\nview = "top"\nplayer = {}\n[keys]'


@pytest.fixture
def write(tmp_path: Path):
    def write(text: str, name: str = "small.toml") -> Path:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


def without(key: str) -> str:
    return "\n".join(line for line in WORLD.splitlines() if not line.startswith(f"{key} ="))


def error(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        load_world(path)
    message = str(caught.value)
    assert message.startswith(str(path)) and "\n" not in message
    return message.removeprefix(str(path))


def test_a_world_file_is_read_with_its_types(write) -> None:
    world = load_world(write(WORLD))
    assert world.name == "small"
    assert world.buttons == ("forward", "back", "turn_left")
    assert (world.frame_rate, type(world.frame_rate)) == (12.0, float)
    assert world.keys == {"w": "forward", "left": "turn_left"}
    assert world.source_options == {"style": "plain", "rooms": 7}
    assert world.shape is PRESETS["nano"]
    assert world.checkpoint_path == config.project_root() / "checkpoints/doom-plain/nano"
    assert world.starts_path == config.project_root() / "assets/doom-plain"


def test_tables_and_starts_may_be_left_out(write) -> None:
    world = load_world(write(without("starts").partition("[keys]")[0]))
    assert (world.keys, world.source_options, world.starts_path) == ({}, {}, None)


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("title =", "titel =", ": unknown key 'titel'; did you mean 'title'?"),
        ("starts =", "zzzzzzzz =", ": unknown key 'zzzzzzzz'; known: title, preset, source, "),
        ("title =", "name =", ": unknown key 'name'"),
        ("frame_rate = 12", "frame_rate = 'fast'", ": frame_rate: expected a number, got 'fast'"),
        ("frame_rate = 12", "frame_rate = true", ": frame_rate: expected a number, got True"),
        ("frame_rate = 12", "frame_rate = 0", ": frame_rate must be above 0 and at most 240"),
        ("frame_rate = 12", "frame_rate = 240.5", ": frame_rate must be above 0 and at most 240"),
        ("frame_rate = 12", "frame_rate = nan", ": frame_rate must be above 0 and at most 240"),
        ('"nano"', '"nanno"', ": unknown preset 'nanno'; known: pico, nano, lite, base, tile; nearest: 'nano'"),
        ('source = "doom"', 'source = ""', ": source must not be empty"),
        ('["forward", "back", "turn_left"]', "[]", ": buttons must name at least one button"),
        ('["forward", "back", "turn_left"]', '"forward"', ": buttons: expected a list, each entry a text"),
        ('"back"', "3", ": buttons[1]: expected a text, got 3"),
        ('"back"', '"forward"', ": buttons: 'forward' is there more than once"),
        ('"back"', '"go-back"', ": buttons: 'go-back' cannot name a button"),
        ('"back"', '"none"', ": buttons: 'none' cannot name a button"),
        ('w = "forward"', 'w = "forwad"', "nearest: 'forward'"),
        ('w = "forward"', "w = 1", ": keys.w: expected a text, got 1"),
        ('w = "forward"', 'back = "forward"', "'back' is itself a button"),
        ("title =", "title", ": not valid TOML: "),
        ("[keys]", '[geometry]\nview = "above"\n[keys]', ": geometry: unknown view 'above'; known: top, first-person"),
        ("[keys]", '[geometry]\nview = "top"\nstep = 0\n[keys]', ": geometry: step must be above 0"),
        ("[keys]", "[geometry]\nstep = 1\n[keys]", ": geometry: missing 'view'"),
        ("[keys]", '[geometry]\nview = "top"\n[keys]', ": geometry: view 'top' needs player = [row, column]"),
        ("[keys]", TOP.format("[1]"), ": geometry: player: expected [row, column], not [1]"),
        ("[keys]", TOP.format("3"), ": geometry: player: expected a list, each entry an integer, got 3"),
        ("[keys]", TOP.format("[3, 0]"), ": geometry: player must be a row from 0 to 2 and a column from 0 to 3, not"),
        ("[keys]", TOP.format("[0, 4]"), ": geometry: player must be a row from 0 to 2 and a column from 0 to 3, not"),
        ("[keys]", TOP.format("[0, -1]"), ": geometry: player must be a row"),
        ("[keys]", TOP.format("[1, 1]\nstill_rows = 2"), ": geometry: player must be a row from 0 to 0 and a column"),
        ("[keys]", TOP.format("[0, 1]\nstill_rows = 3"), ": geometry: still_rows must be from 0 to 2: a frame has 3"),
        ("[keys]", TOP.format("[0, 1]\nstill_rows = -1"), ": geometry: still_rows must be from 0 to 2: a frame has 3"),
        (
            "[keys]",
            TOP.format("[0, 1]").replace("top", "first-person"),
            ": geometry: player and still_rows are for view",
        ),
    ],
)
def test_a_mistake_in_a_world_file_is_one_clear_line(write, before: str, after: str, message: str) -> None:
    assert WORLD.count(before) == 1
    assert message in error(write(WORLD.replace(before, after)))


def test_a_view_from_above_says_where_the_player_is(write) -> None:
    world = load_world(write(WORLD.replace("[keys]", TOP.format("[1, 3]\nstill_rows = 1"))))
    assert world.geometry == Geometry(view="top", player=(1, 3), still_rows=1)
    with pytest.raises(UserError, match="geometry: player must be"):
        replace(world, geometry=Geometry(view="top", player=(3, 3)))


def test_broken_toml_tells_its_line(write) -> None:
    assert "line 2" in error(write('title = "x"\npreset =\n'))


def test_missing_keys_are_all_named(write) -> None:
    assert error(write('title = "x"\npreset = "nano"')) == ": missing 'source', 'checkpoint', 'buttons'"


def test_a_file_that_is_not_text_and_a_missing_one_are_user_errors(tmp_path: Path) -> None:
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    assert "not UTF-8 text" in error(tmp_path / "binary.toml")
    assert "no such file" in error(tmp_path / "absent.toml")
    assert "this is a folder" in error(tmp_path)


def test_a_world_is_found_by_name_and_an_unknown_one_lists_the_known(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "worlds").mkdir()
    for name in ("plain", "maze"):
        (tmp_path / "worlds" / f"{name}.toml").write_text(WORLD)
    monkeypatch.setattr(config, "project_root", lambda: tmp_path)
    assert config.list_worlds() == ["maze", "plain"]
    assert load_world("maze") == replace(load_world("plain"), name="maze")
    with pytest.raises(UserError, match="unknown world 'mase'; known: maze, plain; nearest: 'maze'"):
        load_world("mase")
    with pytest.raises(UserError, match="unknown world ''"):
        load_world("")


def test_every_world_of_the_project_can_be_read() -> None:
    for name in config.list_worlds():
        world = load_world(name)
        assert world.name == name
        assert from_dict(WorldConfig, tomllib.loads(to_toml(world)), name) == replace(world, name="")


def test_presets_are_named_as_they_are_keyed_and_count_their_tokens() -> None:
    assert {name: preset.name for name, preset in PRESETS.items()} == {name: name for name in PRESETS}
    assert {name: preset.tokens for name, preset in PRESETS.items()} == {
        "tile": 81,
        "pico": 12,
        "nano": 12,
        "lite": 48,
        "base": 192,
    }
    assert PRESETS["nano"].far == 32 and PRESETS["base"].channels == 48


texts = st.text(st.characters(codec="utf-8"), max_size=20)
numbers = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False)
options = st.recursive(
    texts | numbers | st.booleans(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


@given(title=texts, rate=st.floats(0.1, 240.0), source_options=st.dictionaries(texts, options, max_size=4))
def test_any_world_survives_being_written_and_read(tmp_path_factory, title, rate, source_options) -> None:
    world = WorldConfig(
        title=title,
        preset="lite",
        source="doom",
        checkpoint="c",
        buttons=("a", "b"),
        frame_rate=rate,
        keys={"left shift": "a", "é": "b"},
        source_options=source_options,
    )
    path = tmp_path_factory.mktemp("worlds") / "w.toml"
    path.write_text(to_toml(world), encoding="utf-8", newline="")
    assert from_toml(WorldConfig, path) == world


def test_a_sparse_field_is_written_only_where_it_says_something() -> None:
    geometry = Geometry(view="top", player=(1, 2))
    plain, told = replace(load_world("doom-plain"), geometry=geometry), replace(geometry, still_rows=1)
    assert "still_rows" not in to_toml(plain) and "player = [1, 2]" in to_toml(plain)
    assert "still_rows = 1" in to_toml(replace(plain, geometry=told))
    assert from_dict(WorldConfig, tomllib.loads(to_toml(plain)), "here") == replace(plain, name="")


@dataclass(frozen=True)
class Inner:
    rate: float = 1.0


@dataclass(frozen=True)
class Outer:
    steps: int
    limit: int | None = None
    inner: Inner = field(default_factory=Inner)
    names: list[str] = field(default_factory=list)


def test_nested_and_optional_fields_survive_and_say_where_they_are_wrong(tmp_path: Path) -> None:
    for outer in (Outer(3), Outer(3, 4, Inner(2.5), ["a", 'b"\n'])):
        (tmp_path / "o.toml").write_text(to_toml(outer))
        assert from_toml(Outer, tmp_path / "o.toml") == outer
    with pytest.raises(UserError, match=r"^here: inner: unknown key 'raet'; did you mean 'rate'\?$"):
        from_dict(Outer, {"steps": 1, "inner": {"raet": 1}}, "here")
    with pytest.raises(UserError, match=r"^here: inner: expected a table, got 3$"):
        from_dict(Outer, {"steps": 1, "inner": 3}, "here")
    with pytest.raises(UserError, match=r"^here: steps: expected an integer, got 1\.0$"):
        from_dict(Outer, {"steps": 1.0}, "here")


def test_a_world_cannot_be_changed_after_it_is_made() -> None:
    assert WorldConfig.__dataclass_params__.frozen and "name" in {entry.name for entry in fields(WorldConfig)}  # type: ignore[attr-defined]
