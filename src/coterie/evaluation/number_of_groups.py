"""How many groups? A curve over K of criteria that need no labels, a recommendation, its plateau, or "no clear K".

No criterion is reliable alone, and each answers "how many compact, stable or predictable groups", not "how many
classes". Here each is measured; `group_rule` has the rule. Where no K passes it, none stands out: that is the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from coterie.evaluation import group_criteria as criteria
from coterie.evaluation.group_rule import Choice, Row, choice, recommended, stablest, ticks_of
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
MAY_HOLD = 0.7
SAMPLE, PER_GROUP = 3000, 40  # items that K-means sees: so many, or so many per group of the largest K
JUDGED = 2000  # items that the silhouette and the eigenvalues are computed on


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

    `levels`: numbers of groups of another clustering that are to be among the candidates. Raises InputError for an
    empty range, or more groups than a quarter of the items.
    """
    n = len(points)
    most = most_groups(n) if most is None else most
    if n < 8:
        raise InputError(f"The number of groups of {n} items cannot be looked for: it takes at least 8 items.")
    if not 2 <= least <= most <= n // 4:
        raise InputError(
            f"The number of groups of {n} items cannot be looked for between {least} and {most}: give two numbers from "
            f"2 to {n // 4}, 4 items a group, the smaller one first."
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
    for k in between(sorted(tried), recommended(list(tried.values())) or stablest(list(tried.values())).k):
        tried[k] = measure.row(k)
        progress(f"{k} groups")
    curve = [tried[k] for k in sorted(tried)]
    ticks = ticks_of(curve, measure.eigengap(least, most))
    return choice(curve, ticks, sorted({k for k in levels if least <= k <= most}), len(kept))


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
        """The number of groups by the eigenvalues of the neighbour graph."""
        return criteria.eigengap(criteria.eigenvalues(self.sample[self.judged], most + 1), least, most)

    def _gaussian(self, rng: np.random.Generator) -> Points:
        """As many points drawn from one Gaussian; the axes are principal ones, so its covariance is diagonal."""
        return rng.standard_normal(self.sample.shape, dtype=np.float32) * self.spread


def _log_inertia(partitions: Sequence[Partition]) -> Floats:
    """ln W of each, with a floor for points that lie on their centres."""
    return np.log([max(found.inertia / len(found.rows), 1e-12) for found in partitions])


def between(tried: Sequence[int], k: int, at_most: int = 8) -> list[int]:
    """The K next to k that the grid passed over, evenly spread where they are many."""
    place = tried.index(k)
    low = tried[place - 1] if place else k
    high = tried[place + 1] if place + 1 < len(tried) else k
    left = [other for other in range(low + 1, high) if other != k]
    return left if len(left) <= at_most else [left[i] for i in np.linspace(0, len(left) - 1, at_most).astype(int)]
