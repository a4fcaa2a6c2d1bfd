"""Which of several runs to trust, without labels: ranks by three scores, in spaces that are not the run's own.

Scores of one run in its own features flatter it, and are not comparable across spaces (Palumbo et al. 2024). So every
run is scored in the spaces of the others, and any two runs are compared in the spaces that are neither's own.
The intervals come from 200 resamples of the items. Where the best one's interval touches another's, or the scores do
not agree on it, the runs are not distinguishable without judging, and the medoid, which agrees most with the others, is
the one to take.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from sklearn.neighbors import NearestNeighbors

from coterie.evaluation.contingency import Ints
from coterie.evaluation.ensemble import accuracy_bound, mean_aris
from coterie.evaluation.group_criteria import linear_predictions, silhouettes
from coterie.evaluation.ranking import Floats
from coterie.evaluation.stability import Points

NEIGHBOURS = 15
RESAMPLES, LEVEL = 200, 0.95
SAME = 1e-12  # difference of two scores below which they are equal: sums over groups round by the groups' order
SCORES = ("kappa", "silhouette", "neighbours")


@dataclass(frozen=True)
class Space:
    """Features (m, d) of some items `rows` (m,), reduced; `home` is the run that trained them, None for no run's."""

    points: Points
    rows: Ints
    home: int | None = None


@dataclass(frozen=True)
class Trusted:
    """One run: its mean rank (1 is best) with an interval, its scores in the others' spaces, and warnings about it."""

    run: str
    rank: float
    interval: tuple[float, float]
    kappa: float
    silhouette: float
    neighbours: float
    ari: float  # mean to the other runs
    flags: list[str]


@dataclass(frozen=True)
class Trust:
    """All runs, the bound of their accuracy, and which to take."""

    runs: list[Trusted]
    agreement: float
    bound: float
    medoid: str
    recommended: str
    distinguishable: bool
    sentences: list[str]

    def as_json(self) -> dict[str, Any]:
        """Plain values; a score that no space gives is None, for JSON has no NaN."""
        found = asdict(self)
        for run in found["runs"]:
            run |= {name: None for name in SCORES if np.isnan(run[name])}
        return found


def trust(names: Sequence[str], partitions: Sequence[Ints], k: int, spaces: Sequence[Space]) -> Trust:
    """Rank at least two runs with k groups each over the same items. Without a space only their agreement is given."""
    agreement, bound = accuracy_bound(partitions)
    aris = mean_aris(partitions)
    middle = int(np.argmax(aris))
    values, ranks, behind = _ranks(partitions, k, spaces)
    means = ranks.mean(0) if len(ranks) else np.full(len(names), (len(names) + 1) / 2)
    low, high = np.quantile(ranks, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0) if len(ranks) else (means, means)
    best = int(np.argmin(means))
    others = [i for i in range(len(names)) if i != best]
    apart = bool(len(ranks)) and all(high[best] < low[i] and (behind[best, i] < 0.5).all() for i in others)
    chosen = best if apart else middle
    runs = []
    for i, name in enumerate(names):
        interval, own = (float(low[i]), float(high[i])), values[i].tolist()
        runs.append(Trusted(name, float(means[i]), interval, own[0], own[1], own[2], aris[i], flags(partitions[i], k)))
    most = math.ceil(100 * bound - 1e-9)  # rounded down it would promise too much
    sentences = [f"These runs cannot be more than {most} % correct on average: they disagree on the rest."]
    if most == 100:
        share = "all" if agreement == 1 else "nearly all"
        sentences = [f"These runs agree on {share} items, which does not say how many are right."]
    if apart:
        sentences.append(
            f"{names[best]} ranks first by every score in the features of the other runs: its groups fit them best."
        )
    else:
        # Two runs always agree equally with each other: neither is nearer to the others.
        equal = max(aris) - min(aris) < 1e-9
        taken = f"any, such as {names[middle]}" if equal else f"{names[middle]}, which agrees most with the others"
        sentences.append(
            f"The runs are not distinguishable without judging: take {taken}, or judge 150 items of each that you "
            "consider."
        )
    return Trust(runs, agreement, bound, names[middle], names[chosen], apart, sentences)


def flags(labels: Ints, k: int) -> list[str]:
    """Warnings of groups far from an even share, with which scores mean little."""
    sizes, n = np.bincount(labels, minlength=k), len(labels)
    found = []
    if small := int((sizes < n / (20 * k)).sum()):
        found.append(f"{small} group{'s' * (small > 1)} below a twentieth of an even share")
    if large := int((sizes > 5 * n / k).sum()):
        found.append(f"{large} group{'s' * (large > 1)} above five even shares")
    return found


def _ranks(partitions: Sequence[Ints], k: int, spaces: Sequence[Space]) -> tuple[Floats, Floats, Floats]:
    """Scores (runs, 3) in others' spaces, mean ranks over resamples (200, runs), and how often each run is behind each.

    A run's rank is 1 and, for each other run, the share of the spaces that are neither's own in which that one scores
    higher, an equal score counting half. (A mean of ranks would favour a run that is ranked among few.) These shares
    are (runs, runs, 3), means over resamples, and 1/2 for two runs that no space compares.
    """
    count, rng = len(partitions), np.random.default_rng(0)
    scores, told = np.zeros((count, len(SCORES))), np.zeros(count)
    lost, met = np.zeros((RESAMPLES, count, count, len(SCORES))), np.zeros((count, count))
    for space in spaces:
        weights = rng.multinomial(len(space.rows), np.full(len(space.rows), 1 / len(space.rows)), RESAMPLES)
        away = [run for run in range(count) if run != space.home]
        items = np.stack([_of_items(space, partitions[run][space.rows], k) for run in away])  # (away, m, 3)
        drawn = np.einsum("rm,ams->ras", weights / len(space.rows), items)
        one, other = np.ix_(away, away)
        ahead = drawn[:, None] - drawn[:, :, None]
        lost[:, one, other] += (1 + np.sign(ahead) * (np.abs(ahead) > SAME)) / 2
        met[one, other] += 1
        scores[away] += items.mean(1)
        told[away] += 1
    if not len(spaces) or not told.all():
        return np.full_like(scores, np.nan), np.empty((0, count)), np.empty((count, count, 0))
    behind = np.where(met[:, :, None] > 0, lost / np.maximum(met, 1)[:, :, None], 0.5)
    # A run is behind itself by half, too.
    return scores / told[:, None], (0.5 + behind.sum(2)).mean(2), behind.mean(0)


def _of_items(space: Space, labels: Ints, k: int) -> Floats:
    """Each item's part of each score (m, 3): a score is the mean over items; chance is computed from all of them."""
    share = np.bincount(labels, minlength=k) / len(labels)
    said = linear_predictions(space.points, labels)
    guessed = float(share @ (np.bincount(said, minlength=k) / len(labels)))
    together = float((share**2).sum())
    near = NearestNeighbors(n_neighbors=min(NEIGHBOURS, len(labels) - 1), algorithm="brute").fit(space.points)
    same = (labels[near.kneighbors(return_distance=False)] == labels[:, None]).mean(1)
    hits = (_beyond(said == labels, guessed), silhouettes(space.points, labels), _beyond(same, together))
    return np.stack(hits, axis=1)


def _beyond(hits: Any, chance: float) -> Floats:
    """(hits - chance) / (1 - chance), 0 where chance is 1."""
    return np.zeros(len(hits)) if chance >= 1 else (np.asarray(hits, np.float64) - chance) / (1 - chance)
