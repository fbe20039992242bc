"""A history in a file is bit for bit what it was, and one that does not fit is named."""

import json

import numpy as np
import pytest
import torch

from engine.history.state import history_from, state_of
from engine.model.memory import MemoryConfig
from tests.support.histories import CPU, N, Player, make_models


def test_a_history_in_the_middle_of_a_fold_survives_a_file() -> None:
    generator, memory = make_models(MemoryConfig(budget=2 * N))
    player = Player(generator, memory)
    player.run_into_a_fold(after=4)
    meta, tensors = state_of(player.history)
    assert meta["jobs"] and any(name.startswith("cold.1.") for name in tensors)
    meta = json.loads(json.dumps(meta))
    last = player.history.latents
    expected = player.run(20)
    player.history = history_from(generator, meta, tensors, CPU, torch.float32, memory)
    assert torch.equal(player.history.latents, last)
    torch.testing.assert_close(player.run(20), expected, rtol=0, atol=0)


def test_a_state_of_an_older_version_has_no_latents_and_is_read_all_the_same() -> None:
    generator, memory = make_models(MemoryConfig(budget=2 * N))
    player = Player(generator, memory)
    player.run(12)
    meta, tensors = state_of(player.history)
    del tensors["latents"]
    expected = player.run(9)
    player.history = history_from(generator, meta, tensors, CPU, torch.float32, memory)
    assert not player.history.latents.any()
    torch.testing.assert_close(player.run(9), expected, rtol=0, atol=0)


def test_a_state_that_does_not_fit_is_named() -> None:
    generator, memory = make_models(MemoryConfig(budget=2 * N))
    player = Player(generator, memory)
    player.run_into_a_fold(after=4)
    meta, tensors = state_of(player.history)
    wrong = [
        ({**meta, "mode": "forever"}, tensors),
        ({**meta, "blocks": 10**6}, tensors),
        ({**meta, "recall": 3}, tensors),
        ({**meta, "filled": -1}, tensors),
        ({**meta, "jobs": [{"worlds": [5], "layer": 1}]}, tensors),
        ({**meta, "jobs": [{"worlds": [0], "layer": 99}]}, tensors),
        (meta, {**tensors, "hot": tensors["hot"] + 99}),
        (meta, {**tensors, "pose": tensors["pose"] * torch.nan}),
        (meta, {**tensors, "latents": tensors["latents"] * torch.nan}),
        (meta, {**tensors, "latents": tensors["latents"][:, :1]}),
        (meta, {**tensors, "cold.0.blocks": tensors["cold.0.blocks"][:, :-1]}),
        (meta, {name: tensor for name, tensor in tensors.items() if name != "cold.1.poses"}),
        (meta, {**tensors, "pending.0.latents": torch.zeros(1, 2, 3)}),
    ]
    for some_meta, some_tensors in wrong:
        with pytest.raises(ValueError, match="history: |cold storage: "):
            history_from(generator, some_meta, some_tensors, CPU, torch.float32, memory)
    with pytest.raises(ValueError, match="memory model"):
        history_from(generator, meta, tensors, CPU, torch.float32)


def test_the_last_latents_and_the_pose_are_those_of_each_world() -> None:
    generator, memory = make_models(MemoryConfig(budget=2 * N))
    player = Player(generator, memory)
    player.run(5)
    before = player.history.latents
    moment = player.history.copy()
    player.step(np.array([False, True]))  # the second world alone goes on
    after = player.history.latents
    assert torch.equal(after[0], before[0]) and torch.equal(after[1], player.latents[1, 5])
    assert (player.history.pose[0] == moment.pose[0]).all() and (player.history.pose[1] != moment.pose[1]).any()
    player.history.clear(np.array([True, False]))
    assert not player.history.latents[0].any() and torch.equal(player.history.latents[1], after[1])
    assert torch.equal(moment.latents, before)  # a copy goes its own way
