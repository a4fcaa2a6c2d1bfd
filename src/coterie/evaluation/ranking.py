"""Do high scores come first where they should? What failure rejection and outlier separation have in common.

A `Ranking` has one step for all items of the same score. Their order means nothing, so every number here is the mean
over all their orders, or counts them together where a threshold cannot separate them. It may hold many resamples of
the same items, which differ in how often each step occurs: then the numbers come as an array of one per resample.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Ranking:
    """The distinct scores, falling, and how many items and how many positive ones have each."""

    scores: Floats  # (g,)
    counts: Floats  # (..., g)
    positives: Floats  # (..., g)

    @property
    def negatives(self) -> Floats:
        return self.counts - self.positives

    def reversed(self) -> Ranking:
        """The reversed ranking: the lowest scores first, and the negatives count as positives."""
        return Ranking(-self.scores[::-1], self.counts[..., ::-1], self.negatives[..., ::-1])


def rank(scores: Floats, positive: NDArray[Any]) -> Ranking:
    """Sort by falling score."""
    order = np.argsort(-scores, kind="stable")
    scores = scores[order]
    starts = np.flatnonzero(np.r_[True, scores[1:] != scores[:-1]])
    counts = np.diff(np.r_[starts, len(scores)]).astype(np.float64)
    return Ranking(scores[starts], counts, np.add.reduceat(np.asarray(positive, dtype=np.float64)[order], starts))


def area_under_roc(ranking: Ranking) -> Floats:
    """Probability that a random positive scores above a random negative, ties counting half (Mann & Whitney 1947).

    NaN without a positive or without a negative.
    """
    negatives = ranking.negatives
    positive, negative = ranking.positives.sum(axis=-1), negatives.sum(axis=-1)
    below = negative[..., None] - np.cumsum(negatives, axis=-1) + negatives / 2
    return ratio((ranking.positives * below).sum(axis=-1), positive * negative)


def false_positive_rate(ranking: Ranking, percent: int = 95, *, nearest: bool = False) -> Floats:
    """Share of negatives at or above the largest threshold that keeps at least `percent` % of the positives.

    `nearest` takes the point of the ROC curve whose share of positives is nearest to `percent` instead, the lower one
    of two equally near: the convention of the FMFP study. NaN without a positive or without a negative.
    """
    kept, wrong = from_zero(ranking.positives), from_zero(ranking.negatives)
    # In whole numbers: 0.95 * n may lie just above the number that is meant.
    beyond = 100 * kept - percent * kept[..., -1:]
    step = np.abs(beyond).argmin(axis=-1) if nearest else (beyond >= 0).argmax(axis=-1)
    found = np.take_along_axis(wrong, np.asarray(step)[..., None], axis=-1)[..., 0]
    return np.where(kept[..., -1] > 0, ratio(found, wrong[..., -1]), np.nan)


def average_precision(ranking: Ranking) -> Floats:
    """Area under the precision-recall curve as a step function: sum over thresholds of (rise of recall) * precision.

    Same as scikit-learn's `average_precision_score`. A constant score gives the share of positives. NaN without any.
    """
    precision = ratio(np.cumsum(ranking.positives, axis=-1), np.cumsum(ranking.counts, axis=-1), undefined=0)
    return ratio((ranking.positives * precision).sum(axis=-1), ranking.positives.sum(axis=-1))


def from_zero(steps: Floats) -> Floats:
    """Cumulative sums along the last axis with a 0 before them, (..., g + 1)."""
    sums = np.zeros((*steps.shape[:-1], steps.shape[-1] + 1))
    np.cumsum(steps, axis=-1, out=sums[..., 1:])
    return sums


def ratio(part: Any, whole: Any, undefined: float = np.nan) -> Floats:
    """part / whole, and `undefined` where the whole is 0."""
    part, whole = np.asarray(part, dtype=np.float64), np.asarray(whole, dtype=np.float64)
    return np.divide(part, whole, out=np.full(part.shape, float(undefined)), where=whole > 0)
