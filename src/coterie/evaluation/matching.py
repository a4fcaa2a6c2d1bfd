"""Which class each cluster stands for, and the numbers that compare clusters with classes.

Clusters and classes are both numbered from 0. Every function works on the contingency table
counts[j, c] = |{i : cluster of i = j, class of i = c}|, which is small however many items there are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from coterie.types import InputError

Ints = NDArray[np.int64]
Given = NDArray[Any]  # a user's labels: integers, or `_number` says what they are


@dataclass(frozen=True)
class Matching:
    """One class at most for each cluster, and the contingency table from which that was decided."""

    class_of: Ints  # (k,) the class of each cluster, -1 where it has none
    counts: Ints  # (k, c)

    def correct(self, labels_true: Given, labels_pred: Given) -> NDArray[np.bool_]:
        """Tell for each item whether its cluster's class is its own; items of an unmatched cluster are wrong."""
        return self.class_of[labels_pred] == labels_true

    @property
    def accuracy(self) -> float:
        """Share of items whose cluster's class is their own."""
        return float(self._hits().sum() / self.counts.sum())

    @property
    def f1_macro(self) -> float:
        """F1 of each class that occurs, 2 hits / (size of its cluster + size of the class), averaged over classes.

        A class without a cluster counts as 0. Same as scikit-learn's `f1_score(average="macro")` after matching.
        """
        class_sizes = self.counts.sum(axis=0)
        matched = self.class_of >= 0
        f1 = np.zeros(self.counts.shape[1])
        cluster_sizes = self.counts.sum(axis=1)[matched]
        classes = self.class_of[matched]
        f1[classes] = 2 * self._hits()[matched] / (cluster_sizes + class_sizes[classes])
        return float(f1[class_sizes > 0].mean())

    def _hits(self) -> Ints:
        return np.where(self.class_of >= 0, self.counts[np.arange(len(self.counts)), self.class_of], 0)


def match(
    labels_true: Given,
    labels_pred: Given,
    n_clusters: int | None = None,
    n_classes: int | None = None,
) -> Matching:
    """Give clusters to classes one to one so that as many items as possible agree (Kuhn 1955, "Hungarian method").

    The table has a row for each of the `n_clusters` outputs, used or not, so that a missing cluster shifts nothing.
    With more clusters than classes the rest stay unmatched; so does a cluster whose class it would share no item with.
    """
    counts = contingency(labels_true, labels_pred, n_clusters, n_classes)
    clusters, classes = linear_sum_assignment(counts, maximize=True)
    shared = counts[clusters, classes] > 0
    class_of = np.full(len(counts), -1, dtype=np.int64)
    class_of[clusters[shared]] = classes[shared]
    return Matching(class_of, counts)


def contingency(
    labels_true: Given,
    labels_pred: Given,
    n_clusters: int | None = None,
    n_classes: int | None = None,
) -> Ints:
    """Count the items of each cluster (row) and class (column).

    Raises InputError for labels of different lengths, no labels at all, or labels out of range.
    """
    true, pred = np.asarray(labels_true), np.asarray(labels_pred)
    if true.ndim != 1 or true.shape != pred.shape:
        raise InputError(
            f"There are labels of shape {true.shape} for predictions of shape {pred.shape}: give one label per item."
        )
    if len(true) == 0:
        raise InputError("There are no labelled items to evaluate: give at least one label.")
    k, c = _number(pred, n_clusters, "predicted"), _number(true, n_classes, "true")
    return np.bincount(pred.astype(np.int64) * c + true, minlength=k * c).reshape(k, c)


def _number(labels: Given, stated: int | None, which: str) -> int:
    if labels.dtype.kind not in "iu":
        raise InputError(f"The {which} labels are of type {labels.dtype}: give integers from 0.")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or (stated is not None and high >= stated):
        wrong = low if low < 0 else high
        limit = f"0 to {stated - 1}" if stated is not None else "0 and up"
        raise InputError(
            f"A {which} label is {wrong}, which is outside {limit}: correct the labels or the list of names."
        )
    return high + 1 if stated is None else stated


def accuracy(labels_true: Given, labels_pred: Given, n_clusters: int | None = None) -> float:
    """Clustering accuracy, "ACC": the best mean of 1[m(cluster) = class] over one-to-one maps m (Yang et al. 2010)."""
    return match(labels_true, labels_pred, n_clusters).accuracy


def f1_macro(labels_true: Given, labels_pred: Given, n_clusters: int | None = None) -> float:
    """Macro-averaged F1 over the classes that occur, after matching; see `Matching.f1_macro`."""
    return match(labels_true, labels_pred, n_clusters).f1_macro


def purity(labels_true: Given, labels_pred: Given) -> float:
    """Share of items in the largest class of their cluster: sum_j max_c counts[j, c] / n (Manning et al. 2008, 16.3).

    Several clusters may share a class, so it is never below the accuracy and reaches 1 with one item per cluster.
    """
    counts = contingency(labels_true, labels_pred)
    return float(counts.max(axis=1).sum() / counts.sum())


def nmi(labels_true: Given, labels_pred: Given) -> float:
    """Mutual information over the arithmetic mean of both entropies: 2 I(T;P) / (H(T) + H(P)) (scikit-learn)."""
    from sklearn.metrics import normalized_mutual_info_score

    return float(normalized_mutual_info_score(labels_true, labels_pred))


def ari(labels_true: Given, labels_pred: Given) -> float:
    """Rand index corrected for chance: 0 for random labels, 1 for the same partition (Hubert & Arabie 1985)."""
    from sklearn.metrics import adjusted_rand_score

    return float(adjusted_rand_score(labels_true, labels_pred))
