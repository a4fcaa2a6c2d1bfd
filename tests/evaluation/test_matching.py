from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from sklearn.metrics import f1_score, recall_score

from coterie.evaluation import accuracy, balanced_accuracy, f1_macro, f1_micro, held_out_accuracy, match
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
    for metric in (accuracy, f1_macro, f1_micro, balanced_accuracy):
        assert 0 <= metric(true, pred, 4) <= 1
        assert metric(true, true) == 1
    assert accuracy(true, pred, 4) == accuracy(true, np.array(names)[pred], 4)


@given(pairs)
@settings(deadline=None, max_examples=60)
def test_f1_and_balanced_accuracy_are_scikit_learns(labels: np.ndarray) -> None:
    true, pred = labels.T
    mapped, classes = match(true, pred).class_of[pred], np.unique(true)
    every = np.arange(true.max() + 1)
    for metric, average, of in ((f1_macro, "macro", classes), (f1_micro, "micro", every)):
        assert metric(true, pred) == pytest.approx(f1_score(true, mapped, labels=of, average=average, zero_division=0))
    assert balanced_accuracy(true, pred) == pytest.approx(recall_score(true, mapped, labels=classes, average="macro"))


def test_micro_f1_is_the_accuracy_where_every_cluster_has_a_class() -> None:
    rng = np.random.default_rng(0)
    true = rng.integers(0, 5, 300)
    pred = np.where(rng.random(300) < 0.7, (true + 2) % 5, rng.integers(0, 5, 300))
    assert f1_micro(true, pred) == pytest.approx(accuracy(true, pred))


def test_other_tables_under_the_same_map() -> None:
    """As bootstrap resamples are judged: the map stays, classes may be missing."""
    rng = np.random.default_rng(3)
    true, pred = rng.integers(0, 4, 60), rng.integers(0, 6, 60)
    found = match(true, pred, 6, 4)
    rows = [np.arange(60), rng.integers(60, size=60), np.flatnonzero(true != 2)]
    tables = np.stack([match(true[i], pred[i], 6, 4).counts for i in rows])
    for i, acc, f1, balanced in zip(
        rows, found.accuracy_of(tables), found.f1_macro_of(tables), found.balanced_accuracy_of(tables), strict=True
    ):
        mapped, classes = found.class_of[pred[i]], np.unique(true[i])
        assert acc == pytest.approx((mapped == true[i]).mean())
        assert f1 == pytest.approx(f1_score(true[i], mapped, labels=classes, average="macro", zero_division=0))
        assert balanced == pytest.approx(recall_score(true[i], mapped, labels=classes, average="macro"))


def test_columns_of_the_classes() -> None:
    true, pred = np.array([0, 0, 1, 2, 3]), np.array([2, 2, 0, 2, 2])
    found = match(true, pred, n_clusters=4, n_classes=4)
    columns = found.cluster_of()
    assert columns is not None
    assert sorted(columns) == [0, 1, 2, 3]
    assert (columns[0], columns[1]) == (2, 0)
    assert match(true, pred, n_clusters=3, n_classes=4).cluster_of() is None


def test_a_map_from_one_half_scores_less_on_the_other_where_there_is_nothing_to_find() -> None:
    rng = np.random.default_rng(1)
    true, pred = rng.integers(0, 10, 200), rng.integers(0, 10, 200)
    assert held_out_accuracy(true, pred) < 0.13 < 0.17 < accuracy(true, pred)
    assert held_out_accuracy(true, (true + 3) % 10) == 1
    assert np.isnan(held_out_accuracy(np.array([0]), np.array([0])))


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


def test_codes_too_far_apart_to_count_are_refused() -> None:
    with pytest.raises(InputError, match=r"go up to 1000000000000 and 1, too far .*return_inverse"):
        accuracy([0, 10**12], [0, 1])


def test_an_unmatched_cluster_is_wrong_even_for_items_of_no_known_class() -> None:
    found = match([0, 0, 1, 1], [1, 1, 0, 2])
    assert found.class_of.tolist() == [1, 0, -1]
    assert found.correct(np.array([-1, -1, 1]), np.array([2, 0, 0])).tolist() == [False, False, True]


@pytest.mark.parametrize("label", [-1, 3])
def test_correctness_of_a_cluster_that_is_not_there_is_refused(label: int) -> None:
    with pytest.raises(InputError, match=f"A predicted label is {label}, which is outside 0 to 2"):
        match([0, 0, 1, 1], [1, 1, 0, 2]).correct(np.array([0]), np.array([label]))
