"""What a stage's saved state is made of: named tensors, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from engine.errors import UserError
from engine.loading import fits
from engine.train.optimizers import pack_optimizers, unpack_optimizers

Tensors = dict[str, dict[str, Tensor]]
"""Tensors by name, for each group of a checkpoint or of a saved state."""


def joined(parts: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Weights of several parts in one group, `PART.NAME`."""
    return {f"{part}.{name}": p for part, own in parts.items() for name, p in own.items()}


def stored(
    model: Mapping[str, Mapping[str, Tensor]],
    mean: Mapping[str, Mapping[str, Tensor]],
    optimizers: Sequence[torch.optim.Optimizer],
) -> Tensors:
    """What a stage saves: weights by part as they are trained, those of their running mean, and the optimizers'."""
    return {"model": joined(model), "ema": joined(mean), "optimizer": pack_optimizers(optimizers)}


@torch.no_grad()
def copy_back(own: Tensors, saved: Tensors, optimizers: Sequence[torch.optim.Optimizer], name: str) -> None:
    """Bring the weights `model` and `ema`, and the optimizers, to what a stage of this name has saved.

    UserError where a weight is missing, too much or of another shape.
    """
    missing = {"model", "ema", "optimizer"} - saved.keys()
    if missing:
        raise UserError(f"{name}: the saved state has no {min(missing)}; choose another --run")
    for group in ("model", "ema"):
        fits(own[group], saved[group], name)
        for key, value in saved[group].items():
            own[group][key].copy_(value)
    unpack_optimizers(optimizers, saved["optimizer"])
