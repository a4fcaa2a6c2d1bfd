"""Which class each cluster stands for, and the metrics that depend on it: ACC, F1, balanced accuracy.

One map is made from all items, and every number that compares with classes uses it. It is made from the labels that it
is then judged by, which flatters small sets a little: `held_out_accuracy` says how much.
All take `labels_true` (n,) and `labels_pred` (n,), and raise InputError, as `contingency` does; fractions of 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coterie.common.arguments import array_from, whole_number
from coterie.evaluation.contingency import Given, Ints, contingency, number_of_labels
from coterie.evaluation.ranking import Floats, ratio


@dataclass(frozen=True)
class Matching:
    """One class at most for each cluster, and the contingency table from which that was decided.

    >>> import numpy as np
    >>> from coterie.evaluation import match
    >>> classes, clusters = np.array([0, 0, 1, 1]), np.array([1, 1, 0, 2])
    >>> found = match(classes, clusters)
    >>> found.class_of, found.correct(classes, clusters), found.accuracy
    (array([ 1,  0, -1]), array([ True,  True,  True, False]), 0.75)
    """

    class_of: Ints  # (k,) the class of each cluster, -1 where it has none
    counts: Ints  # (k, c)

    def correct(self, labels_true: NDArray[Any], labels_pred: NDArray[Any]) -> NDArray[np.bool_]:
        """Tell for each item whether its cluster's class is its own; items of an unmatched cluster are wrong.

        Raises InputError for labels of clusters that are not in the table.
        """
        pred = array_from(labels_pred, "labels_pred")
        if pred.size:
            number_of_labels(pred, len(self.class_of), "predicted")
        matched = self.class_of[pred]
        return (matched >= 0) & (matched == array_from(labels_true, "labels_true"))

    @property
    def accuracy(self) -> float:
        """Share of items whose cluster's class is their own."""
        return float(self.accuracy_of(self.counts))

    @property
    def f1_macro(self) -> float:
        """F1 of each class that occurs, 2 hits / (size of its cluster + size of the class), averaged over classes.

        A class without a cluster counts as 0. Same as scikit-learn's `f1_score(average="macro")` after matching.
        """
        return float(self.f1_macro_of(self.counts))

    @property
    def f1_micro(self) -> float:
        """2 hits / (items of matched clusters + all items): the accuracy where every used cluster has a class.

        Items of unmatched clusters are predicted as no class, so they cost recall and not precision.
        """
        claimed = self.counts[self.class_of >= 0].sum()
        return float(2 * self._hits(self.counts).sum() / (claimed + self.counts.sum()))

    @property
    def balanced_accuracy(self) -> float:
        """Share of a class in its cluster, averaged over the classes that occur: small ones weigh as much as large."""
        return float(self.balanced_accuracy_of(self.counts))

    def accuracy_of(self, counts: Ints) -> Floats:
        """`accuracy` of other tables (..., k, c) under this map."""
        return np.asarray(self._hits(counts).sum(axis=-1) / counts.sum(axis=(-2, -1)))

    def f1_macro_of(self, counts: Ints) -> Floats:
        """`f1_macro` of other tables (..., k, c) under this map."""
        class_sizes, matched = counts.sum(axis=-2), self.class_of >= 0
        cluster_sizes = np.zeros_like(class_sizes)
        cluster_sizes[..., self.class_of[matched]] = counts.sum(axis=-1)[..., matched]
        f1 = ratio(2 * self._hits(counts), cluster_sizes + class_sizes, undefined=0)
        return np.asarray((f1 * (class_sizes > 0)).sum(axis=-1) / (class_sizes > 0).sum(axis=-1))

    def balanced_accuracy_of(self, counts: Ints) -> Floats:
        """`balanced_accuracy` of other tables (..., k, c) under this map."""
        class_sizes = counts.sum(axis=-2)
        recall = ratio(self._hits(counts), class_sizes, undefined=0)
        return np.asarray(recall.sum(axis=-1) / (class_sizes > 0).sum(axis=-1))

    def cluster_of(self) -> Ints | None:
        """The cluster of each class (c,), all classes and clusters used; None where their numbers differ.

        Clusters that `match` left out get the remaining classes in the order of their numbers, since whole rows of
        probabilities can be judged only where each column is a class.
        """
        k, c = self.counts.shape
        if k != c:
            return None
        found = np.full(c, -1, dtype=np.int64)
        matched = self.class_of >= 0
        found[self.class_of[matched]] = np.flatnonzero(matched)
        found[found < 0] = np.flatnonzero(~matched)
        return found

    def _hits(self, counts: Ints) -> Ints:
        """Number of items of each class, (..., c), that are in its cluster."""
        hits, matched = np.zeros_like(counts[..., 0, :]), np.flatnonzero(self.class_of >= 0)
        hits[..., self.class_of[matched]] = counts[..., matched, self.class_of[matched]]
        return hits


def match(
    labels_true: Given,
    labels_pred: Given,
    n_clusters: int | None = None,
    n_classes: int | None = None,
) -> Matching:
    """Give clusters to classes one to one so that as many items as possible agree (Kuhn 1955, "Hungarian method").

    The table has a row for each of the `n_clusters` outputs, used or not, so that a missing cluster shifts nothing.
    With more clusters than classes the rest stay unmatched; so does a cluster whose class it would share no item with.

    >>> from coterie.evaluation import match
    >>> match([0, 0, 1, 1], [1, 1, 0, 0]).class_of
    array([1, 0])
    """
    return match_of(contingency(labels_true, labels_pred, n_clusters, n_classes))


def match_of(counts: Ints) -> Matching:
    """`match` of a contingency table."""
    from scipy.optimize import linear_sum_assignment  # a quarter of the time of `report`, which matches nothing

    clusters, classes = linear_sum_assignment(counts, maximize=True)
    shared = counts[clusters, classes] > 0
    class_of = np.full(len(counts), -1, dtype=np.int64)
    class_of[clusters[shared]] = classes[shared]
    return Matching(class_of, counts)


def accuracy(labels_true: Given, labels_pred: Given, n_clusters: int | None = None) -> float:
    """Clustering accuracy, "ACC": the best mean of 1[m(cluster) = class] over one-to-one maps m (Yang et al. 2010).

    >>> from coterie.evaluation import accuracy
    >>> accuracy([0, 0, 1, 1], [1, 1, 0, 1])
    0.75
    """
    return match(labels_true, labels_pred, n_clusters).accuracy


def f1_macro(labels_true: Given, labels_pred: Given, n_clusters: int | None = None) -> float:
    """Macro-averaged F1 over the classes that occur, after matching; see `Matching.f1_macro`.

    >>> from coterie.evaluation import f1_macro
    >>> round(f1_macro([0, 0, 1, 1], [1, 1, 0, 1]), 4)
    0.7333
    """
    return match(labels_true, labels_pred, n_clusters).f1_macro


def f1_micro(labels_true: Given, labels_pred: Given, n_clusters: int | None = None) -> float:
    """Micro-averaged F1 after matching; see `Matching.f1_micro`.

    >>> from coterie.evaluation import f1_micro
    >>> f1_micro([0, 0, 1, 1], [1, 1, 0, 1])
    0.75
    """
    return match(labels_true, labels_pred, n_clusters).f1_micro


def balanced_accuracy(labels_true: Given, labels_pred: Given, n_clusters: int | None = None) -> float:
    """Recall averaged over the classes that occur, after matching; see `Matching.balanced_accuracy`.

    >>> from coterie.evaluation import balanced_accuracy
    >>> balanced_accuracy([0, 0, 0, 1], [1, 1, 1, 1])
    0.5
    """
    return match(labels_true, labels_pred, n_clusters).balanced_accuracy


def held_out_accuracy(labels_true: Given, labels_pred: Given, seed: int = 0) -> float:
    """ACC where one random half of the items makes the map and the other half is scored, both ways round.

    NaN for a single item. Far below `accuracy` only where there are few items for each cell of the table.

    >>> from coterie.evaluation import held_out_accuracy
    >>> held_out_accuracy([0, 1] * 20, [1, 0] * 20)
    1.0
    """
    true, pred = array_from(labels_true, "labels_true"), array_from(labels_pred, "labels_pred")
    k, c = contingency(true, pred).shape
    if len(true) < 2:
        return float("nan")
    first = np.random.default_rng(whole_number(seed, "seed", 0, 2**63 - 1)).permutation(len(true)) < len(true) // 2
    one, other = (contingency(true[half], pred[half], k, c) for half in (first, ~first))
    hits = [match_of(mapped)._hits(scored).sum() for mapped, scored in ((one, other), (other, one))]
    return float(sum(hits) / len(true))
