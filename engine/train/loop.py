"""The training loop that every stage runs in: legs, resuming, processes, progress, TensorBoard.

A stage's losses are a function of the step number and the state that is saved, so a run that is killed at any
moment and started again gives the losses of one that never stopped (same device, threads and processes).
"""

import contextlib
import csv
import os
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn
from tqdm import tqdm

from engine import checkpoint, runtime
from engine.errors import UserError
from engine.files import replace_file
from engine.loading import fits


@dataclass
class Common:
    """Options that all stages share."""

    data: Path
    """Folder that collect filled."""
    run: Path
    """Folder of the run; one that is there is continued."""
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
    dtype: str = "auto"
    """Type of the forward and backward pass: auto, float32 or bfloat16; the weights are kept in float32."""
    threads: int | None = None
    """CPU threads; all cores by default."""
    compile: bool | None = None
    """torch.compile; by default on a GPU only (on a CPU the written-out attention leaves it nothing to win)."""


class Stage(Protocol):
    """What a stage gives the loop."""

    name: str
    state: dict[str, Any]

    @property
    def optimizers(self) -> Sequence[torch.optim.Optimizer]: ...

    def loss(self, step: int, rank: int) -> tuple[Tensor, dict[str, float]]: ...
    def after_step(self, step: int) -> None: ...
    def validate(self, step: int, folder: Path) -> dict[str, float]: ...
    def tensors(self) -> dict[str, dict[str, Tensor]]: ...
    def restore(self, tensors: dict[str, dict[str, Tensor]]) -> None: ...
    def export(self, step: int) -> None: ...


def check_options(options: Common) -> None:
    """Raise UserError where a number makes no sense."""
    for name in ("minutes", "batch", "lr", "validate_every", "warmup"):
        if not getattr(options, name) > 0:
            raise UserError(f"--{name.replace('_', '-')} must be above 0, not {getattr(options, name)}")
    if options.steps is not None and options.steps < 1:
        raise UserError(f"--steps must be 1 or more, not {options.steps}")
    if options.seed < 0 or options.cooldown < 0 or options.save_every < 0:
        raise UserError("--seed, --cooldown and --save-every must be 0 or more")


def pack_optimizers(optimizers: Sequence[torch.optim.Optimizer]) -> dict[str, Tensor]:
    """State of optimizers as named tensors, `OPTIMIZER.PARAMETER.NAME`."""
    packed = {}
    for i, optimizer in enumerate(optimizers):
        for j, state in optimizer.state_dict()["state"].items():
            for name, value in state.items():
                packed[f"{i}.{j}.{name}"] = torch.as_tensor(value)
    return packed


def unpack_optimizers(optimizers: Sequence[torch.optim.Optimizer], packed: dict[str, Tensor]) -> None:
    """Inverse of `pack_optimizers`."""
    states: list[dict[int, dict[str, Tensor]]] = [{} for _ in optimizers]
    for key, value in packed.items():
        which, parameter, name = key.split(".", 2)
        states[int(which)].setdefault(int(parameter), {})[name] = value.clone()
    for optimizer, state in zip(optimizers, states, strict=True):
        optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


@torch.no_grad()
def copy_back(
    own: dict[str, dict[str, Tensor]],
    saved: dict[str, dict[str, Tensor]],
    optimizers: Sequence[torch.optim.Optimizer],
    name: str,
) -> None:
    """Bring the weights `model` and `ema`, and the optimizers, to what a stage of this name has saved."""
    for group in ("model", "ema"):
        fits(own[group], saved[group], name)
        for key, value in saved[group].items():
            own[group][key].copy_(value)
    unpack_optimizers(optimizers, saved["optimizer"])


def learning_rate(step: int, peak: float, warmup: int, cooldown: tuple[int, int] | None) -> float:
    """Warm up, stay, and, once asked to, fall to zero linearly over `cooldown` = (first step, steps)."""
    rate = peak * min(1.0, (step + 1) / warmup)
    if cooldown is not None:
        rate *= max(0.0, 1 - (step - cooldown[0]) / cooldown[1])
    return rate


@contextlib.contextmanager
def processes(device: torch.device) -> Iterator[tuple[int, int]]:
    """(rank, size) under torchrun, else (0, 1)."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield 0, 1
        return
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield dist.get_rank(), size
    finally:
        dist.destroy_process_group()


def average_gradients(parameters: list[nn.Parameter], size: int) -> None:
    """Mean of the gradients over processes, in one message."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([g.flatten() for g in gradients])
    dist.all_reduce(flat)
    for g, part in zip(gradients, flat.div_(size).split([g.numel() for g in gradients]), strict=True):
        g.copy_(part.view_as(g))


class LossLog:
    """``losses.csv``: step, loss and its parts, cut back on resuming to what the saved state has seen."""

    def __init__(self, path: Path, step: int) -> None:
        rows: list[list[str]] = []
        if path.exists():
            with path.open(newline="") as file:
                rows = [row for row in csv.reader(file) if len(row) == 2 and row[0].isdigit() and int(row[0]) < step]
        replace_file(path, "".join(f"{a},{b}\n" for a, b in rows).encode())
        self.file = path.open("a")

    def add(self, step: int, loss: float) -> None:
        self.file.write(f"{step},{loss!r}\n")

    def flush(self) -> None:
        self.file.flush()


class Interrupts:
    """Holds Ctrl-C and SIGTERM back until a step is whole; a second one is not held back."""

    def __init__(self) -> None:
        self.came = False
        self._previous = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}

    def _note(self, number: int, frame: object) -> None:
        if self.came:
            raise KeyboardInterrupt
        self.came = True

    def release(self) -> None:
        """Put the handlers back that were there before."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)


def resume(stage: Stage, folder: Path) -> int:
    """Give the stage the state saved in `folder`, if any; returns the number of steps done. UserError on a misfit."""
    if not (folder / checkpoint.CONFIG).exists():
        return 0
    config, tensors = checkpoint.load(folder)
    if config.get("stage") != stage.name:
        raise UserError(f"{folder} is no run of stage {stage.name}; choose another --run")
    begun = config.get("settings", {})
    for name, value in stage.state["settings"].items():
        if begun.get(name) != value:
            raise UserError(
                f"{folder} was begun with {name} = {begun.get(name)!r}, now it is {value!r};"
                " give the same, or another --run"
            )
    stage.restore(tensors)
    stage.state.update({name: config[name] for name in (*stage.state, "cooldown") if name in config})
    return int(config["step"])


def train(stage: Stage, options: Common, rank: int, size: int) -> int:
    """Run one leg of `stage`; returns the number of steps done in all. Ctrl-C saves and then raises."""
    began = saved = time.monotonic()
    folder = options.run / stage.name
    step = resume(stage, folder)
    cooldown = stage.state.get("cooldown")
    if options.cooldown and not cooldown:
        cooldown = stage.state["cooldown"] = [step, options.cooldown]
    last = min(options.steps or 2**62, sum(cooldown) if cooldown else 2**62)
    parameters = [p for o in stage.optimizers for group in o.param_groups for p in group["params"]]
    report = Report(stage, options, step, last) if rank == 0 else None
    interrupts = Interrupts()

    def save() -> None:
        if report is not None:
            report.losses.flush()
            checkpoint.save(folder, {"stage": stage.name, "step": step, **stage.state}, stage.tensors())
            stage.export(step)

    try:
        while step < last and not _should_stop(
            interrupts.came or time.monotonic() - began > options.minutes * 60, size
        ):
            rate = learning_rate(step, options.lr, options.warmup, tuple(cooldown) if cooldown else None)
            for optimizer in stage.optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = rate
            loss, parts = stage.loss(step, rank)
            loss.backward()
            if size > 1:
                average_gradients(parameters, size)
            norm = nn.utils.clip_grad_norm_(parameters, 1.0)
            if not torch.isfinite(norm):
                raise UserError(f"the gradient at step {step} is not finite; lower --lr (now {options.lr})")
            for optimizer in stage.optimizers:
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
            stage.after_step(step)
            if report is not None:
                report.add(step, loss.item(), rate, parts)
            step += 1
            if report is not None and step % options.validate_every == 0:
                report.validate(step)
            if time.monotonic() - saved > options.save_every:
                save()
                saved = time.monotonic()
        save()
    finally:
        interrupts.release()
        if report is not None:
            report.close()
    if interrupts.came:
        raise KeyboardInterrupt
    return step


class Report:
    """Progress bar, TensorBoard and the log of losses; the main process has one."""

    def __init__(self, stage: Stage, options: Common, step: int, last: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        options.run.mkdir(parents=True, exist_ok=True)
        self.stage, self.folder, self.told = stage, options.run, 0.0
        self.losses = LossLog(options.run / f"{stage.name}-losses.csv", step)
        self.board = SummaryWriter(str(options.run / "tensorboard"), purge_step=step)
        self.bar = tqdm(initial=step, total=last if last < 2**62 else None, desc=stage.name, unit="step")

    def add(self, step: int, loss: float, rate: float, parts: dict[str, float]) -> None:
        self.losses.add(step, loss)
        self.bar.update()
        if time.monotonic() - self.told > 2:
            self.told = time.monotonic()
            for name, value in {"loss": loss, "rate": rate, **parts}.items():
                self.board.add_scalar(f"{self.stage.name}/{name}", value, step)
            self.bar.set_postfix(loss=f"{loss:.4f}", **{name: f"{value:.3g}" for name, value in parts.items()})

    def validate(self, step: int) -> None:
        for name, value in self.stage.validate(step, self.folder).items():
            self.board.add_scalar(f"{self.stage.name}/validation/{name}", value, step)
            self.bar.write(f"step {step}: {name} {value:.3f}")

    def close(self) -> None:
        self.losses.flush()
        self.bar.close()
        self.board.close()


def _should_stop(up: bool, size: int) -> bool:
    """All processes stop at the same step: the first one says when."""
    if size == 1:
        return up
    flag = torch.tensor([float(up)])
    if dist.get_backend() == "nccl":
        flag = flag.cuda()
    dist.broadcast(flag, 0)
    return bool(flag.item())


def set_up(options: Common) -> tuple[torch.device, torch.dtype]:
    """Threads, device and dtype of a stage; under torchrun each process takes its own GPU."""
    check_options(options)
    runtime.setup(options.threads)
    device = runtime.pick_device(options.device)
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
        torch.set_float32_matmul_precision("high")
    return device, runtime.pick_dtype(device, options.dtype)
