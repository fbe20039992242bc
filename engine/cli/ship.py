"""``python -m engine ship RUN --to DIR``: make a small checkpoint of a run, to be kept with the project.

The generator and the codec stay in 16 bits. The memory model's matrices are kept in 8, with a scale for each row:
that halves them, and what they fold is itself kept in 8 bits.
"""

from dataclasses import dataclass
from pathlib import Path

import tyro

from engine import checkpoint
from engine.errors import UserError


@dataclass
class Args:
    """Make a small checkpoint of a run."""

    run: tyro.conf.Positional[Path]
    """Folder of a run, or of a checkpoint."""
    to: Path
    """Folder to write; what other checkpoint it holds is replaced."""


def run(args: Args) -> None:
    """Write the checkpoint. Raises UserError where the run has none that is whole."""
    if args.to.exists() and args.to.resolve() == args.run.resolve():
        raise UserError(f"--to {args.to} is the run itself; name another folder")
    config, tensors = checkpoint.load(args.run)
    if not {"codec", "generator"} <= tensors.keys():
        raise UserError(f"{args.run} holds {', '.join(tensors)}; expected a checkpoint with codec and generator")
    if "memory" in tensors:
        tensors["memory"] = checkpoint.in_8_bits(tensors["memory"])
    for name in ("files", "format"):
        config.pop(name, None)
    checkpoint.save(args.to, config, tensors)
    size = sum(path.stat().st_size for path in args.to.glob("*.safetensors"))
    print(f"{args.to}: {', '.join(tensors)}, {size / 2**20:.1f} MiB")
