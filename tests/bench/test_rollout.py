from types import SimpleNamespace

import numpy as np
import pytest
import torch

from engine.bench import rollout
from engine.bench.truth import Episodes
from engine.measures import BEST_PSNR
from engine.model.codec import Codec, CodecConfig


class Oracle:
    """A world that draws the simulator's frames, as long as it is asked for them in order and with their actions."""

    def __init__(self, episodes: Episodes) -> None:
        self.truth, self.device, self.batch = episodes, torch.device("cpu"), len(episodes.frames)
        self.codec = Codec(CodecConfig(48, 64, 16, 24, deblock=0))
        self.now = 0

    def reset(self, seed: list[int], frames: np.ndarray, actions: np.ndarray) -> None:
        assert len(seed) == self.batch
        self.now = 0
        self.observe(frames, actions)

    def observe(self, frames: np.ndarray, actions: np.ndarray) -> None:
        span = slice(self.now, self.now + frames.shape[1])
        assert (frames == self.truth.frames[:, span]).all() and (actions == self.truth.actions[:, span]).all()
        self.now = span.stop

    def render(self, action: np.ndarray) -> np.ndarray:
        assert (action == self.truth.actions[:, self.now]).all()
        return self.truth.frames[:, self.now]

    def step(self, action: np.ndarray) -> np.ndarray:
        frame = self.render(action)
        self.now += 1
        return frame


@pytest.fixture
def episodes() -> Episodes:
    random = np.random.default_rng(0)
    frames = random.integers(0, 256, (3, 14, 48, 64, 3), np.uint8)
    actions = random.integers(0, 2, (3, 14, 4)).astype(np.uint8)
    return Episodes(frames, actions, np.zeros((3, 14, 4), np.float32), np.array([14, 14, 9]))


def test_a_world_that_draws_the_truth_scores_best_at_every_frame(episodes: Episodes) -> None:
    scores, drawn = rollout.compare(Oracle(episodes), episodes, 4, [0, 1, 2], 2)  # type: ignore[arg-type]
    assert (drawn == episodes.frames[:2, 4:]).all()
    for values in (scores.psnr, scores.next_psnr):
        assert values.shape == (2, 10) and values == pytest.approx(BEST_PSNR)
    assert scores.next_ssim == pytest.approx(1.0)
    assert (scores.codec_psnr < 20).all()  # a codec that was not fitted
    assert scores.next_psnr_codec == pytest.approx(scores.codec_psnr)
    assert (scores.still_psnr < 10).all()
    assert scores.flip.shape == (2, len(rollout.moments(10)))


def test_frames_after_the_source_ended_are_not_scored(episodes: Episodes) -> None:
    scores, _ = rollout.compare(Oracle(episodes), episodes, 4, [0, 1, 2], 3)  # type: ignore[arg-type]
    assert np.isfinite(scores.psnr).sum(1).tolist() == [10, 10, 5]
    assert np.isnan(scores.flip[2, -1]) and np.isfinite(scores.ssim[2, :5]).all()


def test_groups_cover_all_episodes_once() -> None:
    covered = [index[:count].tolist() for index, count in rollout.groups(7, 3)]
    assert covered == [[0, 1, 2], [3, 4, 5], [6]]
    assert all(len(index) == 3 for index, _ in rollout.groups(7, 3))


@pytest.mark.parametrize(("frames", "expected"), [(128, [1, 8, 32, 128]), (40, [1, 8, 32]), (1, [1])])
def test_moments_are_those_that_are_reached(frames: int, expected: list[int]) -> None:
    assert rollout.moments(frames) == expected


def test_joined_scores_keep_their_order(episodes: Episodes) -> None:
    names = (
        "codec_psnr",
        "codec_ssim",
        "next_psnr",
        "next_psnr_codec",
        "next_ssim",
        "psnr",
        "ssim",
        "still_psnr",
        "flip",
    )
    parts = [rollout.Scores(**{name: np.full((2, 3), float(i)) for name in names}) for i in range(2)]
    assert rollout.Scores.joined(parts).psnr[:, 0].tolist() == [0, 0, 1, 1]
    assert SimpleNamespace(**vars(parts[0])).flip.shape == (2, 3)
