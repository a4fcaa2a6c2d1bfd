"""Worked numbers of three small fixtures: ten confidences, six rows of three probabilities, two saturated items."""

from collections.abc import Callable

import numpy as np
import pytest

from coterie import evaluation as e

CONFIDENCE = np.array([0.97, 0.91, 0.88, 0.84, 0.79, 0.73, 0.66, 0.61, 0.54, 0.42])
CORRECT = np.array([1, 1, 0, 1, 1, 0, 1, 0, 1, 0], dtype=bool)
ROWS = np.array(
    [
        [0.72, 0.17, 0.11],
        [0.13, 0.58, 0.29],
        [0.21, 0.31, 0.48],
        [0.53, 0.38, 0.09],
        [0.33, 0.25, 0.42],
        [0.05, 0.88, 0.07],
    ]
)
CLASSES = np.array([0, 1, 1, 0, 2, 2])


@pytest.mark.parametrize(
    ("metric", "settings", "expected"),
    [
        (e.calibration_error, {"bins": 5}, 0.143),
        (e.calibration_error, {"bins": 10}, 0.251),
        (e.calibration_error, {"bins": 15}, 0.307),
        (e.root_mean_squared_calibration_error, {"bins": 5}, 0.157107),
        (e.adaptive_calibration_error, {"bins": 5}, 0.167),
        (e.squared_calibration_error, {"bins": 5, "debiased": False}, 0.043885),
        (e.squared_calibration_error, {"bins": 5}, -0.156115),
        (e.auroc, {}, 0.708333),
        (e.fpr95, {}, 0.75),
        (e.aurc, {}, 0.251071),
        (e.e_aurc, {}, 0.138452),
        (e.e_aurc, {"closed_form": True}, 0.157567),
        (e.augrc, {}, 0.17),
        (e.aupr_success, {}, 0.821825),
        (e.aupr_error, {}, 0.691667),
    ],
)
def test_a_number_of_ten_confidences_is_the_worked_one_in_any_order(
    metric: Callable[..., float], settings: dict[str, object], expected: float
) -> None:
    assert metric(CONFIDENCE, CORRECT, **settings) == pytest.approx(expected, abs=1e-6)
    shuffled = np.random.default_rng(0).permutation(10)
    assert metric(CONFIDENCE[shuffled], CORRECT[shuffled], **settings) == pytest.approx(expected, abs=1e-6)


def test_numbers_of_six_rows_of_probabilities_are_the_worked_ones() -> None:
    assert e.brier(ROWS, CLASSES) == pytest.approx(0.611733, abs=1e-6)
    assert e.nll(ROWS, CLASSES) == pytest.approx(1.034342, abs=1e-6)
    assert e.classwise_calibration_error(ROWS, CLASSES, 5) == pytest.approx(0.228889, abs=1e-6)
    top = e.calibration_error(ROWS.max(axis=1), ROWS.argmax(axis=1) == CLASSES, 5)
    assert top == pytest.approx(0.358333, abs=1e-6)


def test_a_confidence_of_1_shares_the_last_bin_or_has_its_own() -> None:
    confidence, correct = np.array([1.0, 0.98]), np.array([False, True])
    assert e.calibration_error(confidence, correct) == pytest.approx(0.49)
    assert e.calibration_error(confidence, correct, closed="left") == pytest.approx(0.51)
