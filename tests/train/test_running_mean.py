"""The running mean of weights."""

import torch

from engine.train.running_mean import RunningMean


def test_the_mean_begins_as_a_copy_and_follows_the_weights_ever_more_slowly() -> None:
    weight = torch.nn.Parameter(torch.zeros(3))
    mean = RunningMean({"generator": {"w": weight}}, 0.5)
    own = mean.parts["generator"]["w"]
    assert torch.equal(own, weight) and own.data_ptr() != weight.data_ptr() and not own.requires_grad
    with torch.no_grad():
        weight.add_(1)
    mean.update(0)
    torch.testing.assert_close(own, torch.full((3,), 0.9))  # a tenth of the mean is kept in the first step
    with torch.no_grad():
        weight.add_(1)
    mean.update(1000)
    torch.testing.assert_close(own, torch.full((3,), 1.45))  # and never more than asked for
