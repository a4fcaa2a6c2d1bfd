"""Accept sets: what may be taken as it is, so that at most a stated share of it is wrong.

An accept set is every item of at least some confidence. There are two ways to find the threshold:

- `expected_threshold`, without any label: the error expected of a set is its mean of 1 - confidence. It is as good as
  the calibration.
- `audit`, from n items that a person judged: the judged items of an accept set bound its error exactly (Clopper &
  Pearson 1934), whatever the confidences are worth. Several thresholds are tried from the strictest on, each at the
  full level, up to the first that fails. This fixed-sequence testing keeps the level for all of them together: a false
  claim needs the first threshold whose set is too wrong to pass, and the chance of that is at most 1 - level
  (Angelopoulos, Bates, Candès, Jordan & Lei, "Learn then Test", https://arxiv.org/abs/2110.01052, on fixed-sequence
  testing).

An audit is valid if the judged items are a uniform random sample of all items, as `draw_sample` gives it; those in an
accept set are then a uniform random sample of that set. Drawing without replacement makes the bound a little too wide.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betaincinv

from coterie.common.arguments import array_from, as_whole, is_number, number, numbers_from, whole_number
from coterie.evaluation.calibration_errors import checked, truths
from coterie.types import InputError

MOST = 1 << 53  # items
STEPS = 20  # accept sets of 5 %, 10 %, ... of all items are tried
ROUNDING = 1e-7  # a confidence of 0.95 in float32 is 0.94999999, and must still serve an error of 0.05


class ClusterShare(TypedDict):
    """What is accepted of one cluster; `expected_error` is the mean of 1 - confidence, None where nothing is."""

    cluster: int
    size: int
    accepted: int
    expected_error: float | None


@dataclass(frozen=True)
class Tried:
    """One threshold tried: how many of all items reach it, how many judged ones do, and how many of those are wrong."""

    threshold: float
    accepted: int
    judged: int
    wrong: int
    bound: float  # at most this share of the accepted items is wrong, with the audit's level
    passed: bool


@dataclass(frozen=True)
class Audit:
    """The thresholds tried, from the strictest to the first that failed, and the last that passed."""

    steps: list[Tried]
    chosen: Tried | None


def expected_threshold(confidence: NDArray[np.floating], max_error: float) -> float | None:
    """The threshold of the largest accept set whose mean of 1 - confidence is at most `max_error`; None without one.

    Items of equal confidence are accepted together or not at all.

    >>> import numpy as np
    >>> from coterie.evaluation.accept import expected_threshold
    >>> expected_threshold(np.array([0.99, 0.95, 0.9, 0.5]), max_error=0.06)
    0.9
    """
    check_error(max_error)
    values = np.sort(_values(confidence))[::-1]
    error = np.cumsum(1 - values) / np.arange(1, len(values) + 1)
    last_of_equals = np.r_[values[1:] != values[:-1], True]
    fits = np.flatnonzero(last_of_equals & (error <= max_error + ROUNDING))
    return float(values[fits[-1]]) if len(fits) else None


def accepted_items(confidence: NDArray[np.floating], threshold: float | None) -> NDArray[np.bool_]:
    """Mark the items of at least this confidence; None accepts nothing.

    The threshold is rounded to the confidences' own type: 0.9 in float32 is a little below 0.9, and counts as 0.9.

    >>> import numpy as np
    >>> from coterie.evaluation.accept import accepted_items
    >>> accepted_items(np.array([0.99, 0.95, 0.9, 0.5]), 0.9)
    array([ True,  True,  True, False])
    """
    values = _values(confidence)
    if threshold is None:
        return np.zeros(len(values), dtype=bool)
    kind: Any = getattr(confidence, "dtype", None)
    return values >= (float(kind.type(threshold)) if getattr(kind, "kind", "") == "f" else threshold)


def by_cluster(
    labels: NDArray[np.integer], confidence: NDArray[np.floating], accepted: NDArray[np.bool_], n_clusters: int
) -> list[ClusterShare]:
    """A row for each cluster, used or not.

    >>> import numpy as np
    >>> from coterie.evaluation.accept import by_cluster
    >>> confidence = np.array([1.0, 0.5, 0.75])
    >>> by_cluster(np.array([0, 0, 1]), confidence, confidence >= 0.75, n_clusters=2)[1]
    {'cluster': 1, 'size': 1, 'accepted': 1, 'expected_error': 0.25}
    """
    sizes = np.bincount(labels, minlength=n_clusters)
    counts = np.bincount(labels[accepted], minlength=n_clusters)
    errors = np.bincount(labels[accepted], weights=1 - _values(confidence)[accepted], minlength=n_clusters)
    return [
        ClusterShare(
            cluster=cluster,
            size=int(sizes[cluster]),
            accepted=int(counts[cluster]),
            expected_error=float(errors[cluster] / counts[cluster]) if counts[cluster] else None,
        )
        for cluster in range(len(sizes))
    ]


def error_bound(wrong: int, judged: int, level: float = 0.95) -> float:
    """The exact one-sided upper bound on an error rate of which `wrong` of `judged` items were found wrong.

    Clopper & Pearson 1934: the rate u with P(Binomial(judged, u) <= wrong) = 1 - level, which is the quantile `level`
    of Beta(wrong + 1, judged - wrong). 0 of 59 at 95 % gives 0.0495.

    >>> from coterie.evaluation.accept import error_bound
    >>> round(error_bound(0, 59), 4)
    0.0495
    """
    wrong, judged = (whole_number(count, name, 0, MOST) for count, name in ((wrong, "wrong"), (judged, "judged")))
    level = number(level, "level", 0, 1)
    return 1.0 if wrong >= judged else float(betaincinv(wrong + 1, judged - wrong, level))


def judged_needed(max_error: float, level: float = 0.95, wrong: int = 0) -> int:
    """How many judged items of an accept set it takes to pass, if `wrong` of them are wrong.

    For `wrong=0` it is ln(1 - level) / ln(1 - max_error), rounded up: 59 for 5 % at 95 %.

    >>> from coterie.evaluation.accept import judged_needed
    >>> judged_needed(0.05), judged_needed(0.05, wrong=1)
    (59, 93)
    """
    check_error(max_error)
    check_level(level)
    wrong = whole_number(wrong, "wrong", 0, MOST)
    enough = wrong + 1
    while error_bound(wrong, enough, level) > max_error:
        enough *= 2
    return bisect_left(range(enough), True, key=lambda judged: error_bound(wrong, judged, level) <= max_error)


def threshold_grid(confidence: NDArray[np.floating], judged: int, max_error: float, level: float = 0.95) -> list[float]:
    """The thresholds to try, strictest first: those that accept 5 %, 10 %, ... 100 % of all items.

    Thresholds above which too few judged items are expected are left out: fewer than twice the number that zero errors
    need (for a small sample, fewer than half-way between that and all). They would fail by chance and end the sequence.
    The grid depends on how many items were judged, not on which ones nor on the judgements: else the level fails.

    >>> import numpy as np
    >>> from coterie.evaluation.accept import threshold_grid
    >>> grid = threshold_grid(np.linspace(0.5, 1, 400), judged=300, max_error=0.05)
    >>> len(grid), round(grid[0], 2)
    (13, 0.8)
    """
    values = np.sort(_values(confidence))[::-1]
    needed, n = judged_needed(max_error, level), len(values)
    enough = min(2.0 * needed, (needed + judged) / 2)
    last = -(-np.arange(1, STEPS + 1) * n // STEPS) - 1
    thresholds = np.unique(values[last])[::-1]
    expected = judged * np.searchsorted(-values, -thresholds, side="right") / n
    return [float(t) for t in thresholds[(expected >= enough) | (thresholds == values[-1])]]


def audit(
    confidence: ArrayLike,
    judged: ArrayLike,
    right: ArrayLike,
    max_error: float,
    level: float = 0.95,
    thresholds: Sequence[float] | None = None,
) -> Audit:
    """Find the largest accept set of which at most `max_error` is wrong, with confidence `level`.

    confidence (n,): of all items. judged (m,): the rows of a uniform random sample of them, right (m,): whether each
    item's assignment is right. thresholds: chosen without a look at the judgements; None takes `threshold_grid`.
    Raises InputError for rows out of range or given twice, and for too few judged items for any set to pass.

    >>> import numpy as np
    >>> from coterie.evaluation.accept import audit, draw_sample
    >>> confidence = np.linspace(0.5, 1, 1000)
    >>> rows = draw_sample(1000, 300, seed=0)
    >>> found = audit(confidence, rows, confidence[rows] > 0.6, max_error=0.05)
    >>> 0.55 < found.chosen.threshold < 0.65
    True
    """
    values, needed = _values(numbers_from(confidence, "confidence")), judged_needed(max_error, level)
    rows, outcomes = array_from(judged, "judged"), truths(right)
    if rows.size and rows.dtype.kind not in "iu":
        raise InputError(f"The judged rows are of type {rows.dtype}: give their numbers.")
    if rows.shape != outcomes.shape or rows.ndim != 1:
        raise InputError(
            f"There are judgements of shape {outcomes.shape} for rows of shape {rows.shape}: give one each."
        )
    if len(rows) < needed:
        raise InputError(
            f"Only {len(rows)} items are judged, but it takes {needed} to show that at most {max_error:.3g} are "
            f"wrong with confidence {level:.3g}, even if all of them are right: judge {needed - len(rows)} more."
        )
    if rows.min() < 0 or rows.max() >= len(values) or len(np.unique(rows)) < len(rows):
        raise InputError(f"The judged rows must be different rows from 0 to {len(values) - 1}.")
    tried = (
        threshold_grid(values, len(rows), max_error, level)
        if thresholds is None
        else numbers_from(thresholds, "thresholds").reshape(-1).tolist()
    )
    seen, wrong_ones = values[rows], values[rows[~outcomes]]
    steps: list[Tried] = []
    for threshold in sorted(set(tried), reverse=True):
        count, wrong = int((seen >= threshold).sum()), int((wrong_ones >= threshold).sum())
        bound = error_bound(wrong, count, level)
        step = Tried(threshold, int((values >= threshold).sum()), count, wrong, bound, bound <= max_error)
        steps.append(step)
        if not step.passed:
            break
    passed = [step for step in steps if step.passed]
    return Audit(steps, passed[-1] if passed else None)


def draw_sample(n: int, size: int, seed: int, judged: Sequence[int] = ()) -> NDArray[np.int64]:
    """Draw `size` of the rows 0 to n - 1 that are not `judged` yet, uniformly and in random order.

    Together with the judged rows, if they were drawn the same way, these are again a uniform random sample.
    Raises InputError for more items than are left.

    >>> from coterie.evaluation.accept import draw_sample
    >>> rows = draw_sample(1000, 300, seed=0)
    >>> rows.shape, len(set(rows.tolist()))
    ((300,), 300)
    """
    n, size, seed = as_whole(n, "n"), as_whole(size, "size"), whole_number(seed, "seed", 0, 2**63 - 1)
    given = array_from(judged, "judged")
    if given.size and given.dtype.kind not in "iu":
        raise InputError(f"The judged rows are of type {given.dtype}: give their numbers.")
    left = np.setdiff1d(np.arange(n), given)
    if not 1 <= size <= len(left):
        raise InputError(
            f"{size} items cannot be drawn: give a number from 1 to {len(left)}, the items not judged yet."
        )
    return np.random.default_rng(seed).choice(left, size, replace=False)


def _values(confidence: NDArray[np.floating]) -> NDArray[np.float64]:
    values = numbers_from(confidence, "confidence")
    return checked(values, np.ones(values.shape, dtype=bool))[0]


def check_error(max_error: float) -> None:
    """Raise InputError for what is no share of wrong items to accept.

    >>> from coterie.evaluation.accept import check_error
    >>> check_error(5)
    Traceback (most recent call last):
    coterie.types.InputError: The accepted error is 5: it must lie between 0 and 1, as 0.05 for 5 %.
    """
    if not is_number(max_error) or not 0 < max_error < 1:
        raise InputError(f"The accepted error is {str(max_error)[:80]}: it must lie between 0 and 1, as 0.05 for 5 %.")


def check_level(level: float) -> None:
    """Raise InputError for what is no level of a bound.

    >>> from coterie.evaluation.accept import check_level
    >>> check_level(0.4)
    Traceback (most recent call last):
    coterie.types.InputError: The confidence level is 0.4: it must be at least 0.5 and below 1, as 0.95 for 95 %.
    """
    if not is_number(level) or not 0.5 <= level < 1:
        raise InputError(
            f"The confidence level is {str(level)[:80]}: it must be at least 0.5 and below 1, as 0.95 for 95 %."
        )
