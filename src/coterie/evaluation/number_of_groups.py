"""How many groups? A curve over K of criteria that need no labels, a recommendation, its plateau, or "no clear K".

No criterion is reliable alone, and each answers "how many compact, stable or predictable groups", not "how many
classes". The rule: K-means with K groups must hold on the other half of the items (prediction strength of at least
0.8) and be stabler than K-means of a single Gaussian of the same covariance; of the K for which that is so and whose
stability beyond the Gaussian's is within a standard error of the best, the largest. The plateau are its neighbours for
which the same holds. All other criteria are shown beside it. Where no K passes, none stands out: that is the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from coterie.evaluation import group_criteria as criteria
from coterie.evaluation.ranking import Floats
from coterie.evaluation.stability import (
    STRICT_UP_TO,
    Partition,
    Points,
    ambiguous_share,
    partition,
    prediction_strength,
    stability,
    sub_samples,
)
from coterie.types import InputError

MOST = 200
GROWTH = 1.25  # from one K of the curve to the next
REPEATS, MORE = 5, 15  # splits, sub-samples and Gaussians of each K; and further ones of a K that may pass
FEW, FEW_MORE = 3, 3  # the same for more than 20 groups, whose numbers vary little
HOLDS = 0.8  # prediction strength of groups that hold on other items (Tibshirani & Walther: 0.8 to 0.9)
MAY_HOLD = 0.7
SAMPLE, PER_GROUP = 3000, 40  # items that K-means sees: so many, or so many a group of the largest K
JUDGED = 2000  # items of the silhouette, the eigenvalues
APART = 2.0  # between criteria that is worth a word


@dataclass(frozen=True)
class Row:
    """One K of the curve. `error` is the standard error of `excess`, the stability beyond the Gaussian's."""

    k: int
    prediction_strength: float
    stability: float
    excess: float
    error: float
    ambiguous: float  # share of pairs that are neither always nor never together; low is good
    gap: float  # mean ln W of the Gaussian less ln W, W the sum of squared distances to the centres
    gap_error: float
    silhouette: float
    generalisation: float  # Cohen's kappa of a linear classifier
    coding_rate: float  # nats an item; low is good

    @property
    def passes(self) -> bool:
        """Whether the groups hold on other items, and do so better than chance would have it."""
        return self.prediction_strength >= HOLDS and self.excess > 2 * self.error


@dataclass(frozen=True)
class Choice:
    """The answer: `k` and its plateau where a number stands out; where none does, `k` is what the ticks say midway."""

    k: int
    clear: bool
    plateau: tuple[int, int]
    curve: list[Row]
    ticks: dict[str, int]  # what each criterion alone would say
    levels: list[int]  # numbers of groups of FINCH's hierarchy that were among the candidates
    n: int  # items looked at
    sentence: str
    notes: list[str]

    def as_json(self) -> dict[str, Any]:
        """Plain values, numbers with five digits."""
        curve = [{name: round(value, 5) for name, value in asdict(row).items()} for row in self.curve]
        return {**asdict(self), "plateau": list(self.plateau), "curve": curve}


def grid(least: int, most: int, extra: Sequence[int] = ()) -> list[int]:
    """The K to try, each about 1.25 times the one before, and those of `extra` that lie between."""
    found, k = [], least
    while k <= most:
        found.append(k)
        k = max(k + 1, round(GROWTH * k))
    return sorted({*found, *(k for k in extra if least <= k <= most)})


def most_groups(n: int) -> int:
    """The largest K that n items are asked for unless the user says otherwise: the square root of n, at most 200."""
    return max(2, min(MOST, int(np.sqrt(n))))


def number_of_groups(
    points: Points,
    *,
    least: int = 2,
    most: int | None = None,
    levels: Sequence[int] = (),
    seed: int = 0,
    progress: Callable[[str], None] = lambda text: None,
) -> Choice:
    """Choose K for points (n, d) whose distances mean likeness; give reduced ones, of at most 50 dimensions.

    `levels`: numbers of groups of another clustering that are to be among the candidates. Raises InputError for a range
    that is none, or more groups than half the items.
    """
    n = len(points)
    most = most_groups(n) if most is None else most
    if n < 8 or not 2 <= least <= most or most > n // 4:
        raise InputError(
            f"The number of groups of {n} items cannot be looked for between {least} and {most}: it takes at least 8 "
            "items, at least 2 groups, and 4 items a group."
        )
    rng = np.random.default_rng(seed)
    kept = rng.permutation(n)[: max(SAMPLE, PER_GROUP * most)]
    sample = np.ascontiguousarray(points[kept], dtype=np.float32)
    scale = float(np.sqrt(sample.var(0).mean()))
    if scale == 0:
        raise InputError("All items are the same, so there are no groups to count.")
    sample = (sample - sample.mean(0)) / scale
    measure = Measure(sample, seed)
    tried: dict[int, Row] = {}
    for k in grid(least, most, levels):
        tried[k] = measure.row(k)
        progress(f"{k} groups")
    if (best := recommended(list(tried.values()))) is not None:
        for k in between(sorted(tried), best):
            tried[k] = measure.row(k)
            progress(f"{k} groups")
    curve = [tried[k] for k in sorted(tried)]
    return _choice(curve, measure.eigengap(least, most), sorted({k for k in levels if least <= k <= most}), len(kept))


Pair = tuple[Partition, Partition]


class Measure:
    """Every criterion of one K. The random numbers of a K depend on the seed and K alone."""

    def __init__(self, sample: Points, seed: int) -> None:
        self.sample, self.seed = sample, seed
        self.spread = sample.std(0)
        self.judged = slice(0, JUDGED)

    def row(self, k: int) -> Row:
        """All criteria for K = k."""
        rng = np.random.default_rng([self.seed, k])
        first, more = (REPEATS, MORE) if k <= STRICT_UP_TO else (FEW, FEW_MORE)
        strength, pairs, null = list[float](), list[Pair](), list[Pair]()
        for repeats in (first, more):
            if strength and np.mean(strength) < MAY_HOLD:
                break
            strength += [prediction_strength(self.sample, k, rng) for _ in range(repeats)]
            pairs += [sub_samples(self.sample, k, rng) for _ in range(repeats)]
            null += [sub_samples(self._gaussian(rng), k, rng) for _ in range(repeats)]
        own, chance = (np.array([stability(*pair) for pair in found]) for found in (pairs, null))
        within, expected = (_log_inertia([one for pair in found for one in pair]) for found in (pairs, null))
        whole = partition(self.sample, k, np.arange(len(self.sample)), rng)
        return Row(
            k=k,
            prediction_strength=float(np.mean(strength)),
            stability=float(own.mean()),
            excess=float(own.mean() - chance.mean()),
            error=float(np.hypot(own.std(ddof=1), chance.std(ddof=1)) / np.sqrt(len(own))),
            ambiguous=ambiguous_share([one for pair in pairs for one in pair], len(self.sample), k),
            gap=float(expected.mean() - within.mean()),
            gap_error=float(expected.std(ddof=1) * np.sqrt(1 + 1 / len(null))),
            silhouette=float(criteria.silhouettes(self.sample[self.judged], whole.labels[self.judged]).mean()),
            generalisation=criteria.generalisation(self.sample, whole.labels, k, self.seed),
            coding_rate=criteria.coding_rate(self.sample, whole.labels) / len(self.sample),
        )

    def eigengap(self, least: int, most: int) -> int:
        """What the eigenvalues of the neighbour graph say."""
        return criteria.eigengap(criteria.eigenvalues(self.sample[self.judged], most + 1), least, most)

    def _gaussian(self, rng: np.random.Generator) -> Points:
        """As many points of one Gaussian; the axes are principal ones, so the deviations are all of its covariance."""
        return rng.standard_normal(self.sample.shape, dtype=np.float32) * self.spread


def _log_inertia(partitions: Sequence[Partition]) -> Floats:
    """ln W of each, with a floor for points that lie on their centres."""
    return np.log([max(found.inertia / len(found.rows), 1e-12) for found in partitions])


def recommended(curve: Sequence[Row]) -> int | None:
    """The largest K of those that pass, with an excess within one standard error of the largest excess among them."""
    candidates = _candidates(curve)
    return max(candidates) if candidates else None


def _candidates(curve: Sequence[Row]) -> list[int]:
    passing = [row for row in curve if row.passes]
    if not passing:
        return []
    best = max(passing, key=lambda row: row.excess)
    return [row.k for row in passing if row.excess >= best.excess - best.error]


def between(tried: Sequence[int], k: int, at_most: int = 8) -> list[int]:
    """The K next to k that the grid passed over, evenly spread where they are many."""
    place = tried.index(k)
    low = tried[place - 1] if place else k
    high = tried[place + 1] if place + 1 < len(tried) else k
    left = [other for other in range(low + 1, high) if other != k]
    return left if len(left) <= at_most else [left[i] for i in np.linspace(0, len(left) - 1, at_most).astype(int)]


def _choice(curve: list[Row], gap: int, levels: list[int], n: int) -> Choice:
    ticks = {"eigengap": gap, "silhouette": max(curve, key=lambda row: row.silhouette).k, "gap": _gap(curve)}
    ticks["coding rate"] = min(curve, key=lambda row: row.coding_rate).k
    ticks["stability"] = max(curve, key=lambda row: row.excess).k
    best, candidates, notes = recommended(curve), set(_candidates(curve)), []
    said = sorted([*ticks.values(), *([best] if best is not None else [])])
    if said[-1] > APART * said[0]:
        notes.append(f"The criteria differ: {', '.join(f'{name} {k}' for name, k in ticks.items())}.")
    if best is None:
        middle = sorted(ticks.values())[len(ticks) // 2]
        text = "No number of groups stands out; K is your choice. The criteria alone would say "
        text += f"{', '.join(f'{k} ({name})' for name, k in ticks.items())}."
        return Choice(middle, False, (middle, middle), curve, ticks, levels, n, text, notes)
    tried = [row.k for row in curve]
    low = high = tried.index(best)
    while low > 0 and tried[low - 1] in candidates:
        low -= 1
    while high + 1 < len(tried) and tried[high + 1] in candidates:
        high += 1
    plateau = tried[low], tried[high]
    if best > STRICT_UP_TO:
        notes.append("Beyond 20 groups the prediction strength is a mean over groups, not that of the weakest.")
    if best == tried[-1] and len(tried) > 1:
        notes.append(f"{best} is the largest number tried: there may be more.")
    also = f" ({plateau[0]}–{plateau[1]} do equally well)" if plateau[0] < plateau[1] else " (no other does as well)"
    return Choice(best, True, plateau, curve, ticks, levels, n, f"{best}{also}.", notes)


def _gap(curve: Sequence[Row]) -> int:
    """The smallest K whose gap is at least the next one's less its error (Tibshirani, Walther & Hastie 2001)."""
    for row, after in pairwise(curve):
        if row.gap >= after.gap - after.gap_error:
            return row.k
    return curve[-1].k
