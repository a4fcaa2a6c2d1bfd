"""Several clusterings as one: golden values, the bound, and that names of groups do not matter."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import entropy
from sklearn.metrics import adjusted_rand_score

from coterie.evaluation import accuracy
from coterie.evaluation.ensemble import accuracy_bound, combine, mean_aris, medoid, order_of


def test_three_heads_of_one_item():
    """Mean (.6, .4), its entropy .673012, mean entropy .536320, so the disagreement is .136692."""
    others = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])  # so that the groups are matched as they stand
    heads = [np.concatenate([[row], others]) for row in ((0.9, 0.1), (0.6, 0.4), (0.3, 0.7))]
    found = combine(heads)
    assert found.probabilities[0] == pytest.approx([0.6, 0.4])
    assert found.information[0] == pytest.approx(0.136692, abs=1e-6)
    assert found.votes[0] == pytest.approx(2 / 3)
    assert found.information[1:] == pytest.approx(0, abs=1e-12)


def test_the_names_of_groups_do_not_matter():
    rng = np.random.default_rng(0)
    own = rng.dirichlet(np.full(4, 0.2), 60)
    renamed = own[:, [2, 0, 3, 1]]
    found = combine([own, renamed, own])
    assert found.probabilities == pytest.approx(own)
    assert found.information == pytest.approx(0, abs=1e-12)
    assert found.information.min() >= 0
    assert order_of(own.argmax(1), renamed.argmax(1), 4).tolist() == [1, 3, 0, 2]


def test_runs_are_matched_to_the_medoid_by_their_likeliest_groups():
    """Every renaming of the three groups is tried; the mean, the disagreement and the votes follow item by item."""
    rng = np.random.default_rng(4)
    truth = rng.integers(3, size=60)
    heads = [rng.dirichlet(np.full(3, 0.4), 60) for _ in range(3)]
    for head, order in zip(heads, ([0, 1, 2], [1, 2, 0], [2, 1, 0]), strict=True):
        rows = np.flatnonzero(rng.random(60) < 0.7)
        head[rows] = head[rows] / 3 + np.eye(3)[np.array(order)[truth[rows]]] * 2 / 3
    found, labels = combine(heads), [head.argmax(1) for head in heads]
    assert found.medoid == np.argmax(mean_aris(labels))
    matched = []
    for head, own in zip(heads, labels, strict=True):
        best = max(permutations(range(3)), key=lambda order: (np.array(order)[labels[found.medoid]] == own).sum())
        matched.append(head[:, best])
    mean = np.mean(matched, axis=0)
    assert found.probabilities == pytest.approx(mean)
    assert found.information == pytest.approx(entropy(mean, axis=1) - np.mean([entropy(p, axis=1) for p in matched], 0))
    assert found.votes == pytest.approx(np.mean([p.argmax(1) == mean.argmax(1) for p in matched], axis=0))


def test_the_bound_of_two_runs():
    a, b = np.array([0, 0, 0, 1, 1, 1]), np.array([1, 1, 0, 0, 0, 0])
    assert accuracy_bound([a, b]) == pytest.approx((5 / 6, 11 / 12))
    assert accuracy_bound([a, 1 - a]) == (1, 1)


@settings(deadline=None)
@given(st.integers(2, 4), st.integers(2, 40), st.integers(0, 2**32 - 1))
def test_mean_accuracy_is_never_above_the_bound(runs, n, seed):
    rng = np.random.default_rng(seed)
    truth = rng.integers(3, size=n)
    partitions = [np.where(rng.random(n) < 0.7, truth, rng.integers(3, size=n)) for _ in range(runs)]
    mean = np.mean([accuracy(truth, partition) for partition in partitions])
    assert mean <= accuracy_bound(partitions)[1] + 1e-12


def test_the_medoid_agrees_most_with_the_others():
    rng = np.random.default_rng(0)
    truth = rng.integers(3, size=300)
    near, far = (np.where(rng.random(300) < share, truth, rng.integers(3, size=300)) for share in (0.95, 0.3))
    assert medoid([far, truth, near]) in (1, 2)
    assert np.argmin(mean_aris([far, truth, near])) == 0
    assert mean_aris([truth]) == [1.0]
    table = [
        [adjusted_rand_score(one, other) for other in (far, truth, near) if other is not one] for one in (truth, near)
    ]
    assert mean_aris([far, truth, near])[1:] == pytest.approx(np.mean(table, axis=1))
