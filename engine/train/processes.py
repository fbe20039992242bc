"""Several processes that train one model together, started by torchrun: what they agree on, and when they stop."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence

import torch
import torch.distributed as dist
from torch import nn


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


def own_gpu() -> torch.device:
    """The GPU of this process on its machine, from now on its current one."""
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    torch.cuda.set_device(device)
    return device


def average_gradients(parameters: Sequence[nn.Parameter], size: int) -> None:
    """Mean of the gradients over processes, in one message."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([g.flatten() for g in gradients])
    dist.all_reduce(flat)
    for g, part in zip(gradients, flat.div_(size).split([g.numel() for g in gradients]), strict=True):
        g.copy_(part.view_as(g))


def agreed(up: bool, size: int) -> bool:
    """What the first process says, in all of them, so that they stop at the same step."""
    if size == 1:
        return up
    flag = torch.tensor([float(up)])
    if dist.get_backend() == "nccl":
        flag = flag.cuda()
    dist.broadcast(flag, 0)
    return bool(flag.item())
