"""A frame as a history takes it in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from engine.model.generator import Generator
from engine.model.layers import Attend


@dataclass(frozen=True)
class Frame:
    """A frame of B worlds: latents float32 (B, N, C), action (B, A), and pose float64 (B, 3), where it is seen from.

    sights: float32 (B, N, C + 2), what was known of what it shows; None where the generator takes none, or before
    anybody asked.
    """

    latents: Tensor
    action: Tensor
    pose: np.ndarray
    sights: Tensor | None = None


def clean_pass(
    generator: Generator, frame: Frame, attend: Attend, outputs: list[Tensor] | None
) -> tuple[list[Tensor], list[Tensor]]:
    """Keys and values of a frame, of each layer (B, heads, N, head_dim): their place is rotated, their time is not.

    attend: whom it sees. outputs: a list that each layer's output of the pass, (B, 1, N, d), is appended to.
    """
    keys: list[Tensor] = []
    values: list[Tensor] = []

    def noted(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        keys.append(k)
        values.append(v)
        return attend(layer, q, k, v)

    rotation = generator.rotation(torch.from_numpy(frame.pose[:, None]))
    clean = torch.zeros((len(frame.pose), 1), device=frame.latents.device)
    sights = None if frame.sights is None else frame.sights[:, None]
    generator(frame.latents[:, None], clean, frame.action[:, None], rotation, noted, outputs, sights=sights)
    return keys, values


def looks_of(latents: Tensor, rows: int, columns: int) -> np.ndarray:
    """What frames with latents (B, N, C) look like: the mean of each column of tokens, float32 (B, columns * C)."""
    return latents.unflatten(1, (rows, columns)).mean(1).flatten(1).float().cpu().numpy()
