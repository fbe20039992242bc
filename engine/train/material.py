"""What a run on latents is made from: a codec, the collected frames in its latents, and the weights to begin with."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from engine import checkpoint
from engine.config import WorldConfig
from engine.data.clips import ClipSampler, check_data
from engine.data.sights import Sights, load_seen
from engine.errors import UserError
from engine.loading import load_codec, load_generator
from engine.model.codec import Codec
from engine.model.generator import Clip, Generator, GeneratorConfig
from engine.train.options import LatentOptions
from engine.train.shapes import codec_config, generator_config, pick_preset

CARRIED = ("motion",)


class Material:
    """A world's data, seen through one codec.

    init: the checkpoint that the run begins with, if any; its codec must be this one.

    carried: parts that no stage on latents trains, such as motion, of the checkpoint that the run begins with: a shape
    and weights for each; every export hands them on.

    preset: the world's size. shape: of the generator. codec: on `device`. notes: those of the codec's checkpoint.
    Raises UserError where data, codec and preset do not go together.
    """

    def __init__(self, options: LatentOptions, config: WorldConfig, init: Path | None, device: torch.device) -> None:
        self.data, self.world, self.geometry, self.device = options.data, config.name, config.geometry, device
        self.preset = pick_preset(config, options.preset)
        check_data(options.data, config, self.preset.height, self.preset.width)
        folder = _codec_folder(options, config, init)
        self.codec, found = load_codec(folder)
        self.notes: dict[str, Any] = found.get("notes", {})
        self.tag = codec_tag(self.codec)
        if init not in (None, folder) and self.tag != codec_tag(load_codec(Path(init))[0]):
            raise UserError(f"--init {init} belongs to another codec than that of {folder}; give its own: --codec")
        if self.codec.config != (expected := codec_config(self.preset)):
            raise UserError(f"{folder}: its codec is {self.codec.config}; preset {self.preset.name} needs {expected}")
        self.codec.to(device)
        self.carried = carried_parts(Path(init or folder))
        self.shape = generator_config(self.preset, config)
        self.sights: dict[str, Sights] = {}  # of the splits that were asked for

    def sampler(self, split: str, old: int, returns: float) -> ClipSampler:
        """What draws clips from a split, with up to `old` old frames, a share `returns` of them at a return."""
        codec = self.codec.cpu()
        found = load_seen(self.data, split, codec, self.tag, self.shape, self.geometry, self.device)
        self.codec.to(self.device)
        if found.sights is not None:
            self.sights[split] = found.sights
        shape = self.shape
        return ClipSampler(found.latents, shape.clip, old, shape.far, shape.motion, returns, found.poses)

    def moved(self, clip: Clip) -> Clip:
        """A clip on the device."""
        return clip.each(lambda x: x.to(self.device, non_blocking=True))

    def settings(self, options: LatentOptions) -> dict[str, Any]:
        """What every run on latents keeps from its beginning."""
        return {
            "world": self.world,
            "preset": self.preset.name,
            "codec": self.tag,
            "seed": options.seed,
            "batch": options.batch,
            "motion": [list(moved) for moved in self.shape.motion],
        }


def _codec_folder(options: LatentOptions, config: WorldConfig, init: Path | None) -> Path:
    if options.codec is not None:
        return options.codec
    if (options.run / checkpoint.CONFIG).exists():
        return options.run
    return init or config.checkpoint_path


def carried_parts(folder: Path) -> dict[str, tuple[dict[str, Any], dict[str, Tensor]]]:
    """Parts of a checkpoint that stages on latents leave alone: for each its shape and weights."""
    if not checkpoint.read_config(folder)["files"].keys() & set(CARRIED):
        return {}  # most have none: do not read all weights again to find out
    config, tensors = checkpoint.load(folder)
    return {name: (config[name], tensors[name]) for name in CARRIED if name in tensors and name in config}


def codec_tag(codec: Codec) -> str:
    """Name of a codec's latents: a hash of its linear part, which alone they depend on."""
    digest = hashlib.sha256()
    for tensor in (codec.mean, codec.basis, codec.scale):
        digest.update(tensor.detach().cpu().half().numpy().tobytes())
    return digest.hexdigest()[:12]


def trained_weights(options: LatentOptions, config: WorldConfig, stage: str) -> Path | None:
    """The checkpoint that a stage which needs trained weights begins with; None where its run goes on without one."""
    if options.init is None and not (options.run / stage / checkpoint.CONFIG).exists():
        return config.checkpoint_path
    return options.init


def base_checkpoint(run: Path, init: Path | None, config: WorldConfig) -> tuple[Path, dict[str, Any], dict[str, Any]]:
    """Where a stage that adds a part to a checkpoint finds it, its config and its tensors.

    That is `init`, else what the run's own folder holds, else the world's. UserError where it has other buttons.
    """
    folder = init or (run if (run / checkpoint.CONFIG).exists() else config.checkpoint_path)
    found, tensors = checkpoint.load(folder)
    if found.get("buttons") != list(config.buttons):
        raise UserError(f"--init {folder} was trained for buttons {found.get('buttons')}")
    return folder, found, tensors


def first_generator(shape: GeneratorConfig, init: Path | None) -> Generator:
    """The generator that a run begins with: that of `init`, else a random one. UserError where it does not fit."""
    if init is None:
        return Generator(shape)
    found = load_generator(init)
    # Odometry changes no shapes: weights without it are a start for one with it.
    if replace(found.config, motion=shape.motion, fov=shape.fov) != shape:
        raise UserError(f"--init {init}: its generator is {found.config}; this run needs {shape}")
    generator = Generator(shape)
    generator.load_state_dict(found.state_dict(), strict=False)
    return generator


def trained_before(init: Path | None) -> list[Any]:
    """The stages that the checkpoint which a run begins with has gone through."""
    if init is None:
        return []
    return list(checkpoint.read_config(init).get("notes", {}).get("stages", []))
