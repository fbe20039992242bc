"""``python -m engine train generator WORLD``: teacher-forced flow matching, every frame at its own noise level.

Against drift, the frames that are seen are lightly noised (as in GameNGen, arXiv 2408.14837), and in a share of
the steps they are the generator's own drawings instead of real ones.
"""

import hashlib
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
import tyro
from torch import Tensor, nn
from torch.func import functional_call

from engine import checkpoint, runtime
from engine.config import WorldConfig, load_world
from engine.data.clips import ClipSampler, check_data, load_latents
from engine.errors import UserError
from engine.loading import load_codec, load_generator
from engine.measures import mean_psnr
from engine.model.codec import Codec
from engine.model.generator import Clip, Generator, GeneratorConfig, teacher_forced
from engine.model.sampler import MAX_STEPS, denoising_step_list, mix, sample
from engine.presets import Preset
from engine.train.loop import Common, copy_back, pack_optimizers, processes, set_up, train
from engine.train.randomness import Randomness
from engine.train.stages.codec import codec_config, pick_preset


@dataclass
class Args(Common):
    """Learn to draw the next frame."""

    world: tyro.conf.Positional[str] = "doom"
    """World, or path of a world's TOML file."""
    preset: str = ""
    """Size; the world's own by default."""
    codec: Path | None = None
    """Checkpoint whose codec is used: by default the run's own, else that of --init, else the world's."""
    init: Path | None = None
    """Checkpoint whose generator a new run begins with; random weights by default."""
    old: int = 6
    """Old frames, from anywhere in the past, that a clip may see before its consecutive ones."""
    returns: float = 0.5
    """Share of the clips with old frames that begin where the player comes back to a view (needs odometry)."""
    context_noise: float = 0.4
    """Greatest noise level of the frames that are seen."""
    own_frames: float = 0.25
    """Share of steps whose context is drawn by the generator itself, after the first 1,000 steps."""
    play_steps: int = 2
    """Passes a frame that the checkpoint asks for in play; measure what the machine can do and the picture needs."""
    ema: float = 0.999
    """Decay of the running mean of the weights; the mean is what is shipped."""


def generator_config(preset: Preset, config: WorldConfig) -> GeneratorConfig:
    """Shape of a preset's generator for a world."""
    return GeneratorConfig(
        rows=preset.rows,
        columns=preset.columns,
        channels=preset.channels,
        actions=len(config.buttons),
        dim=preset.dim,
        depth=preset.depth,
        heads=preset.heads,
        window=preset.window,
        sink=preset.sink,
        clip=preset.clip,
        far=preset.far,
        motion=config.motion,
        fov=config.field_of_view if config.motion else 0.0,
    )


class TwoStreams(nn.Module):
    """`teacher_forced` as a module, so that its weights can be replaced by copies in another dtype."""

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, *inputs: Any) -> Tensor:
        return teacher_forced(self.generator, *inputs)


class GeneratorStage:
    """Muon on the blocks' matrices (Jordan et al. 2024), AdamW on the rest, and a running mean of the weights.

    RANGES: what the stage's own options may be, least and most.
    """

    name = "generator"
    RANGES: ClassVar[dict[str, tuple[float, float]]] = {
        "old": (0, 64),
        "returns": (0, 1),
        "context_noise": (0, 1),
        "own_frames": (0, 1),
        "play_steps": (1, MAX_STEPS),
        "ema": (0, 1),
    }

    def __init__(
        self, args: Args, config: WorldConfig, device: torch.device, dtype: torch.dtype, processes: int = 1
    ) -> None:
        for option, (least, most) in self.RANGES.items():
            if not least <= getattr(args, option) <= most:
                dashed = option.replace("_", "-")
                raise UserError(f"--{dashed} must be from {least} to {most}, not {getattr(args, option)}")
        self.args, self.config, self.device, self.dtype, self.processes = args, config, device, dtype, processes
        self.preset = pick_preset(config, args.preset)
        self.codec, self.codec_checkpoint = self._codec()
        self.codec.to(device)
        tag = codec_tag(self.codec)
        c = generator_config(self.preset, config)
        found = [load_latents(args.data, split, self.codec.cpu(), tag) for split in ("train", "validation")]
        self.sampler = ClipSampler(found[0], c.clip, args.old, c.far, c.motion, args.returns)
        self.held_out = ClipSampler(found[1], c.clip, args.old, c.far, c.motion, args.returns)
        self.codec.to(device)
        torch.manual_seed(args.seed)
        self.model = self._first(c).to(device)
        self.trained = self.modules(self.model)
        self.ema = {part: {n: p.detach().clone() for n, p in own.items()} for part, own in self.trained.items()}
        self.streams: nn.Module = TwoStreams(self.model)
        self.plain = TwoStreams(self.model)  # never compiled: for shapes that change from step to step
        if args.compile or (args.compile is None and device.type == "cuda"):
            self.streams.compile(dynamic=False)
        named = [item for own in self.trained.values() for item in own.items()]
        matrices = [p for name, p in named if _is_matrix(name)]
        rest = [p for name, p in named if not _is_matrix(name)]
        self.optimizers: list[torch.optim.Optimizer] = []
        if matrices:
            muon = torch.optim.Muon(matrices, lr=args.lr, weight_decay=0.01, adjust_lr_fn="match_rms_adamw")
            self.optimizers.append(muon)
        if rest:
            self.optimizers.append(torch.optim.AdamW(rest, lr=args.lr, betas=(0.9, 0.98), weight_decay=0.0))
        self.state: dict[str, Any] = {
            "settings": {
                "world": config.name,
                "preset": self.preset.name,
                "codec": tag,
                "seed": args.seed,
                "batch": args.batch,
                "old": args.old,
                "context_noise": args.context_noise,
                "own_frames": args.own_frames,
                "returns": args.returns,
                "motion": [list(moved) for moved in c.motion],
                **self.settings(),
            },
            "frames": 0,
            "before": self._stages_before(),
        }

    def modules(self, generator: Generator) -> dict[str, dict[str, nn.Parameter]]:
        """What this stage trains: parameters by name, for each part of the checkpoint."""
        return {"generator": dict(generator.named_parameters())}

    def settings(self) -> dict[str, Any]:
        """What a run of this stage keeps from its beginning, beside what all stages have."""
        return {}

    def _stages_before(self) -> list[Any]:
        """What the checkpoint that this run begins with was trained by."""
        if self.args.init is None:
            return []
        return list(checkpoint.read_config(self.args.init).get("notes", {}).get("stages", []))

    def _codec(self) -> tuple[Codec, dict[str, Any]]:
        own, init = self.args.run / checkpoint.CONFIG, self.args.init
        folder = self.args.codec or (self.args.run if own.exists() else init or self.config.checkpoint_path)
        codec, found = load_codec(Path(folder))
        if init not in (None, folder) and codec_tag(codec) != codec_tag(load_codec(init)[0]):
            raise UserError(f"--init {init} belongs to another codec than that of {folder}; give its own: --codec")
        if codec.config != (expected := codec_config(self.preset)):
            raise UserError(f"{folder}: its codec is {codec.config}; preset {self.preset.name} needs {expected}")
        return codec, found

    def _first(self, config: GeneratorConfig) -> Generator:
        """The weights that a run begins with."""
        if self.args.init is None:
            return Generator(config)
        found = load_generator(self.args.init)
        # Odometry changes no shapes: weights without it are a start for one with it.
        if replace(found.config, motion=config.motion, fov=config.fov) != config:
            raise UserError(f"--init {self.args.init}: its generator is {found.config}; this run needs {config}")
        generator = Generator(config)
        generator.load_state_dict(found.state_dict(), strict=False)
        return generator

    def _clip(self, clip: Clip) -> Clip:
        return clip.each(lambda x: x.to(self.device, non_blocking=True))

    def _predict(self, *inputs: Any, weights: dict[str, Tensor] | None = None, compiled: bool = True) -> Tensor:
        """Two-stream prediction with weights in the compute dtype; gradients reach the float32 ones."""
        weights = weights or dict(self.model.named_parameters())
        cast = {f"generator.{name}": p.to(self.dtype) for name, p in weights.items()}
        return functional_call(self.streams if compiled else self.plain, cast, inputs).float()

    def randomness(self, step: int, rank: int, salt: int) -> Randomness:
        """What a step of this run is drawn from."""
        return Randomness(self.args.seed, step, rank, salt, self.device)

    def loss(self, step: int, rank: int) -> tuple[Tensor, dict[str, float]]:
        """Squared error of the clean latents, weighed towards low noise; see `noise_levels`."""
        args = self.args
        clip = self._clip(self.sampler.batch(args.batch, args.seed, step, rank))
        random = self.randomness(step, rank, 0)
        b, total = clip.position.shape
        target = clip.latents[:, clip.old :]
        seen = clip.latents
        # Half of the clips are seen clean, for play begins from real frames; the others up to `context_noise`.
        context_level = random.uniform(b, total) * args.context_noise * (random.uniform(b, 1) < 0.5)
        if step >= 1000 and random.chance() < args.own_frames:
            rounds = 1 + int(2 * random.chance())
            seen = self._redrawn(clip, seen, random.normal(*target.shape), 1.5 * random.uniform(b, 1), rounds)
        level = noise_levels(random.uniform(*target.shape[:2]))
        context = mix(seen, random.normal(*seen.shape), context_level)
        noisy = mix(target, random.normal(*target.shape), level)
        error = (self._predict(clip, context, context_level, noisy, level) - target).square().mean((2, 3))
        loss = (error / level.clamp_min(0.3)).mean()
        self.state["frames"] += b * target.shape[1] * self.processes
        return loss, {"error": float(error.detach().mean())}

    @torch.no_grad()
    def _redrawn(
        self, clip: Clip, seen: Tensor, noise: Tensor, share: Tensor, rounds: int, extra: tuple[Any, ...] = ()
    ) -> Tensor:
        """The clip's consecutive frames, a random share of them replaced by the generator's own (two passes).

        Each further round draws from frames of the round before: errors add up as they do in play, but all frames
        of the clip at once. (A cheap form of self-forcing, arXiv 2506.08009.)
        """
        clean = torch.zeros(clip.position.shape, device=self.device)
        own = seen[:, clip.old :]
        for i in range(rounds):
            context = torch.cat((seen[:, : clip.old], own), 1)

            def predict(x: Tensor, _: int, level: float, context: Tensor = context) -> Tensor:
                where = torch.full(noise.shape[:2], level, device=self.device)
                return self._predict(clip, context, clean, x, where, *extra)

            own = sample(predict, noise.roll(i, 0), denoising_step_list(2))
        # Which frames are replaced follows from the noise too.
        take = (noise[:, :, 0, 0].argsort(1).argsort(1) < share * noise.shape[1])[..., None, None]
        return torch.cat((seen[:, : clip.old], torch.where(take, own, seen[:, clip.old :])), 1)

    @torch.no_grad()
    def after_step(self, step: int) -> None:
        decay = min(self.args.ema, (1 + step) / (10 + step))
        for part, own in self.trained.items():
            torch._foreach_lerp_(list(self.ema[part].values()), list(own.values()), 1 - decay)

    @torch.no_grad()
    def validate(self, step: int, folder: Path) -> dict[str, float]:
        """Next-frame PSNR after 1, 2 and 4 passes on held-out maps, from real frames, beside the codec's."""
        from engine.pictures import save_grid

        clip = self._clip(next(self.held_out.fixed(24, 1)))
        target = clip.latents[:, clip.old :]
        noise = torch.randn(target.shape, generator=torch.Generator().manual_seed(2)).to(self.device)
        clean = torch.zeros(clip.position.shape, device=self.device)
        real = self.codec.decode(target[:, 1:])
        scores, rows = {}, []
        for steps in (1, 2, 4):

            def predict(x: Tensor, _: int, level: float) -> Tensor:
                where = torch.full(target.shape[:2], level, device=self.device)
                return self._predict(clip, clip.latents, clean, x, where, weights=self.ema["generator"])

            drawn = self.codec.decode(sample(predict, noise, denoising_step_list(steps))[:, 1:])
            scores[f"next_frame_psnr_{steps}"] = mean_psnr(drawn.flatten(0, 1), real.flatten(0, 1))
            rows.append(drawn)
        pairs, labels = [], []
        for i in range(4):
            pairs += [list(real[i].cpu()), list(rows[1][i].cpu())]
            labels += ["decoded", "2 passes"]
        save_grid(folder / "next-frame.png", pairs, labels)
        return scores

    def report(self, scores: dict[str, float]) -> str:
        """The validation's scores in a line."""
        text = "  ".join(f"{name.rsplit('_')[-1]} passes {value:.2f} dB" for name, value in scores.items())
        return f"held-out maps, next frame against the codec's own: {text}"

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        return {
            "model": {f"{part}.{n}": p for part, own in self.trained.items() for n, p in own.items()},
            "ema": {f"{part}.{n}": p for part, own in self.ema.items() for n, p in own.items()},
            "optimizer": pack_optimizers(self.optimizers),
        }

    def restore(self, tensors: dict[str, dict[str, Tensor]]) -> None:
        copy_back(self.tensors(), tensors, self.optimizers, self.name)

    def parts(self) -> tuple[dict[str, Any], dict[str, dict[str, Tensor]]]:
        """Config and weights, beside the codec's, of the checkpoint that this stage makes."""
        generator = self.ema.get("generator") or dict(self.model.named_parameters())
        shape = {"generator": asdict(self.model.config)}
        return shape, {"generator": {name: p.half() for name, p in generator.items()}}

    def export(self, step: int) -> None:
        """The run's own folder is a checkpoint of the mean weights, so that it can be played at any time."""
        shapes, tensors = self.parts()
        done = {"stage": self.name, "steps": step, "frames": self.state["frames"]}
        notes = {**self.codec_checkpoint.get("notes", {}), "hardware": runtime.hardware()}
        config = {
            "world": self.config.name,
            "preset": self.preset.name,
            "buttons": list(self.config.buttons),
            "codec": asdict(self.codec.config),
            **shapes,
            "steps": self.args.play_steps,
            "timestep_shift": 1.0,
            "notes": {**notes, "stages": [*self.state["before"], done]},
        }
        codec = {name: p.half() for name, p in self.codec.state_dict().items()}
        checkpoint.save(self.args.run, config, {"codec": codec, **tensors})


def noise_levels(uniform: Tensor, shift: float = 3.0) -> Tensor:
    """Uniform numbers -> noise levels, more of them noisy: few-step sampling spends its passes there."""
    return (shift * uniform / (1 + (shift - 1) * uniform)).clamp_min(0.02)


def codec_tag(codec: Codec) -> str:
    """Name of a codec's latents: a hash of its linear part, which alone they depend on."""
    digest = hashlib.sha256()
    for tensor in (codec.mean, codec.basis, codec.scale):
        digest.update(tensor.detach().cpu().half().numpy().tobytes())
    return digest.hexdigest()[:12]


def _is_matrix(name: str) -> bool:
    return "blocks." in name and name.endswith(("qkv.weight", "out.weight", "up.weight", "down.weight"))


def run(args: Args, stage_class: type[GeneratorStage] = GeneratorStage) -> None:
    """Run one leg of a stage."""
    config = load_world(args.world)
    preset = pick_preset(config, args.preset)
    check_data(args.data, config, preset.height, preset.width)
    device, dtype = set_up(args)
    with processes(device) as (rank, size):
        stage = stage_class(args, config, device, dtype, size)
        step = train(stage, args, rank, size)
        if rank == 0:
            print(f"{step} steps, {stage.state['frames']} frames; {stage.report(stage.validate(step, args.run))}")
