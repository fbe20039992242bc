"""What a run tells while it goes on: a progress bar, TensorBoard, and a log of its losses."""

from __future__ import annotations

import csv
import time
from pathlib import Path

from tqdm import tqdm

from engine.files import replace_file


class LossLog:
    """``losses.csv``: step and loss, cut back on resuming to what the saved state has seen."""

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


class Report:
    """Progress bar, TensorBoard and the log of losses of one leg; the main process has one.

    name: of the stage. folder: of the run. step: the first of the leg. last: the step to stop before, None where only
    time is limited.
    """

    def __init__(self, name: str, folder: Path, step: int, last: int | None) -> None:
        from torch.utils.tensorboard import SummaryWriter

        folder.mkdir(parents=True, exist_ok=True)
        self.name, self.told = name, 0.0
        self.losses = LossLog(folder / f"{name}-losses.csv", step)
        self.board = SummaryWriter(str(folder / "tensorboard"), purge_step=step)
        self.bar = tqdm(initial=step, total=last, desc=name, unit="step")

    def add(self, step: int, loss: float, rate: float, parts: dict[str, float]) -> None:
        """Tell of a step; every one is in the log, one in two seconds on the board."""
        self.losses.add(step, loss)
        self.bar.update()
        if time.monotonic() - self.told > 2:
            self.told = time.monotonic()
            for name, value in {"loss": loss, "rate": rate, **parts}.items():
                self.board.add_scalar(f"{self.name}/{name}", value, step)
            self.bar.set_postfix(loss=f"{loss:.4f}", **{name: f"{value:.3g}" for name, value in parts.items()})

    def add_validation(self, step: int, scores: dict[str, float]) -> None:
        """Tell of a validation after `step` steps."""
        for name, value in scores.items():
            self.board.add_scalar(f"{self.name}/validation/{name}", value, step)
            self.bar.write(f"step {step}: {name} {value:.3f}")

    def flush(self) -> None:
        """Let the log be on disk as far as it goes."""
        self.losses.flush()

    def close(self) -> None:
        self.losses.flush()
        self.bar.close()
        self.board.close()
