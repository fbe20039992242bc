"""The training loop that every stage runs in: legs, resuming, saving, and when to stop.

A stage's losses are a function of the step number and the state that is saved, so a run that is killed at any
moment and started again gives the losses of one that never stopped (same device, threads and processes).
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from engine import checkpoint, runtime
from engine.config import WorldConfig, load_world
from engine.errors import UserError
from engine.train.optimizers import learning_rate
from engine.train.options import RunOptions
from engine.train.processes import agreed, average_gradients, own_gpu, processes
from engine.train.report import Report
from engine.train.state import Tensors


class Stage(Protocol):
    """A stage of training: what the loop may ask of it, and in which order.

    A stage is made anew for each leg, from its options and the world's file, on every process alike: the same seed
    gives the same weights. It reads the data and whatever checkpoint it begins with; it writes nothing. Then::

        restore                              once, where the run's folder has a saved state
        loss, (backward), after_step         every step
        validate                             now and then, and at the end of a leg
        tensors, export                      at every save; export once more after the last validation
        report                               at the end of a leg

    All but `restore`, `loss` and `after_step` are called in the main process alone. tests/train/test_stage_contract.py
    holds every stage to this.

    name: of the folder in the run's that holds the saved state, and of ``NAME-losses.csv``.
    state: what is saved beside the tensors, as JSON can hold it; a resumed run finds it here before its first step.
    ``settings`` in it are what a run keeps from its beginning: it is not continued where one of them differs. What
    else a saved run had among its settings, of options that are no more, is ignored. The loop adds ``cooldown``.
    """

    name: str
    state: dict[str, Any]

    @property
    def optimizers(self) -> Sequence[torch.optim.Optimizer]:
        """Those of all trained parameters, always the same, in a fixed order; the loop sets their learning rate."""
        ...

    def loss(self, step: int, rank: int) -> tuple[Tensor, dict[str, float]]:
        """Return the loss of a step, a scalar to call `backward` on, and parts of it to tell the user about.

        A function of `step`, `rank` and the saved state, whatever was drawn before; counts what it used in `state`.
        Every rank gives gradients to the same parameters. The loop averages and clips them and takes the step.
        """
        ...

    def after_step(self, step: int) -> None:
        """Take in the new weights, such as into a running mean."""
        ...

    def validate(self, step: int, folder: Path) -> dict[str, float]:
        """Return scores on held-out data by name, and leave pictures or a report in `folder`, the run's.

        May choose what `export` writes, such as a threshold, but changes no weight.
        """
        ...

    def report(self, step: int, scores: dict[str, float]) -> str:
        """Return the line that ends a leg of `step` steps in all, from the scores of its last validation."""
        ...

    def tensors(self) -> Tensors:
        """Return what is saved for `restore`, by group; after a `restore` the same again."""
        ...

    def restore(self, tensors: Tensors) -> None:
        """Take weights and optimizers back from what `tensors` gave. UserError where they do not fit."""
        ...

    def export(self, step: int) -> None:
        """Make the run's folder a checkpoint of what was trained in `step` steps, whole at every moment."""
        ...


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


def train(stage: Stage, options: RunOptions, rank: int, size: int) -> int:
    """Run one leg of `stage`; returns the number of steps done in all. Ctrl-C saves and then raises.

    A stage without optimizers has nothing to train, and is only saved.
    """
    began = saved = time.monotonic()
    folder = options.run / stage.name
    step = resume(stage, folder)
    cooldown = stage.state.get("cooldown")
    if options.cooldown and not cooldown:
        cooldown = stage.state["cooldown"] = [step, options.cooldown]
    ends = [end for end in (options.steps, sum(cooldown) if cooldown else None) if end is not None]
    last = min(ends, default=None)
    parameters = [p for o in stage.optimizers for group in o.param_groups for p in group["params"]]
    report = Report(stage.name, options.run, step, last) if rank == 0 else None
    interrupts = Interrupts()

    def save() -> None:
        if report is not None:
            report.flush()
            checkpoint.save(folder, {"stage": stage.name, "step": step, **stage.state}, stage.tensors())
            stage.export(step)

    try:
        while (
            parameters
            and (last is None or step < last)
            and not agreed(interrupts.came or time.monotonic() - began > options.minutes * 60, size)
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
                report.add_validation(step, stage.validate(step, options.run))
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


def run_leg(
    options: RunOptions,
    make: Callable[[Any, WorldConfig, torch.device, int], Stage],
    begin: Callable[[Stage], None] | None = None,
) -> None:
    """Run one leg of a stage and print how good it is.

    make: (options, world, device, number of processes) -> the stage. begin: what the main process does with the stage
    of a new run before its first step. Raises UserError where an option makes no sense, or what is read does not fit.
    """
    options.check()
    config = load_world(options.world)
    device = set_up(options)
    with processes(device) as (rank, size):
        stage = make(options, config, device, size)
        if begin is not None and rank == 0 and not (options.run / stage.name / checkpoint.CONFIG).exists():
            begin(stage)
        step = train(stage, options, rank, size)
        if rank == 0:
            scores = stage.validate(step, options.run)
            stage.export(step)
            print(stage.report(step, scores))


def set_up(options: RunOptions) -> torch.device:
    """Threads and device of a stage; under torchrun each process takes its own GPU."""
    runtime.setup(options.threads)
    device = runtime.pick_device(options.device)
    if device.type == "cuda":
        device = own_gpu()
        torch.set_float32_matmul_precision("high")
    return device
