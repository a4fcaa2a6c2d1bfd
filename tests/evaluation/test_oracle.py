"""Temperature scaling with true labels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import softmax

from coterie.evaluation import calibration_error
from coterie.evaluation.oracle import at_temperature, oracle_temperature
from coterie.types import InputError


def calibrated(n: int = 3000, k: int = 4, seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Logits (n, k), and labels drawn from their softmax."""
    rng = np.random.default_rng(seed)
    logits = 2 * rng.normal(size=(n, k))
    labels = (softmax(logits, axis=1).cumsum(1) < rng.random((n, 1))).sum(1).clip(max=k - 1)
    return logits, labels


def mean_loss(labels: NDArray[np.int64], p: NDArray[np.float64], temperature: float) -> float:
    """The slow twin."""
    total = 0.0
    for row, label in zip(p, labels, strict=True):
        weights = row ** (1 / temperature)
        total -= np.log(weights[label] / weights.sum())
    return total / len(labels)


def test_calibrated_probabilities_keep_their_temperature_and_sharper_ones_are_brought_back() -> None:
    logits, labels = calibrated()
    plain = oracle_temperature(labels, softmax(logits, axis=1))
    assert plain == pytest.approx(1, abs=0.05)
    for factor in (0.5, 3.0):
        assert oracle_temperature(labels, softmax(factor * logits, axis=1)) == pytest.approx(factor * plain, rel=1e-3)


@given(seed=st.integers(0, 100), factor=st.floats(0.3, 1.5))
@settings(max_examples=10, deadline=None)
def test_no_other_temperature_has_a_lower_loss(seed: int, factor: float) -> None:
    logits, labels = calibrated(60, 3, seed)
    p = softmax(factor * logits, axis=1)
    mapped = p[:, _columns(labels, p)]
    best = oracle_temperature(labels, p)
    least = mean_loss(labels, mapped, best)
    assert all(least <= mean_loss(labels, mapped, best * other) + 1e-9 for other in (0.5, 0.9, 0.99, 1.01, 1.1, 2.0))


def _columns(labels: NDArray[np.int64], p: NDArray[np.float64]) -> list[int]:
    """The group of each class by trying all maps."""
    from itertools import permutations

    found = p.argmax(1)
    return list(max(permutations(range(3)), key=lambda groups: (np.array(groups)[labels] == found).sum()))


def test_groups_may_be_numbered_otherwise_than_classes() -> None:
    logits, labels = calibrated()
    p = softmax(2 * logits, axis=1)
    assert oracle_temperature(labels, p[:, [2, 0, 3, 1]]) == pytest.approx(oracle_temperature(labels, p))


def test_scaling_keeps_labels_and_mends_the_calibration_error() -> None:
    logits, labels = calibrated()
    sharp = softmax(4 * logits, axis=1)
    mended = at_temperature(sharp, oracle_temperature(labels, sharp))
    assert (mended.argmax(1) == sharp.argmax(1)).all()
    assert mended.sum(1) == pytest.approx(1)
    correct = sharp.argmax(1) == labels
    assert calibration_error(mended.max(1), correct) < 0.3 * calibration_error(sharp.max(1), correct)
    assert at_temperature(sharp, 1.0) == pytest.approx(sharp)


def test_one_hot_rows_are_a_limit_that_stays_finite() -> None:
    labels = np.arange(100) % 2
    wrong = labels.copy()
    wrong[:20] = 1 - wrong[:20]
    p = at_temperature(np.eye(2)[wrong], oracle_temperature(labels, np.eye(2)[wrong]))
    assert p.max(1) == pytest.approx(0.8, abs=1e-3)


def test_what_has_no_such_temperature_is_refused() -> None:
    with pytest.raises(InputError, match="3 classes for 2 groups"):
        oracle_temperature(np.array([0, 1, 2]), np.full((3, 2), 0.5))
    with pytest.raises(InputError, match="one row per item"):
        oracle_temperature(np.array([0, 1]), np.array([0.5, 0.5]))
    with pytest.raises(InputError, match="one label per item"):
        oracle_temperature(np.array([0, 1]), np.full((3, 2), 0.5))
