"""Near-duplicates: what was put in is found, and nothing else by chance."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from coterie.evaluation.near_duplicates import near_duplicates, nearness_limit, together


def neighbours(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    found = NearestNeighbors(n_neighbors=3).fit(points).kneighbors()
    return found[0], found[1].astype(np.int64)


@pytest.mark.parametrize("dimension", [2, 5, 20])
def test_random_points_have_none(dimension):
    points = np.random.default_rng(0).normal(size=(500, dimension))
    distances, index = neighbours(points)
    assert nearness_limit(distances)[1] == pytest.approx(dimension, rel=0.5)
    assert near_duplicates(distances, index, np.arange(500).astype(str)).sets == []


def test_the_limit_is_where_one_in_ten_thousand_lies_by_chance():
    """The share of nearest neighbours within t times their median is ln 2 · t^m; t is a quarter at most."""
    rng = np.random.default_rng(0)
    first = rng.exponential(size=4001) ** (1 / 4)
    distances = np.stack([first, first * np.exp(rng.exponential(size=4001) / 4)], 1)
    limit, dimension = nearness_limit(distances)
    assert dimension == pytest.approx(4, rel=0.05)
    assert np.log(2) * (limit / np.median(first)) ** dimension == pytest.approx(1e-4)
    limit, dimension = nearness_limit(distances**0.25)
    assert (limit, dimension) == pytest.approx((np.median(first**0.25) / 4, 16), rel=0.05)


def test_the_largest_set_comes_first_and_is_exact_where_all_its_items_are():
    points = np.random.default_rng(0).normal(size=(100, 10))
    points[2] = points[1] + 1e-4
    content = np.arange(100).astype(str)
    content[[1, 40]] = "one"
    content[[50, 60, 70, 80]] = "four"
    found = near_duplicates(*neighbours(points), content)
    assert [rows.tolist() for rows in found.sets] == [[50, 60, 70, 80], [1, 2, 40]]
    assert found.exact == [True, False]


def test_near_ones_and_copies_are_found():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(300, 10))
    points[1] = points[0] + 0.01 * rng.normal(size=10)
    points[2] = points[1] + 0.01 * rng.normal(size=10)
    points[9] = points[8]
    content = np.arange(300).astype(str)
    content[9] = content[8]
    found = near_duplicates(*neighbours(points), content)
    assert [rows.tolist() for rows in found.sets] == [[0, 1, 2], [8, 9]]
    assert found.exact == [False, True]
    assert found.items == 5


def test_equal_content_is_enough():
    points = np.random.default_rng(0).normal(size=(40, 3))
    content = np.arange(40).astype(str)
    content[[5, 17, 30]] = "same"
    found = near_duplicates(*neighbours(points), content)
    assert [5, 17, 30] in [rows.tolist() for rows in found.sets]


def test_a_set_goes_where_its_items_are_likeliest():
    p = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.3, 0.7]])
    assert together(p, [np.array([0, 1]), np.array([1, 2]), np.array([0, 2, 3])]) == [0, 1, 1]
