"""Criteria of a number of groups: golden values, slow twins, scikit-learn as an oracle."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse.csgraph import laplacian
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics import cohen_kappa_score, confusion_matrix
from sklearn.neighbors import NearestNeighbors

from coterie.evaluation import group_criteria as criteria


def test_silhouettes_of_four_points():
    points, labels = np.array([[0.0], [1.0], [4.0], [5.0]]), np.array([0, 0, 1, 1])
    found = criteria.silhouettes(points, labels)
    assert found == pytest.approx([7 / 9, 5 / 7, 5 / 7, 7 / 9])
    assert found.mean() == pytest.approx(0.746032, abs=1e-6)


@pytest.mark.parametrize("labels", [[0, 0, 0, 0], [0, 1, 2, 3]])
def test_one_group_and_single_items_have_no_silhouette(labels):
    assert criteria.silhouettes(np.arange(4.0)[:, None], np.array(labels)).tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize(("m", "one", "two"), [(4, 14.387, 14.951), (20, 52.754, 50.397), (100, 244.585, 227.630)])
def test_coding_rate_of_two_directions(m, one, two):
    """Too few items for the dimensions: one group wins, wrongly."""
    points = np.repeat(np.eye(2), m // 2, axis=0)
    assert criteria.coding_rate(points, np.zeros(m, int)) == pytest.approx(one, abs=1e-3)
    assert criteria.coding_rate(points, points.argmax(1)) == pytest.approx(two, abs=1e-3)


def test_three_cliques_are_three_zeros():
    points = np.concatenate([np.random.default_rng(0).normal(place, 0.01, (16, 2)) for place in (0, 10, 20)])
    values = criteria.eigenvalues(points, 6)
    assert values[:3] == pytest.approx([0, 0, 0], abs=1e-9)
    assert values[3] > 0.5
    assert criteria.eigengap(values, 2, 6) == 3


def test_eigenvalues_are_those_of_scipys_laplacian():
    points = np.random.default_rng(0).normal(size=(60, 2))
    graph = NearestNeighbors(n_neighbors=15).fit(points).kneighbors_graph().toarray()
    expected = np.linalg.eigvalsh(laplacian(np.maximum(graph, graph.T), normed=True))
    assert criteria.eigenvalues(points, 8) == pytest.approx(expected[:9], abs=1e-9)
    assert criteria.eigengap(np.array([0, 1e-3, 0.2, 0.9, 1.0]), 2, 4) == 3  # hardly connected is not two parts


def test_the_largest_rise_counts_where_the_graph_is_whole():
    assert criteria.eigengap(np.array([0, 0.1, 0.2, 0.9, 1.0]), 2, 4) == 3
    assert criteria.eigengap(np.array([0, 0.8, 0.9, 1.0]), 2, 3) in (2, 3)  # 1 is not asked for


def test_kappa_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    said, own = rng.integers(4, size=50), rng.integers(4, size=50)
    table = confusion_matrix(own, said, labels=range(4))
    assert criteria.kappa(table) == pytest.approx(cohen_kappa_score(own, said))
    assert criteria.kappa(np.stack([table, np.diag([3, 4, 0, 2])])) == pytest.approx([float(criteria.kappa(table)), 1])


def test_groups_generalise_and_shuffled_labels_do_not():
    rng = np.random.default_rng(0)
    own = np.repeat(np.arange(3), 60)
    points = rng.normal(size=(180, 5)) + 8 * np.eye(5)[own]
    assert criteria.generalisation(points, own, 3) == 1
    assert abs(criteria.generalisation(points, rng.permutation(own), 3)) < 0.3


def test_the_linear_classifier_is_the_discriminant_analysis_of_scikit_learn():
    """Five folds; groups of unequal sizes and spread, so that the priors and the covariance count."""
    rng = np.random.default_rng(0)
    own = rng.choice(4, 300, p=[0.55, 0.25, 0.15, 0.05])
    points = rng.normal(size=(300, 5)) @ (np.eye(5) + np.tri(5) / 2) + 1.5 * np.eye(5)[own]
    said = criteria.linear_predictions(points, own)
    fold, oracle = np.random.default_rng(0).permutation(300) % 5, np.empty(300, int)
    for held in range(5):
        inside = fold == held
        fitted = LinearDiscriminantAnalysis(solver="lsqr").fit(points[~inside], own[~inside])
        oracle[inside] = fitted.predict(points[inside])
    assert (said == oracle).mean() > 0.99
    assert (said == own).mean() < 0.95


def test_a_renumbering_of_the_groups_changes_nothing():
    rng = np.random.default_rng(0)
    points, labels = rng.normal(size=(90, 3)), rng.integers(3, size=90)
    other = np.array([2, 0, 1])[labels]
    assert criteria.silhouettes(points, labels) == pytest.approx(criteria.silhouettes(points, other))
    assert criteria.coding_rate(points, labels) == pytest.approx(criteria.coding_rate(points, other))
    assert criteria.generalisation(points, labels, 3) == pytest.approx(criteria.generalisation(points, other, 3))


def test_more_parts_than_may_be_are_as_many_as_may_be():
    """All eigenvalues are 0 up to rounding: the largest step among them is noise."""
    noise = np.sort(np.abs(np.random.default_rng(0).normal(size=(20, 11))) * 1e-16)
    assert [criteria.eigengap(values, 2, 10) for values in noise] == [10] * 20
    assert criteria.eigengap(np.array([0, 0, 0, 0.5, 0.6, 0.9]), 4, 5) == 5  # fewer parts than may be
