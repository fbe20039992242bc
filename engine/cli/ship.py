"""``python -m engine ship RUN --to DIR``: make a small checkpoint of a run, to be kept with the project.

The generator and the codec stay in 16 bits. The memory model's matrices are kept in 8, with a scale for each row:
that halves them, and what they fold is itself kept in 8 bits. With ``--small`` all matrices but the codec's are.
"""

from engine import checkpoint
from engine.cli.options import ShipOptions
from engine.errors import UserError


def run(options: ShipOptions) -> None:
    """Write the checkpoint. Raises UserError where the run has none that is whole."""
    if options.to.exists() and options.to.resolve() == options.run.resolve():
        raise UserError(f"--to {options.to} is the run itself; name another folder")
    config, tensors = checkpoint.load(options.run)
    if not {"codec", "generator"} <= tensors.keys():
        raise UserError(f"{options.run} holds {', '.join(tensors)}; expected a checkpoint with codec and generator")
    for name in tensors.keys() & ({"memory", "generator", "motion", "heads"} if options.small else {"memory"}):
        tensors[name] = checkpoint.in_8_bits(tensors[name])
    for name in ("files", "format"):
        config.pop(name, None)
    checkpoint.save(options.to, config, tensors)
    size = sum(path.stat().st_size for path in options.to.glob("*.safetensors"))
    print(f"{options.to}: {', '.join(tensors)}, {size / 2**20:.1f} MiB")
