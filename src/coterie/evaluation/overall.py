"""All numbers of one result as one JSON-able dict: `metrics.json`, and what the report draws."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coterie.common.arguments import array_from, mask_from, whole_number
from coterie.evaluation import agreement, calibration_errors, clusters, intervals, matching, probability_rows, rejection
from coterie.evaluation.contingency import Ints
from coterie.evaluation.ranking import Floats, Ranking, area_under_roc, average_precision, false_positive_rate
from coterie.types import InputError

UNKNOWN = -1  # the label of an item whose class is not known
LARGE = 1 << 22  # clusters x classes; above it resampled tables take many minutes, and JSON of the table 100s of MB
CURVE_POINTS = 101  # of the risk-coverage curve that is kept

# Few items in a cell or a bin make these too large, and resampled ones larger still by about as much: the interval is
# the basic one, mirrored at the number itself (Davison and Hinkley, Bootstrap Methods, 1997, section 5.2).
BIASED = {"nmi", "ece", "ece_adaptive", "ece_debiased"}


def evaluate(
    labels_true: NDArray[np.integer],
    probabilities: NDArray[np.floating],
    *,
    class_names: Sequence[str],
    bins: int = 15,
    resamples: int = intervals.RESAMPLES,
    far: NDArray[np.bool_] | None = None,
) -> dict[str, Any]:
    """Compare probabilities (n, k) with true labels (n,), integers into `class_names`, -1 where not known.

    `far` (n,) marks items far outside all others, of which `acceptance` accepts none.

    Items of unknown class take no part; `unknown` counts them. An item's cluster is its argmax, its confidence the
    largest probability, and it is correct if the matching gives its cluster its class. The matching is made once, from
    all items. Undefined numbers are None: `brier`, `nll` and `ece_classwise` wherever there are not as many clusters as
    classes. `one_cluster` is what putting everything in one group would score; `conventions` are the same numbers as
    other code computes them; `intervals` are 95 % bootstrap intervals with the matching held fixed, None at
    `resamples=0`. Clusters x classes of more than 4,194,304 (2,048 of each) have no `confusion`, and only numbers of
    confidences have intervals. Raises InputError for labels that do not fit the probabilities or the names.

    >>> import numpy as np
    >>> from coterie.evaluation import evaluate
    >>> p = np.array([[0.1, 0.9], [0.2, 0.8], [0.6, 0.4], [0.7, 0.3]])
    >>> found = evaluate(np.array([0, 0, 1, 0]), p, class_names=["cat", "dog"], resamples=0)
    >>> found["acc"], found["confidence"], found["one_cluster"]["acc"]
    (0.75, 0.75, 0.75)
    """
    labels_true, p = array_from(labels_true, "labels_true"), array_from(probabilities, "probabilities")
    resamples = whole_number(resamples, "resamples", 0, intervals.MOST)
    if isinstance(class_names, str) or not isinstance(class_names, Sequence | np.ndarray):
        raise InputError(f"class_names is {repr(class_names)[:80]}: it takes a list of names, one for each class.")
    if p.ndim != 2 or labels_true.shape != (len(p),):
        raise InputError(
            f"There are labels of shape {labels_true.shape} for probabilities of shape {p.shape}: give one for each."
        )
    far = mask_from(far, "far", len(p))
    known = labels_true != UNKNOWN
    if not known.all():
        labels_true, p = labels_true[known], p[known]
        far = far[known]
    labels = p.argmax(axis=1)
    found = matching.match(labels_true, labels, p.shape[1], len(class_names))
    confidence = np.take_along_axis(p, labels[:, None], axis=1)[:, 0].astype(np.float64)
    correct = found.correct(labels_true, labels)
    ranking = calibration_errors.by_confidence(confidence, correct)
    return _without_nan(
        {
            **_of_labels(found),
            "acc_held_out": matching.held_out_accuracy(labels_true, labels),
            "confidence": float(confidence.mean()),
            **_of_confidence(ranking, bins),
            **_of_rows(p, labels_true, found, bins),
            "n": len(labels),
            "unknown": int((~known).sum()),
            "k": p.shape[1],
            "n_classes": len(class_names),
            "sizes": found.counts.sum(axis=1).tolist(),
            "classes": list(class_names),
            "one_cluster": _of_labels(matching.match_of(found.counts.sum(axis=0, keepdims=True))),
            "conventions": {
                "ece_torchmetrics": float(calibration_errors.calibration_error_of(ranking, bins, closed="left")),
                "e_aurc_closed_form": float(rejection.e_aurc_of(ranking, closed_form=True)),
                "fpr95_nearest": float(false_positive_rate(ranking, nearest=True)),
            },
            "intervals": _intervals(found, ranking, bins, resamples) if resamples else None,
            "per_cluster": clusters.per_cluster(found, labels, confidence, correct, class_names, bins),
            "reliability": calibration_errors.reliability_of(ranking, bins),
            "acceptance": rejection.acceptance(confidence, correct, far=far),
            "risk_coverage": _curve(ranking),
            "confusion": clusters.confusion(found) if found.counts.size <= LARGE else {},
        }
    )


def _of_labels(found: matching.Matching) -> dict[str, float]:
    return {
        "acc": found.accuracy,
        "balanced_accuracy": found.balanced_accuracy,
        "f1": found.f1_macro,
        "f1_micro": found.f1_micro,
        "purity": float(agreement.purity_of(found.counts)),
        "nmi": float(agreement.nmi_of(found.counts)),
        "nmi_geometric": float(agreement.nmi_of(found.counts, "geometric")),
        "ari": float(agreement.ari_of(found.counts)),
    }


def _of_confidence(ranking: Ranking, bins: int) -> dict[str, float]:
    squared = float(calibration_errors.squared_calibration_error_of(ranking, bins))
    return {
        "overconfidence": float(calibration_errors.overconfidence_of(ranking)),
        "ece": float(calibration_errors.calibration_error_of(ranking, bins)),
        "mce": float(calibration_errors.calibration_error_of(ranking, bins, norm="maximum")),
        "rmsce": float(calibration_errors.calibration_error_of(ranking, bins, norm="root mean square")),
        "ece_adaptive": float(calibration_errors.adaptive_calibration_error_of(ranking, bins)),
        "ece_debiased": float(calibration_errors.debiased_calibration_error_of(ranking, bins)),
        "squared_ce_debiased": squared,
        "rmsce_debiased": math.sqrt(max(0.0, squared)),
        "auroc": float(area_under_roc(ranking)),
        "aurc": float(rejection.aurc_of(ranking)),
        "e_aurc": float(rejection.e_aurc_of(ranking)),
        "augrc": float(rejection.augrc_of(ranking)),
        "fpr95": float(false_positive_rate(ranking)),
        "aupr_success": float(average_precision(ranking)),
        "aupr_error": float(average_precision(ranking.reversed())),
    }


def _of_rows(
    p: NDArray[np.floating], labels_true: NDArray[np.integer], found: matching.Matching, bins: int
) -> dict[str, float | None]:
    """Numbers of whole rows. The labels are mapped to clusters, not the columns to classes, which would copy p."""
    cluster_of = found.cluster_of()
    if cluster_of is None:
        return dict.fromkeys(("brier", "nll", "ece_classwise", "ece_classwise_thresholded"))
    column = cluster_of[labels_true]
    classwise = partial(probability_rows.classwise_calibration_error, p, column, bins)
    return {
        "brier": probability_rows.brier(p, column),
        "nll": probability_rows.nll(p, column),
        "ece_classwise": classwise(),
        "ece_classwise_thresholded": classwise(threshold=probability_rows.RARE),
    }


def _intervals(found: matching.Matching, ranking: Ranking, bins: int, resamples: int) -> dict[str, Any]:
    """`level`, `resamples` and, by the name of the number, [low, high]."""
    of_counts: Mapping[str, Callable[[Ints], Floats]] = {
        "acc": found.accuracy_of,
        "f1": found.f1_macro_of,
        "balanced_accuracy": found.balanced_accuracy_of,
        "nmi": agreement.nmi_of,
        "ari": agreement.ari_of,
    }
    of_ranking: Mapping[str, Callable[[Ranking], Floats]] = {
        "overconfidence": calibration_errors.overconfidence_of,
        "ece": partial(calibration_errors.calibration_error_of, bins=bins),
        "ece_adaptive": partial(calibration_errors.adaptive_calibration_error_of, bins=bins),
        "ece_debiased": partial(calibration_errors.debiased_calibration_error_of, bins=bins),
        "auroc": area_under_roc,
        "aurc": rejection.aurc_of,
        "e_aurc": rejection.e_aurc_of,
        "fpr95": false_positive_rate,
    }
    bounds: dict[str, intervals.Interval] = {}
    if found.counts.size <= LARGE:
        bounds |= intervals.bootstrap_counts(of_counts, found.counts, resamples=resamples)
    bounds |= intervals.bootstrap_ranking(of_ranking, ranking, resamples=resamples)
    for name in BIASED & bounds.keys():
        found_here = of_counts[name](found.counts) if name in of_counts else of_ranking[name](ranking)
        low, high = (min(1.0, max(0.0, 2 * float(found_here) - bound)) for bound in reversed(bounds[name]))
        bounds[name] = low, high
    return {
        "level": intervals.LEVEL,
        "resamples": resamples,
        **{name: list(interval) for name, interval in bounds.items()},
    }


def _curve(ranking: Ranking) -> dict[str, list[float]]:
    """At most 101 points of the risk-coverage curve, spread evenly over the distinct confidences."""
    threshold, coverage, risk = rejection.risk_coverage_of(ranking)
    kept = np.unique(np.linspace(0, len(threshold) - 1, CURVE_POINTS).round().astype(np.int64))
    return {"threshold": threshold[kept].tolist(), "coverage": coverage[kept].tolist(), "risk": risk[kept].tolist()}


def _without_nan(value: Any) -> Any:
    """JSON has no NaN: undefined numbers are None."""
    if isinstance(value, dict):
        return {key: _without_nan(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_without_nan(inner) for inner in value]
    return None if isinstance(value, float) and math.isnan(value) else value
