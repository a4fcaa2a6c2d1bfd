"""Confidences set right by a judged sample: golden values, what calibrated ones must show, what a map may not do."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.linear_model import LogisticRegression

from coterie.evaluation.recalibration import (
    LEAST,
    accuracy_interval,
    cross_fitted,
    fit,
    identity,
    judge,
    log_loss,
    recalibrate,
    with_confidence,
)
from coterie.types import InputError

KINDS = ("temperature", "platt", "beta")


def sample(m: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Confidences and outcomes that are right as often as they say."""
    rng = np.random.default_rng(seed)
    confidence = rng.beta(9, 1.5, m)
    return confidence, rng.random(m) < confidence


@pytest.mark.parametrize("kind", KINDS)
def test_the_identity_changes_nothing(kind):
    confidence = np.linspace(0.01, 0.99, 20)
    found = type(fit(kind, *sample(40)))(kind, identity(kind))
    assert found(confidence) == pytest.approx(confidence)


@pytest.mark.parametrize("kind", KINDS)
def test_the_fit_is_the_least_of_its_objective_and_keeps_the_order(kind):
    confidence, right = sample(150)
    right[:40] = False
    found = fit(kind, confidence, right)

    def objective(theta):
        away = np.array(theta) - identity(kind)
        return log_loss(type(found)(kind, tuple(theta))(confidence), right).sum() + away @ away

    least = objective(found.theta)
    for place in range(len(found.theta)):
        for step in (-0.05, 0.05):
            other = list(found.theta)
            other[place] += step
            assert objective(other) > least
    grid = np.linspace(0.001, 0.999, 50)
    assert (np.diff(found(grid)) >= 0).all()


def test_platt_is_a_logistic_regression_where_judgements_are_many():
    confidence, right = sample(40_000)
    logit = np.log(confidence / (1 - confidence)) * 2 - 1  # over-confident
    stated = 1 / (1 + np.exp(-logit))
    oracle = LogisticRegression(C=1e9).fit(logit[:, None], right)
    found = fit("platt", stated, right)
    assert found.theta == pytest.approx([float(oracle.coef_[0, 0]), float(oracle.intercept_[0])], abs=0.01)
    assert found.theta == pytest.approx([0.5, 0.5], abs=0.05)


def test_outcomes_without_a_link_give_one_confidence():
    rng = np.random.default_rng(0)
    confidence = rng.beta(9, 1.5, 2000)
    after = cross_fitted("platt", confidence, rng.random(2000) < 0.6)
    assert after.std() < 0.1 * confidence.std() + 0.02
    assert after.mean() == pytest.approx(0.6, abs=0.05)


def test_the_default_lets_sure_items_that_are_wrong_together_level_off():
    """A group of two classes: a third of all items, sure of it, of which 70 % are right; the others are calibrated."""
    rng = np.random.default_rng(0)
    sure = rng.random(4000) < 0.33
    confidence = np.where(sure, 1 - 10 ** rng.uniform(-4, -2, 4000), rng.uniform(0.3, 0.7, 4000))
    right = rng.random(4000) < np.where(sure, 0.7, confidence)
    found = recalibrate(confidence, right)
    assert found.map.kind == "beta"
    true = np.where(sure, 0.7, confidence)
    assert found.map.theta[1] == 0, "it levels off"
    assert np.sqrt(np.mean((found.map(confidence) - true) ** 2)) < 0.05
    assert np.sqrt(np.mean((fit("platt", confidence, right)(confidence) - true) ** 2)) > 0.07


def test_isotonic_takes_many_and_rises():
    confidence, right = sample(600)
    found = fit("isotonic", confidence, right)
    assert (np.diff(found(np.linspace(0, 1, 30))) >= 0).all()
    for kind in (*KINDS, "isotonic"):
        ends = fit(kind, np.r_[confidence, 0.0, 1.0], np.r_[right, False, True])(np.array([0.0, 1.0]))
        assert 0 < ends[0] < ends[1] < 1, "never sure"
    with pytest.raises(InputError, match="judge 100 more, or take another map"):
        recalibrate(confidence[:400], right[:400], "isotonic")
    with pytest.raises(InputError, match=f"at least {LEAST}"):
        recalibrate(confidence[:5], right[:5])


def test_over_confidence_is_mended_and_calibrated_ones_are_left_alone():
    confidence, right = sample(300)
    stated = 1 / (1 + np.exp(-2 * np.log(confidence / (1 - confidence))))
    found = recalibrate(stated, right)
    assert found.helps
    assert abs(found.after.gap) < abs(found.before.gap)
    assert found.before.p < 0.05
    assert found.map.theta[0] < 0.8
    helped = [recalibrate(*sample(150, seed)).helps for seed in range(20)]
    assert sum(helped) <= 6  # by one standard error, which chance exceeds now and then


@pytest.mark.parametrize(("wrong", "low", "high"), [(7, 1.90, 9.38), (15, 5.71, 15.96), (30, 13.92, 27.30)])
def test_the_interval_of_150_judged(wrong, low, high):
    found = accuracy_interval(wrong, 150)
    assert [100 * (1 - share) for share in found[::-1]] == pytest.approx([low, high], abs=0.01)


@settings(deadline=None)
@given(st.integers(1, 200), st.data())
def test_the_interval_is_that_of_scipy(judged, data):
    wrong = data.draw(st.integers(0, judged))
    oracle = binomtest(judged - wrong, judged).proportion_ci(method="exact")
    assert accuracy_interval(wrong, judged) == pytest.approx((oracle.low, oracle.high), abs=1e-9)


def test_the_p_value_of_calibrated_confidences_is_uniform():
    found = np.array([judge(*sample(150, seed), draws=60).p for seed in range(200)])
    assert found.mean() == pytest.approx(0.5, abs=0.1)
    assert (found <= 0.2).mean() == pytest.approx(0.2, abs=0.1)


def test_the_p_value_counts_draws_that_give_just_as_much():
    """Thirds, as three votes give them: every outcome by its binomial probability, errors in whole numbers of 1/72."""
    confidence = np.array([1 / 3] * 6 + [2 / 3] * 6)

    def error(low: int, high: int) -> int:  # right ones of each; five groups of 2, 2, 2 and 1, 2 and 3 items
        u, v = high - 4, low - 2
        return 4 * abs(u) + abs(2 * u + v) + 5 * abs(v)

    outcomes = [(low, high) for low in range(7) for high in range(7)]
    chance = [math.comb(6, a) * 2 ** (6 - a) * math.comb(6, b) * 2**b / 3**12 for a, b in outcomes]
    right = np.r_[np.arange(6) < 1, np.arange(6) < 5]
    exact = sum(p for p, outcome in zip(chance, outcomes, strict=True) if error(*outcome) >= error(1, 5))
    assert judge(confidence, right, draws=4000).p == pytest.approx(exact, abs=0.03)


def test_the_gap_lies_in_its_interval_as_often_as_said():
    inside = []
    for seed in range(400):
        _, right = sample(150, seed)
        low, high = accuracy_interval(int((~right).sum()), 150)
        inside.append(low <= 6 / 7 <= high)  # the mean of Beta(9, 1.5)
    assert np.mean(inside) >= 0.93


def test_what_150_calibrated_items_show_by_chance():
    found = judge(*sample(150), draws=400)
    assert found.by_chance == pytest.approx(0.046, abs=0.006)


@pytest.mark.parametrize(
    ("goal", "row"), [(0.9, (0.9, 0.0908, 0.0092)), (0.5, (0.5, 0.309, 0.191)), (0.4, (0.4, 0.3291, 0.2709))]
)
def test_a_row_is_brought_to_a_confidence(goal, row):
    p = np.exp([[2.0, 1.0, 0.0]])
    assert with_confidence(p / p.sum(), np.array([goal]))[0] == pytest.approx(row, abs=1e-4)


def test_ties_stay_and_no_item_changes_its_group():
    tied = np.array([[0.4, 0.4, 0.2]])
    assert with_confidence(tied, np.array([0.9]))[0] == pytest.approx(tied[0])
    rounded = np.array([[np.nextafter(np.float32(0.4), np.float32(1)), 0.4, 0.2]], dtype=np.float32)
    assert (with_confidence(rounded, np.array([0.9])) == rounded).all()
    hardly = np.array([[0.500001, 0.499999], [0.50001, 0.49999]], dtype=np.float32)
    assert with_confidence(hardly, np.array([0.9, 0.7])).max(1) == pytest.approx([0.9, 0.7], abs=1e-5)
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.full(7, 0.3), 500).astype(np.float32)
    found = with_confidence(p, rng.random(500))
    assert (found.argmax(1) == p.argmax(1)).all()
    assert found.sum(1) == pytest.approx(np.ones(500), abs=1e-5)
    goal = np.clip(rng.random(500), 0.3, 0.99)
    reached = with_confidence(p, goal).max(1)
    clear = np.sort(p, 1)[:, -1] > 1.2 * np.sort(p, 1)[:, -2]
    assert reached[clear] == pytest.approx(goal[clear], abs=1e-4)


def test_outcomes_may_be_ones_and_zeros():
    rng = np.random.default_rng(0)
    confidence, right = rng.uniform(0.5, 1, 60), rng.random(60) < 0.6
    assert recalibrate(confidence, right.astype(int)) == recalibrate(confidence, right)
