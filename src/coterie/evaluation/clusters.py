"""Each cluster by itself: its class, its purity, and whether its confidence can be believed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coterie.evaluation.calibration_errors import bin_of
from coterie.evaluation.matching import Matching
from coterie.evaluation.ranking import Floats


def per_cluster(
    found: Matching,
    labels: NDArray[np.integer],
    confidence: Floats,
    correct: NDArray[np.bool_],
    class_names: Sequence[str],
    bins: int = 15,
) -> list[dict[str, Any]]:
    """A row per cluster: its matched class, and `acc`, the share of its items that are of this class (its precision).

    `recall`: the share of the class' items that it holds; `ece`: calibration error within the cluster, where items
    of the matched class are right; `purity`: share of the largest class, matched or not. None where undefined.
    """
    sizes, class_sizes = found.counts.sum(axis=1), found.counts.sum(axis=0)
    confidence_sums = np.bincount(labels, weights=confidence, minlength=len(sizes))
    errors = _calibration_errors(labels, confidence, correct, len(sizes), bins)
    rows = []
    for cluster, (size, of_class, counts) in enumerate(zip(sizes, found.class_of, found.counts, strict=True)):
        largest, matched = int(counts.argmax()), of_class >= 0
        hits = counts[of_class] if matched else 0
        mean = float(confidence_sums[cluster] / size) if size else None
        rows.append(
            {
                "cluster": cluster,
                "size": int(size),
                "confidence": mean,
                "class": class_names[of_class] if matched else None,
                "acc": float(hits / size) if size else None,
                "recall": float(hits / class_sizes[of_class]) if matched else None,
                "ece": float(errors[cluster]) if size else None,
                "overconfidence": mean - float(hits / size) if mean is not None else None,
                "largest_class": class_names[largest] if size else None,
                "purity": float(counts[largest] / size) if size else None,
            }
        )
    return rows


def confusion(found: Matching) -> dict[str, Any]:
    """Counts with a row per class and a column per cluster, the clusters in the order of their classes.

    Unmatched clusters come last, so that correct items lie on the diagonal if every class has a cluster.
    """
    place = np.where(found.class_of >= 0, found.class_of, found.counts.shape[1])
    order = np.argsort(place, kind="stable")
    return {"clusters": order.tolist(), "counts": found.counts[order].T.tolist()}


def _calibration_errors(
    labels: NDArray[np.integer], confidence: Floats, correct: NDArray[np.bool_], k: int, bins: int
) -> Floats:
    """ECE of the items of each cluster, (k,), 0 for an empty one; all clusters in one pass."""
    cell = labels * bins + bin_of(confidence, bins)
    gaps = np.bincount(cell, weights=correct - confidence, minlength=k * bins).reshape(k, bins)
    return np.abs(gaps).sum(axis=1) / np.maximum(np.bincount(labels, minlength=k), 1)
