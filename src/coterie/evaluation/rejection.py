"""Does the confidence put the wrong ones last? Failure rejection, positive = correct, score = confidence.

As in Zhu et al., "Rethinking confidence calibration for failure prediction", ECCV 2022, which CDC follows ("FMFP").
All take `confidence` (n,) in [0, 1] and `correct` (n,), and raise InputError, as the calibration errors do.
All stay the same under any increasing change of the confidence: they judge the order, calibration judges the values.
Equal confidences count as the mean over their orders. Each number has a form of the ranking (`..._of`), which is sorted
once for all of them and, for bootstrap intervals, holds all resamples at once.
"""

from __future__ import annotations

from typing import TypedDict

import numpy as np
from numpy.typing import NDArray
from scipy.special import digamma, xlogy

from coterie.common.arguments import mask_from, numbers_from
from coterie.evaluation.calibration_errors import ROUNDED, by_confidence, checked
from coterie.evaluation.ranking import (
    Floats,
    Ranking,
    area_under_roc,
    average_precision,
    false_positive_rate,
    from_zero,
    ratio,
)

THRESHOLDS = (0.0, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99)


class Acceptance(TypedDict):
    """What accepting every item of at least this confidence gives; errors are shares of the accepted items."""

    threshold: float
    count: int
    share: float
    expected_error: float | None
    error: float | None


def auroc(confidence: NDArray[np.floating], correct: NDArray[np.bool_]) -> float:
    """Probability that a random correct item is surer than a random wrong one, ties counting half.

    Higher is better, 0.5 is chance; NaN if all or none are correct.

    >>> import numpy as np
    >>> from coterie.evaluation import auroc
    >>> confidence, correct = np.array([0.9, 0.8, 0.7, 0.6]), np.array([True, True, False, True])
    >>> round(auroc(confidence, correct), 4)
    0.6667
    """
    return float(area_under_roc(by_confidence(confidence, correct)))


def aurc(confidence: NDArray[np.floating], correct: NDArray[np.bool_]) -> float:
    """Area under the risk-coverage curve: 1/n sum_j (errors among the j surest) / j (Geifman & El-Yaniv 2017).

    Lower is better; random confidences give the error rate. A fraction of 1, where papers print it times 100 or 1000.
    Depends on the error rate as well: compare it at similar accuracies only.

    >>> import numpy as np
    >>> from coterie.evaluation import aurc
    >>> confidence, correct = np.array([0.9, 0.8, 0.7, 0.6]), np.array([True, True, False, True])
    >>> round(aurc(confidence, correct), 4)
    0.1458
    """
    return float(aurc_of(by_confidence(confidence, correct)))


def aurc_of(ranking: Ranking) -> Floats:
    """`aurc` of a ranking.

    Among s tied items after N others, of which E are wrong, the share r of the tied being wrong, the risks
    (E + t r) / (N + t) = r + (E - N r) / (N + t) add up to s r + (E - N r) (H(N + s) - H(N)), H the harmonic numbers.
    """
    wrong, before, wrong_before = ranking.negatives, from_zero(ranking.counts), from_zero(ranking.negatives)
    harmonic = np.diff(digamma(before + 1), axis=-1)
    rate = ratio(wrong, ranking.counts, undefined=0)
    risks = wrong + (wrong_before[..., :-1] - before[..., :-1] * rate) * harmonic
    return np.asarray(risks.sum(axis=-1) / before[..., -1])


def e_aurc(confidence: NDArray[np.floating], correct: NDArray[np.bool_], *, closed_form: bool = False) -> float:
    """AURC above that of the best order, all errors last: 0 is best (Geifman et al. 2019).

    The best order's AURC is computed for these very n items; `closed_form` takes its limit for many items instead,
    e + (1 - e) ln(1 - e) at error rate e, as FMFP does.

    >>> import numpy as np
    >>> from coterie.evaluation import e_aurc
    >>> confidence, correct = np.array([0.9, 0.8, 0.7, 0.6]), np.array([True, True, False, True])
    >>> round(e_aurc(confidence, correct), 4)
    0.0833
    """
    return float(e_aurc_of(by_confidence(confidence, correct), closed_form=closed_form))


def e_aurc_of(ranking: Ranking, *, closed_form: bool = False) -> Floats:
    """`e_aurc` of a ranking."""
    n, errors = ranking.counts.sum(axis=-1), ranking.negatives.sum(axis=-1)
    if closed_form:
        return np.asarray(aurc_of(ranking) - errors / n - xlogy(1 - errors / n, 1 - errors / n))
    best = (errors - (n - errors) * (digamma(n + 1) - digamma(n - errors + 1))) / n
    return np.asarray(np.maximum(aurc_of(ranking) - best, 0))  # the best order comes out as -1e-16


def augrc(confidence: NDArray[np.floating], correct: NDArray[np.bool_]) -> float:
    """Area under the generalised risk-coverage curve: 1/n sum_j (errors among the j surest) / n (Traub et al. 2024).

    Divides by n and not by j, so that the few surest items weigh no more than others. Lower is better; random
    confidences give about half the error rate.

    >>> import numpy as np
    >>> from coterie.evaluation import augrc
    >>> confidence, correct = np.array([0.9, 0.8, 0.7, 0.6]), np.array([True, True, False, True])
    >>> round(augrc(confidence, correct), 4)
    0.125
    """
    return float(augrc_of(by_confidence(confidence, correct)))


def augrc_of(ranking: Ranking) -> Floats:
    """`augrc` of a ranking."""
    counts, wrong, wrong_before = ranking.counts, ranking.negatives, from_zero(ranking.negatives)[..., :-1]
    return np.asarray((counts * wrong_before + wrong * (counts + 1) / 2).sum(axis=-1) / counts.sum(axis=-1) ** 2)


def fpr95(confidence: NDArray[np.floating], correct: NDArray[np.bool_], *, nearest: bool = False) -> float:
    """Share of wrong items still accepted at the largest threshold that accepts at least 95 % of the correct ones.

    Lower is better. NaN if all or none are correct. `nearest`: FMFP's convention, see `ranking.false_positive_rate`.

    >>> import numpy as np
    >>> from coterie.evaluation import fpr95
    >>> confidence, correct = np.array([0.9, 0.8, 0.7, 0.6]), np.array([True, True, False, True])
    >>> fpr95(confidence, correct)
    1.0
    """
    return float(false_positive_rate(by_confidence(confidence, correct), nearest=nearest))


def aupr_success(confidence: NDArray[np.floating], correct: NDArray[np.bool_]) -> float:
    """Average precision of finding correct items by high confidence; chance is the accuracy.

    >>> import numpy as np
    >>> from coterie.evaluation import aupr_success
    >>> confidence, correct = np.array([0.9, 0.8, 0.7, 0.6]), np.array([True, True, False, True])
    >>> round(aupr_success(confidence, correct), 4)
    0.9167
    """
    return float(average_precision(by_confidence(confidence, correct)))


def aupr_error(confidence: NDArray[np.floating], correct: NDArray[np.bool_]) -> float:
    """Average precision of finding wrong items by low confidence; chance is the error rate.

    >>> import numpy as np
    >>> from coterie.evaluation import aupr_error
    >>> confidence, correct = np.array([0.9, 0.8, 0.7, 0.6]), np.array([True, True, False, True])
    >>> aupr_error(confidence, correct)
    0.5
    """
    return float(average_precision(by_confidence(confidence, correct).reversed()))


def risk_coverage(confidence: NDArray[np.floating], correct: NDArray[np.bool_]) -> tuple[Floats, Floats, Floats]:
    """The curve: for each distinct confidence, falling, (threshold, share accepted, error among the accepted).

    >>> import numpy as np
    >>> from coterie.evaluation import risk_coverage
    >>> confidence, correct = np.array([0.9, 0.8, 0.7, 0.6]), np.array([True, True, False, True])
    >>> threshold, coverage, risk = risk_coverage(confidence, correct)
    >>> coverage.tolist(), risk.round(2).tolist()
    ([0.25, 0.5, 0.75, 1.0], [0.0, 0.0, 0.33, 0.25])
    """
    return risk_coverage_of(by_confidence(confidence, correct))


def risk_coverage_of(ranking: Ranking) -> tuple[Floats, Floats, Floats]:
    """`risk_coverage` of a ranking."""
    accepted = np.cumsum(ranking.counts)
    return ranking.scores, accepted / accepted[-1], np.cumsum(ranking.negatives) / accepted


def acceptance(
    confidence: NDArray[np.floating],
    correct: NDArray[np.bool_] | None = None,
    thresholds: tuple[float, ...] = THRESHOLDS,
    far: NDArray[np.bool_] | None = None,
) -> list[Acceptance]:
    """For each threshold: how many items reach it, the error they promise (1 - mean confidence), and the one found.

    `error` is None without `correct`; both are None where nothing reaches the threshold. A confidence of 0.9 in float32
    reaches 0.9. Of `far` (n,), items far outside all others, none is accepted, as sure as it looks.

    >>> import numpy as np
    >>> from coterie.evaluation import acceptance
    >>> confidence, correct = np.array([0.9, 0.8, 0.7, 0.6]), np.array([True, True, False, True])
    >>> (row,) = acceptance(confidence, correct, thresholds=(0.75,))
    >>> row["count"], row["share"], round(row["expected_error"], 4), row["error"]
    (2, 0.5, 0.15, 0.0)
    """
    values = numbers_from(confidence, "confidence")
    values, right = checked(values, np.ones(values.shape, dtype=bool) if correct is None else correct)
    thresholds = tuple(numbers_from(thresholds, "thresholds").reshape(-1).tolist())
    inside = ~mask_from(far, "far", len(values))
    table = []
    for threshold in thresholds:
        accepted = inside & (values >= threshold - ROUNDED)
        count = int(accepted.sum())
        table.append(
            Acceptance(
                threshold=threshold,
                count=count,
                share=count / len(values),
                expected_error=float(1 - values[accepted].mean()) if count else None,
                error=float(1 - right[accepted].mean()) if count and correct is not None else None,
            )
        )
    return table
