"""How good the scores and alerts were, once somebody says which readings were anomalies."""

from __future__ import annotations

from typing import Any

import numpy as np


def roc_auc(scores: Any, odd: Any) -> float:
    """The chance that an odd one has a higher score than another; ties count half (Mann and Whitney, 1947).

    NaN if all or none are odd. Scores are numbers without NaN.
    """
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    rank = (np.cumsum(counts) - (counts - 1) / 2)[place]
    positive, negative = int(odd.sum()), int((~odd).sum())
    if not positive or not negative:
        return float("nan")
    return float((rank[odd].sum() - positive * (positive + 1) / 2) / (positive * negative))


def precision_and_recall(alerts: Any, odd: Any) -> tuple[float, float]:
    """The share of the alerts that were right, and the share of the odd ones that raised an alert."""
    right = int((alerts & odd).sum())
    return right / max(int(alerts.sum()), 1), right / max(int(odd.sum()), 1)
