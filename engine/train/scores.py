"""How good read rewards, terminations and events are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from engine.model.heads import HAPPENED

FEWEST_ENDS = 3
"""Below which a threshold would be chosen by chance: of two ends, one found at 0.02 would make that the best."""


def best_threshold(*answers: tuple[np.ndarray, np.ndarray]) -> float:
    """The threshold with the best mean F1 over sets of answers; of these, those with `FEWEST_ENDS` ends; else 0.5.

    answers: probabilities (T,), of which those above the threshold are called ends, and whether it was one, bool (T,).
    It lies in the middle between the two probabilities that it parts.
    """
    counted = [(probability, ended) for probability, ended in answers if ended.sum() >= FEWEST_ENDS]
    if not counted:
        return 0.5
    levels = np.unique(np.concatenate([[0.0, 1.0], *(probability for probability, _ in counted)]).astype(np.float64))
    candidates = (levels[1:] + levels[:-1]) / 2
    total = np.zeros(len(candidates))
    for probability, ended in counted:
        called = len(probability) - np.searchsorted(np.sort(probability), candidates, side="right")
        hits = ended.sum() - np.searchsorted(np.sort(probability[ended]), candidates, side="right")
        total += 2 * hits / (called + ended.sum())
    return float(candidates[total.argmax()])


def scores_of(found: Mapping[str, np.ndarray], threshold: float, usual: float) -> dict[str, float | int | None]:
    """Scores of answers (T,): `reward` and `probability` against `real` and `ended`; None where nothing counts.

    reward_mae, event_mae: mean absolute error of all frames, and of those with another reward than the usual one;
    usual_mae: of always saying the usual one. calibration: mean probability less the share of ends.
    """
    called, ended = found["probability"] > threshold, found["ended"].astype(bool)
    error = np.abs(found["reward"] - found["real"])
    event = found["real"] != usual
    hits = int((called & ended).sum())
    precision = hits / int(called.sum()) if called.any() else None
    recall = hits / int(ended.sum()) if ended.any() else None
    return {
        "frames": len(ended),
        "ends": int(ended.sum()),
        "called": int(called.sum()),
        "precision": precision,
        "recall": recall,
        "calibration": float(found["probability"].mean() - ended.mean()) if len(ended) else None,
        "reward_mae": float(error.mean()) if len(error) else None,
        "reward_rmse": float(np.sqrt((error**2).mean())) if len(error) else None,
        "event_mae": float(error[event].mean()) if event.any() else None,
        "usual_mae": float(np.abs(found["real"] - usual).mean()) if len(error) else None,
    }


def events_scores(told: np.ndarray, happened: np.ndarray) -> dict[str, Any]:
    """Scores of probabilities (T, E) against what happened, bool (T, E): of all kinds together, and of each.

    happened, called, hits: how often it did, how often it was said to, and both; precision and recall are None where
    nothing counts. each: the same for every kind, in their order.
    """

    def scores(called: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
        hits, said, real = int((called & truth).sum()), int(called.sum()), int(truth.sum())
        found = {"happened": real, "called": said, "hits": hits}
        return {**found, "precision": hits / said if said else None, "recall": hits / real if real else None}

    called = told > HAPPENED
    return {**scores(called, happened), "each": [scores(called[:, e], happened[:, e]) for e in range(told.shape[1])]}
