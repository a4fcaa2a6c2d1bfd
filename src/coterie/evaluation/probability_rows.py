"""Numbers of whole rows of probabilities, where each column stands for a class: Brier score, NLL, class-wise ECE.

All take `probabilities` (n, c) whose rows sum to 1 and `column` (n,), the column of each item's class. Renaming both
alike changes nothing, so columns may stay in the order of the clusters and the labels be mapped to them
(`Matching.cluster_of`). float32 rows are read as they are and added up in float64, without a second matrix.
All raise InputError for rows that do not sum to 1, and classes that are no column of theirs or not one for each row.
Brier and NLL reward both calibration and sharpness: they stand beside ECE, not in its place.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from coterie.common.arguments import array_from, number, share
from coterie.evaluation.calibration_errors import bin_of
from coterie.types import InputError

NLL_FLOOR = 1e-12  # smaller probabilities count as this one, so one saturated row costs at most 27.6 nats
RARE = 0.01  # the threshold of the thresholded class-wise error in `evaluate`

Rows = NDArray[np.floating]


def brier(probabilities: Rows, column: NDArray[np.integer]) -> float:
    """Mean of |p_i - e_(y_i)|^2 over items, not halved: 0 (sure and right) to 2 (sure and wrong) (Brier 1950).

    >>> import numpy as np
    >>> from coterie.evaluation import brier
    >>> p, column = np.array([[0.75, 0.25], [0.5, 0.5]]), np.array([0, 1])
    >>> brier(p, column)
    0.3125
    """
    probabilities, column = _checked(probabilities, column)
    chosen = _of_class(probabilities, column)
    squares = np.einsum("ij,ij->", probabilities, probabilities, dtype=np.float64, casting="same_kind")
    return max(0.0, float(squares / len(chosen) - 2 * chosen.mean() + 1))  # sure rows come out as -1e-16


def nll(probabilities: Rows, column: NDArray[np.integer], floor: float = NLL_FLOOR) -> float:
    """Mean of -ln max(p_i(y_i), floor), in nats. Heads that saturate make it depend on the floor: state it.

    >>> import numpy as np
    >>> from coterie.evaluation import nll
    >>> p, column = np.array([[0.75, 0.25], [0.5, 0.5]]), np.array([0, 1])
    >>> round(nll(p, column), 4)
    0.4904
    """
    floor = number(floor, "floor", 0, 1)
    return float(0 - np.log(_of_class(*_checked(probabilities, column)).clip(floor, 1)).mean())  # 0 - 0 is not -0.0


def classwise_calibration_error(
    probabilities: Rows, column: NDArray[np.integer], bins: int = 15, *, threshold: float = 0.0
) -> float:
    """ECE of each class' probability against how often it is that class, averaged over classes (Kull et al. 2019).

    1/c sum_c sum_b n_bc/n |freq_bc - mean p_bc|, in the bins of `calibration_error`. With many classes nearly all
    probabilities are near 0 and so is the result. A `threshold` above 0 keeps the probabilities above it alone, each
    class weighted by its own number of them (n_c in place of n); a class without any takes no part, NaN if none does.

    >>> import numpy as np
    >>> from coterie.evaluation import classwise_calibration_error
    >>> p, column = np.array([[0.75, 0.25], [0.5, 0.5]]), np.array([0, 1])
    >>> classwise_calibration_error(p, column)
    0.375
    """
    probabilities, column = _checked(probabilities, column)
    threshold = share(threshold, "threshold")
    errors = []
    for c in range(probabilities.shape[1]):
        p, is_class = probabilities[:, c], column == c
        if threshold > 0:
            kept = p > threshold
            p, is_class = p[kept], is_class[kept]
        if len(p):
            gaps = np.bincount(bin_of(p.astype(np.float64), bins), weights=is_class - p.astype(np.float64))
            errors.append(np.abs(gaps).sum() / len(p))  # n_bc |freq - mean| = |sum of (1 or 0 - p)|
    return float(np.mean(errors)) if errors else float("nan")


def _checked(probabilities: Any, column: Any) -> tuple[Rows, NDArray[np.integer]]:
    """Both as arrays. Raises InputError where they do not fit, and for rows that are no probabilities."""
    p, of = array_from(probabilities, "probabilities"), array_from(column, "column")
    if p.ndim != 2 or of.shape != (len(p),) or len(of) == 0:
        raise InputError(f"There are {of.shape} classes for probabilities of shape {p.shape}: give one for each row.")
    if p.dtype.kind not in "fiu" or of.dtype.kind not in "iu":
        raise InputError(f"There are classes of {of.dtype} for probabilities of {p.dtype}: give integers and numbers.")
    if of.min() < 0 or of.max() >= p.shape[1]:
        raise InputError(f"A class is outside 0 to {p.shape[1] - 1}, the columns of the probabilities: correct it.")
    # Rows of 16 bits sum to 1 within a thousandth; NaN fails every comparison.
    sums = p.sum(axis=1, dtype=np.float64)
    if not (p.min() >= -1e-4 and np.abs(sums - 1).max() <= 1e-2):
        raise InputError("A row of probabilities does not sum to 1, or one is below 0 or not a number: give no logits.")
    return p, of


def _of_class(p: Rows, column: NDArray[np.integer]) -> NDArray[np.float64]:
    """p_i(y_i) as float64 (n,)."""
    return np.take_along_axis(p, column[:, None], axis=1)[:, 0].astype(np.float64)
