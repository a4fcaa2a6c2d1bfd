from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve
from torchmetrics.classification import BinaryAUROC, BinaryAveragePrecision

from coterie.evaluation import (
    acceptance,
    augrc,
    aupr_error,
    aupr_success,
    aurc,
    auroc,
    e_aurc,
    fpr95,
    risk_coverage,
)

ALL = (auroc, aurc, e_aurc, augrc, fpr95, aupr_success, aupr_error)

CONFIDENCE = np.array([0.97, 0.91, 0.88, 0.84, 0.79, 0.73, 0.66, 0.61, 0.54, 0.42])
CORRECT = np.array([1, 1, 0, 1, 1, 0, 1, 0, 1, 0], dtype=bool)
outcomes = st.lists(st.tuples(st.integers(0, 16).map(lambda i: i / 16), st.booleans()), min_size=2, max_size=40)


@given(outcomes)
@settings(deadline=None, max_examples=40)
def test_curves_are_scikit_learns(items: list[tuple[float, bool]]) -> None:
    confidence, correct = map(np.array, zip(*items, strict=True))
    if correct.all() or not correct.any():
        assert np.isnan(auroc(confidence, correct))
        assert np.isnan(fpr95(confidence, correct))
        return
    assert auroc(confidence, correct) == pytest.approx(roc_auc_score(correct, confidence))
    false_positives, true_positives, _ = roc_curve(correct, confidence, drop_intermediate=False)
    assert fpr95(confidence, correct) == pytest.approx(false_positives[true_positives >= 0.95 - 1e-12].min())
    nearest = np.abs(true_positives - 0.95).round(12).argmin()
    assert fpr95(confidence, correct, nearest=True) == pytest.approx(false_positives[nearest])
    assert aupr_success(confidence, correct) == pytest.approx(average_precision_score(correct, confidence))
    assert aupr_error(confidence, correct) == pytest.approx(average_precision_score(~correct, -confidence))


@given(outcomes, st.booleans())
@settings(deadline=None, max_examples=40)
def test_rejection_judges_only_the_order(items: list[tuple[float, bool]], square: bool) -> None:
    confidence, correct = map(np.array, zip(*items, strict=True))
    changed = confidence**2 if square else 0.25 + confidence / 2
    for metric in ALL:
        assert metric(confidence, correct) == pytest.approx(metric(changed, correct), nan_ok=True)
    assert 0 <= aurc(confidence, correct) <= 1


@given(outcomes, st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=40)
def test_the_order_of_the_items_does_not_matter(items: list[tuple[float, bool]], random: object) -> None:
    shuffled = list(items)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    for metric in ALL:
        before, after = (metric(*map(np.array, zip(*x, strict=True))) for x in (items, shuffled))
        assert before == pytest.approx(after, abs=1e-12, nan_ok=True)


def slow_risks(correct: np.ndarray) -> np.ndarray:
    """Errors among the first j, for j = 1..n, of items in this order."""
    return np.array([np.sum(~correct[: j + 1]) for j in range(len(correct))])


def test_areas_average_over_the_orders_of_ties() -> None:
    confidence, correct = np.array([0.9, 0.7, 0.7, 0.7, 0.7, 0.2]), np.array([1, 0, 1, 1, 0, 1], dtype=bool)
    orders = [np.r_[correct[0], correct[1:5][list(p)], correct[5]] for p in permutations(range(4))]
    slow = np.mean([np.mean(slow_risks(order) / np.arange(1, 7)) for order in orders])
    assert aurc(confidence, correct) == pytest.approx(slow)
    assert augrc(confidence, correct) == pytest.approx(np.mean([np.mean(slow_risks(order)) / 6 for order in orders]))


@given(st.lists(st.booleans(), min_size=1, max_size=50))
@settings(deadline=None, max_examples=40)
def test_best_and_worst_order(outcome: list[bool]) -> None:
    correct, confidence = np.array(outcome), np.linspace(1, 0, len(outcome))
    best = np.sort(correct)[::-1]
    assert 0 <= e_aurc(confidence, best) < 1e-12
    assert aurc(confidence, best) - 1e-12 <= aurc(confidence, correct) <= aurc(confidence, best[::-1]) + 1e-12
    slow = np.mean(slow_risks(correct) / np.arange(1, len(correct) + 1))
    assert aurc(confidence, correct) == pytest.approx(slow)
    assert e_aurc(confidence, correct) == pytest.approx(slow - aurc(confidence, best), abs=1e-12)


def test_torchmetrics_agrees() -> None:
    rng = np.random.default_rng(3)
    confidence = rng.uniform(size=300).round(2)
    correct = rng.random(300) < confidence
    as_tensors = torch.tensor(confidence), torch.tensor(correct).long()
    assert auroc(confidence, correct) == pytest.approx(float(BinaryAUROC()(*as_tensors)), abs=1e-6)
    assert aupr_success(confidence, correct) == pytest.approx(float(BinaryAveragePrecision()(*as_tensors)), abs=1e-6)


def test_areas_of_many_distinct_confidences_keep_their_digits() -> None:
    """The harmonic sums are differences of large numbers."""
    rng = np.random.default_rng(5)
    correct = rng.random(200_000) < 0.8
    risks = np.cumsum(~correct) / np.arange(1, len(correct) + 1)
    assert aurc(np.linspace(1, 0, len(correct)), correct) == pytest.approx(risks.mean(), rel=1e-9)


@given(outcomes)
@settings(deadline=None, max_examples=40)
def test_risk_coverage_is_what_each_threshold_gives(items: list[tuple[float, bool]]) -> None:
    confidence, correct = map(np.array, zip(*items, strict=True))
    threshold, coverage, risk = risk_coverage(confidence, correct)
    assert threshold.tolist() == sorted(set(confidence.tolist()), reverse=True)
    for t, covered, wrong in zip(threshold, coverage, risk, strict=True):
        assert covered == pytest.approx((confidence >= t).mean())
        assert wrong == pytest.approx((~correct[confidence >= t]).mean())
    assert (coverage[-1], risk[-1]) == (1, pytest.approx((~correct).mean()))


def test_perfect_and_useless_order() -> None:
    correct = np.arange(100) < 70
    confidence = np.linspace(1, 0, 100)
    assert (auroc(confidence, correct), fpr95(confidence, correct)) == (1, 0)
    assert aurc(confidence, correct) == pytest.approx(0.0503, abs=2e-3)
    assert (e_aurc(confidence, correct), aupr_success(confidence, correct)) == (pytest.approx(0, abs=1e-12), 1)
    assert e_aurc(confidence[:30], np.arange(30) < 5) >= 0
    constant = np.full(100, 0.5)
    assert aurc(constant, correct) == pytest.approx(0.3)
    assert augrc(constant, correct) == pytest.approx(0.3 * 101 / 200)
    assert aupr_error(constant, correct) == pytest.approx(0.3)
    assert (auroc(constant, correct), fpr95(constant, correct)) == (0.5, 1)


def test_nothing_far_outside_is_accepted_however_sure_it_looks() -> None:
    (row,) = acceptance(
        np.array([1.0, 0.9, 0.2]), np.array([False, True, True]), (0.5,), np.array([True, False, False])
    )
    assert (row["count"], row["share"], row["error"]) == (1, 1 / 3, 0)
    assert row["expected_error"] == pytest.approx(0.1)


def test_acceptance_counts_those_above_each_threshold() -> None:
    for row in acceptance(CONFIDENCE, CORRECT):
        accepted = row["threshold"] <= CONFIDENCE
        assert row["count"] == accepted.sum()
        if row["count"]:
            assert row["expected_error"] == pytest.approx(np.mean(1 - CONFIDENCE[accepted]))
            assert row["error"] == pytest.approx(np.mean(~CORRECT[accepted]))
    assert (row["threshold"], row["expected_error"], row["error"]) == (0.99, None, None)
    assert all(row["error"] is None for row in acceptance(CONFIDENCE))


def test_a_confidence_reaches_its_own_value_in_single_precision() -> None:
    """0.7 and 0.9 are a little less in float32, and were below the thresholds 0.7 and 0.9."""
    shares = np.arange(11) / 10
    for single, double in zip(acceptance(shares.astype(np.float32)), acceptance(shares), strict=True):
        assert single["count"] == double["count"]
    assert [
        row["count"] for row in acceptance(np.array([0.7, 0.9, 0.99, 1 - 2**-24], np.float32), None, (0.9, 1.0))
    ] == [
        3,
        0,
    ]
