"""Cold storage: blocks in 8 bits, in RAM and on disk, and recall by place."""

import numpy as np
import torch

from engine.history.cold import ColdStore


def test_cold_blocks_come_back_from_ram_and_from_disk() -> None:
    random = torch.Generator().manual_seed(0)
    blocks = [torch.randn(2, 3, 2, 5, 16, generator=random) for _ in range(7)]
    one = ColdStore()
    one.append(blocks[0][0], blocks[0][1], np.zeros(3), np.ones(4))
    store = ColdStore(ram_bytes=3 * one.bytes)
    for i, (keys, values) in enumerate(blocks):
        store.append(keys, values, np.array([i, 0.0, 0.0]), np.ones(4))
    assert len(store) == 7 and store.bytes == 3 * one.bytes and store.disk_bytes == 4 * one.bytes
    for i, block in enumerate(blocks):
        for stored, real in zip(store.load(i), block, strict=True):
            assert (stored - real).abs().max() <= real.abs().max() / 250


def test_copies_of_a_store_share_its_rows_until_they_part() -> None:
    store, block = ColdStore(), torch.ones(1, 1, 2, 16)
    moments = []
    for i in range(60):  # a game keeps a moment every few frames
        store.append(block, block, np.array([i, 0.0, 0.0]), np.ones(2))
        moments.append(store.copy())
    assert all(kept._rows is store._rows for kept in moments)
    assert [len(kept) for kept in moments] == list(range(1, 61)) and len(moments[9].poses) == 10
    back = moments[9]
    back.append(3 * block, block, np.array([-1.0, 0.0, 0.0]), np.ones(2))
    assert back._rows is not store._rows and back.poses[10, 0] == -1 and store.poses[10, 0] == 10
    assert back.nearest(1, np.array([-1.0, 0.0, 0.0]), np.ones(2)) == [10]


def test_copies_of_a_store_go_their_own_ways() -> None:
    store, block = ColdStore(ram_bytes=0), torch.ones(1, 1, 2, 16)
    store.append(block, block, np.zeros(3), np.ones(2))
    other = store.copy()
    store.append(2 * block, block, np.ones(3), np.ones(2))
    other.append(3 * block, block, 2 * np.ones(3), np.ones(2))
    assert store.poses[1, 0] == 1 and other.poses[1, 0] == 2
    assert round(float(store.load(1)[0].mean())) == 2 and round(float(other.load(1)[0].mean())) == 3


def test_recall_prefers_the_nearest_views_the_oldest_of_equal_ones_and_no_repetition() -> None:
    store, block = ColdStore(), torch.ones(1, 1, 2, 16)
    for x, heading in ((0, 0.0), (0, 0.0), (30, 0.0), (0, 0.5), (0, 3.0), (0.5, 0.02)):
        store.append(block, block, np.array([x, 0.0, heading]), np.ones(2))
    assert store.nearest(3, np.zeros(3), np.ones(2)) == [0, 3, 2]
    assert sorted(store.nearest(6, np.zeros(3), np.ones(2))) == list(range(6))
    assert store.nearest(0, np.zeros(3), np.ones(2)) == []


def test_on_a_way_that_was_walked_before_the_next_step_s_view_is_recalled_too() -> None:
    store, block = ColdStore(), torch.ones(1, 1, 2, 16)
    for x in range(20):
        store.append(block, block, np.array([x, 0.0, 0.0]), np.ones(2))
    assert set(store.nearest(5, np.array([10.0, 0.0, 0.0]), np.ones(2))) == {8, 9, 10, 11, 12}
