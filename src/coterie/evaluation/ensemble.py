"""Several clusterings of the same items as one: groups matched, probabilities averaged, disagreement measured.

The disagreement between seeds, or between heads of one run, shows which items depend on the random start. They can
share a mistake, so agreement proves nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.special import entr

from coterie.evaluation.agreement import ari
from coterie.evaluation.contingency import Given, Ints, contingency
from coterie.evaluation.matching import accuracy
from coterie.evaluation.ranking import Floats

Probabilities = NDArray[np.floating]


@dataclass(frozen=True)
class Ensemble:
    """`probabilities` (n, k): the mean, in the groups of the run `medoid`; and how far the runs agree on each item."""

    medoid: int
    orders: list[Ints]  # of each run: its column that stands for each group of the medoid
    probabilities: Floats
    information: Floats  # (n,) nats: H(mean p) - mean H(p), 0 where all runs agree
    votes: Floats  # (n,) share of the runs whose group is that of the mean


def medoid(partitions: Sequence[Given]) -> int:
    """The partition with the highest mean ARI to the others; the first of equal ones."""
    return int(np.argmax(mean_aris(partitions)))


def mean_aris(partitions: Sequence[Given]) -> list[float]:
    """The mean ARI of each partition to the others; 1 for a single one."""
    table = np.array([[ari(one, other) for other in partitions] for one in partitions])
    count = len(partitions)
    return ((table.sum(1) - 1) / (count - 1)).tolist() if count > 1 else [1.0]


def accuracy_bound(partitions: Sequence[Given]) -> tuple[float, float]:
    """The mean agreement A of any two partitions, and (1 + A) / 2, the most that their mean accuracy can be.

    An item that both have right counts as agreement, so ACC_a + ACC_b <= 1 + A_ab (Hungarian accuracies). It
    bounds the mean of the runs: a single one may lie above it. 000111 and 110000 agree on 5/6, so the bound is .9167.
    """
    pairs = [accuracy(a, b) for i, a in enumerate(partitions) for b in partitions[i + 1 :]]
    agreement = float(np.mean(pairs)) if pairs else 1.0
    return agreement, (1 + agreement) / 2


def order_of(reference: Given, labels: Given, k: int) -> Ints:
    """The group of `labels` that stands for each of the k groups of `reference`, so that most items agree."""
    found: Ints = linear_sum_assignment(contingency(labels, reference, k, k), maximize=True)[1].astype(np.int64)
    return found


def combine(heads: Sequence[Probabilities]) -> Ensemble:
    """The ensemble of runs or heads (n, k), matched to their medoid."""
    labels = [head.argmax(1) for head in heads]
    middle = medoid(labels)
    orders = [order_of(labels[middle], own, heads[0].shape[1]) for own in labels]
    matched = np.stack([head[:, order] for head, order in zip(heads, orders, strict=True)]).astype(np.float64)
    mean = matched.mean(0)
    information = np.maximum(entr(mean).sum(1) - entr(matched).sum(2).mean(0), 0)  # equal runs come out as -1e-16
    votes = (matched.argmax(2) == mean.argmax(1)).mean(0)
    return Ensemble(middle, orders, mean, information, votes)
