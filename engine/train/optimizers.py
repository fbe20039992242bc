"""Optimizers of a stage, their learning rate, and their state as named tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from engine.errors import UserError


def muon_and_adamw(parts: Mapping[str, Mapping[str, nn.Parameter]], lr: float) -> list[torch.optim.Optimizer]:
    """Muon on the matrices of transformer blocks (Jordan et al. 2024), AdamW on the rest; each where it has work.

    parts: parameters by name for each part of a checkpoint. Their order is that of the saved state: it must not change.
    """
    named = [item for own in parts.values() for item in own.items()]
    matrices = [p for name, p in named if _is_matrix(name)]
    rest = [p for name, p in named if not _is_matrix(name)]
    found: list[torch.optim.Optimizer] = []
    if matrices:
        found.append(torch.optim.Muon(matrices, lr=lr, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"))
    if rest:
        found.append(torch.optim.AdamW(rest, lr=lr, betas=(0.9, 0.98), weight_decay=0.0))
    return found


def _is_matrix(name: str) -> bool:
    return "blocks." in name and name.endswith(("qkv.weight", "out.weight", "up.weight", "down.weight"))


def learning_rate(step: int, peak: float, warmup: int, cooldown: tuple[int, int] | None) -> float:
    """Warm up, stay, and, once asked to, fall to zero linearly over `cooldown` = (first step, steps)."""
    rate = peak * min(1.0, (step + 1) / warmup)
    if cooldown is not None:
        rate *= max(0.0, 1 - (step - cooldown[0]) / cooldown[1])
    return rate


def pack_optimizers(optimizers: Sequence[torch.optim.Optimizer]) -> dict[str, Tensor]:
    """State of optimizers as named tensors, `OPTIMIZER.PARAMETER.NAME`."""
    packed = {}
    for i, optimizer in enumerate(optimizers):
        for j, state in optimizer.state_dict()["state"].items():
            for name, value in state.items():
                packed[f"{i}.{j}.{name}"] = torch.as_tensor(value)
    return packed


def unpack_optimizers(optimizers: Sequence[torch.optim.Optimizer], packed: Mapping[str, Tensor]) -> None:
    """Inverse of `pack_optimizers`. UserError where these are the states of other optimizers."""
    states: list[dict[int, dict[str, Tensor]]] = [{} for _ in optimizers]
    sizes = [sum(len(group["params"]) for group in optimizer.param_groups) for optimizer in optimizers]
    for key, value in packed.items():
        which, parameter, name = (*key.split(".", 2), "", "")[:3]
        known = which.isdecimal() and int(which) < len(sizes) and parameter.isdecimal()
        if not known or int(parameter) >= sizes[int(which)]:
            raise UserError(f"the saved state of the optimizers does not fit: {key}; choose another --run")
        states[int(which)].setdefault(int(parameter), {})[name] = value.clone()
    for optimizer, state in zip(optimizers, states, strict=True):
        optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
