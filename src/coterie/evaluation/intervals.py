"""How much would a number move with another sample of as many items? Percentile bootstrap intervals (Efron 1979).

`bootstrap` takes any metric of any arrays and draws rows. The other two draw the same resamples as counts, so
that the cost of a resample depends on the size of a table and not on the number of items: a contingency table for
metrics of two labellings, a table of distinct confidences, each right or wrong, for metrics of confidences.

Calibration errors are biased upwards by noise, and resampling adds noise once more: where an error is near 0 its
interval can lie above it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coterie.common.arguments import whole_number
from coterie.evaluation.contingency import Ints
from coterie.evaluation.ranking import Floats, Ranking
from coterie.types import InputError

RESAMPLES, LEVEL = 200, 0.95
GROUPS = 2048  # distinct confidences that are told apart; more are taken together with their neighbours
MOST = 10**7  # resamples
CELLS = 1 << 20  # that are drawn at once: 8 MB

Interval = tuple[float, float]


def bootstrap(
    metric: Callable[..., float],
    *arrays: NDArray[Any],
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> Interval:
    """Interval of `metric(*arrays)` over rows drawn with replacement, the same rows of every array.

    (NaN, NaN) where no resample has the metric. Raises InputError for arrays of different lengths or bad settings.

    >>> import numpy as np
    >>> from coterie.evaluation import bootstrap
    >>> correct = np.arange(200) % 4 > 0
    >>> low, high = bootstrap(np.mean, correct)
    >>> 0.6 < low < 0.75 < high < 0.9
    True
    """
    n = len(arrays[0]) if arrays else 0
    if n == 0 or any(len(array) != n for array in arrays):
        raise InputError(f"There are arrays of lengths {[len(a) for a in arrays]} to resample: give equal lengths.")
    _check(resamples, level, seed)
    generator = np.random.default_rng(seed)
    drawn = (generator.integers(n, size=n) for _ in range(resamples))
    return _middle(np.array([metric(*(array[rows] for array in arrays)) for rows in drawn]), level)


def bootstrap_counts(
    metrics: Mapping[str, Callable[[Ints], Floats]],
    counts: Ints,
    *,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> dict[str, Interval]:
    """Interval of each metric of a table of counts, say a contingency table, over tables of as many items.

    A metric gets many resampled tables at once, (r, *counts.shape), and returns a number for each, (r,). Drawing n
    items with replacement makes the cells multinomial, so this is `bootstrap` of the items, only faster.

    >>> import numpy as np
    >>> from coterie.evaluation import bootstrap_counts
    >>> from coterie.evaluation.agreement import purity_of
    >>> low, high = bootstrap_counts({"purity": purity_of}, np.array([[75, 25], [25, 75]]))["purity"]
    >>> 0.6 < low < 0.75 < high < 0.9
    True
    """
    _check(resamples, level, seed)
    generator, cells = np.random.default_rng(seed), counts.ravel()
    used, n = np.flatnonzero(cells), int(cells.sum())
    found: dict[str, list[Floats]] = {name: [] for name in metrics}
    at_once = max(1, CELLS // cells.size)
    for start in range(0, resamples, at_once):
        drawn = np.zeros((min(at_once, resamples - start), cells.size), dtype=np.int64)
        drawn[:, used] = generator.multinomial(n, cells[used] / n, size=len(drawn))
        tables = drawn.reshape(-1, *counts.shape)
        for name, metric in metrics.items():
            found[name].append(metric(tables))
    return {name: _middle(np.concatenate(values), level) for name, values in found.items()}


def bootstrap_ranking(
    metrics: Mapping[str, Callable[[Ranking], Floats]],
    ranking: Ranking,
    *,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> dict[str, Interval]:
    """Interval of each metric of a ranking (the `..._of` functions) over resampled items, the same for all metrics.

    More than 2,048 distinct confidences are first cut into as many groups of equal size, each at its mean: that moves
    the numbers themselves by far less than a resample does.

    >>> import numpy as np
    >>> from coterie.evaluation import bootstrap_ranking
    >>> from coterie.evaluation.calibration_errors import by_confidence, overconfidence_of
    >>> ranking = by_confidence(np.full(200, 0.75), np.arange(200) % 4 > 0)
    >>> low, high = bootstrap_ranking({"overconfidence": overconfidence_of}, ranking)["overconfidence"]
    >>> low < 0 < high
    True
    """
    coarse = grouped(ranking)

    def of_table(metric: Callable[[Ranking], Floats]) -> Callable[[Ints], Floats]:
        return lambda drawn: metric(
            Ranking(coarse.scores, drawn.sum(axis=1).astype(np.float64), drawn[:, 0].astype(np.float64))
        )

    table = np.stack([coarse.positives, coarse.negatives]).astype(np.int64)
    by_name = {name: of_table(metric) for name, metric in metrics.items()}
    return bootstrap_counts(by_name, table, resamples=resamples, level=level, seed=seed)


def grouped(ranking: Ranking) -> Ranking:
    """The same items at no more than 2,048 distinct scores, groups of neighbours at their mean."""
    counts, positives = ranking.counts, ranking.positives
    if len(counts) <= GROUPS:
        return ranking
    # By the place of the first item of each score, so that equal ones stay together.
    place = ((np.cumsum(counts) - counts) * GROUPS // counts.sum()).astype(np.int64)
    starts = np.flatnonzero(np.r_[True, place[1:] != place[:-1]])
    size, total, right = (np.add.reduceat(of, starts) for of in (counts, counts * ranking.scores, positives))
    return Ranking(total / size, size, right)


def _middle(values: Floats, level: float) -> Interval:
    """The central interval that holds the share `level` of the values, NaN left out."""
    found = values[np.isfinite(values)]
    if len(found) == 0:
        return float("nan"), float("nan")
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _check(resamples: int, level: float, seed: int) -> None:
    whole_number(resamples, "resamples", 1, MOST)
    whole_number(seed, "seed", 0, 2**63 - 1)
    if isinstance(level, bool) or not isinstance(level, int | float) or not 0 < level < 1:
        raise InputError(f"level is {level}: give a share between 0 and 1, such as 0.95.")
