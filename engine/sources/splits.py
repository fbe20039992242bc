"""Which map seeds belong to training, to validation and to the test."""

SPLITS: dict[str, range] = {
    "train": range(1_000_000),
    "validation": range(1_000_000, 1_001_000),
    "test": range(2_000_000, 2_001_000),
}
"""Map seeds of each split. No seed is in two, so a held-out map was never walked in training."""
