"""The 2-D map of the embedding: which rows it shows, and where they lie."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

ANGLES_FROM = 64  # features, of which the angles tell items apart: `views.normalise.SMALL_DIM`
LARGEST = 1e15  # beyond it, squares would not fit into float32
MAP_POINTS = 2000  # t-SNE of so many takes about 3 s on one core; more points tell no more on a screen


def map_rows(n: int, limit: int = MAP_POINTS) -> NDArray[np.int64]:
    """All rows where they fit, else a random sample, sorted."""
    if n <= limit:
        return np.arange(n)
    return np.sort(np.random.default_rng(0).choice(n, limit, replace=False))


def comparable(embedding: NDArray[np.floating]) -> NDArray[np.float32]:
    """Rows (m, d) as the map compares them: of 64 features and more by their angles, of fewer as they are."""
    points = np.asarray(embedding, dtype=np.float32)
    if points.shape[1] < ANGLES_FROM:
        return points
    points = (points - points.mean(axis=1, keepdims=True, dtype=np.float64)).astype(np.float32)
    points /= _or_one(np.abs(points).max(axis=1, keepdims=True))  # that no square is too large or too small
    points /= _or_one(np.linalg.norm(points, axis=1, keepdims=True))
    return points


def project(embedding: NDArray[np.floating]) -> NDArray[np.float32]:
    """Lay (m, d) out in the plane: neighbours stay neighbours, and the same input gives the same map.

    Up to 2,000 rows: PCA to 30 dimensions, then t-SNE (van der Maaten & Hinton 2008) started from the first two
    components. More rows, or too few for neighbourhoods to mean anything: those two components alone.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    points = np.asarray(embedding, dtype=np.float32)
    largest = float(np.abs(points).max(initial=0))
    if largest > LARGEST or 0 < largest < 1 / LARGEST:
        points = points / largest
    flat = np.zeros((len(points), 2), dtype=np.float32)
    # A constant embedding has no directions at all; PCA would divide by its variance of 0.
    if len(points) < 2 or (np.ptp(points, axis=0) == 0).all():
        return flat
    # Several threads add up in a varying order, which t-SNE amplifies into another map: one thread is repeatable.
    with threadpool_limits(1):
        parts = PCA(min(30, *points.shape), random_state=0).fit_transform(points)
        if 10 <= len(points) <= MAP_POINTS and parts.shape[1] > 1:
            perplexity = min(30.0, (len(points) - 1) / 3)
            tsne = TSNE(2, perplexity=perplexity, init="pca", max_iter=350, random_state=0)
            return np.asarray(tsne.fit_transform(parts), dtype=np.float32)
    flat[:, : min(2, parts.shape[1])] = parts[:, :2]
    return flat


def _or_one(lengths: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.where(lengths > 0, lengths, np.float32(1))
