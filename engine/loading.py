"""Opens worlds: from a name to a `World` with its weights, start frames and pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from engine import checkpoint as checkpoints
from engine import runtime
from engine.config import WorldConfig
from engine.errors import UserError
from engine.pictures import read_image
from engine.presets import PRESETS
from engine.toml import from_dict

if TYPE_CHECKING:
    from torch import Tensor, nn

    from engine.model.generator import Generator, GeneratorConfig
    from engine.model.heads import Heads
    from engine.model.memory import Memory
    from engine.model.motion import Motion
    from engine.world import World


def load_exactly(model: nn.Module, tensors: dict[str, Tensor], what: str) -> None:
    """Load weights; UserError naming the first that is missing, too much or of another shape."""
    fits(model.state_dict(), tensors, what)
    model.load_state_dict(tensors)


def fits(own: Mapping[str, Tensor], tensors: Mapping[str, Tensor], what: str) -> None:
    """UserError naming the first tensor that is missing, too much or of another shape than in `own`."""
    for name in sorted(own.keys() | tensors.keys()):
        need = tuple(own[name].shape) if name in own else "nothing"
        have = tuple(tensors[name].shape) if name in tensors else "nothing"
        if have != need:
            raise UserError(f"{what}: the weights do not fit: {name}: expected {need}, found {have}")


def _part(folder: Path, config: dict[str, Any], name: str, cls: type) -> Any:
    if not isinstance(config.get(name), dict) or name not in config.get("files", {}):
        raise UserError(f"checkpoint {folder} has no {name}; make one with: python -m engine train {name}")
    try:
        return from_dict(cls, config[name], f"checkpoint {folder}: {name}")
    except UserError:
        raise
    except ValueError as error:
        raise UserError(f"checkpoint {folder}: {error}") from error


def _number(folder: Path, config: dict[str, Any], name: str, default: Any, kind: type) -> Any:
    value = config.get(name, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= 1000 or kind(value) != value:
        what = "a whole number" if kind is int else "a number"
        raise UserError(f"checkpoint {folder}: {name} must be {what} above 0 and at most 1000, not {value!r}")
    return kind(value)


def load_codec(folder: Path) -> tuple[Any, dict[str, Any]]:
    """Codec of a checkpoint, float32, and the checkpoint's config."""
    from engine.model.codec import Codec, CodecConfig

    config, tensors = checkpoints.load(folder)
    codec = Codec(_part(folder, config, "codec", CodecConfig))
    load_exactly(codec, tensors["codec"], f"checkpoint {folder}: codec")
    return codec.float().eval(), config


def _generator(folder: Path, config: dict[str, Any], tensors: dict[str, dict[str, Tensor]]) -> Generator:
    from engine.model.generator import Generator, GeneratorConfig

    generator = Generator(_part(folder, config, "generator", GeneratorConfig))
    missing = {name for name, _ in generator.named_parameters()} - tensors["generator"].keys()
    if missing:
        raise UserError(f"checkpoint {folder}: generator: {sorted(missing)[0]} is missing")
    weights = {**generator.state_dict(), **tensors["generator"]}
    load_exactly(generator, weights, f"checkpoint {folder}: generator")
    return generator


def _memory(
    folder: Path, config: dict[str, Any], tensors: dict[str, dict[str, Tensor]], generator: Generator
) -> Memory | None:
    """Memory model of a checkpoint that has one; its weights are its own, or a difference to the generator's."""
    from engine.model.memory import Memory, MemoryConfig, new_delta, with_delta

    if "memory" not in config and "memory" not in config.get("files", {}):
        return None
    shape = _part(folder, config, "memory", MemoryConfig)
    memory, found = Memory(shape, generator.config), {n: t.float() for n, t in tensors["memory"].items()}
    own = memory.state_dict()
    if shape.rank:
        expected = new_delta(generator, shape.rank) | {"registers": memory.registers}
        fits(expected, found, f"checkpoint {folder}: memory")
        weights = with_delta({n: t.float() for n, t in generator.state_dict().items()}, found)
        found = {f"net.{name}": value for name, value in weights.items()} | {"registers": found["registers"]}
    else:
        fits({n: own[n] for n, _ in memory.named_parameters()}, found, f"checkpoint {folder}: memory")
    memory.load_state_dict({**own, **found})
    return memory


def _heads(
    folder: Path, config: dict[str, Any], tensors: dict[str, dict[str, Tensor]], generator: Generator
) -> Heads | None:
    """Reward and termination heads of a checkpoint that has them."""
    from engine.model.heads import Heads, HeadsConfig

    if "heads" not in config and "heads" not in config.get("files", {}):
        return None
    heads = Heads(_part(folder, config, "heads", HeadsConfig), generator.config.dim)
    load_exactly(heads, tensors["heads"], f"checkpoint {folder}: heads")
    return heads.float()


def _motion(
    folder: Path, config: dict[str, Any], tensors: dict[str, dict[str, Tensor]], generator: Generator
) -> Motion | None:
    """Motion model of a checkpoint that has one."""
    from engine.model.motion import Motion, MotionConfig

    if "motion" not in config and "motion" not in config.get("files", {}):
        return None
    shape = _part(folder, config, "motion", MotionConfig)
    need = generator.config
    if (shape.tokens, shape.channels, shape.actions) != (need.tokens, need.channels, need.actions):
        raise UserError(f"checkpoint {folder}: its motion model does not fit its generator: it has another shape")
    motion = Motion(shape)
    load_exactly(motion, tensors["motion"], f"checkpoint {folder}: motion")
    return motion.float()


def _check_geometry(folder: Path, config: WorldConfig, shape: GeneratorConfig, motion: Motion | None) -> None:
    """UserError where a checkpoint does not fit how a world lies in space."""
    geometry = config.geometry
    if geometry is not None and motion is None:
        raise UserError(
            f"checkpoint {folder} has no motion, which the [geometry] of {config.name} needs; make one with: "
            "python -m engine train motion"
        )
    if shape.sights:
        _check_sights(folder, config, shape)
    if geometry is not None and motion is not None and motion.config.snap != geometry.snap:
        said = {True: "of whole steps", False: "of any steps"}
        raise UserError(
            f"checkpoint {folder} has a motion {said[motion.config.snap]}, the [geometry] of {config.name} says snap = "
            f"{str(geometry.snap).lower()}"
        )


def _check_sights(folder: Path, config: WorldConfig, shape: GeneratorConfig) -> None:
    """UserError where a generator that takes sights was trained for a view that the world has not."""
    geometry = config.geometry
    if geometry is None or geometry.view != "top" or geometry.player is None:
        raise UserError(
            f"checkpoint {folder} was trained for a world that is seen from above; {config.name} has no [geometry] "
            "with view = 'top'"
        )
    found, expected = divmod(shape.player, shape.columns), tuple(geometry.player)
    if (found, shape.still_rows) != (expected, geometry.still_rows):
        raise UserError(
            f"checkpoint {folder} was trained with the player at {list(found)} and {shape.still_rows} still rows, "
            f"the [geometry] of {config.name} says {list(expected)} and {geometry.still_rows}"
        )


def load_generator(folder: Path) -> Generator:
    """Generator of a checkpoint, float32."""
    return _generator(folder, *checkpoints.load(folder)).float()


def fitted(config: WorldConfig, checkpoint: str | Path | None) -> WorldConfig:
    """The world in the preset of a checkpoint that may have another one than its file names."""
    if checkpoint is None:
        return config
    preset = str(checkpoints.read_config(Path(checkpoint)).get("preset"))
    if preset == config.preset or preset not in PRESETS:
        return config
    return replace(config, preset=preset)


def open_world(
    config: WorldConfig,
    *,
    checkpoint: str | Path | None = None,
    device: str = "auto",
    memory: str = "auto",
    memory_budget: int | None = None,
    recall: str = "relevance",
    batch: int = 1,
    steps: int | None = None,
    threads: int | None = None,
    dtype: str = "auto",
) -> World:
    """Open a world with its weights; raises UserError where they are missing, broken or for other buttons.

    memory: a mode of `World`, or `auto`: mag where the checkpoint has a memory model or places, else window.
    threads: by default one for a single world, which its small products fill (LOG.md) and which leaves a core to
    the window and the encoder, and all cores for a batch.
    """
    runtime.setup(threads or (1 if batch == 1 else None))
    from engine.model.codec import Codec, CodecConfig
    from engine.world import World

    folder = Path(checkpoint) if checkpoint is not None else config.checkpoint_path
    found, tensors = checkpoints.load(folder)
    codec = Codec(_part(folder, found, "codec", CodecConfig))
    load_exactly(codec, tensors["codec"], f"checkpoint {folder}: codec")
    generator = _generator(folder, found, tensors)
    memory_model = _memory(folder, found, tensors, generator)
    heads = _heads(folder, found, tensors, generator)
    motion = _motion(folder, found, tensors, generator)
    _check_geometry(folder, config, generator.config, motion)
    if found.get("buttons") != list(config.buttons):
        raise UserError(
            f"checkpoint {folder} was trained for buttons {found.get('buttons')}, {config.name} has "
            f"{list(config.buttons)}"
        )
    size, expected = (codec.config.height, codec.config.width), (config.shape.height, config.shape.width)
    if size != expected:
        raise UserError(
            f"checkpoint {folder} draws {size[0]}x{size[1]} pixels, {config.name} has {expected[0]}x{expected[1]}"
        )
    place = runtime.pick_device(device)
    remembers = memory_model is not None or generator.config.sights
    try:
        return World(
            codec.float(),
            generator.float(),
            config.buttons,
            memory_model=memory_model.float() if memory_model is not None else None,
            heads=heads,
            motion=motion,
            exclusive=config.exclusive,
            batch=batch,
            memory=memory if memory != "auto" else "mag" if remembers else "window",
            memory_budget=memory_budget,
            recall=recall,
            steps=steps or _number(folder, found, "steps", 2, int),
            timestep_shift=_number(folder, found, "timestep_shift", 1.0, float),
            device=place,
            dtype=runtime.pick_dtype(place, dtype),
        )
    except UserError:
        raise
    except ValueError as error:
        raise UserError(f"{config.name}: {error}") from error


def load_starts(config: WorldConfig) -> dict[str, np.ndarray]:
    """Start frames of a world by name, sorted; uint8 (H, W, 3). UserError where there is none."""
    shape = config.shape
    paths = sorted(config.starts_path.glob("*.png")) if config.starts_path else []
    if not paths:
        raise UserError(
            f"{config.name} has no start frames in {config.starts or '(no folder named)'}; give --image FILE"
        )
    return {path.stem: read_image(path, shape.height, shape.width) for path in paths}
