from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from sklearn.metrics import adjusted_rand_score, f1_score, normalized_mutual_info_score

from coterie.evaluation import accuracy, ari, f1_macro, match, nmi, purity
from coterie.types import InputError

pairs = npst.arrays(np.int64, st.tuples(st.integers(1, 30), st.just(2)), elements=st.integers(0, 3))


def best_share_of_all_maps(true: np.ndarray, pred: np.ndarray) -> float:
    """Try every one-to-one map of clusters to classes, with -1 for clusters that go without."""
    k, c = int(pred.max()) + 1, int(true.max()) + 1
    targets = [*range(c), *[-1] * max(0, k - c)]
    return max(np.mean(np.array(m)[pred] == true) for m in permutations(targets, k))


@given(pairs)
@settings(deadline=None, max_examples=60)
def test_accuracy_is_the_best_of_all_maps(labels: np.ndarray) -> None:
    true, pred = labels.T
    assert accuracy(true, pred) == pytest.approx(best_share_of_all_maps(true, pred))


@given(pairs, st.permutations(range(4)))
@settings(deadline=None, max_examples=60)
def test_renaming_clusters_changes_nothing(labels: np.ndarray, names: list[int]) -> None:
    true, pred = labels.T
    renamed = np.array(names)[pred]
    for metric in (accuracy, f1_macro):
        assert 0 <= metric(true, pred, 4) <= 1
    assert accuracy(true, pred, 4) == accuracy(true, renamed, 4)
    for symmetric in (purity, nmi, ari):
        assert symmetric(true, pred) == pytest.approx(symmetric(true, renamed))
    assert accuracy(true, pred) <= purity(true, pred) <= 1
    assert purity(true, true) == accuracy(true, true) == 1


def test_agreement_is_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    true = rng.integers(0, 5, 300)
    pred = np.where(rng.random(300) < 0.7, (true + 2) % 5, rng.integers(0, 5, 300))
    mapped = match(true, pred).class_of[pred]
    assert f1_macro(true, pred) == pytest.approx(f1_score(true, mapped, average="macro"))
    assert nmi(true, pred) == pytest.approx(normalized_mutual_info_score(true, pred))
    assert ari(true, pred) == pytest.approx(adjusted_rand_score(true, pred))


def test_surplus_clusters_are_unmatched_and_wrong() -> None:
    true, pred = np.array([0, 0, 0, 1, 1]), np.array([0, 0, 1, 2, 2])
    found = match(true, pred, n_clusters=4)
    assert found.class_of.tolist() == [0, -1, 1, -1]
    assert found.correct(true, pred).tolist() == [True, True, False, True, True]
    assert found.accuracy == 0.8


def test_surplus_classes_get_no_cluster_and_count_in_f1() -> None:
    true, pred = np.array([0, 0, 1, 1, 2, 2]), np.array([0, 0, 1, 1, 1, 1])
    found = match(true, pred, n_clusters=2)
    assert found.accuracy == pytest.approx(4 / 6)
    mapped = found.class_of[pred]
    assert found.f1_macro == pytest.approx(f1_score(true, mapped, average="macro", zero_division=0))


def test_missing_clusters_and_classes_shift_nothing() -> None:
    true, pred = np.array([0, 0, 4, 4]), np.array([5, 5, 2, 2])
    found = match(true, pred, n_clusters=7, n_classes=6)
    assert found.class_of.tolist() == [-1, -1, 4, -1, -1, 0, -1]
    assert found.accuracy == 1
    assert found.f1_macro == 1


@pytest.mark.parametrize(
    ("true", "pred", "k"),
    [([0, 1], [0], None), ([], [], None), ([0, 1], [0, 5], 3), ([-1, 1], [0, 1], None), ([0.5, 1], [0, 1], None)],
)
def test_labels_that_do_not_fit_are_named(true: list[float], pred: list[int], k: int | None) -> None:
    with pytest.raises(InputError, match="label"):
        match(np.array(true), np.array(pred), k)
