"""All numbers of one result as one JSON-able dict: `metrics.json`, and what the report draws."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coterie.evaluation import calibration, matching, rejection
from coterie.types import InputError

UNKNOWN = -1  # the label of an item whose class is not known


def evaluate(
    labels_true: NDArray[np.integer],
    probabilities: NDArray[np.floating],
    *,
    class_names: Sequence[str],
    bins: int = 15,
) -> dict[str, Any]:
    """Compare probabilities (n, k) with true labels (n,), integers into `class_names`, -1 where not known.

    Items of unknown class take no part; `unknown` counts them. An item's cluster is its argmax, its confidence the
    largest probability, and it is correct if the matching gives its cluster its class. Undefined numbers are None.
    Raises InputError for labels that do not fit the probabilities or the names.
    """
    labels_true, probabilities = np.asarray(labels_true), np.asarray(probabilities)
    if probabilities.ndim != 2 or len(probabilities) != len(labels_true):
        raise InputError(
            f"There are {len(labels_true)} labels for probabilities of shape {probabilities.shape}: "
            "give one label for each row."
        )
    known = labels_true != UNKNOWN
    if not known.all():
        labels_true, probabilities = labels_true[known], probabilities[known]
    labels = probabilities.argmax(axis=1)
    found = matching.match(labels_true, labels, probabilities.shape[1], len(class_names))
    confidence = np.take_along_axis(probabilities, labels[:, None], axis=1)[:, 0].astype(np.float64)
    correct = found.correct(labels_true, labels)
    sizes = found.counts.sum(axis=1)
    numbers = {
        "acc": found.accuracy,
        "nmi": matching.nmi(labels_true, labels),
        "ari": matching.ari(labels_true, labels),
        "f1": found.f1_macro,
        "purity": float(found.counts.max(axis=1).sum() / len(labels)),
        "ece": calibration.calibration_error(confidence, correct, bins),
        "ece_adaptive": calibration.adaptive_calibration_error(confidence, correct, bins),
        "ece_debiased": calibration.debiased_calibration_error(confidence, correct, bins),
        "overconfidence": calibration.overconfidence(confidence, correct),
        "confidence": float(confidence.mean()),
        "auroc": rejection.auroc(confidence, correct),
        "aurc": rejection.aurc(confidence, correct),
        "fpr95": rejection.fpr95(confidence, correct),
    }
    return {
        **{name: None if math.isnan(value) else value for name, value in numbers.items()},
        "n": len(labels),
        "unknown": int((~known).sum()),
        "k": probabilities.shape[1],
        "n_classes": len(class_names),
        "sizes": sizes.tolist(),
        "classes": list(class_names),
        "per_cluster": _per_cluster(found, labels, confidence, class_names),
        "reliability": calibration.reliability(confidence, correct, bins),
        "acceptance": rejection.acceptance(confidence, correct),
        "confusion": _confusion(found),
    }


def _per_cluster(
    found: matching.Matching,
    labels: NDArray[np.int64],
    confidence: NDArray[np.float64],
    class_names: Sequence[str],
) -> list[dict[str, Any]]:
    """A row per cluster: its matched class and the share that is of it (acc), its largest class and that share."""
    sizes = found.counts.sum(axis=1)
    confidence_sums = np.bincount(labels, weights=confidence, minlength=len(sizes))
    rows = []
    for cluster, (size, of_class, counts) in enumerate(zip(sizes, found.class_of, found.counts, strict=True)):
        largest = int(counts.argmax())
        rows.append(
            {
                "cluster": cluster,
                "size": int(size),
                "confidence": float(confidence_sums[cluster] / size) if size else None,
                "class": class_names[of_class] if of_class >= 0 else None,
                "acc": float((counts[of_class] if of_class >= 0 else 0) / size) if size else None,
                "largest_class": class_names[largest] if size else None,
                "purity": float(counts[largest] / size) if size else None,
            }
        )
    return rows


def _confusion(found: matching.Matching) -> dict[str, Any]:
    """Counts with a row per class and a column per cluster, the clusters in the order of their classes.

    Unmatched clusters come last, so that what agrees lies on the diagonal wherever every class has a cluster.
    """
    place = np.where(found.class_of >= 0, found.class_of, found.counts.shape[1])
    order = np.argsort(place, kind="stable")
    return {"clusters": order.tolist(), "counts": found.counts[order].T.tolist()}
