"""The layers: which module may import which. This is the table of the design, as a test."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from engine.config import project_root

ROOT = project_root()
STANDARD = {*sys.stdlib_module_names, "tomllib"}  # which Python 3.10 does not have yet


@dataclass(frozen=True)
class Rule:
    """What a part of the engine may import.

    parts: other parts, and with them all that those may import. packages: from elsewhere. lazily: packages from
    elsewhere that may be imported in functions only, so that nobody waits for them, or needs them, who does not use
    them.
    """

    parts: frozenset[str]
    packages: frozenset[str]
    lazily: frozenset[str]


def rule(parts: str = "", packages: str = "", lazily: str = "") -> Rule:
    return Rule(frozenset(parts.split()), frozenset(packages.split()), frozenset(lazily.split()))


# The table of the design: a part is a module or a folder of `engine/`, from the ground up.
TABLE = {
    # ground
    "errors": rule(),
    "files": rule("errors"),
    "toml": rule("errors", "tomli"),
    "presets": rule("errors"),
    "runtime": rule("errors", lazily="torch"),
    # world files, buttons, weights, films, pictures
    "config": rule("toml presets"),
    "actions": rule("config", "numpy torch"),
    "checkpoint": rule("files", "safetensors torch"),
    "pictures": rule("files", "numpy", lazily="PIL"),
    "video": rule("pictures", "numpy", lazily="PIL av"),
    "measures": rule("errors", "numpy torch", lazily="torchmetrics flip_evaluator"),
    # the world
    "model": rule("", "numpy torch"),
    "history": rule("model", "numpy torch"),
    "inputs": rule("", "numpy"),
    "snapshot": rule("history inputs", "numpy torch"),
    "world": rule("snapshot", "numpy torch"),
    "loading": rule("world checkpoint config runtime pictures", "numpy torch"),
    # where worlds come from, and what is kept of play
    "sources": rule("config actions inputs pictures runtime", "gymnasium numpy", lazily="crafter vizdoom"),
    "sessions": rule("loading actions video", "numpy safetensors torch tqdm tyro", lazily="gymnasium lerobot minari"),
    "data": rule("sources sessions", "gymnasium numpy safetensors torch tqdm tyro", lazily="av stable_baselines3"),
    "train": rule("data measures", "numpy torch tqdm tyro", lazily="tensorboard"),
    "bench": rule("data measures", "gymnasium numpy torch tqdm tyro", lazily="imageio matplotlib"),
    # who plays
    "game": rule("sessions measures", "numpy pygame"),
    "envs": rule("sources sessions", "gymnasium numpy torch", lazily="pygame stable_baselines3"),
    "registration": rule("envs"),  # late, once Gymnasium is there
    "play": rule("cli game envs", "numpy tqdm tyro"),
    "cli": rule("train bench game envs", "gymnasium numpy tyro"),
}
# A module that may do what its folder may not.
EXCEPTIONS = {
    "engine.envs.sb3": rule(packages="stable_baselines3"),  # for those who have it, and for nobody else
}
DOORS = {  # which open everything, late
    "engine": rule("registration"),
    "engine.__main__": rule("cli"),
    "play": rule("play"),
}


def modules() -> dict[str, Path]:
    found = {"play": ROOT / "play.py"} if (ROOT / "play.py").exists() else {}
    for path in sorted((ROOT / "engine").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def part_of(module: str) -> str:
    """`history` for `engine.history.cold`."""
    part = module.split(".")[1]
    if part not in TABLE:
        raise KeyError(f"{module} has no rule; give {part!r} one in tests/test_imports.py")
    return part


def reach(parts: frozenset[str], above: tuple[str, ...] = ()) -> set[str]:
    """The parts, and all that they may import. Raises ValueError where a part may import itself that way."""
    found = set(parts)
    for part in parts:
        if part in above:
            raise ValueError(f"a circle: {' -> '.join([*above, part])}")
        found |= reach(TABLE[part].parts, (*above, part))
    return found


def rule_for(module: str) -> Rule:
    """All that a module may import: its part, what that may import, and exceptions of its own."""
    own = DOORS.get(module)
    if own is None:
        part = part_of(module)
        own = TABLE[part]
        own = Rule(own.parts | {part}, own.packages, own.lazily)
    more = EXCEPTIONS.get(module, rule())
    return Rule(frozenset(reach(own.parts | more.parts)), own.packages | more.packages, own.lazily)


def imports(module: str, path: Path) -> Iterator[tuple[str, bool, int]]:
    """Yield what a module imports, whether inside a function or only for type checking, and the line."""

    def visit(node: ast.AST, late: bool) -> Iterator[tuple[str, bool, int]]:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, late, node.lineno
        elif isinstance(node, ast.ImportFrom):
            package = module if path.name == "__init__.py" else module.rpartition(".")[0]
            parts = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*parts, *([node.module] if node.module else [])])
            for alias in node.names:  # `from engine import config` imports engine.config
                full = f"{base}.{alias.name}"
                yield (full if full in modules() else base), late, node.lineno
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            name = node.args[0] if node.args else None
            if isinstance(name, ast.Constant):  # by name, which hides from nobody here
                yield str(name.value), late, node.lineno
        late = late or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        late = late or (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test))
        for child in ast.iter_child_nodes(node):
            yield from visit(child, late)

    yield from visit(ast.parse(path.read_text(encoding="utf-8")), False)


def broken(module: str, path: Path, allowed: Rule) -> list[str]:
    """Return a line for each import that the rule does not allow."""
    found = []
    for name, late, line in imports(module, path):
        top, _, below = name.partition(".")
        if top in STANDARD or name == module:
            continue
        if top == "engine":
            # the package itself holds names that load nothing until they are used
            fine = below.partition(".")[0] in allowed.parts or (module in DOORS and late) or (not below and late)
            where = ""
        else:
            fine = top in allowed.packages or (late and top in allowed.lazily)
            where = " outside a function" if top in allowed.lazily and not late else ""
        if not fine:
            found.append(f"{path.name}:{line} imports {name}{where}")
    return found


@pytest.mark.parametrize("module", modules())
def test_every_module_imports_only_what_its_part_may(module: str) -> None:
    assert broken(module, modules()[module], rule_for(module)) == []


def test_no_part_may_import_itself_by_way_of_others() -> None:
    assert reach(frozenset(TABLE)) == set(TABLE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(TABLE, "errors", rule("play"))
        with pytest.raises(ValueError, match="a circle: .*errors -> play"):
            reach(frozenset(TABLE))


def test_every_part_of_the_table_is_there() -> None:
    assert {part_of(module) for module in modules() if module not in DOORS} == set(TABLE)
    assert set(EXCEPTIONS) <= set(modules())


def test_few_files_lie_loose_in_the_engine() -> None:
    assert len(list((ROOT / "engine").glob("*.py"))) <= 18


def test_a_forbidden_import_is_found_wherever_it_hides(tmp_path: Path) -> None:
    path = tmp_path / "codec.py"
    path.write_text(
        "import torch\nfrom engine import world\ndef f():\n    import pygame\nfrom .layers import x\n"
        "from ..game import y\nz = import_module('engine.envs')\n"
    )
    assert broken("engine.model.codec", path, rule_for("engine.model.codec")) == [
        "codec.py:2 imports engine.world",
        "codec.py:4 imports pygame",
        "codec.py:6 imports engine.game",
        "codec.py:7 imports engine.envs",
    ]


def test_a_lazy_import_at_the_top_is_found(tmp_path: Path) -> None:
    path = tmp_path / "runtime.py"
    path.write_text("import torch\ndef f():\n    import torch\n")
    assert broken("engine.runtime", path, rule_for("engine.runtime")) == [
        "runtime.py:1 imports torch outside a function"
    ]


def test_a_module_without_a_rule_is_found() -> None:
    with pytest.raises(KeyError, match=r"engine\.absent has no rule"):
        rule_for("engine.absent")


HEAVY = ("torch", "numpy", "pygame", "gymnasium", "vizdoom", "matplotlib")


@pytest.mark.parametrize("statement", ["import engine", "import engine.cli.dispatch", "import engine.runtime"])
def test_importing_the_package_loads_nothing_heavy(statement: str) -> None:
    code = f"{statement}, sys; print([name for name in {HEAVY!r} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert result.stdout.strip() == "[]"


def test_the_public_names_are_found_on_first_use() -> None:
    import engine

    assert engine.load_world is __import__("engine.config").config.load_world
    assert set(engine.__all__) <= set(dir(engine))
    with pytest.raises(AttributeError, match="no attribute 'open_wordl'"):
        _ = engine.open_wordl
