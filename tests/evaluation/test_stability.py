"""How well K-means can be repeated: slow twins of the formulas, and what must come out where it is known."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from coterie.evaluation import stability as module
from coterie.evaluation.stability import Partition


def three_blobs(n: int = 40) -> np.ndarray:
    rng = np.random.default_rng(1)
    return np.concatenate([rng.normal(mean, 0.3, (n, 2)) for mean in ((0, 0), (5, 0), (0, 5))])


def test_prediction_strength_counts_pairs():
    """#{i != i' of a group: the other half's centres put them together} / n_j (n_j - 1), the least over groups."""
    rng = np.random.default_rng(0)
    points, centres = rng.normal(size=(30, 2)), rng.normal(size=(3, 2))
    labels = rng.integers(3, size=30)
    judged = Partition(np.arange(30), labels, centres, 0.0)
    judge = Partition(np.arange(30), labels, centres, 0.0)
    said = [int(((centres - point) ** 2).sum(1).argmin()) for point in points]
    slow = []
    for group in range(3):
        members = [i for i in range(30) if labels[i] == group]
        together = [said[i] == said[j] for i, j in itertools.permutations(members, 2)]
        slow.append(sum(together) / len(together))
    assert module._together(points, judged, judge, 3) == pytest.approx(min(slow))
    assert module.nearest_centre(points, centres).tolist() == said


def test_many_groups_are_judged_by_their_mean():
    points = np.arange(50.0)[:, None]
    labels = np.arange(50) // 2
    judge = Partition(np.arange(50), labels, points[::2] + 0.5, 0.0)
    mixed = labels.copy()
    mixed[[1, 2]] = mixed[[2, 1]]  # two groups of two, each with a stranger
    assert module._together(points, Partition(np.arange(50), mixed, points[:25], 0.0), judge, 25) == 23 / 25
    mixed = labels.copy()
    mixed[[0, 1, 2, 3]] = 0  # a group of four, of which two pairs of six are together
    assert module._together(points, Partition(np.arange(50), mixed, points[:25], 0.0), judge, 25) == pytest.approx(
        (46 + 4 / 3) / 50
    )


def test_the_right_number_holds_and_others_do_not():
    rng = np.random.default_rng(0)
    points = three_blobs()
    assert module.prediction_strength(points, 3, rng) == 1
    assert module.prediction_strength(points, 6, rng) < 0.8
    assert module.stability(*module.sub_samples(points, 3, rng)) == 1


def test_the_same_partitions_are_not_ambiguous():
    rng = np.random.default_rng(0)
    labels = rng.integers(4, size=60)
    same = [Partition(np.sort(rng.choice(60, 48, replace=False)), labels, np.zeros((4, 1)), 0.0) for _ in range(4)]
    same = [Partition(one.rows, labels[one.rows], one.centres, 0.0) for one in same]
    assert module.ambiguous_share(same, 60, 4) == 0
    mixed = [Partition(one.rows, rng.integers(4, size=48), one.centres, 0.0) for one in same]
    assert module.ambiguous_share(mixed, 60, 4) > 0.3


def test_pairs_that_are_sometimes_together_are_counted(monkeypatch):
    """Of the first items alone, over the partitions that hold both; 1 of 4 together is ambiguous, 1 of 12 is not."""
    monkeypatch.setattr(module, "CONSENSUS_ITEMS", 25)
    rng = np.random.default_rng(0)
    found = []
    for _ in range(12):
        rows = np.sort(rng.choice(40, 30, replace=False))
        labels = np.where(rng.random(30) < 0.85, rows // 10, rng.integers(4, size=30))
        found.append(Partition(rows, labels, np.zeros((4, 1)), 0.0))
    said = [dict(zip(one.rows.tolist(), one.labels.tolist(), strict=True)) for one in found]
    shares = []
    for i, j in itertools.combinations(range(25), 2):
        together = [one[i] == one[j] for one in said if i in one and j in one]
        shares.append(sum(together) / len(together))
    slow = np.mean([0.1 < share < 0.9 for share in shares])
    assert 0.3 < slow < 0.9
    assert module.ambiguous_share(found, 40, 4) == pytest.approx(slow)


def test_two_samples_are_compared_on_the_items_of_both():
    points = three_blobs()
    first, second = module.sub_samples(points, 4, np.random.default_rng(0))
    assert len(first.rows) == len(second.rows) == 96
    assert len({*first.rows.tolist(), *second.rows.tolist()}) > 96
    one, other = (dict(zip(part.rows.tolist(), part.labels.tolist(), strict=True)) for part in (first, second))
    both = sorted(one.keys() & other.keys())
    expected = adjusted_rand_score([one[row] for row in both], [other[row] for row in both])
    assert module.stability(first, second) == pytest.approx(expected)
    assert expected < 1


def test_the_weaker_and_the_stronger_half_both_count():
    """Each half's groups are judged by the other's centres, and the mean of both is taken."""
    points, rng = np.random.default_rng(3).normal(size=(60, 2)), np.random.default_rng(0)
    order = np.random.default_rng(0).permutation(60)
    parts = [module.partition(points, 4, rows, np.random.default_rng(0)) for rows in (order[:30], order[30:])]
    halves = [module._together(points, parts[i], parts[1 - i], 4) for i in (0, 1)]
    assert halves[0] != halves[1]
    made = iter(parts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "partition", lambda *_: next(made))
        assert module.prediction_strength(points, 4, rng) == pytest.approx(np.mean(halves))


def test_seeds_are_rows_and_different_ones():
    points = three_blobs().astype(np.float32)
    found = module.seeds(points, 3, np.random.default_rng(0))
    assert all((points == row).all(1).any() for row in found)
    assert {tuple((row > 2.5).tolist()) for row in found} == {(False, False), (True, False), (False, True)}


def test_fewer_distinct_rows_than_groups_are_no_error():
    points = np.repeat(np.eye(2, dtype=np.float32), 10, axis=0)
    found = module.partition(points, 4, np.arange(20), np.random.default_rng(0))
    assert found.inertia == pytest.approx(0, abs=1e-6)
