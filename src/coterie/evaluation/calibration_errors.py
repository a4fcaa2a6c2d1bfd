"""Does a confidence of 0.8 mean right 8 times out of 10? Calibration errors of the top-1 confidence.

All take `confidence` (n,) in [0, 1] and `correct` (n,), true where the item's cluster stands for its class.
All raise InputError for two shapes, no items, confidences outside 0 to 1, and outcomes that are not right or wrong.
With bins b of n_b items, acc_b their share of correct ones and conf_b their mean confidence. Each number has a form of
the ranking by confidence (`..._of`), which is sorted once for all of them and may hold many resamples.
"""

from __future__ import annotations

from typing import Any, Literal, TypedDict

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf

from coterie.common.arguments import array_from, numbers_from, whole_number
from coterie.evaluation.ranking import Floats, Ranking, from_zero, rank, ratio
from coterie.types import InputError

MOST_BINS = 100_000
ROUNDED = 2.0**-25  # how far from 0.9 a confidence of 0.9 may lie once it was in float32
Closed = Literal["right", "left"]
Norm = Literal["mean", "root mean square", "maximum"]


class Bin(TypedDict):
    """One bar of a reliability diagram; `confidence` and `accuracy` are None in an empty bin."""

    lower: float
    upper: float
    count: int
    confidence: float | None
    accuracy: float | None


def calibration_error(
    confidence: NDArray[np.floating], correct: NDArray[np.bool_], bins: int = 15, *, closed: Closed = "right"
) -> float:
    """Expected calibration error, "ECE": sum_b n_b/n |acc_b - conf_b| (Naeini et al. 2015; Guo et al. 2017).

    Bins of equal width, (lo, hi], with 0 in the first: confidences 1.0 (wrong) and 0.98 (right) share the last bin
    and give |0.5 - 0.99| = 0.49. `closed="left"` takes [lo, hi) and a bin of its own for 1.0 as torchmetrics does,
    which gives 0.51: heads that saturate at 1 are affected.

    >>> import numpy as np
    >>> from coterie.evaluation import calibration_error
    >>> confidence, correct = np.array([1.0, 0.98, 0.75, 0.25]), np.array([False, True, True, False])
    >>> round(calibration_error(confidence, correct), 4)
    0.37
    >>> round(calibration_error(confidence, correct, closed="left"), 4)
    0.38
    """
    return float(calibration_error_of(by_confidence(confidence, correct), bins, closed=closed))


def root_mean_squared_calibration_error(
    confidence: NDArray[np.floating], correct: NDArray[np.bool_], bins: int = 15, *, closed: Closed = "right"
) -> float:
    """sqrt(sum_b n_b/n (acc_b - conf_b)^2) over the bins of `calibration_error`, "RMSCE": between ECE and MCE.

    >>> import numpy as np
    >>> from coterie.evaluation import root_mean_squared_calibration_error
    >>> confidence, correct = np.array([1.0, 0.98, 0.75, 0.25]), np.array([False, True, True, False])
    >>> round(root_mean_squared_calibration_error(confidence, correct), 3)
    0.389
    """
    ranking = by_confidence(confidence, correct)
    return float(calibration_error_of(ranking, bins, closed=closed, norm="root mean square"))


def maximum_calibration_error(
    confidence: NDArray[np.floating], correct: NDArray[np.bool_], bins: int = 15, *, closed: Closed = "right"
) -> float:
    """Largest |acc_b - conf_b| of the bins of `calibration_error`, "MCE"; one item alone in its bin can decide it.

    >>> import numpy as np
    >>> from coterie.evaluation import maximum_calibration_error
    >>> confidence, correct = np.array([1.0, 0.98, 0.75, 0.25]), np.array([False, True, True, False])
    >>> round(maximum_calibration_error(confidence, correct), 4)
    0.49
    """
    return float(calibration_error_of(by_confidence(confidence, correct), bins, closed=closed, norm="maximum"))


def calibration_error_of(ranking: Ranking, bins: int = 15, *, closed: Closed = "right", norm: Norm = "mean") -> Floats:
    """The three errors over bins of equal width, of a ranking."""
    _, count, confidence_sum, correct_sum = _equal_width(ranking, bins, closed)
    gap = ratio(np.abs(correct_sum - confidence_sum), count, undefined=0)
    if norm == "maximum":
        return np.asarray(gap.max(axis=-1))
    power = 1 if norm == "mean" else 2
    return np.asarray(((count * gap**power).sum(axis=-1) / count.sum(axis=-1)) ** (1 / power))


def adaptive_calibration_error(confidence: NDArray[np.floating], correct: NDArray[np.bool_], bins: int = 15) -> float:
    """The sum of ECE over bins of equal mass: sorted by confidence, cut into groups whose sizes differ by at most one.

    Nguyen & O'Connor 2015; Nixon et al. 2019. Less blind than ECE where most confidences pile up near 1.
    Equal confidences share their mean correctness, so that the order of the items does not matter.

    >>> import numpy as np
    >>> from coterie.evaluation import adaptive_calibration_error
    >>> confidence, correct = np.array([1.0, 0.98, 0.75, 0.25]), np.array([False, True, True, False])
    >>> round(adaptive_calibration_error(confidence, correct, bins=2), 4)
    0.245
    """
    return float(adaptive_calibration_error_of(by_confidence(confidence, correct), bins))


def adaptive_calibration_error_of(ranking: Ranking, bins: int = 15) -> Floats:
    """`adaptive_calibration_error` of a ranking."""
    count, confidence_mean, accuracy = _equal_mass(ranking, bins)
    return np.asarray((count * np.abs(accuracy - confidence_mean)).sum(axis=-1) / count.sum())


def debiased_calibration_error(confidence: NDArray[np.floating], correct: NDArray[np.bool_], bins: int = 15) -> float:
    """The adaptive error less its bias: |acc_b - conf_b| is positive by sampling noise alone, most where n is small.

    Kumar, Liang & Ma 2019 (section 5); Roelofs et al. 2022. The plug-in bias is estimated by drawing acc_b again:
    E* - E, with E* = sum_b n_b/n E|g_b + s_b Z|, g_b = acc_b - conf_b, s_b^2 = acc_b (1 - acc_b) / n_b, Z normal;
    the result is E - (E* - E) = 2 E - E*. The authors sample Z; a folded normal's mean is known, so we need not:
    E|g + s Z| = s sqrt(2/pi) exp(-g^2 / 2 s^2) + g erf(g / (s sqrt 2)).
    Where the true error is 0 it removes 41 % of the bias (2 - sqrt 2 of it stays); where the error is far above
    the noise there is no bias to remove. May be slightly negative: average over seeds first, clip afterwards.

    >>> import numpy as np
    >>> from coterie.evaluation import debiased_calibration_error
    >>> confidence, correct = np.array([1.0, 0.98, 0.75, 0.25]), np.array([False, True, True, False])
    >>> round(debiased_calibration_error(confidence, correct, bins=2), 3)
    0.091
    """
    return float(debiased_calibration_error_of(by_confidence(confidence, correct), bins))


def debiased_calibration_error_of(ranking: Ranking, bins: int = 15) -> Floats:
    """`debiased_calibration_error` of a ranking."""
    count, confidence_mean, accuracy = _equal_mass(ranking, bins)
    gap, noise = accuracy - confidence_mean, np.sqrt(accuracy * (1 - accuracy) / count)
    z = gap / np.where(noise > 0, noise, 1)
    folded = noise * np.sqrt(2 / np.pi) * np.exp(-(z**2) / 2) + gap * erf(z / np.sqrt(2))
    expected = np.where(noise > 0, folded, np.abs(gap))
    return np.asarray((count * (2 * np.abs(gap) - expected)).sum(axis=-1) / count.sum())


def squared_calibration_error(
    confidence: NDArray[np.floating], correct: NDArray[np.bool_], bins: int = 15, *, debiased: bool = True
) -> float:
    """sum_b n_b/n [(acc_b - conf_b)^2 - acc_b (1 - acc_b) / (n_b - 1)] over bins of equal mass (Kumar et al. 2019).

    The second term is an unbiased estimate of the sampling noise in the first, so that calibrated confidences give 0
    on average and single results may be negative: sqrt(max(0, .)) is the error in units of confidence. Bins of a
    single item are left out. `debiased=False` leaves the second term, and no bin, out.

    >>> import numpy as np
    >>> from coterie.evaluation import squared_calibration_error
    >>> confidence, correct = np.array([1.0, 0.98, 0.75, 0.25]), np.array([False, True, True, False])
    >>> round(squared_calibration_error(confidence, correct, bins=2, debiased=False), 3)
    0.12
    """
    return float(squared_calibration_error_of(by_confidence(confidence, correct), bins, debiased=debiased))


def squared_calibration_error_of(ranking: Ranking, bins: int = 15, *, debiased: bool = True) -> Floats:
    """`squared_calibration_error` of a ranking."""
    count, confidence_mean, accuracy = _equal_mass(ranking, bins)
    squared = (accuracy - confidence_mean) ** 2
    if debiased:
        squared = np.where(count >= 2, squared - accuracy * (1 - accuracy) / np.maximum(count - 1, 1), 0)
    return np.asarray((count * squared).sum(axis=-1) / count.sum())


def overconfidence(confidence: NDArray[np.floating], correct: NDArray[np.bool_]) -> float:
    """Mean confidence less accuracy: above 0 the confidences promise too much. Never larger than ECE in size.

    >>> import numpy as np
    >>> from coterie.evaluation import overconfidence
    >>> confidence, correct = np.array([1.0, 0.98, 0.75, 0.25]), np.array([False, True, True, False])
    >>> round(overconfidence(confidence, correct), 4)
    0.245
    """
    return float(overconfidence_of(by_confidence(confidence, correct)))


def overconfidence_of(ranking: Ranking) -> Floats:
    """`overconfidence` of a ranking."""
    gaps = ranking.counts * ranking.scores - ranking.positives
    return np.asarray(gaps.sum(axis=-1) / ranking.counts.sum(axis=-1))


def reliability(confidence: NDArray[np.floating], correct: NDArray[np.bool_], bins: int = 15) -> list[Bin]:
    """The table behind the reliability diagram (DeGroot & Fienberg 1983), with the bins of `calibration_error`.

    >>> import numpy as np
    >>> from coterie.evaluation import reliability
    >>> confidence, correct = np.array([1.0, 0.98, 0.75, 0.25]), np.array([False, True, True, False])
    >>> [(bar["lower"], bar["count"], bar["accuracy"]) for bar in reliability(confidence, correct, bins=2)]
    [(0.0, 1, 0.0), (0.5, 3, 0.6666666666666666)]
    """
    return reliability_of(by_confidence(confidence, correct), bins)


def reliability_of(ranking: Ranking, bins: int = 15) -> list[Bin]:
    """`reliability` of a ranking."""
    edges = edges_of(bins).tolist()
    table = [Bin(lower=edges[b], upper=edges[b + 1], count=0, confidence=None, accuracy=None) for b in range(bins)]
    for b, count, confidence_sum, correct_sum in zip(*_equal_width(ranking, bins, "right"), strict=True):
        table[b].update(count=int(count), confidence=float(confidence_sum / count), accuracy=float(correct_sum / count))
    return table


def by_confidence(confidence: NDArray[np.floating], correct: NDArray[Any]) -> Ranking:
    """The ranking from which all these numbers are computed; raises InputError as `checked` does."""
    return rank(*checked(confidence, correct))


def checked(confidence: NDArray[np.floating], correct: NDArray[Any]) -> tuple[Floats, Floats]:
    """Both as float64 of one shape.

    Raises InputError for two shapes, no items, confidences that are NaN or outside [0, 1], outcomes other than 0 and 1.
    """
    confidence, right = numbers_from(confidence, "confidence"), truths(correct).astype(np.float64)
    if confidence.ndim != 1 or confidence.shape != right.shape or len(right) == 0:
        raise InputError(
            f"There are confidences of shape {confidence.shape} for outcomes of shape {right.shape}: give one each."
        )
    # float32 rows that sum to 1 may exceed it by rounding; NaN fails both comparisons.
    if not (confidence.min() >= -1e-4 and confidence.max() <= 1 + 1e-4):
        raise InputError("A confidence is outside 0 to 1 or not a number: give probabilities, not logits.")
    return confidence.clip(0, 1), right


def truths(right: Any) -> NDArray[np.bool_]:
    """Whether each item is right, as booleans: True and False, or 1 and 0, and nothing else (InputError)."""
    flags = array_from(right, "Whether each item is right")
    if flags.dtype.kind != "b" and not (flags.dtype.kind in "iuf" and np.isin(flags, (0, 1)).all()):
        raise InputError(f"Whether each item is right is given as {flags.dtype}: give True or False, or 1 or 0.")
    return flags.astype(np.bool_)


def bin_of(values: Floats, bins: int, closed: Closed = "right") -> NDArray[np.intp]:
    """The equal-width bin of each value in [0, 1]: (lo, hi] with 0 in bin 0, or [lo, hi) with 1 in bin `bins`.

    What is a rounding of float32 away from an edge is on it: 0.9 is in the same bin whatever its type. Raises
    InputError for another `closed`.
    """
    if closed not in ("right", "left"):
        raise InputError(f"closed is {closed!r}: it takes 'right' or 'left'.")
    edges = edges_of(bins)
    if closed == "right":
        return np.searchsorted(edges[1:-1] + ROUNDED, values, side="left")
    return np.searchsorted(edges[1:] - ROUNDED, values, side="right")


def edges_of(bins: int) -> Floats:
    """The edges of so many bins of equal width, each the float64 nearest to b / bins."""
    return np.arange(whole_number(bins, "bins", 1, MOST_BINS) + 1) / bins


def _equal_width(ranking: Ranking, bins: int, closed: Closed) -> tuple[NDArray[np.intp], Floats, Floats, Floats]:
    """The bins that hold any score, and their numbers of items, sums of confidences and numbers of correct ones."""
    index = bin_of(ranking.scores, bins, closed)
    starts = np.flatnonzero(np.r_[True, index[1:] != index[:-1]])
    count, confidence_sum, correct_sum = (
        np.add.reduceat(of, starts, axis=-1)
        for of in (ranking.counts, ranking.counts * ranking.scores, ranking.positives)
    )
    return index[starts], count, confidence_sum, correct_sum


def _equal_mass(ranking: Ranking, bins: int) -> tuple[Floats, Floats, Floats]:
    """Number (b,), mean confidence and accuracy (..., b) of each group; no group is empty.

    A cut between items of equal confidence gives each side its share of them and the same share of their correct ones.
    """
    ends = from_zero(ranking.counts)
    n = round(float(ends[..., -1].max()))  # the same for all resamples
    groups = min(whole_number(bins, "bins", 1, MOST_BINS), n)
    edges = np.arange(groups + 1, dtype=np.int64) * n // groups
    count = np.diff(edges).astype(np.float64)

    def means(steps: Floats) -> Floats:
        sums = from_zero(steps)
        rows = zip(ends.reshape(-1, ends.shape[-1]), sums.reshape(-1, ends.shape[-1]), strict=True)
        cut = np.array([np.interp(edges, places, values) for places, values in rows])
        # Interpolation may leave [0, 1] by rounding.
        return (np.diff(cut) / count).clip(0, 1).reshape(*ends.shape[:-1], groups)

    return count, means(ranking.counts * ranking.scores), means(ranking.positives)
