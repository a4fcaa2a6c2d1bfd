"""Does a confidence of 0.8 mean right 8 times out of 10? Calibration errors of the top-1 confidence.

All take `confidence` (n,) in [0, 1] and `correct` (n,), true where the item's cluster stands for its class.
With bins b of n_b items, acc_b their share of correct ones and conf_b their mean confidence.
"""

from __future__ import annotations

from typing import TypedDict

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf

from coterie.types import InputError

Floats = NDArray[np.float64]


class Bin(TypedDict):
    """One bar of a reliability diagram; `confidence` and `accuracy` are None in an empty bin."""

    lower: float
    upper: float
    count: int
    confidence: float | None
    accuracy: float | None


def calibration_error(confidence: NDArray[np.floating], correct: NDArray[np.bool_], bins: int = 15) -> float:
    """Expected calibration error, "ECE": sum_b n_b/n |acc_b - conf_b| (Naeini et al. 2015; Guo et al. 2017).

    Bins of equal width, (lo, hi], with 0 in the first: confidences 1.0 (wrong) and 0.98 (right) share the last bin
    and give |0.5 - 0.99| = 0.49. torchmetrics takes [lo, hi) and a bin of its own for 1.0, which gives 0.51.
    """
    count, confidence_sum, correct_sum = _equal_width(confidence, correct, bins)
    return float(np.abs(correct_sum - confidence_sum).sum() / count.sum())


def adaptive_calibration_error(confidence: NDArray[np.floating], correct: NDArray[np.bool_], bins: int = 15) -> float:
    """The same sum over bins of equal mass: sorted by confidence, cut into groups whose sizes differ by at most one.

    Nguyen & O'Connor 2015; Nixon et al. 2019. Less blind than ECE where most confidences pile up near 1.
    Equal confidences share their mean correctness, so that the order of the items does not matter.
    """
    count, confidence_mean, accuracy = _equal_mass(confidence, correct, bins)
    return float((count * np.abs(accuracy - confidence_mean)).sum() / count.sum())


def debiased_calibration_error(confidence: NDArray[np.floating], correct: NDArray[np.bool_], bins: int = 15) -> float:
    """The adaptive error less its bias: |acc_b - conf_b| is positive by sampling noise alone, most where n is small.

    Kumar, Liang & Ma 2019 (section 5); Roelofs et al. 2022. The plug-in bias is estimated by drawing acc_b again:
    E* - E, with E* = sum_b n_b/n E|g_b + s_b Z|, g_b = acc_b - conf_b, s_b^2 = acc_b (1 - acc_b) / n_b, Z normal;
    the result is E - (E* - E) = 2 E - E*. The authors sample Z; a folded normal's mean is known, so we need not:
    E|g + s Z| = s sqrt(2/pi) exp(-g^2 / 2 s^2) + g erf(g / (s sqrt 2)).
    Where the true error is 0 it takes 41 % of the bias away (2 - sqrt 2 of it stays); where the error is far above
    the noise there is no bias to take. May be slightly negative: average over seeds first, clip afterwards.
    """
    count, confidence_mean, accuracy = _equal_mass(confidence, correct, bins)
    gap, noise = accuracy - confidence_mean, np.sqrt(accuracy * (1 - accuracy) / count)
    z = gap / np.where(noise > 0, noise, 1)
    folded = noise * np.sqrt(2 / np.pi) * np.exp(-(z**2) / 2) + gap * erf(z / np.sqrt(2))
    expected = np.where(noise > 0, folded, np.abs(gap))
    return float((count * (2 * np.abs(gap) - expected)).sum() / count.sum())


def overconfidence(confidence: NDArray[np.floating], correct: NDArray[np.bool_]) -> float:
    """Mean confidence less accuracy: above 0 the confidences promise too much. Never larger than ECE in size."""
    values, right = checked(confidence, correct)
    return float(values.mean() - right.mean())


def reliability(confidence: NDArray[np.floating], correct: NDArray[np.bool_], bins: int = 15) -> list[Bin]:
    """The table behind the reliability diagram (DeGroot & Fienberg 1983), with the bins of `calibration_error`."""
    count, confidence_sum, correct_sum = _equal_width(confidence, correct, bins)
    edges = np.linspace(0, 1, bins + 1)
    return [
        Bin(
            lower=float(edges[b]),
            upper=float(edges[b + 1]),
            count=int(count[b]),
            confidence=float(confidence_sum[b] / count[b]) if count[b] else None,
            accuracy=float(correct_sum[b] / count[b]) if count[b] else None,
        )
        for b in range(bins)
    ]


def checked(confidence: NDArray[np.floating], correct: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Both as float64 of one shape; raises InputError for another shape, nothing, NaN or values outside [0, 1]."""
    confidence, right = np.asarray(confidence, dtype=np.float64), np.asarray(correct, dtype=np.float64)
    if confidence.ndim != 1 or confidence.shape != right.shape or len(right) == 0:
        raise InputError(
            f"There are confidences of shape {confidence.shape} for outcomes of shape {right.shape}: give one each."
        )
    # float32 rows that sum to 1 may exceed it by rounding; NaN fails both comparisons.
    if not (confidence.min() >= -1e-4 and confidence.max() <= 1 + 1e-4):
        raise InputError("A confidence is outside 0 to 1 or not a number: give probabilities, not logits.")
    return confidence.clip(0, 1), right


def over_ties(confidence: Floats, correct: Floats) -> tuple[Floats, Floats]:
    """Sort by falling confidence; items of equal confidence each get the mean correctness of all of them.

    That is the mean over all orders of the tied items of any number that is linear in `correct`.
    """
    order = np.argsort(-confidence, kind="stable")
    confidence, correct = confidence[order], correct[order]
    starts = np.flatnonzero(np.r_[True, confidence[1:] != confidence[:-1]])
    sizes = np.diff(np.r_[starts, len(confidence)])
    return confidence, np.repeat(np.add.reduceat(correct, starts) / sizes, sizes)


def _equal_width(
    confidence: NDArray[np.floating], correct: NDArray[np.bool_], bins: int
) -> tuple[Floats, Floats, Floats]:
    """Number, sum of confidences and number of correct ones in each bin."""
    values, right = checked(confidence, correct)
    index = np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], values, side="left")
    sums = (np.bincount(index, weights=weights, minlength=bins) for weights in (np.ones_like(values), values, right))
    count, confidence_sum, correct_sum = (total.astype(np.float64) for total in sums)
    return count, confidence_sum, correct_sum


def _equal_mass(
    confidence: NDArray[np.floating], correct: NDArray[np.bool_], bins: int
) -> tuple[Floats, Floats, Floats]:
    """Number, mean confidence and accuracy of each group; no group is empty."""
    values, right = over_ties(*checked(confidence, correct))
    groups = min(bins, len(values))
    edges: NDArray[np.int64] = np.arange(groups + 1, dtype=np.int64) * len(values) // groups
    count = np.diff(edges).astype(np.float64)
    confidence_mean: Floats = np.add.reduceat(values, edges[:-1]) / count
    accuracy: Floats = np.add.reduceat(right, edges[:-1]) / count
    return count, confidence_mean, accuracy
