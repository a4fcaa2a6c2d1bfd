"""How many items of each cluster are of each class: all comparisons of two labellings follow from this small table.

Clusters and classes are both numbered from 0; counts[j, c] = |{i : cluster of i = j, class of i = c}|.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from coterie.common.arguments import array_from, whole_number
from coterie.types import InputError

Ints = NDArray[np.int64]
Given = ArrayLike  # a user's labels: `number_of_labels` refuses what are no integers

CELLS = 2**30  # of a table, 8 GiB


def contingency(
    labels_true: Given,
    labels_pred: Given,
    n_clusters: int | None = None,
    n_classes: int | None = None,
) -> Ints:
    """Count the items of each cluster (row) and class (column).

    Raises InputError for labels of different lengths, no labels at all, or labels out of range.

    >>> from coterie.evaluation import contingency
    >>> contingency([0, 0, 1, 1], [0, 0, 0, 1])
    array([[2, 1],
           [0, 1]])
    """
    true, pred = array_from(labels_true, "labels_true"), array_from(labels_pred, "labels_pred")
    if true.ndim != 1 or true.shape != pred.shape:
        raise InputError(
            f"There are labels of shape {true.shape} for predictions of shape {pred.shape}: give one label per item."
        )
    if len(true) == 0:
        raise InputError("There are no labelled items to evaluate: give at least one label.")
    k, c = number_of_labels(pred, n_clusters, "predicted"), number_of_labels(true, n_classes, "true")
    if k * c > CELLS:
        raise InputError(
            f"The labels go up to {c - 1} and {k - 1}, too far to count every pair: number the classes from 0, as "
            "numpy.unique(labels, return_inverse=True) does."
        )
    return np.bincount(pred.astype(np.int64) * c + true.astype(np.int64), minlength=k * c).reshape(k, c)


def number_of_labels(labels: NDArray[Any], stated: int | None, which: str) -> int:
    """How many numbers labels from 0 have, or the stated number. Raises InputError for labels that do not fit it."""
    if labels.dtype.kind not in "iu":
        raise InputError(f"The {which} labels are of type {labels.dtype}: give integers from 0.")
    if stated is not None:
        stated = whole_number(stated, "n_classes" if which == "true" else "n_clusters", 1, 2**31)
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or (stated is not None and high >= stated):
        wrong = low if low < 0 else high
        limit = f"0 to {stated - 1}" if stated is not None else "0 and up"
        raise InputError(
            f"A {which} label is {wrong}, which is outside {limit}: correct the labels or the list of names."
        )
    return high + 1 if stated is None else stated
