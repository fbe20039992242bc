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
EVERYONE = {"engine.errors", "engine.config", "engine.actions"}


@dataclass(frozen=True)
class Rule:
    """What a module may import: `engine` prefixes and other packages, some only in functions."""

    engine: frozenset[str]
    others: frozenset[str]
    lazy: frozenset[str] = frozenset()


def rule(engine: str = "", others: str = "", lazy: str = "") -> Rule:
    return Rule(frozenset(engine.split()), frozenset(others.split()), frozenset(lazy.split()))


# A rule holds for the module and all below it; the longest name that fits counts.
RULES = {
    "play": rule("engine", "tyro", lazy="numpy tqdm"),
    "engine.play_options": rule("engine.video", "tyro"),
    "engine.play_opening": rule("engine.game engine.play_options", lazy="engine numpy"),
    "engine": rule(lazy="engine"),
    "engine.__main__": rule("engine.cli"),
    "engine.cli": rule("engine.runtime", lazy="engine tyro"),
    "engine.errors": rule(),
    "engine.config": rule("engine.errors", "tomli"),
    "engine.actions": rule("engine.config engine.errors", "numpy torch"),
    "engine.checkpoint": rule("", "safetensors torch"),
    "engine.ship": rule("engine.checkpoint", "tyro"),
    "engine.new": rule("engine.sources engine.game.controls engine.train.starts", "gymnasium numpy tyro"),
    "engine.runtime": rule(lazy="torch"),
    "engine.video": rule("", "imageio numpy PIL av", lazy="imageio PIL av"),
    "engine.model": rule("engine.model", "torch numpy"),
    "engine.world": rule("engine.model", "torch numpy"),
    "engine.session": rule("engine.session_info engine.session_store", "torch numpy"),
    "engine.session_store": rule("engine.checkpoint", "safetensors torch"),
    "engine.session_info": rule("engine.session_store engine.runtime", lazy="torch"),
    "engine.session_writer": rule(
        "engine.session engine.session_info engine.session_store engine.video", "torch numpy"
    ),
    "engine.session_record": rule("engine.session_info engine.session_store engine.session_writer", "numpy"),
    "engine.session_replay": rule(
        "engine.session engine.session_info engine.runtime engine.checkpoint",
        "torch numpy tyro",
        lazy="engine.loading engine.video tqdm",
    ),
    "engine.session_export": rule(
        "engine.session engine.session_replay engine.session_tree", "numpy tyro", lazy="engine tqdm"
    ),
    "engine.session_datasets": rule("engine.session engine.session_export", "numpy", lazy="gymnasium minari lerobot"),
    "engine.session_tree": rule("engine.session engine.session_store", "tyro"),
    "engine.loading": rule("engine.checkpoint engine.runtime engine.world engine.model", "torch numpy PIL", lazy="PIL"),
    "engine.game": rule(
        "engine.game engine.world engine.session engine.session_info engine.session_record engine.session_replay"
        " engine.session_store engine.session_writer engine.video"
        " engine.session_tree",
        "pygame numpy",
        lazy="PIL engine.loading",
    ),
    "engine.envs": rule(
        "engine.envs engine.loading engine.world engine.sources engine.session_info engine.session_record"
        " engine.session_store engine.session_writer",
        "gymnasium numpy torch",
        lazy="pygame",
    ),
    "engine.envs.registration": rule(lazy="gymnasium"),
    "engine.envs.sb3": rule("engine.envs", "gymnasium numpy stable_baselines3"),
    "engine.sources": rule("engine.sources", "gymnasium numpy", lazy="vizdoom omg"),
    "engine.sources.doom": rule("engine.sources", "gymnasium numpy vizdoom PIL"),
    "engine.train": rule(
        "engine.train engine.model engine.sources engine.world engine.loading engine.checkpoint engine.runtime"
        " engine.session engine.session_export engine.session_store engine.session_tree",
        "gymnasium numpy safetensors torch tqdm tyro PIL",
        lazy="tensorboard matplotlib av stable_baselines3",
    ),
    "engine.bench": rule(
        "engine.bench engine.model engine.world engine.loading engine.sources engine.runtime"
        " engine.checkpoint engine.train.collect engine.train.pictures engine.train.walks",
        "gymnasium numpy torch tqdm tyro",
        lazy="matplotlib torchmetrics flip_evaluator",
    ),
    "engine.bench.magbench": rule("engine.bench engine.runtime engine.checkpoint", "numpy torch tqdm tyro", "imageio"),
    "engine.bench.revisit": rule(
        "engine.bench engine.model engine.world engine.loading engine.sources engine.video", "numpy tqdm tyro"
    ),
    "engine.bench.revisit_view": rule("engine.bench engine.train.pictures engine.video", "numpy"),
}


def modules() -> dict[str, Path]:
    found = {"play": ROOT / "play.py"} if (ROOT / "play.py").exists() else {}
    for path in sorted((ROOT / "engine").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def rule_for(module: str) -> Rule:
    name = module
    while name not in RULES or (name == "engine" and module != "engine"):
        if "." not in name:
            raise KeyError(f"{module} has no rule; give it one in tests/test_imports.py")
        name = name.rpartition(".")[0]
    return RULES[name]


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
        late = late or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        late = late or (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test))
        for child in ast.iter_child_nodes(node):
            yield from visit(child, late)

    yield from visit(ast.parse(path.read_text(encoding="utf-8")), False)


def within(name: str, prefixes: frozenset[str] | set[str]) -> bool:
    return any(name == prefix or name.startswith(f"{prefix}.") for prefix in prefixes)


def broken(module: str, path: Path, allowed: Rule) -> list[str]:
    """Return a line for each import that the rule does not allow."""
    found = []
    for name, late, line in imports(module, path):
        top = name.partition(".")[0]
        if top in STANDARD:
            continue
        own = top in ("engine", "play")
        fine = within(name, allowed.engine if own else allowed.others)
        fine = fine or (own and module != "engine" and name in EVERYONE) or name == module
        fine = fine or (late and within(name, allowed.lazy))
        if not fine:
            where = "" if late or not within(name, allowed.lazy) else " outside a function"
            found.append(f"{path.name}:{line} imports {name}{where}")
    return found


@pytest.mark.parametrize("module", modules())
def test_every_module_imports_only_what_its_layer_may(module: str) -> None:
    assert broken(module, modules()[module], rule_for(module)) == []


def test_a_forbidden_import_is_found_wherever_it_hides(tmp_path: Path) -> None:
    path = tmp_path / "cache.py"
    path.write_text(
        "import torch\nfrom engine import world\ndef f():\n    import pygame\nfrom .layers import x\n"
        "from ..game import y\n"
    )
    lines = broken("engine.model.cache", path, RULES["engine.model"])
    assert lines == [
        "cache.py:2 imports engine.world" if (ROOT / "engine/world.py").exists() else "cache.py:2 imports engine",
        "cache.py:4 imports pygame",
        "cache.py:6 imports engine.game",
    ]


def test_a_lazy_import_at_the_top_is_found(tmp_path: Path) -> None:
    path = tmp_path / "runtime.py"
    path.write_text("import torch\ndef f():\n    import torch\n")
    assert broken("engine.runtime", path, RULES["engine.runtime"]) == ["runtime.py:1 imports torch outside a function"]


def test_a_module_without_a_rule_is_found() -> None:
    with pytest.raises(KeyError, match=r"engine\.absent has no rule"):
        rule_for("engine.absent")


HEAVY = ("torch", "numpy", "pygame", "gymnasium", "vizdoom", "matplotlib")


@pytest.mark.parametrize("statement", ["import engine", "import engine.cli", "import engine.runtime"])
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
