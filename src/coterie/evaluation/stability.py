"""How well K-means with k groups can be repeated on other items of the same kind. No labels.

`prediction_strength` (Tibshirani & Walther 2005) asks whether groups found on one half hold on the other, `stability`
whether two overlapping samples are grouped alike, `ambiguous_share` (Monti et al. 2003; Senbabaoglu et al. 2014, "PAC")
whether any two items are either always or never together. All measure compact and repeatable groups, not classes.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning

from coterie.evaluation.agreement import ari
from coterie.evaluation.contingency import Ints, contingency

Points = NDArray[np.floating]

SHARE = 0.8  # of the items in a sub-sample
STRICT_UP_TO = 20  # groups; of more, the weakest is too noisy and the mean weighted by size is taken instead
STEPS = 20  # of Lloyd's iterations, enough for partitions that are only compared
STARTS = 2  # of K-means
TRIALS = 10  # rows that a step of seeding chooses from, and ln k more: with few, one of 50 clear groups is often missed
SEEDED = 25  # items per group that seeding looks at
CONSENSUS_ITEMS = 1000


@dataclass(frozen=True)
class Partition:
    """K-means of some rows: their labels (m,), the centres (k, d), the sum of squared distances to them."""

    rows: Ints
    labels: Ints
    centres: Points
    inertia: float


def partition(points: Points, k: int, rows: Ints, rng: np.random.Generator) -> Partition:
    """K-means with k groups of these rows."""
    chosen, best = points[rows], None
    for _ in range(STARTS):
        found = KMeans(k, init=seeds(chosen, k, rng), n_init=1, max_iter=STEPS)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct rows than groups leave some empty
            found.fit(chosen)
        if best is None or found.inertia_ < best.inertia_:
            best = found
    assert best is not None
    return Partition(rows, best.labels_.astype(np.int64), best.cluster_centers_, float(best.inertia_))


def seeds(points: Points, k: int, rng: np.random.Generator) -> Points:
    """k rows by greedy k-means++ (Arthur & Vassilvitskii 2007) on a random part of the points.

    scikit-learn's looks at all of them and takes three quarters of the time of the whole choice of K.
    """
    part = points[rng.permutation(len(points))[: max(500, SEEDED * k)]]
    chosen = [int(rng.integers(len(part)))]
    nearest = ((part - part[chosen[0]]) ** 2).sum(1)
    norms, trials = (part**2).sum(1), TRIALS + int(np.log(k))
    for _ in range(1, k):
        reach = nearest.cumsum()
        drawn = np.searchsorted(reach, rng.random(trials) * reach[-1]).clip(max=len(part) - 1)
        distance = np.minimum(norms + norms[drawn, None] - 2 * part[drawn] @ part.T, nearest).clip(min=0)
        best = int(distance.sum(1).argmin())
        nearest = distance[best]
        chosen.append(int(drawn[best]))
    return part[chosen]


def prediction_strength(points: Points, k: int, rng: np.random.Generator) -> float:
    """One split: the share of pairs of a group of one half that the other half's centres put together, too.

    ps(k) = min_j 1/(n_j (n_j - 1)) #{i != i' in A_j: together}, both halves in turn; beyond 20 groups the mean
    weighted by n_j in place of the minimum. A group of one item has no pairs and is left out.
    """
    order = rng.permutation(len(points))
    halves = order[: len(order) // 2], order[len(order) // 2 :]
    found = [partition(points, k, rows, rng) for rows in halves]
    return float(np.mean([_together(points, one, other, k) for one, other in (found, found[::-1])]))


def _together(points: Points, judged: Partition, judge: Partition, k: int) -> float:
    said = nearest_centre(points[judged.rows], judge.centres)
    table = contingency(said, judged.labels, k, k)
    sizes = table.sum(axis=1)
    pairs = sizes * (sizes - 1)
    shares = (table * (table - 1)).sum(axis=1)[pairs > 0] / pairs[pairs > 0]
    if not len(shares):
        return 0.0
    return float(shares.min() if k <= STRICT_UP_TO else np.average(shares, weights=sizes[pairs > 0]))


def nearest_centre(points: Points, centres: Points) -> Ints:
    """The nearest centre of each point."""
    return ((centres**2).sum(1) / 2 - points @ centres.T).argmin(1)


def sub_samples(points: Points, k: int, rng: np.random.Generator) -> tuple[Partition, Partition]:
    """K-means of two random 80 % of the points."""
    n = len(points)
    size = max(k, round(SHARE * n))
    first, second = (partition(points, k, np.sort(rng.choice(n, size, replace=False)), rng) for _ in range(2))
    return first, second


def stability(first: Partition, second: Partition) -> float:
    """ARI of two partitions on the items that both hold."""
    _, one, other = np.intersect1d(first.rows, second.rows, assume_unique=True, return_indices=True)
    return ari(first.labels[one], second.labels[other])


def ambiguous_share(partitions: list[Partition], n: int, k: int) -> float:
    """The share of pairs that are together in more than 10 and less than 90 % of the partitions that hold both.

    Of the first 1,000 of n items, whose order must be random.
    """
    m = min(n, CONSENSUS_ITEMS)
    together, held = np.zeros((m, m), np.float32), np.zeros((m, m), np.float32)
    for found in partitions:
        inside = found.rows < m
        member = np.zeros((m, k), np.float32)
        member[found.rows[inside], found.labels[inside]] = 1
        there = member.sum(1)
        together += member @ member.T
        held += np.outer(there, there)
    upper = np.triu(held > 0, 1)
    share = together[upper] / held[upper]
    return float(((share > 0.1) & (share < 0.9)).mean()) if len(share) else 0.0
