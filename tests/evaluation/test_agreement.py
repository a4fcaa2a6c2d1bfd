from typing import Literal

import numpy as np
import pytest
import torch
import torchmetrics.functional.clustering as torchmetrics
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from coterie.evaluation import accuracy, ari, contingency, nmi, purity
from coterie.evaluation.agreement import ari_of, nmi_of, purity_of
from coterie.types import InputError

pairs = npst.arrays(np.int64, st.tuples(st.integers(1, 30), st.just(2)), elements=st.integers(0, 3))
averages: tuple[Literal["arithmetic", "geometric"], ...] = ("arithmetic", "geometric")


@given(pairs)
@settings(deadline=None, max_examples=60)
def test_nmi_and_ari_are_scikit_learns(labels: np.ndarray) -> None:
    true, pred = labels.T
    for average in averages:
        theirs = normalized_mutual_info_score(true, pred, average_method=average)
        assert nmi(true, pred, average) == pytest.approx(theirs, abs=1e-9)
    assert ari(true, pred) == pytest.approx(adjusted_rand_score(true, pred), abs=1e-9)


@given(pairs, st.permutations(range(4)))
@example(np.array([[0, 0], [0, 0], [0, 0], [1, 1], [1, 1]]), [0, 1, 2, 3])  # rounding gave an NMI of 1 - 1e-16
@settings(deadline=None, max_examples=40)
def test_the_names_of_the_groups_do_not_matter(labels: np.ndarray, names: list[int]) -> None:
    true, pred = labels.T
    renamed = np.array(names)[pred]
    for metric in (purity, nmi, ari):
        assert metric(true, pred) == pytest.approx(metric(true, renamed), abs=1e-9)
        assert metric(true, true) == metric(true, np.array(names)[true]) == 1
    for metric in (nmi, ari):
        assert metric(true, pred) == pytest.approx(metric(pred, true), abs=1e-9)
    assert nmi(true, pred) <= nmi(true, pred, "geometric") + 1e-9
    assert accuracy(true, pred) <= purity(true, pred) <= 1


def test_torchmetrics_agrees() -> None:
    rng = np.random.default_rng(0)
    true = rng.integers(0, 6, 500)
    pred = np.where(rng.random(500) < 0.6, true, rng.integers(0, 8, 500))
    as_tensors = torch.tensor(pred), torch.tensor(true)
    with torch.sparse.check_sparse_tensor_invariants(True):  # else torch warns of torchmetrics' sparse table
        for average in averages:
            theirs = torchmetrics.normalized_mutual_info_score(*as_tensors, average_method=average)
            assert nmi(true, pred, average) == pytest.approx(float(theirs), abs=1e-5)
        assert ari(true, pred) == pytest.approx(float(torchmetrics.adjusted_rand_score(*as_tensors)), abs=1e-5)


def test_purity_is_the_slow_share() -> None:
    rng = np.random.default_rng(1)
    true, pred = rng.integers(0, 4, 200), rng.integers(0, 7, 200)
    slow = sum(max((true[pred == j] == c).sum() for c in range(4)) for j in range(7)) / 200
    assert purity(true, pred) == pytest.approx(slow)


def test_contingency_counts_by_cluster_and_class() -> None:
    assert contingency(np.array([0, 0, 1, 2]), np.array([1, 1, 1, 0])).tolist() == [[0, 0, 1], [2, 1, 0]]


def test_pairs_of_many_items_do_not_overflow() -> None:
    """Products of pair counts exceed 64 bits from about a hundred thousand items."""
    counts = np.array([[40_000_000, 10_000_000], [10_000_000, 40_000_000]])
    assert ari_of(counts) == pytest.approx(0.36, abs=1e-6)


def test_many_tables_at_once_are_each_by_itself() -> None:
    tables = np.random.default_rng(2).integers(0, 4, (50, 3, 4))
    tables[0] = [[0, 0, 0, 0], [0, 0, 5, 0], [0, 0, 0, 0]]
    tables[1] = [[0, 0, 0, 0], [1, 2, 3, 1], [0, 0, 0, 0]]
    for metric in (purity_of, nmi_of, ari_of):
        assert metric(tables).tolist() == pytest.approx([float(metric(table)) for table in tables], abs=1e-12)


@pytest.mark.usefixtures("unchecked_types")
def test_an_unknown_mean_is_refused() -> None:
    with pytest.raises(InputError, match="average is 'max': it takes 'arithmetic' or 'geometric'"):
        nmi([0, 0, 1], [0, 1, 1], average="max")  # type: ignore[arg-type]
