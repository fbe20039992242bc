"""Networks of random weights."""

from typing import TypeVar

import torch

M = TypeVar("M", bound=torch.nn.Module)


def shaken(model: M, seed: int, amount: float = 0.1) -> M:
    """The model, to play with, with no weight left at zero: or it would draw the same whatever it is given."""
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn(weight.shape, generator=random) * amount)
    model.eval().requires_grad_(False)
    return model
