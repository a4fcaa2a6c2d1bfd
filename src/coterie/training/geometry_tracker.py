"""The geometry of the features, followed through a training: an observer for `Watch`, which only looks.

    tracker = GeometryTracker()
    run(source, settings, out, watch=Watch(ready=tracker.ready, after_epoch=[tracker]))

Each line of `history.jsonl` then has `intrinsic_dimension`, `linear_dimension`, `curvature`, and the largest and
smallest singular value among its health numbers. They do not touch the training: nothing is drawn from its generators.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from coterie.algorithms.geometry import SMALLEST_GROUP, geometry_of, singular_values
from coterie.algorithms.kmeans import kmeans
from coterie.networks.features import extract_features
from coterie.networks.net import Net
from coterie.training.history import EpochRecord
from coterie.training.seeds import generator_of
from coterie.types import InputError, Items, Source
from coterie.views.normalise import spread_rows


@dataclass
class GeometryTracker:
    """Measures the features of the same items after every epoch, as means over groups.

    `groups`: "kmeans", K-means on the features of the epoch, or "all", the whole cloud as one. True classes are not
    among them, for the history is free of labels: call `algorithms.geometry.geometry_of` with them after a run.
    """

    items: int = 2000  # evenly spread over the source
    groups: Literal["kmeans", "all"] = "kmeans"
    k: int = 10  # of K-means; fewer where the items would not give each group 50 of them
    source: Items | None = None

    def ready(self, source: Source) -> None:
        """Remember the source of the run. Raises InputError when it is too small to be measured."""
        if len(source.items) < SMALLEST_GROUP:
            raise InputError(
                f"The geometry of {len(source.items)} items cannot be followed: it takes at least {SMALLEST_GROUP}."
            )
        self.source = source.items

    def __call__(self, record: EpochRecord, net: Net) -> None:
        """Add this epoch's numbers to its health."""
        if self.source is None:
            raise RuntimeError("give GeometryTracker.ready to the Watch as well")
        rows = spread_rows(len(self.source), self.items)
        features = extract_features(net, self.source, rows)
        k = min(self.k, len(rows) // SMALLEST_GROUP) if self.groups == "kmeans" else 1
        try:
            groups = kmeans(features, k, generator=generator_of(0, "geometry"), restarts=3).labels
            found, spread = geometry_of(features, groups), singular_values(features)
        except InputError:  # collapsed, or not finite: the engine's own checks have the word
            return
        record.health |= {
            "intrinsic_dimension": round(found.intrinsic, 4),
            "linear_dimension": round(found.linear, 4),
            "curvature": round(found.curvature, 4),
            "singular_largest": float(spread[0]),
            "singular_smallest": float(spread[-1]),
        }
