"""The run's own folder as a checkpoint of the mean weights, so that what was trained can be played at any time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor

from engine import checkpoint, runtime
from engine.config import WorldConfig
from engine.train.material import Material
from engine.train.options import LatentOptions

Parts = Mapping[str, tuple[Any, Mapping[str, Tensor]]]
"""For each part of a checkpoint, such as `generator`, its shape (a dataclass) and its weights."""


class Exporter:
    """Writes checkpoints of a world into the run's folder: the parts that a stage hands over, and the codec.

    shift: of the noise levels that the weights are to be played at.
    """

    def __init__(self, options: LatentOptions, config: WorldConfig, material: Material, shift: float = 1.0) -> None:
        self.shift = shift
        self.folder, self.passes, self.config, self.material = options.run, options.play_steps, config, material

    def write(self, parts: Parts, stages: Sequence[Mapping[str, Any]]) -> None:
        """Write a checkpoint, float16; `stages` are all that its weights have gone through, the last one last."""
        codec = self.material.codec
        notes = {**self.material.notes, "hardware": runtime.hardware()}
        described = {
            "world": self.config.name,
            "preset": self.material.preset.name,
            "buttons": list(self.config.buttons),
            "codec": asdict(codec.config),
            **{name: asdict(shape) for name, (shape, _) in parts.items()},
            **{name: shape for name, (shape, _) in self.material.carried.items()},
            "steps": self.passes,
            "timestep_shift": self.shift,
            "notes": {**notes, "stages": [*self._carried(stages), *stages]},
        }
        weights = {"codec": codec.state_dict(), **{name: own for name, (_, own) in parts.items()}}
        weights |= {name: own for name, (_, own) in self.material.carried.items()}
        half = {name: {n: p.detach().half() for n, p in own.items()} for name, own in weights.items()}
        checkpoint.save(self.folder, described, half)

    def _carried(self, stages: Sequence[Mapping[str, Any]]) -> list[Any]:
        """Stages that parts went through which are only handed on, where they are not among `stages` already."""
        wanted = self.material.carried.keys() - {stage["stage"] for stage in stages}
        return [stage for stage in self.material.notes.get("stages", []) if stage.get("stage") in wanted]


def add_part(
    folder: Path, base: tuple[Mapping[str, Any], Mapping[str, Mapping[str, Tensor]]], part: Any, weights: Any, done: Any
) -> None:
    """Write a checkpoint that is another one, `base` (config and tensors), and a part more.

    part: its shape, a dataclass. weights: its tensors. done: the stage that trained it (see `done`), named as the part;
    what was said of an earlier training of it goes.
    """
    config, tensors = base
    notes, name = config.get("notes", {}), done["stage"]
    stages = [stage for stage in notes.get("stages", []) if stage.get("stage") != name]
    described = {key: value for key, value in config.items() if key not in ("files", "format")}
    described["notes"] = {**notes, "hardware": runtime.hardware(), "stages": [*stages, done]}
    described[name] = asdict(part)
    checkpoint.save(folder, described, {**tensors, name: weights})


def done(stage: str, step: int, state: Mapping[str, Any]) -> dict[str, Any]:
    """A stage's entry in a checkpoint's list of stages."""
    return {"stage": stage, "steps": step, "frames": state["frames"]}
