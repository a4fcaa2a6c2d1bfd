"""How many groups: golden cases, the range, and that one seed gives one answer."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import sem

from coterie.evaluation import group_criteria, stability
from coterie.evaluation.group_rule import Choice
from coterie.evaluation.number_of_groups import Measure, between, grid, most_groups, number_of_groups
from coterie.types import InputError


@pytest.fixture(scope="module")
def golden() -> tuple[np.ndarray, np.ndarray]:
    """Three blobs of 100, then 300 points of the unit square, of one generator."""
    rng = np.random.default_rng(1)
    blobs = np.concatenate([rng.normal(mean, 0.5, (100, 2)) for mean in ((0, 0), (5, 0), (0, 5))])
    return blobs, rng.random((300, 2))


@pytest.fixture(scope="module")
def of_blobs(golden) -> Choice:
    return number_of_groups(golden[0], most=7)


def test_three_blobs_are_three_groups(of_blobs):
    assert (of_blobs.k, of_blobs.clear, of_blobs.plateau) == (3, True, (3, 3))
    assert of_blobs.sentence == "3 (no other does as well)."
    strength = {row.k: row.prediction_strength for row in of_blobs.curve}
    assert max(strength, key=strength.__getitem__) == 3
    assert strength[3] >= 0.95
    assert of_blobs.ticks["silhouette"] == of_blobs.ticks["gap"] == of_blobs.ticks["eigengap"] == 3


def test_a_square_has_no_number_of_groups(golden):
    """Its stability alone would say 4: a square has four corners."""
    found = number_of_groups(golden[1], most=7)
    assert not found.clear
    assert found.sentence.startswith("No number of groups stands out; K is your choice.")
    assert {row.k: row.stability for row in found.curve}[4] > 0.7
    assert {row.k: row.prediction_strength for row in found.curve}[4] < 0.8


def test_one_seed_gives_one_answer_and_a_scale_changes_nothing(golden, of_blobs):
    assert number_of_groups(4 * golden[0], most=7) == of_blobs
    assert json.loads(json.dumps(of_blobs.as_json()))["plateau"] == [3, 3]


def test_a_row_has_the_means_and_standard_errors_of_its_samples(golden):
    """Four groups of three blobs, on wide and narrow axes: the five first splits, samples and Gaussians are enough."""
    points = (golden[0] * [3, 0.5]).astype(np.float32)
    found, rng = Measure(points, 7).row(4), np.random.default_rng([7, 4])
    strength = [stability.prediction_strength(points, 4, rng) for _ in range(5)]
    pairs = [stability.sub_samples(points, 4, rng) for _ in range(5)]
    null = []
    for _ in range(5):
        gaussian = rng.standard_normal(points.shape, dtype=np.float32) * points.std(0)
        null.append(stability.sub_samples(gaussian, 4, rng))
    whole = stability.partition(points, 4, np.arange(300), rng).labels
    own, chance = (np.array([stability.stability(*pair) for pair in both]) for both in (pairs, null))
    within, expected = (np.log([part.inertia for pair in both for part in pair]) for both in (pairs, null))
    assert np.mean(strength) < 0.7  # else more of them are drawn
    assert found.prediction_strength == pytest.approx(np.mean(strength))
    assert (found.stability, found.excess) == pytest.approx((own.mean(), own.mean() - chance.mean()))
    assert found.error == pytest.approx(np.hypot(sem(own), sem(chance)))
    assert found.gap == pytest.approx(expected.mean() - within.mean(), abs=1e-6)
    assert found.gap_error == pytest.approx(np.sqrt(expected.var(ddof=1) * (1 + 1 / 5)))
    assert found.ambiguous == stability.ambiguous_share([part for pair in pairs for part in pair], 300, 4)
    assert found.silhouette == pytest.approx(group_criteria.silhouettes(points, whole).mean())
    assert found.generalisation == group_criteria.generalisation(points, whole, 4, 7)
    assert found.coding_rate == pytest.approx(group_criteria.coding_rate(points, whole) / 300)


@pytest.mark.parametrize(
    ("n", "least", "most"), [(300, 1, 5), (300, 6, 5), (300, 2, 100), (6, 2, 3), (300, 0, None), (300, 80, None)]
)
def test_a_range_that_is_none_is_refused(golden, n, least, most):
    with pytest.raises(InputError, match="cannot be looked for"):
        number_of_groups(golden[0][:n], least=least, most=most)


def test_the_same_items_have_no_groups():
    with pytest.raises(InputError, match="All items are the same"):
        number_of_groups(np.ones((100, 3)))


@settings(deadline=None)
@given(st.integers(2, 60), st.integers(0, 200), st.lists(st.integers(0, 300), max_size=3))
def test_the_grid_is_within_its_range_and_holds_the_levels(least, more, levels):
    most = least + more
    found = grid(least, most, levels)
    assert found == sorted(set(found))
    assert found[0] == least
    assert found[-1] <= most
    assert set(found) >= {k for k in levels if least <= k <= most}
    own = grid(least, most)
    assert all(b <= max(a + 1, round(1.25 * a)) for a, b in pairwise(own))
    assert own[-1] > most / 1.3 - 1


def test_numbers_next_to_the_best_are_looked_at():
    assert between([2, 8, 10, 12, 15], 12) == [11, 13, 14]
    assert between([2, 3], 2) == []
    assert between([2, 8, 12], 12) == [9, 10, 11]
    assert len(between([40, 75, 94], 75)) == 8
    assert most_groups(10_000) == 100
    assert most_groups(10**6) == 200
