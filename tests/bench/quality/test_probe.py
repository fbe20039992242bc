from pathlib import Path

import numpy as np
import pytest
import torch

from engine.bench import truth
from engine.bench.quality import probe as probes
from engine.config import WorldConfig, load_world
from tests.support.fake_scroll import BUTTONS, write_world

AXES = truth.axes_of(BUTTONS)


def pairs(config: WorldConfig, maps: range) -> tuple[truth.Episodes, np.ndarray, np.ndarray]:
    played = truth.play_episodes(config, (48, 64), maps, 12, 0, "held")
    wanted = truth.directions(AXES, BUTTONS, played.actions)[:, 1:]
    return played, wanted, truth.free_steps(AXES, wanted, played.poses)


def trained(config: WorldConfig, epochs: float) -> probes.Probe:
    played, wanted, free = pairs(config, range(40))
    small = probes.shrunk(played.frames.reshape(-1, 48, 64, 3)).unflatten(0, (40, 12))
    return probes.train_probe(small, wanted, free, AXES, seed=3, epochs=epochs)


def test_the_correlation_volume_is_that_of_its_definition() -> None:
    random = torch.Generator().manual_seed(0)
    a, b = (torch.randn(2, 5, 6, 9, generator=random) for _ in range(2))
    volume = probes.correlation(a, b)
    for y, x, dy, dx in ((0, 0, 0, 0), (3, 4, -2, 3), (4, 8, 1, -6), (2, 7, 2, 1)):
        channel = (dy + probes.ACROSS) * (2 * probes.ALONG + 1) + dx + probes.ALONG
        torch.testing.assert_close(volume[:, channel, y, x], (a[:, :, y, x] * b[:, :, y + dy, x + dx]).sum(1))
    outside = (0 + probes.ACROSS) * (2 * probes.ALONG + 1) + 6 + probes.ALONG
    assert not volume[:, outside, 3, 8].any()


def test_augmenting_mirrors_sideways_moves_and_turns_back_time() -> None:
    torch.manual_seed(0)
    before, after = torch.zeros(200, 3, 4, 4), torch.ones(200, 3, 4, 4)
    before[..., 0] = 0.5
    target = torch.tensor([[2, 2]]).repeat(200, 1)  # forward and left
    a, b, labels = probes.augmented(before, after, target, torch.tensor([1, -1]))
    backwards = a[:, 0, 0, 1] == 1
    mirrored = (torch.where(backwards[:, None], b[:, 0, 0], a[:, 0, 0]))[:, -1] == 0.5
    assert 60 < backwards.sum() < 140 and 60 < mirrored.sum() < 140
    assert ((labels[:, 0] == 0) == backwards).all()
    assert ((labels[:, 1] == 0) == (backwards ^ mirrored)).all()


def test_the_probe_reads_buttons_from_real_frames_of_other_maps(tmp_path: Path) -> None:
    config = load_world(write_world(tmp_path))
    probe = trained(config, epochs=20)
    played, wanted, free = pairs(config, range(1000, 1010))
    before, after = played.frames[:, :-1][free], played.frames[:, 1:][free]
    right = (probes.read_directions(probe, before, after) == wanted[free]).all(1).mean()
    chance = max(np.unique(wanted[free], axis=0, return_counts=True)[1]) / free.sum()
    assert chance < 0.5 and right > 0.8
    still = (probes.read_directions(probe, before, before) == wanted[free]).all(1).mean()
    assert still < 0.5


def test_the_same_seed_trains_the_same_probe_and_leaves_the_random_state_alone(tmp_path: Path) -> None:
    config = load_world(write_world(tmp_path))
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    one, two = trained(config, 0.5).state_dict(), trained(config, 0.5).state_dict()
    assert torch.rand(1) == expected
    for name, tensor in one.items():
        assert torch.equal(tensor, two[name]), name


@pytest.mark.parametrize("size", [(48, 64), (96, 128), (40, 30)])
def test_frames_of_any_size_are_compared(size: tuple[int, int]) -> None:
    frames = np.zeros((3, *size, 3), np.uint8)
    small = probes.shrunk(frames)
    assert small.shape == (3, 3, min(size[0], 48), min(size[1], 64)) and (small == -1).all()
    probe = probes.Probe(2, *small.shape[2:]).eval()
    assert probes.read_directions(probe, frames, frames).shape == (3, 2)
