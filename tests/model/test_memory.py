"""The memory model: what it folds, in slices or at once, and how little a low-rank one stores."""

import pytest
import torch

from engine.model.memory import MemoryConfig, new_delta, with_delta
from tests.support.histories import CONFIG, N
from tests.support.histories import make_models as models


@pytest.mark.parametrize("block", [1, 2, 3, 5])
def test_folding_in_slices_is_folding_at_once(block: int) -> None:
    _, memory = models(MemoryConfig(block=block))
    latents, actions = torch.randn(2, block, N, CONFIG.channels), torch.ones(2, block, 2)
    pose = torch.randn(2, block, 3, dtype=torch.float64)
    state = memory.begin(latents, actions, pose)
    while state.layer < CONFIG.depth:
        state = memory.advance(state, 2)
    for (a, b), (c, d) in zip(state.folded, memory.fold(latents, actions, pose), strict=True):
        torch.testing.assert_close(a, c, rtol=0, atol=0)
        torch.testing.assert_close(b, d, rtol=0, atol=0)


def test_the_paper_s_rule_keeps_the_last_frame_of_a_block_that_sees_itself_both_ways() -> None:
    _, memory = models(MemoryConfig())
    latents, actions = torch.randn(1, 3, N, CONFIG.channels), torch.ones(1, 3, 2)
    pose = torch.randn(1, 3, 3, dtype=torch.float64)
    folded = memory.fold(latents, actions, pose)
    assert len(folded) == CONFIG.depth and folded[0][0].shape == (1, CONFIG.heads, N, CONFIG.head_dim)
    other = latents.clone()
    other[:, 0] += 1.0  # the first layer's keys of the last frame know nothing of the first frame, the second's do
    changed = memory.fold(other, actions, pose)
    torch.testing.assert_close(changed[0], folded[0])
    assert (changed[1][0] - folded[1][0]).abs().max() > 1e-3


def test_a_low_rank_memory_starts_as_the_generator_and_stores_less() -> None:
    generator, _ = models(MemoryConfig())
    factors = new_delta(generator, 4, torch.Generator().manual_seed(0))
    weights = {name: p.detach() for name, p in generator.named_parameters()}
    for name, value in with_delta(weights, factors).items():
        torch.testing.assert_close(value, weights[name])
    assert sum(f.numel() for f in factors.values()) < 0.3 * sum(w.numel() for w in weights.values())
    factors["blocks.0.qkv.weight.b"] += 1.0
    assert not torch.equal(with_delta(weights, factors)["blocks.0.qkv.weight"], weights["blocks.0.qkv.weight"])


def test_a_shape_that_cannot_be_is_refused() -> None:
    for bad in ({"block": 0}, {"readout": "all"}, {"registers": 3}, {"readout": "registers"}, {"rank": -1}):
        with pytest.raises(ValueError, match="memory: "):
            MemoryConfig(**bad)
