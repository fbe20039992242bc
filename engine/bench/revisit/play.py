"""The model's side of `bench revisit`: histories that are fed or generated, and what the return is scored against."""

from __future__ import annotations

import time as clock
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch

from engine.bench.revisit.tasks import REAL
from engine.bench.revisit.truth import Frames, Visits
from engine.bench.rollout import each_psnr, each_ssim, reconstructed
from engine.measures import flip, psnr_table
from engine.world import Snapshot, World

CHUNK = 16
"""Real frames that are fed at once."""
Advance = Callable[[int], object]


@dataclass(frozen=True)
class Played:
    """What a world drew: frames by time, each uint8 (B, H, W, 3), seconds of each step of the return, bytes kept.

    bytes: of one world's memory at the end. poses: by time, each (B, 3), from the last frame of a real history on,
    where the world knows any.
    """

    frames: dict[int, np.ndarray]
    seconds: list[float]
    bytes: float
    poses: dict[int, np.ndarray] = field(default_factory=dict)

    def at(self, times: Iterable[int]) -> np.ndarray:
        """Frames of some times, (B, len(times), H, W, 3)."""
        return np.stack([self.frames[int(t)] for t in times], 1)


class Player(Protocol):
    """Who plays a generated history, where the walk hangs on what is drawn."""

    def begin(self, frames: Frames, poses: np.ndarray | None) -> object:
        """See the real frames (B, n, H, W, 3) that a history begins with, but for the last, which `act` is given next.

        poses: where the worlds say that they are by then, (B, 3).
        """

    def act(self, frames: np.ndarray, poses: np.ndarray | None) -> np.ndarray:
        """Actions (B, A) after frames (B, H, W, 3), seen from where the worlds say, (B, 3) or None."""


def poses_of(world: World) -> np.ndarray | None:
    """Where the players of a world's worlds are, (B, 3) in steps from where they began; None where it does not know."""
    return np.array(world.history.pose) if world.posed else None


def play(
    world: World,
    fresh: Snapshot,
    visits: Visits,
    history: str,
    seed: int,
    advance: Advance,
    player: Player | None = None,
    given: bool = False,
) -> Played:
    """Bring a world's history to the return, and draw the return under the true actions.

    history: `truth` feeds the real frames up to it, `generated` the first `REAL` ones and draws all that follow.
    fresh: the world as it was opened, so that no buffer that another walk has made grow stays. advance: called
    with numbers of frames done. player: presses the buttons of a generated history, in place of the walk's own.
    given: tell the world the true poses of the frames that it is fed.
    """
    frames, actions, time = visits.frames, visits.actions, visits.time
    seeds = [seed + int(number) for number in visits.map_seeds]  # noise that does not hang on mode or batch
    real = time.begin if history == "truth" else REAL
    keep = set(time.kept)
    world.restore(fresh)
    for start in range(0, real, CHUNK):
        part = slice(start, min(start + CHUNK, real))
        told = {"poses": visits.steps()[:, part]} if given else {}
        if start == 0:
            world.reset(seeds, frames[:, part], actions[:, part], **told)
        else:
            world.observe(frames[:, part], actions[:, part], **told)
        advance(part.stop - part.start)
    drawn, seconds, frame = {}, [], frames[:, real - 1]
    poses = {real - 1: poses_of(world)}
    if player is not None:
        player.begin(frames[:, :real], poses[real - 1])
    for t in range(real, time.length):
        action = actions[:, t] if player is None else player.act(frame, poses[t - 1])
        start_time = clock.perf_counter()
        frame = world.step(action)
        if world.device.type == "cuda":
            torch.cuda.synchronize(world.device)
        if t >= time.begin:
            seconds.append(clock.perf_counter() - start_time)
        if t in keep:
            drawn[t] = frame
        poses[t] = poses_of(world)
        advance(1)
    if player is not None:
        player.act(frame, poses[time.length - 1])  # who sees the last frame, too
    held = world.stats()["memory_bytes"] / world.batch
    world.restore(fresh)
    return Played(drawn, seconds, held, {t: pose for t, pose in poses.items() if pose is not None})


def flips(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """FLIP of each of (B, F, H, W, 3) against its reference `a` -> (B, F)."""
    return flip(a.reshape(-1, *a.shape[-3:]), b.reshape(-1, *b.shape[-3:])).reshape(a.shape[:2])


def ceiling(world: World, visits: Visits) -> dict[str, np.ndarray]:
    """What does not hang on the memory: scores by episode and scored frame, each (E, S).

    psnr_codec, ssim_codec, flip_codec: the codec's reconstruction of the truth, the best that any memory could do.
    psnr_truth_repeat: the simulator's frames of the return against its own at the first sight; a check of the walk.
    """
    time = visits.time
    truth = visits.frames[:, time.back]
    codec = reconstructed(world.codec, truth, world.device)
    return {
        "psnr_codec": each_psnr(truth, codec),
        "ssim_codec": each_ssim(truth, codec),
        "flip_codec": flips(truth, codec),
        "psnr_truth_repeat": each_psnr(truth, visits.frames[:, time.matches(visits.task)]),
    }


def scores(visits: Visits, played: Played, history: str) -> dict[str, np.ndarray]:
    """Scores of the return by episode and scored frame, each (E, S).

    psnr, ssim, flip: against the simulator's frame of the same time (history `truth`), or against the world's own
    frame at the same pose when it first saw the place (`generated`). psnr_matched: against the frame of that
    segment, with the frames of turning to the place, that is nearest by PSNR, for each frame anew. psnr_still: the
    last frame before the return, held still. psnr_truth: always against the simulator. `visits` and `played` have
    the same E walks.
    """
    time = visits.time
    drawn, truth = played.at(time.back), visits.frames[:, time.back]
    if history == "truth":
        wanted, choice = truth, visits.frames[:, time.begin :]
        still = visits.frames[:, time.begin - 1]
    else:
        wanted = played.at(time.matches(visits.task))
        choice = played.at(time.first_sight(visits.task))
        still = played.frames[time.begin - 1]
    return {
        "psnr": each_psnr(wanted, drawn),
        "ssim": each_ssim(wanted, drawn),
        "flip": flips(wanted, drawn),
        "psnr_matched": np.stack([psnr_table(a, b).max(1) for a, b in zip(drawn, choice, strict=True)]),
        "psnr_still": each_psnr(wanted, np.repeat(still[:, None], wanted.shape[1], 1)),
        "psnr_truth": each_psnr(truth, drawn),
    }


def cut(played: Played, count: int) -> Played:
    """Return what the first `count` worlds drew; the others only fill a batch up."""
    return Played(
        {t: frame[:count] for t, frame in played.frames.items()},
        played.seconds,
        played.bytes,
        {t: pose[:count] for t, pose in played.poses.items()},
    )


def joined(parts: Sequence[Played]) -> Played:
    """Put the worlds of several batches side by side."""
    return Played(
        {t: np.concatenate([part.frames[t] for part in parts]) for t in parts[0].frames},
        [second for part in parts for second in part.seconds],
        max(part.bytes for part in parts),
        {t: np.concatenate([part.poses[t] for part in parts]) for t in parts[0].poses},
    )
