"""Do scores tell the data that a model was fitted on from foreign data? Out-of-distribution separation.

All take two arrays of scores, `inside` (n,) of in-distribution items and `outside` (m,) of foreign ones, any real
numbers, larger = more in-distribution. Libraries that score outlierness have the sign turned: negate theirs first.
All raise InputError where there are no scores, and for those that are no numbers.
All stay the same under any increasing change of the scores; the two AUPR also depend on n : m.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from coterie.common.arguments import numbers_from
from coterie.evaluation import ranking
from coterie.types import InputError


def separation_auroc(inside: ArrayLike, outside: ArrayLike) -> float:
    """Probability that a random inside item scores above a random foreign one, ties counting half.

    >>> from coterie.evaluation import separation_auroc
    >>> round(separation_auroc([0.9, 0.7, 0.6], [0.65, 0.2]), 4)
    0.8333
    """
    return float(ranking.area_under_roc(_rank(inside, outside)))


def separation_fpr95(inside: ArrayLike, outside: ArrayLike, positive: Literal["in", "out"] = "in") -> float:
    """Errors at 95 % recall; lower is better. Papers use two conventions, and they differ.

    "in": share of the foreign items accepted where 95 % of the inside ones are kept (Liang et al. 2018; the default).
    "out": share of the inside items rejected where 95 % of the foreign ones are caught (pytorch-ood's `FPR95TPR`).
    Raises InputError for another convention.

    >>> from coterie.evaluation import separation_fpr95
    >>> separation_fpr95([0.9, 0.7, 0.6], [0.65, 0.2])
    0.5
    """
    if positive not in ("in", "out"):
        raise InputError(f"positive is {repr(positive)[:80]}: it takes 'in' or 'out'.")
    order = _rank(inside, outside)
    return float(ranking.false_positive_rate(order if positive == "in" else order.reversed()))


def separation_aupr_in(inside: ArrayLike, outside: ArrayLike) -> float:
    """Average precision of finding inside items by high scores; chance is n / (n + m).

    >>> from coterie.evaluation import separation_aupr_in
    >>> round(separation_aupr_in([0.9, 0.7, 0.6], [0.65, 0.2]), 4)
    0.9167
    """
    return float(ranking.average_precision(_rank(inside, outside)))


def separation_aupr_out(inside: ArrayLike, outside: ArrayLike) -> float:
    """Average precision of finding foreign items by low scores; chance is m / (n + m).

    >>> from coterie.evaluation import separation_aupr_out
    >>> round(separation_aupr_out([0.9, 0.7, 0.6], [0.65, 0.2]), 4)
    0.8333
    """
    return float(ranking.average_precision(_rank(inside, outside).reversed()))


def evaluate_separation(inside: ArrayLike, outside: ArrayLike) -> dict[str, float]:
    """All of them by name: `auroc`, `fpr95`, `fpr95_out_positive`, `aupr_in`, `aupr_out`.

    >>> from coterie.evaluation import evaluate_separation
    >>> sorted(evaluate_separation([0.9, 0.7, 0.6], [0.65, 0.2]))
    ['aupr_in', 'aupr_out', 'auroc', 'fpr95', 'fpr95_out_positive']
    """
    order = _rank(inside, outside)
    return {
        "auroc": float(ranking.area_under_roc(order)),
        "fpr95": float(ranking.false_positive_rate(order)),
        "fpr95_out_positive": float(ranking.false_positive_rate(order.reversed())),
        "aupr_in": float(ranking.average_precision(order)),
        "aupr_out": float(ranking.average_precision(order.reversed())),
    }


def _rank(inside: ArrayLike, outside: ArrayLike) -> ranking.Ranking:
    ours, foreign = numbers_from(inside, "inside"), numbers_from(outside, "outside")
    for which, scores in (("inside", ours), ("outside", foreign)):
        if scores.ndim != 1 or len(scores) == 0:
            raise InputError(f"The scores of the {which} items have shape {scores.shape}: give one number per item.")
        if np.isnan(scores).any():
            row = int(np.isnan(scores).argmax())
            raise InputError(f"The score of {which} item {row} is not a number: leave it out or correct it.")
    return ranking.rank(np.r_[ours, foreign], np.r_[np.ones(len(ours)), np.zeros(len(foreign))])
