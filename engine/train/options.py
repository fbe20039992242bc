"""What each stage of training can be told. No torch here: this is all that ``train STAGE --help`` waits for.

A stage's options are those that it reads, and no other. What several stages read is a group that they share.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import tyro

from engine.errors import UserError

MAX_PASSES = 64
"""Passes a frame that a world may ask for (`engine.model.sampler.MAX_STEPS`, which torch stands behind)."""

Ranges = dict[str, tuple[float, float]]


@dataclass
class RunOptions:
    """What all stages share: data, the run's folder, and the pace of the loop.

    RANGES: of some options of the class that it is in, the least and the most that they may be.
    """

    RANGES: ClassVar[Ranges] = {
        "steps": (1, math.inf),
        "seed": (0, math.inf),
        "cooldown": (0, math.inf),
        "save_every": (0, math.inf),
    }
    ABOVE_ZERO: ClassVar[tuple[str, ...]] = ("minutes", "batch", "lr", "validate_every", "warmup")

    data: Path
    """Folder that collect filled."""
    run: Path
    """Folder of the run; one that is there is continued."""
    world: tyro.conf.Positional[str] = "doom"
    """World, or path of a world's TOML file."""
    minutes: float = 8.0
    """Length of this leg; the run is saved at its end."""
    save_every: float = 60.0
    """Seconds between saves."""
    steps: int | None = None
    """Stop after this many steps in total, whichever comes first."""
    seed: int = 0
    """Seed of the weights, the batches and the noise; a run keeps the one it began with."""
    batch: int = 32
    """Clips (or frames) in a batch, per process."""
    lr: float = 2e-3
    """Peak learning rate."""
    warmup: int = 200
    """Steps over which the learning rate rises to its peak."""
    cooldown: int = 0
    """Let the learning rate fall to zero over this many steps from here, then stop."""
    validate_every: int = 500
    """Steps between validations on held-out maps."""
    device: str = "auto"
    """auto, cpu or cuda."""
    threads: int | None = None
    """CPU threads; all cores by default."""

    def check(self) -> None:
        """Raise UserError where a number makes no sense."""
        for name in self.ABOVE_ZERO:
            if not getattr(self, name) > 0:
                raise UserError(f"{_dashed(name)} must be above 0, not {getattr(self, name)}")
        for part in type(self).__mro__:
            for name, (least, most) in vars(part).get("RANGES", {}).items():
                value = getattr(self, name)
                if value is not None and not least <= value <= most:
                    allowed = f"{least} or more" if most == math.inf else f"from {least} to {most}"
                    raise UserError(f"{_dashed(name)} must be {allowed}, not {value}")


@dataclass
class LatentOptions(RunOptions):
    """What the stages share that train a generator or its memory on a codec's latents."""

    RANGES: ClassVar[Ranges] = {"play_steps": (1, MAX_PASSES), "ema": (0, 1)}

    preset: str = ""
    """Size; the world's own by default."""
    codec: Path | None = None
    """Checkpoint whose codec is used: by default the run's own, else that of --init, else the world's."""
    init: Path | None = None
    """Checkpoint whose weights a new run begins with; by default the world's."""
    dtype: str = "auto"
    """Type of the forward and backward pass: auto, float32 or bfloat16; the weights are kept in float32."""
    play_steps: int = 2
    """Passes a frame that the checkpoint asks for in play; measure what the machine can do and the picture needs."""
    ema: float = 0.999
    """Decay of the running mean of the weights; the mean is what is shipped."""


@dataclass
class OldFramesOptions:
    """Which clips are drawn from the data."""

    RANGES: ClassVar[Ranges] = {"old": (0, 64), "returns": (0, 1)}

    old: int = 6
    """Old frames, from anywhere in the past, that a clip may see before its consecutive ones."""
    returns: float = 0.0
    """Share of the clips that begin where the player comes back to a view (needs odometry)."""


@dataclass
class TeacherForcingOptions:
    """What a generator sees in training in the place of clean real frames, and whether its passes are compiled."""

    RANGES: ClassVar[Ranges] = {"context_noise": (0, 1), "own_frames": (0, 1)}

    context_noise: float = 0.4
    """Greatest noise level of the frames that are seen."""
    own_frames: float = 0.35
    """Share of the steps whose context is drawn by the generator itself, all frames of a clip at once."""
    compile: bool | None = None
    """torch.compile; by default on a GPU only (on a CPU the written-out attention leaves it nothing to win)."""


@dataclass
class MemoryShapeOptions:
    """The shape of a memory model; `engine.model.memory.MemoryConfig` says what makes no sense."""

    block: int = 3
    """Frames folded at a time, T."""
    readout: str = "last-frame"
    """What is kept of a block: last-frame (the paper's rule) or registers."""
    registers: int = 0
    """Tokens kept of a block with --readout registers, R."""
    rank: int = 0
    """Rank of the memory model's difference to the generator; 0 for weights of its own."""
    budget: int | None = None
    """Tokens of folded memory attended to in play, by default; without it as many as 8 folds have."""


@dataclass
class FoldedHistoryOptions:
    """How much folded history a clip has, and how far it is played on."""

    RANGES: ClassVar[Ranges] = {"blocks": (1, 64), "folded_share": (0, 1), "stretches": (1, 64)}

    blocks: int = 8
    """The most folded blocks that a clip sees."""
    folded_share: float = 0.6
    """Share of the steps with folded history; of the rest, half see old frames as they are, half a window alone."""
    stretches: int = 8
    """Stretches of a clip's length, each from the last drawn frames of the one before, that a rollout may have; all are
    trained on, so --batch clips are --batch stretches then."""


@dataclass
class CodecOptions(RunOptions):
    """Learn the codec between frames and latents."""

    preset: str = ""
    """Size; the world's own by default."""
    minutes: float = 4.0
    """Length of this leg."""
    lr: float = 1e-3
    """Peak learning rate of the deblocking pass."""


@dataclass
class MotionOptions(RunOptions):
    """Learn what a step will really be, walls included; needs [geometry] in the world's file."""

    RANGES: ClassVar[Ranges] = {"features": (1, 1024), "hidden": (2, 65536), "unusual": (0, 1)}

    init: Path | None = None
    """Checkpoint to give motion to, whose codec is used: by default the run's own folder, else the world's."""
    minutes: float = 2.0
    """Length of this leg."""
    batch: int = 256
    """Steps in a batch, per process."""
    features: int = 16
    """Numbers that are kept of each token."""
    hidden: int = 256
    """Width of the network."""
    unusual: float = 0.5
    """Share of the batch of steps that went another way than the usual one of their buttons."""


@dataclass
class GeneratorOptions(TeacherForcingOptions, OldFramesOptions, LatentOptions):
    """Learn to draw the next frame."""

    RANGES: ClassVar[Ranges] = {"sight_noise": (0, 10)}

    init: Path | None = None
    """Checkpoint whose generator a new run begins with; random weights by default."""
    returns: float = 0.5
    """Share of the clips with old frames that begin where the player comes back to a view (needs odometry)."""
    own_frames: float = 0.25
    """Share of steps whose context, or sights, are drawn by the generator itself, after the first 1,000 steps."""
    sight_noise: float = 0.3
    """Greatest deviation of the noise on what places tell, in worlds that have them."""


@dataclass
class MemoryOptions(MemoryShapeOptions, LatentOptions):
    """Learn to fold blocks of frames, from a generator's weights."""


@dataclass
class JointOptions(FoldedHistoryOptions, MemoryShapeOptions, TeacherForcingOptions, OldFramesOptions, LatentOptions):
    """Learn to draw from folded history."""

    RANGES: ClassVar[Ranges] = {"rollouts": (0, 1)}

    rollouts: float = 0.0
    """Share of the steps whose context the generator has played, frame by frame."""


@dataclass
class DistillOptions(FoldedHistoryOptions, MemoryShapeOptions, OldFramesOptions, LatentOptions):
    """Learn the picture of many passes in few (--play-steps), on its own rollouts."""

    RANGES: ClassVar[Ranges] = {"teacher_steps": (1, MAX_PASSES), "timestep_shift": (1, 100)}

    lr: float = 1e-3
    """Peak learning rate."""
    warmup: int = 30
    """Steps over which the learning rate rises to its peak."""
    teacher_steps: int = 16
    """Passes of the teacher, which is the generator as it was at the beginning; a multiple of --play-steps."""
    timestep_shift: float = 1.0
    """How far the noise levels of all passes are shifted towards noise, where it is decided what rarely happens."""

    def check(self) -> None:
        """Raise UserError where a number makes no sense."""
        super().check()
        if self.teacher_steps % self.play_steps:
            raise UserError("--teacher-steps must be a multiple of --play-steps")


@dataclass
class HeadsOptions(RunOptions):
    """Learn reward and termination from data that has both."""

    RANGES: ClassVar[Ranges] = {
        "events": (0, 1),
        "drawn": (0, 1),
        "old": (0, math.inf),
        "validation_frames": (1, math.inf),
    }

    init: Path | None = None
    """Checkpoint to give heads to: by default what the run's own folder holds, else the world's."""
    dtype: str = "auto"
    """Type of the forward and backward pass: auto, float32 or bfloat16; the weights are kept in float32."""
    layers: str = ""
    """Numbers of the layers to read, such as 2,5; by default the middle and the last one."""
    hidden: int = 128
    """Width of the heads."""
    buckets: int = 63
    """Of the reward, evenly spaced in symlog between the least and the greatest one."""
    old: int = 6
    """The most old frames that a clip may see before its consecutive ones."""
    events: float = 0.5
    """Share of the clips that end at an event: a termination, another reward than the usual one, or one that the
    source tells."""
    drawn: float = 0.5
    """Share of the steps whose frames are drawn by the generator, as they are in play."""
    validation_frames: int = 4000
    """Held-out frames that are asked about in a validation."""


STAGES: dict[str, type[RunOptions]] = {
    "codec": CodecOptions,
    "motion": MotionOptions,
    "generator": GeneratorOptions,
    "memory": MemoryOptions,
    "joint": JointOptions,
    "distill": DistillOptions,
    "heads": HeadsOptions,
}
"""The options of each stage, in the order in which they are trained."""


def chosen(options: RunOptions, *names: str) -> dict[str, Any]:
    """Options by name, for the settings that a run keeps from its beginning."""
    return {name: getattr(options, name) for name in names}


def _dashed(name: str) -> str:
    return f"--{name.replace('_', '-')}"
