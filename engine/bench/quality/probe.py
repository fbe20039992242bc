"""An inverse-dynamics probe: which buttons were held between two frames? Trained on real frames only.

It compares the two frames place by place (a correlation volume, as in FlowNet, arXiv 1504.06852), so it learns how
pictures move and not what they show: a few thousand pairs are enough.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from engine.bench.truth import COMPONENTS, Axis

SIZE = (48, 64)
"""Frames are brought to at most this height and width before they are compared."""
ACROSS, ALONG = 2, 6
"""How far a place is looked for in the other frame, in cells of 4x4 pixels: up and down, left and right."""
MIRRORED = {"strafe_left", "turn_left"}
BATCH = 64


def shrunk(frames: Tensor | np.ndarray) -> Tensor:
    """uint8 (n, H, W, 3) -> float16 (n, 3, h, w) in [-1, 1], averaged down to `SIZE` where larger."""
    frames = torch.as_tensor(frames)
    size = min(frames.shape[1], SIZE[0]), min(frames.shape[2], SIZE[1])
    parts = [F.adaptive_avg_pool2d(part.movedim(-1, 1).float() / 127.5 - 1, size).half() for part in frames.split(256)]
    return torch.cat(parts)


class Probe(nn.Module):
    """Log-odds of the directions -1, 0 and 1 along each of K axes, from two frames (n, 3, h, w): (n, K, 3)."""

    def __init__(self, axes: int, height: int, width: int, features: int = 16) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 24, 4, stride=4), nn.ReLU(), nn.Conv2d(24, features, 3, padding=1))
        places = (2 * ACROSS + 1) * (2 * ALONG + 1)
        rows, columns = (height // 4 + 1) // 2, (width // 4 + 1) // 2
        self.scale = nn.Parameter(torch.tensor(4.0))
        self.read = nn.Sequential(
            nn.Conv2d(places + features, 32, 1),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Dropout(0.2),
            nn.Linear(64 * rows * columns, 128),
            nn.ReLU(),
            nn.Linear(128, 3 * axes),
        )

    def forward(self, before: Tensor, after: Tensor) -> Tensor:
        found = self.features(torch.cat((before, after)))
        found = found - found.mean((2, 3), keepdim=True)
        a, b = F.normalize(found, dim=1).chunk(2)
        volume = self.scale * correlation(a, b)
        return self.read(torch.cat((volume, found[: len(before)]), 1)).unflatten(1, (-1, 3))


def correlation(a: Tensor, b: Tensor) -> Tensor:
    """Dot products of each place of a (n, C, h, w) with the places around it in b -> (n, places around, h, w)."""
    n, _, h, w = a.shape
    rows = a.permute(0, 2, 3, 1)  # (n, h, w, C)
    padded = F.pad(b, (ALONG, ALONG, ACROSS, ACROSS)).permute(0, 2, 1, 3)  # (n, h + 2 ACROSS, C, w + 2 ALONG)
    volumes = []
    for y in range(2 * ACROSS + 1):
        products = rows @ padded[:, y : y + h]  # (n, h, w, w + 2 ALONG): with the whole row
        # Row x of the last two axes is wanted from column x on: one more column a row shifts them into line.
        skewed = F.pad(products.flatten(2), (0, w)).view(n, h, w, w + 2 * ALONG + 1)
        volumes.append(skewed[..., : 2 * ALONG + 1])
    return torch.cat(volumes, -1).permute(0, 3, 1, 2)


def train_probe(
    frames: Tensor,
    wanted: np.ndarray,
    free: np.ndarray,
    axes: Sequence[Axis],
    *,
    seed: int = 0,
    epochs: float = 6.0,
    device: torch.device | str = "cpu",
) -> Probe:
    """Train on real frames, a function of the arguments.

    frames: float16 (E, T, 3, h, w), see `shrunk`; wanted int8 (E, T - 1, K): the directions that led from each
    frame to the next; free bool (E, T - 1): pairs that show them, see `free_steps`.
    """
    episode, step = np.nonzero(free)
    first = torch.from_numpy(episode * frames.shape[1] + step)
    labels = torch.from_numpy(wanted[episode, step]).long() + 1
    flat = frames.flatten(0, 1)
    sign = [-1 if axis.positive in MIRRORED else 1 for axis in axes]
    movement = all(axis.positive in COMPONENTS and axis.negative for axis in axes)
    steps = max(1, round(epochs * len(first) / BATCH))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        probe = Probe(len(axes), *frames.shape[-2:]).to(device)
        optimizer = torch.optim.AdamW(probe.parameters(), lr=3e-3, weight_decay=1e-2)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps + 1)
        for _ in tqdm(range(steps), desc="probe", unit="step", leave=False):
            pick = torch.randint(len(first), (BATCH,))
            before, after, target = flat[first[pick]].float(), flat[first[pick] + 1].float(), labels[pick]
            if movement:
                before, after, target = augmented(before, after, target, torch.tensor(sign))
            if torch.rand(()) < 0.5:  # so that it judges motion, not sharpness
                before, after = (F.avg_pool2d(x, 3, 1, 1, count_include_pad=False) for x in (before, after))
            out = probe(before.to(device), after.to(device))
            loss = F.cross_entropy(out.flatten(0, 1), target.flatten().to(device))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
    return probe.eval().requires_grad_(False)


def augmented(before: Tensor, after: Tensor, target: Tensor, sign: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mirror half of the pairs and turn back the time of half of them; targets are 0, 1, 2 for -1, 0, 1."""
    n = len(before)
    mirror, back = torch.rand(n) < 0.5, torch.rand(n) < 0.5
    wide = mirror[:, None, None, None]
    before, after = before.where(~wide, before.flip(3)), after.where(~wide, after.flip(3))
    target = torch.where(mirror[:, None], (target - 1) * sign + 1, target)
    wide = back[:, None, None, None]
    before, after = before.where(~wide, after), after.where(~wide, before)
    return before, after, torch.where(back[:, None], 2 - target, target)


@torch.inference_mode()
def read_directions(probe: Probe, before: Tensor | np.ndarray, after: Tensor | np.ndarray) -> np.ndarray:
    """Frames uint8 (n, H, W, 3) before and after -> int8 (n, K): the direction read along each axis."""
    device = probe.scale.device
    found = []
    for a, b in zip(shrunk(before).split(256), shrunk(after).split(256), strict=True):
        found.append((probe(a.float().to(device), b.float().to(device)).argmax(-1) - 1).cpu())
    return torch.cat(found).to(torch.int8).numpy()
