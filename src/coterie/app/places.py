"""Where each item lies on the map: the run's own places, and for the others the mean of their nearest placed ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coterie.app.site import Site
from coterie.report import comparable

NEAREST, BLOCK = 5, 4096


@dataclass(frozen=True)
class Places:
    """Rows (m,) with their places (m, 2) in [0, 1]; `exact` (m,): by the run's own map, not by neighbours."""

    rows: NDArray[np.int64]
    xy: NDArray[np.float32]
    exact: NDArray[np.bool_]
    how: str

    @classmethod
    def of(cls, site: Site) -> Places:
        """Computed once for a site, and again when the embedding has come."""
        features = site.review.features
        key = features is not None
        if key not in site.places:
            site.places[key] = _places(site.review.base.folder.map, features, site.review.base.n)
        return site.places[key]

    def summary(self) -> dict[str, Any]:
        return {"shown": len(self.rows), "exact": int(self.exact.sum()), "how": self.how}


def _places(
    own: tuple[NDArray[np.int64], NDArray[np.float32]] | None, features: NDArray[np.floating] | None, n: int
) -> Places:
    """The items' own places where they have any, else two principal components; others come to their neighbours."""
    nothing = Places(np.empty(0, np.int64), np.empty((0, 2), np.float32), np.empty(0, bool), "none")
    if own is not None and len(own[0]):
        rows, xy = own
        if features is None or len(rows) == n:
            return Places(rows, _unit(xy), np.ones(len(rows), bool), "own")
        exact = np.zeros(n, bool)
        exact[rows] = True
        whole = np.empty((n, 2), np.float32)
        whole[rows] = xy
        others = np.flatnonzero(~exact)
        whole[others] = _by_neighbours(features, rows, xy, others)
        return Places(np.arange(n), _unit(whole), exact, "neighbours")
    if features is None:
        return nothing
    from sklearn.decomposition import PCA

    sample = np.asarray(features[:: max(1, n // 10_000)], np.float32)
    if len(sample) < 2 or features.shape[1] < 2:
        return nothing
    pca = PCA(2, random_state=0).fit(sample)
    parts = [pca.transform(np.asarray(features[start : start + BLOCK], np.float32)) for start in range(0, n, BLOCK)]
    return Places(np.arange(n), _unit(np.concatenate(parts)), np.ones(n, bool), "pca")


def _by_neighbours(
    features: NDArray[np.floating], placed: NDArray[np.int64], xy: NDArray[np.float32], others: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Each item at the mean place of the items with a place that are nearest to it."""
    known = comparable(features[placed])
    centre = known.mean(axis=0, dtype=np.float64).astype(np.float32)
    known = known - centre  # products of rows far from 0 would lose their differences
    squares = (known**2).sum(axis=1)
    near = min(NEAREST, len(placed))
    found = np.empty((len(others), 2), np.float32)
    for start in range(0, len(others), BLOCK):
        part = comparable(features[others[start : start + BLOCK]]) - centre
        distance = squares - 2 * part @ known.T
        first = np.argpartition(distance, near - 1, axis=1)[:, :near]
        found[start : start + len(part)] = xy[first].mean(axis=1)
    return found


def _unit(xy: NDArray[np.floating]) -> NDArray[np.float32]:
    """Each axis from 0 to 1; the axes of a map have no meaning of their own."""
    low, span = xy.min(axis=0), np.ptp(xy, axis=0)
    return np.asarray((xy - low) / np.where(span > 0, span, 1), np.float32)
