"""``python -m engine worlds``: which worlds there are."""

from engine import config
from engine.cli.options import WorldsOptions
from engine.errors import UserError


def run(options: WorldsOptions) -> None:
    """Print a line for each world of the project; one that cannot be read says why."""
    rows = [_row(name) for name in config.list_worlds()]
    if not rows:
        print(f"no worlds in {config.project_root() / 'worlds'}")
        return
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for *cells, last in rows:
        print("  ".join([*(text.ljust(width) for text, width in zip(cells, widths, strict=True)), last]))


def _row(name: str) -> list[str]:
    try:
        world = config.load_world(name)
    except UserError as error:
        return [name, "?", "?", f"cannot be read: {error}"]
    there = (world.checkpoint_path / "config.json").is_file()
    return [name, world.title, world.preset, world.checkpoint if there else "no checkpoint yet"]
