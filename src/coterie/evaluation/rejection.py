"""Does the confidence put the wrong ones last? Failure rejection, positive = correct, score = confidence.

As in Zhu et al., "Rethinking confidence calibration for failure prediction", ECCV 2022, which CDC follows. All three
stay the same under any increasing change of the confidence: they judge the order, calibration judges the values.
"""

from __future__ import annotations

from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from coterie.evaluation.calibration import checked, over_ties

THRESHOLDS = (0.0, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99)


class Acceptance(TypedDict):
    """What accepting every item of at least this confidence gives; errors are shares of the accepted items."""

    threshold: float
    count: int
    share: float
    expected_error: float | None
    error: float | None


def auroc(confidence: NDArray[np.floating], correct: NDArray[np.bool_]) -> float:
    """Probability that a random correct item is surer than a random wrong one, ties counting half.

    Mann-Whitney: (sum of the correct items' ranks - p (p + 1) / 2) / (p q), p correct and q wrong ones.
    Higher is better, 0.5 is chance; NaN if all or none are correct.
    """
    from scipy.stats import rankdata

    values, right = checked(confidence, correct)
    positives = right.sum()
    negatives = len(right) - positives
    if positives == 0 or negatives == 0:
        return float("nan")
    ranks = rankdata(values)
    return float((ranks[right > 0].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def aurc(confidence: NDArray[np.floating], correct: NDArray[np.bool_]) -> float:
    """Area under the risk-coverage curve: 1/n sum_j (errors among the j surest) / j (Geifman & El-Yaniv 2017).

    Lower is better; random confidences give the error rate. A fraction of 1, where papers print it times 100 or 1000.
    Averaged over all orders of equal confidences.
    """
    _, right = over_ties(*checked(confidence, correct))
    risk = np.cumsum(1 - right) / np.arange(1, len(right) + 1)
    return float(risk.mean())


def fpr95(confidence: NDArray[np.floating], correct: NDArray[np.bool_]) -> float:
    """Share of wrong items still accepted at the largest threshold that accepts at least 95 % of the correct ones.

    Lower is better. NaN if all or none are correct.
    """
    values, right = checked(confidence, correct)
    positives, negatives = np.sort(values[right > 0])[::-1], values[right == 0]
    if len(positives) == 0 or len(negatives) == 0:
        return float("nan")
    accepted = -(-95 * len(positives) // 100)  # in integers: 0.95 * n may lie just above the whole number
    return float((negatives >= positives[accepted - 1]).mean())


def acceptance(
    confidence: NDArray[np.floating],
    correct: NDArray[np.bool_] | None = None,
    thresholds: tuple[float, ...] = THRESHOLDS,
) -> list[Acceptance]:
    """For each threshold: how many items reach it, the error they promise (1 - mean confidence), and the one found.

    `error` is None without `correct`; both are None where nothing reaches the threshold.
    """
    values, right = checked(confidence, np.ones(len(confidence), dtype=bool) if correct is None else correct)
    table = []
    for threshold in thresholds:
        accepted = values >= threshold
        count = int(accepted.sum())
        table.append(
            Acceptance(
                threshold=threshold,
                count=count,
                share=count / len(values),
                expected_error=float(1 - values[accepted].mean()) if count else None,
                error=float(1 - right[accepted].mean()) if count and correct is not None else None,
            )
        )
    return table
