"""Accept sets: slow twins, the exact chance of a false claim, and what must never happen."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, binomtest, hypergeom

from coterie.evaluation import accept
from coterie.types import InputError

confidences = st.lists(st.integers(0, 32).map(lambda i: i / 32), min_size=1, max_size=60).map(np.array)
errors = st.sampled_from([0.01, 0.05, 0.1, 0.25, 0.5])


def population(n: int, seed: int, overconfidence: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Confidences, and whether each item is right, which its confidence less `overconfidence` says how often."""
    rng = np.random.default_rng(seed)
    confidence = rng.beta(4, 1, n)
    return confidence, rng.random(n) < confidence - overconfidence


# Without labels


def slow_expected_threshold(confidence: np.ndarray, max_error: float) -> float | None:
    fitting = [t for t in set(confidence.tolist()) if np.mean(1 - confidence[confidence >= t]) <= max_error + 1e-7]
    return min(fitting, default=None)


@given(confidences, errors)
@settings(deadline=None, max_examples=80)
def test_expected_threshold_is_the_largest_set_that_fits(confidence: np.ndarray, max_error: float) -> None:
    assert accept.expected_threshold(confidence, max_error) == slow_expected_threshold(confidence, max_error)


@given(confidences, errors, errors)
@settings(deadline=None, max_examples=60)
def test_a_larger_error_never_accepts_less(confidence: np.ndarray, one: float, other: float) -> None:
    few, many = (
        accept.accepted_items(confidence, accept.expected_threshold(confidence, x)) for x in sorted((one, other))
    )
    assert not (few & ~many).any()


def test_confidences_of_single_precision_serve_their_own_error() -> None:
    confidence = np.full(10, 0.95, dtype=np.float32)
    threshold = accept.expected_threshold(confidence, 0.05)
    assert accept.accepted_items(confidence, threshold).all()
    assert accept.expected_threshold(confidence, 0.049) is None


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_a_threshold_by_hand_takes_items_of_just_that_confidence(kind: type) -> None:
    confidence = np.array([0.7, 0.9, 0.95], dtype=kind)
    assert accept.accepted_items(confidence, 0.9).tolist() == [False, True, True]
    below = np.nextafter(confidence[1:2], kind(0))
    assert not accept.accepted_items(below, float(confidence[1])).any()


def test_calibrated_confidences_keep_what_they_promise() -> None:
    confidence, right = population(200_000, seed=0)
    for max_error in (0.05, 0.1):
        accepted = accept.accepted_items(confidence, accept.expected_threshold(confidence, max_error))
        assert 0.05 < accepted.mean() < 1
        assert 1 - right[accepted].mean() == pytest.approx(max_error, abs=0.005)


def test_clusters_add_up_and_empty_ones_have_a_row() -> None:
    confidence = np.array([0.9, 0.8, 0.7, 0.6])
    rows = accept.by_cluster(np.array([0, 0, 2, 2]), confidence, confidence >= 0.7, 4)
    assert [(row["size"], row["accepted"]) for row in rows] == [(2, 2), (0, 0), (2, 1), (0, 0)]
    assert [row["cluster"] for row in rows] == [0, 1, 2, 3]
    assert rows[0]["expected_error"] == pytest.approx(0.15)
    assert rows[1]["expected_error"] is None


# The bound


@pytest.mark.parametrize("judged", [1, 7, 59, 300])
@pytest.mark.parametrize("level", [0.9, 0.95, 0.99])
def test_error_bound_is_clopper_and_pearsons(judged: int, level: float) -> None:
    for wrong in {0, 1, judged // 10, judged // 2, judged - 1, judged}:
        exact = binomtest(wrong, judged, alternative="less").proportion_ci(level, method="exact").high
        assert accept.error_bound(wrong, judged, level) == pytest.approx(exact, abs=1e-9)


def test_error_bound_grows_with_errors_and_shrinks_with_judgements() -> None:
    assert accept.error_bound(0, 0) == 1
    bounds = [accept.error_bound(wrong, 50) for wrong in range(51)]
    assert bounds == sorted(bounds)
    assert [accept.error_bound(0, judged) for judged in range(1, 90)] == sorted(
        (accept.error_bound(0, judged) for judged in range(1, 90)), reverse=True
    )
    assert accept.error_bound(3, 50, 0.99) > accept.error_bound(3, 50, 0.9) > 3 / 50


@pytest.mark.parametrize(("max_error", "level"), [(0.05, 0.95), (0.1, 0.95), (0.01, 0.99), (0.3, 0.8)])
def test_judged_needed_for_zero_errors_is_the_closed_form(max_error: float, level: float) -> None:
    assert accept.judged_needed(max_error, level) == math.ceil(math.log(1 - level) / math.log(1 - max_error))
    for wrong in (0, 1, 4):
        needed = accept.judged_needed(max_error, level, wrong)
        assert accept.error_bound(wrong, needed, level) <= max_error < accept.error_bound(wrong, needed - 1, level)


def test_the_bound_holds_when_drawn_without_replacement() -> None:
    """The exact chance that a set whose error is just too large passes, over the hypergeometric distribution."""
    for size in (60, 200, 1000):
        for judged in (20, 59, size):
            for max_error in (0.05, 0.1, 0.3):
                wrong_items = math.floor(max_error * size) + 1
                chance = sum(
                    hypergeom.pmf(wrong, size, wrong_items, min(judged, size))
                    for wrong in range(wrong_items + 1)
                    if accept.error_bound(wrong, min(judged, size)) <= max_error
                )
                assert chance <= 0.05 + 1e-12


# The audit


def slow_audit(
    confidence: np.ndarray, judged: np.ndarray, right: np.ndarray, max_error: float, level: float
) -> float | None:
    """The last of the thresholds that passed before the first failure, each by a one-sided binomial test."""
    n, needed = len(confidence), math.ceil(math.log(1 - level) / math.log(1 - max_error))
    ordered, chosen = sorted(confidence.tolist(), reverse=True), None
    thresholds = [ordered[math.ceil(part * n / 20) - 1] for part in range(1, 21)]
    for threshold in sorted(set(thresholds), reverse=True):
        expected = len(judged) * sum(c >= threshold for c in ordered) / n
        if expected < min(2 * needed, (needed + len(judged)) / 2) and threshold != ordered[-1]:
            continue
        inside = [row for row, item in enumerate(judged) if confidence[item] >= threshold]
        wrong = sum(not right[row] for row in inside)
        if binom.cdf(wrong, len(inside), max_error) > 1 - level:
            break
        chosen = threshold
    return chosen


def test_audit_is_its_slow_twin() -> None:
    found = set()
    for seed in range(40):
        rng = np.random.default_rng(seed)
        confidence, right = population(600, seed, overconfidence=0.1 * rng.random())
        confidence = np.round(confidence, 2)
        rows = accept.draw_sample(600, int(rng.integers(60, 500)), seed)
        max_error, level = float(rng.choice([0.05, 0.1, 0.2])), float(rng.choice([0.8, 0.95]))
        chosen = accept.audit(confidence, rows, right[rows], max_error, level).chosen
        found.add(chosen is None)
        assert (chosen.threshold if chosen else None) == slow_audit(confidence, rows, right[rows], max_error, level)
    assert found == {True, False}


@pytest.mark.parametrize(("seed", "overconfidence"), [(0, 0.0), (1, 0.05), (2, 0.3)])
def test_the_stated_bound_holds_in_the_stated_share_of_audits(seed: int, overconfidence: float) -> None:
    """Whether the confidences are worth anything or not; within what chance allows 200 audits."""
    confidence, right = population(3000, seed, overconfidence)
    false = 0
    for audit in range(200):
        rows = accept.draw_sample(3000, 250, audit)
        chosen = accept.audit(confidence, rows, right[rows], 0.1).chosen
        false += chosen is not None and np.mean(~right[confidence >= chosen.threshold]) > 0.1
    assert false <= binom.ppf(0.999, 200, 0.05)


def test_the_level_is_used_where_every_set_is_just_too_wrong() -> None:
    """The worst case for a family of tests: all claims are false, and yet at most one audit in ten makes one."""
    n, rng = 4000, np.random.default_rng(0)
    confidence, right = rng.permutation(n) / n, np.empty(n, dtype=bool)
    right[np.argsort(confidence)[::-1]] = np.arange(n) % 9 > 0  # one in nine is wrong, of the surest as of all
    claims = sum(
        accept.audit(confidence, rows, right[rows], 0.1, 0.9).chosen is not None
        for rows in (accept.draw_sample(n, 300, seed) for seed in range(250))
    )
    assert 0 < claims <= binom.ppf(0.999, 250, 0.1)


def test_more_wrong_judgements_never_accept_more() -> None:
    confidence, right = population(2000, seed=3)
    rows = accept.draw_sample(2000, 400, 0)
    answers, accepted = right[rows].copy(), []
    for item in np.random.default_rng(0).permutation(np.flatnonzero(answers))[:120:4]:
        chosen = accept.audit(confidence, rows, answers, 0.1).chosen
        accepted.append(chosen.accepted if chosen else 0)
        answers[item] = False
    assert accepted == sorted(accepted, reverse=True)
    assert accepted[0] > accepted[-1]


def test_steps_stop_at_the_first_failure_and_count_what_they_say() -> None:
    confidence, right = population(2000, seed=4)
    rows = accept.draw_sample(2000, 400, 1)
    found = accept.audit(confidence, rows, right[rows], 0.1)
    thresholds = [step.threshold for step in found.steps]
    assert thresholds == sorted(thresholds, reverse=True)
    assert [step.passed for step in found.steps] == [True] * (len(found.steps) - 1) + [False]
    assert found.chosen == found.steps[-2]
    for step in found.steps:
        inside = confidence[rows] >= step.threshold
        assert (step.judged, step.wrong) == (inside.sum(), (~right[rows][inside]).sum())
        assert step.accepted == (confidence >= step.threshold).sum()
        assert step.bound == accept.error_bound(step.wrong, step.judged)


def test_the_grid_ends_with_everything_and_begins_where_enough_are_judged() -> None:
    confidence, _ = population(1000, seed=5)
    assert accept.threshold_grid(confidence, 59, 0.05) == [confidence.min()]
    grid = accept.threshold_grid(confidence, 1000, 0.05)
    shares = [(confidence >= threshold).mean() for threshold in grid]
    np.testing.assert_allclose(shares, np.arange(3, 21) / 20)
    assert accept.threshold_grid(np.full(50, 0.7), 50, 0.1) == [0.7]


def test_thresholds_of_ones_own_are_tried_from_the_strictest() -> None:
    confidence = np.linspace(0, 1, 200)
    right = confidence > 0.3
    found = accept.audit(confidence, np.arange(200), right, 0.1, thresholds=[0.2, 0.6, 0.4])
    assert [step.threshold for step in found.steps] == [0.6, 0.4, 0.2]
    assert found.chosen is not None
    assert found.chosen.threshold == 0.4


# The sample


def test_samples_are_drawn_alike_without_those_judged() -> None:
    first = accept.draw_sample(50, 20, seed=1)
    assert len(set(first.tolist())) == 20
    assert (first == accept.draw_sample(50, 20, seed=1)).all()
    more = accept.draw_sample(50, 30, seed=2, judged=first.tolist())
    assert sorted([*first.tolist(), *more.tolist()]) == list(range(50))
    drawn = np.array([accept.draw_sample(10, 3, seed) for seed in range(3000)])
    for place in range(3):  # every item in every place: whoever stops early keeps a random sample
        counts = np.bincount(drawn[:, place], minlength=10)
        assert abs(counts - 300).max() < 5 * math.sqrt(270)


# Bad input


@pytest.mark.parametrize("max_error", [0.0, 1.0, -0.1, float("nan")])
def test_an_error_that_is_no_share_is_refused(max_error: float) -> None:
    with pytest.raises(InputError, match="between 0 and 1"):
        accept.expected_threshold(np.array([0.5]), max_error)


@pytest.mark.parametrize("level", [0.3, 1.0, float("nan")])
def test_a_level_that_is_none_is_refused(level: float) -> None:
    with pytest.raises(InputError, match="confidence level"):
        accept.audit(np.ones(99), np.arange(99), np.ones(99, dtype=bool), 0.05, level)


def test_audits_that_cannot_be_are_refused() -> None:
    confidence, right = np.linspace(0, 1, 80), np.ones(60, dtype=bool)
    with pytest.raises(InputError, match=r"Only 40 items are judged, but it takes 59 .* judge 19 more"):
        accept.audit(confidence, np.arange(40), right[:40], 0.05)
    with pytest.raises(InputError, match="different rows from 0 to 79"):
        accept.audit(confidence, np.arange(60) + 30, right, 0.05)
    with pytest.raises(InputError, match="different rows"):
        accept.audit(confidence, np.arange(60) // 2, right, 0.05)
    with pytest.raises(InputError, match="give one each"):
        accept.audit(confidence, np.arange(60), right[:59], 0.05)
    with pytest.raises(InputError, match="outside 0 to 1"):
        accept.expected_threshold(np.array([0.5, float("nan")]), 0.05)


@pytest.mark.parametrize("size", [0, 41])
def test_a_sample_that_cannot_be_drawn_is_refused(size: int) -> None:
    with pytest.raises(InputError, match="from 1 to 40"):
        accept.draw_sample(50, size, seed=0, judged=list(range(10)))


def test_outcomes_may_be_ones_and_zeros_and_nothing_else() -> None:
    confidence, right = population(400, seed=3)
    rows = np.arange(200)
    found = accept.audit(confidence, rows, right[rows], 0.2)
    assert found.steps[0].wrong > 0
    for outcomes in (right[rows].astype(int), right[rows].astype(float), right[rows].tolist()):
        assert accept.audit(confidence.tolist(), rows.tolist(), outcomes, 0.2) == found
    with pytest.raises(InputError, match="given as <U3: give True or False"):
        accept.audit(confidence, rows, np.array(["yes"] * 200), 0.2)
    with pytest.raises(InputError, match="type float64: give their numbers"):
        accept.audit(confidence, rows + 0.5, right[rows], 0.2)
