import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.classification import BinaryCalibrationError

from coterie.evaluation import (
    adaptive_calibration_error,
    calibration_error,
    debiased_calibration_error,
    maximum_calibration_error,
    overconfidence,
    reliability,
    root_mean_squared_calibration_error,
    squared_calibration_error,
)
from coterie.evaluation.calibration_errors import bin_of, by_confidence
from coterie.types import InputError

CONFIDENCE = np.array([0.97, 0.91, 0.88, 0.84, 0.79, 0.73, 0.66, 0.61, 0.54, 0.42])
CORRECT = np.array([1, 1, 0, 1, 1, 0, 1, 0, 1, 0], dtype=bool)

outcomes = st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60)
coarse_outcomes = st.lists(st.tuples(st.sampled_from([0.2, 0.5, 0.9, 1.0]), st.booleans()), min_size=2, max_size=30)


def slow_ece(confidence: np.ndarray, correct: np.ndarray, bins: int) -> float:
    total = 0.0
    for b in range(bins):
        low, high = (b / bins + 2**-25) * (b > 0), (b + 1) / bins + 2**-25
        inside = (confidence > low) & (confidence <= high) | ((b == 0) & (confidence == 0))
        if inside.any():
            total += inside.mean() * abs(correct[inside].mean() - confidence[inside].mean())
    return total


@given(outcomes, st.integers(1, 20))
@settings(deadline=None, max_examples=60)
def test_calibration_error_is_the_slow_sum_and_bounded(items: list[tuple[float, bool]], bins: int) -> None:
    confidence, correct = map(np.array, zip(*items, strict=True))
    ece = calibration_error(confidence, correct, bins)
    assert ece == pytest.approx(slow_ece(confidence, correct, bins), abs=1e-12)
    assert abs(overconfidence(confidence, correct)) - 1e-12 <= ece <= 1 + 1e-12
    assert abs(overconfidence(confidence, correct)) - 1e-12 <= adaptive_calibration_error(confidence, correct, bins)


@given(outcomes, st.integers(1, 20))
@settings(deadline=None, max_examples=60)
def test_the_three_norms_are_in_order(items: list[tuple[float, bool]], bins: int) -> None:
    confidence, correct = map(np.array, zip(*items, strict=True))
    ece, rms, largest = (
        metric(confidence, correct, bins)
        for metric in (calibration_error, root_mean_squared_calibration_error, maximum_calibration_error)
    )
    assert ece - 1e-12 <= rms <= largest + 1e-12 <= 1 + 2e-12


@given(st.lists(st.tuples(st.sampled_from([0.0, 0.21, 0.5, 0.75, 0.99, 1.0]), st.booleans()), min_size=1, max_size=40))
@settings(deadline=None, max_examples=40)
def test_bins_closed_on_the_left_are_torchmetrics(items: list[tuple[float, bool]]) -> None:
    confidence, correct = map(np.array, zip(*items, strict=True))
    as_tensors = torch.tensor(confidence), torch.tensor(correct).long()
    for metric, norm in (
        (calibration_error, "l1"),
        (root_mean_squared_calibration_error, "l2"),
        (maximum_calibration_error, "max"),
    ):
        theirs = float(BinaryCalibrationError(n_bins=12, norm=norm)(*as_tensors))
        assert metric(confidence, correct, 12, closed="left") == pytest.approx(theirs, abs=1e-6)


def test_calibration_error_is_torchmetrics_away_from_the_edges() -> None:
    rng = np.random.default_rng(1)
    confidence = rng.uniform(0.1, 0.999, 500)
    correct = rng.random(500) < confidence**2
    theirs = BinaryCalibrationError(n_bins=15)(torch.tensor(confidence), torch.tensor(correct).long())
    assert calibration_error(confidence, correct) == pytest.approx(float(theirs), abs=1e-6)


@given(st.integers(0, 1000), st.integers(1, 6), st.integers(1, 8))
@settings(deadline=None, max_examples=40)
def test_adaptive_and_squared_errors_are_the_slow_sums(seed: int, size: int, bins: int) -> None:
    """Groups of `size` items each, no ties; with ties the order of the items would matter to the slow sums."""
    rng = np.random.default_rng(seed)
    confidence = rng.permutation(np.linspace(0.1, 1, size * bins))
    correct = rng.random(size * bins) < 0.6
    error = squared = 0.0
    for group in np.argsort(confidence).reshape(bins, size):
        accuracy, gap = correct[group].mean(), correct[group].mean() - confidence[group].mean()
        error += abs(gap) / bins
        if size > 1:
            squared += (gap**2 - accuracy * (1 - accuracy) / (size - 1)) / bins
    assert adaptive_calibration_error(confidence, correct, bins) == pytest.approx(error, abs=1e-12)
    assert squared_calibration_error(confidence, correct, bins) == pytest.approx(squared, abs=1e-12)


@given(coarse_outcomes, st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=40)
def test_order_of_equal_confidences_does_not_matter(items: list[tuple[float, bool]], random: object) -> None:
    shuffled = list(items)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    for error in (adaptive_calibration_error, debiased_calibration_error, squared_calibration_error):
        before, after = (error(*map(np.array, zip(*x, strict=True)), 4) for x in (items, shuffled))
        assert before == pytest.approx(after, abs=1e-12)


def test_debiased_error_is_the_sampled_one() -> None:
    """The authors' form: accuracies of the bins drawn again from a normal distribution."""
    bins, rng = 5, np.random.default_rng(2)
    order = np.argsort(-CONFIDENCE)
    confidence, correct = CONFIDENCE[order].reshape(bins, 2).mean(1), CORRECT[order].reshape(bins, 2).mean(1)
    drawn = rng.normal(correct, np.sqrt(correct * (1 - correct) / 2), size=(200_000, bins))
    plug_in = np.abs(correct - confidence).mean()
    sampled = 2 * plug_in - np.abs(drawn - confidence).mean(axis=1).mean()
    assert debiased_calibration_error(CONFIDENCE, CORRECT, bins) == pytest.approx(sampled, abs=2e-3)


def test_debiasing_takes_two_fifths_of_the_sampling_noise_away() -> None:
    """Where the true error is 0, theory leaves 2 - sqrt 2 = 0.59 of the plug-in's bias; bins of 13 items come near."""
    rng = np.random.default_rng(3)
    plain, debiased = [], []
    for _ in range(100):
        confidence = rng.uniform(0.3, 1, 200)
        correct = rng.random(200) < confidence
        plain.append(adaptive_calibration_error(confidence, correct))
        debiased.append(debiased_calibration_error(confidence, correct))
    assert np.mean(plain) > 0.06
    assert 0.5 < np.mean(debiased) / np.mean(plain) < 0.66


def test_squared_error_of_calibrated_confidences_centres_on_zero_and_the_plug_in_does_not() -> None:
    rng = np.random.default_rng(4)
    plain, debiased, by_size = [], [], {100: [], 1600: []}  # type: ignore[var-annotated]
    for _ in range(100):
        confidence = rng.uniform(0.3, 1, 200)
        correct = rng.random(200) < confidence
        plain.append(squared_calibration_error(confidence, correct, debiased=False))
        debiased.append(squared_calibration_error(confidence, correct))
        for n, found in by_size.items():
            confidence = rng.uniform(0.3, 1, n)
            found.append(calibration_error(confidence, rng.random(n) < confidence))
    error = np.std(debiased) / np.sqrt(len(debiased))
    assert abs(np.mean(debiased)) < 4 * error < np.mean(plain)
    assert np.mean(by_size[100]) / np.mean(by_size[1600]) == pytest.approx(4, rel=0.2)  # falls like 1 / sqrt(n)


def test_saturated_confidence_costs_the_error_rate() -> None:
    confidence, correct = np.ones(10, dtype=np.float32), np.arange(10) < 7
    for error in (calibration_error, adaptive_calibration_error, overconfidence):
        assert error(confidence, correct) == pytest.approx(0.3)


def test_reliability_adds_up_to_the_error() -> None:
    table = reliability(CONFIDENCE, CORRECT, 15)
    assert [b["count"] for b in table if b["accuracy"] is None] == [0] * sum(b["count"] == 0 for b in table)
    assert (table[0]["lower"], table[-1]["upper"], len(table)) == (0, 1, 15)
    total = sum(
        b["count"] / 10 * abs(b["accuracy"] - b["confidence"])
        for b in table
        if b["accuracy"] is not None and b["confidence"] is not None
    )
    assert total == pytest.approx(0.307)


@pytest.mark.parametrize("confidence", [[0.5, 1.5], [0.5, float("nan")], [-3.0, 0.2], [0.5], []])
def test_bad_confidences_are_refused(confidence: list[float]) -> None:
    with pytest.raises(InputError, match="onfidence"):
        calibration_error(np.array(confidence), np.array([True, False]))


@pytest.mark.parametrize("right", [[1, 2, 0], [1, -1, -1], [1.0, np.nan, 0.0], [0.2, 0.9, 0.4], [None] * 3, ["a"] * 3])
def test_outcomes_are_right_or_wrong_and_nothing_else(right: list) -> None:
    """Labels in their place, or -1 for wrong, gave a number."""
    with pytest.raises(InputError, match="Whether each item is right is given as"):
        by_confidence(np.array([0.9, 0.8, 0.4]), np.array(right))


@pytest.mark.parametrize("bins", [0, -1, 10**9])
def test_bins_are_at_least_one_and_fit_into_memory(bins: int) -> None:
    for number in (calibration_error, adaptive_calibration_error, reliability):
        with pytest.raises(InputError, match=f"bins is {bins}: it takes a whole number from 1 to 100000"):
            number(np.array([0.9, 0.8]), np.array([True, False]), bins)


@given(st.integers(1, 60), st.integers(0, 1000))
@settings(deadline=None, max_examples=60)
def test_a_confidence_on_an_edge_is_in_one_bin_in_single_and_in_double(bins: int, seed: int) -> None:
    """0.9 is 0.89999998 in float32, and 3 / 15 is 0.20000000298."""
    rng = np.random.default_rng(seed)
    step = rng.integers(0, bins + 1, 30)
    confidence, correct = step / bins, rng.random(30) < 0.5
    right = [{"bin": max(0, k - 1)} for k in step]
    for given_as in (confidence, confidence.astype(np.float32)):
        assert bin_of(given_as.astype(np.float64), bins).tolist() == [row["bin"] for row in right]
        assert bin_of(given_as.astype(np.float64), bins, "left").tolist() == step.tolist()
        found = calibration_error(given_as, correct, bins)
        assert found == pytest.approx(calibration_error(confidence, correct, bins), abs=1e-6)


def test_the_edges_of_a_reliability_diagram_are_short_numbers() -> None:
    assert [row["lower"] for row in reliability(CONFIDENCE, CORRECT, 10)] == [b / 10 for b in range(10)]
