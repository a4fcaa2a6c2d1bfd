"""Criteria of a number of groups that look at one partition, or at the points alone. No labels."""

from __future__ import annotations

import numpy as np
from scipy.linalg import eigh
from sklearn.metrics import silhouette_samples
from sklearn.neighbors import NearestNeighbors

from coterie.evaluation.contingency import Given, Ints, contingency
from coterie.evaluation.ranking import Floats
from coterie.evaluation.stability import Points

NEIGHBOURS = 15
FOLDS = 5
DISTORTION = 0.1  # the squared error that the coding rate allows, of CPP's released configuration


def silhouettes(points: Points, labels: Given) -> Floats:
    """(b - a) / max(a, b) of each item: a, b the mean distances within its group and to the next (Rousseeuw 1987).

    0 for all where there are fewer than two groups, or no two items in one. {0, 1, 4, 5}, labels 0011: mean .746032.
    """
    found = np.unique(labels)
    if not 2 <= len(found) < len(points):
        return np.zeros(len(points))
    return np.asarray(silhouette_samples(points, labels), dtype=np.float64)


def coding_rate(points: Points, labels: Given) -> float:
    """Nats to code the points group by group, small is good (Ma et al. 2007; CPP, Chu et al. 2024, chooses K by it).

    sum_k (m_k + d)/2 ln det(I + d/(eps^2 m_k) Z_k' Z_k) - m_k ln(m_k/m), of rows of unit length. Too few groups win
    where groups have hardly more items than there are dimensions.
    """
    z = np.asarray(points, np.float64)
    z = z / np.maximum(np.linalg.norm(z, axis=1, keepdims=True), 1e-12)
    (m, d), total = z.shape, 0.0
    for group in np.unique(labels):
        rows = z[labels == group]
        size = len(rows)
        total += (size + d) / 2 * np.linalg.slogdet(np.eye(d) + d / (DISTORTION * size) * rows.T @ rows)[1]
        total -= size * np.log(size / m)
    return float(total)


def linear_predictions(points: Points, labels: Ints, seed: int = 0) -> Ints:
    """Each item's group as predicted by a linear classifier fitted on the other four fifths (cross-validation).

    Linear discriminant analysis: Gaussians of one covariance, shrunk a little towards its diagonal.
    """
    x, folds = np.asarray(points, np.float64), np.random.default_rng(seed).permutation(len(points)) % FOLDS
    said = np.empty(len(points), np.int64)
    for fold in range(min(FOLDS, len(points))):
        train, test = folds != fold, folds == fold
        groups, own, sizes = np.unique(labels[train], return_inverse=True, return_counts=True)
        means = np.zeros((len(groups), x.shape[1]))
        np.add.at(means, own, x[train])
        means /= sizes[:, None]
        rest = x[train] - means[own]
        covariance = rest.T @ rest / len(rest)
        covariance += np.eye(len(covariance)) * (1e-3 * np.trace(covariance) / len(covariance) + 1e-12)
        weights = np.linalg.solve(covariance, means.T)
        score = x[test] @ weights - (means.T * weights).sum(0) / 2 + np.log(sizes / sizes.sum())
        said[test] = groups[score.argmax(1)]
    return said


def kappa(table: Ints) -> Floats:
    """Cohen's kappa of tables (..., k, k) of predicted by actual groups: (acc - e) / (1 - e), e that of chance."""
    n = table.sum(axis=(-2, -1))
    hit = np.trace(table, axis1=-2, axis2=-1) / n
    chance = (table.sum(axis=-1) * table.sum(axis=-2)).sum(axis=-1) / n**2
    return np.where(chance < 1, (hit - chance) / np.where(chance < 1, 1 - chance, 1), 0.0)


def generalisation(points: Points, labels: Ints, k: int, seed: int = 0) -> float:
    """How well a linear classifier predicts the groups of items that it has not seen, as Cohen's kappa."""
    return float(kappa(contingency(labels, linear_predictions(points, labels, seed), k, k)))


def eigenvalues(points: Points, most: int) -> Floats:
    """The smallest eigenvalues of the normalised Laplacian I - D^-1/2 W D^-1/2 of the 15-neighbour graph, ascending.

    There is a zero for each component of the graph. Takes a dense matrix: give no more than some thousand points.
    """
    n = len(points)
    neighbours = min(NEIGHBOURS, n - 1)
    graph = NearestNeighbors(n_neighbors=neighbours, algorithm="brute").fit(points).kneighbors_graph().toarray()
    weights = np.maximum(graph, graph.T)
    scale = 1 / np.sqrt(weights.sum(1))
    laplacian = np.eye(n) - scale[:, None] * weights * scale
    return np.asarray(eigh(laplacian, subset_by_index=(0, min(most, n - 1)), eigvals_only=True))


def eigengap(values: Floats, least: int, most: int) -> int:
    """The number of groups after which the eigenvalues rise most, between `least` and `most`.

    Where the graph has several components it is their number, `most` at most: three separate cliques are three groups.
    """
    parts = int((values < 1e-8).sum())
    if parts >= least:
        return min(parts, most)
    gaps = np.diff(values)[least - 1 : min(most, len(values) - 1)]
    return least + int(gaps.argmax()) if len(gaps) else least
