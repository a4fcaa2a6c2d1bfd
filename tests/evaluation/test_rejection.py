from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score, roc_curve

from coterie.evaluation import acceptance, aurc, auroc, fpr95

CONFIDENCE = np.array([0.97, 0.91, 0.88, 0.84, 0.79, 0.73, 0.66, 0.61, 0.54, 0.42])
CORRECT = np.array([1, 1, 0, 1, 1, 0, 1, 0, 1, 0], dtype=bool)
outcomes = st.lists(st.tuples(st.integers(0, 16).map(lambda i: i / 16), st.booleans()), min_size=2, max_size=40)


def test_ten_items() -> None:
    assert auroc(CONFIDENCE, CORRECT) == pytest.approx(0.708333, abs=1e-6)
    assert aurc(CONFIDENCE, CORRECT) == pytest.approx(0.251071, abs=1e-6)
    assert fpr95(CONFIDENCE, CORRECT) == 0.75


@given(outcomes)
@settings(deadline=None, max_examples=60)
def test_auroc_and_fpr95_are_scikit_learns(items: list[tuple[float, bool]]) -> None:
    confidence, correct = map(np.array, zip(*items, strict=True))
    if correct.all() or not correct.any():
        assert np.isnan(auroc(confidence, correct))
        assert np.isnan(fpr95(confidence, correct))
        return
    assert auroc(confidence, correct) == pytest.approx(roc_auc_score(correct, confidence))
    false_positives, true_positives, _ = roc_curve(correct, confidence, drop_intermediate=False)
    assert fpr95(confidence, correct) == pytest.approx(false_positives[true_positives >= 0.95 - 1e-12].min())


@given(outcomes, st.booleans())
@settings(deadline=None, max_examples=60)
def test_rejection_judges_only_the_order(items: list[tuple[float, bool]], square: bool) -> None:
    confidence, correct = map(np.array, zip(*items, strict=True))
    changed = confidence**2 if square else 0.25 + confidence / 2
    for metric in (auroc, aurc, fpr95):
        assert metric(confidence, correct) == pytest.approx(metric(changed, correct), nan_ok=True)
    assert 0 <= aurc(confidence, correct) <= 1


def test_aurc_averages_over_the_orders_of_ties() -> None:
    confidence, correct = np.array([0.9, 0.7, 0.7, 0.7, 0.7, 0.2]), np.array([1, 0, 1, 1, 0, 1], dtype=bool)

    def in_order(right: np.ndarray) -> float:
        return float(np.mean([np.mean(~right[: j + 1]) for j in range(len(right))]))

    orders = [in_order(np.r_[correct[0], correct[1:5][list(p)], correct[5]]) for p in permutations(range(4))]
    assert aurc(confidence, correct) == pytest.approx(np.mean(orders))


def test_perfect_and_useless_order() -> None:
    correct = np.arange(100) < 70
    confidence = np.linspace(1, 0, 100)
    assert (auroc(confidence, correct), fpr95(confidence, correct)) == (1, 0)
    assert aurc(confidence, correct) == pytest.approx(0.0503, abs=2e-3)
    constant = np.full(100, 0.5)
    assert aurc(constant, correct) == pytest.approx(0.3)
    assert (auroc(constant, correct), fpr95(constant, correct)) == (0.5, 1)


def test_acceptance_counts_those_above_each_threshold() -> None:
    for row in acceptance(CONFIDENCE, CORRECT):
        accepted = row["threshold"] <= CONFIDENCE
        assert row["count"] == accepted.sum()
        if row["count"]:
            assert row["expected_error"] == pytest.approx(np.mean(1 - CONFIDENCE[accepted]))
            assert row["error"] == pytest.approx(np.mean(~CORRECT[accepted]))
    assert (row["threshold"], row["expected_error"], row["error"]) == (0.99, None, None)
    assert all(row["error"] is None for row in acceptance(CONFIDENCE))
