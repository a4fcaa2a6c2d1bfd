import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import log_loss

from coterie.evaluation import brier, classwise_calibration_error, nll
from coterie.evaluation.probability_rows import NLL_FLOOR
from coterie.types import InputError


def example(seed: int, n: int = 80, c: int = 4) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.full(c, 0.5), size=n).astype(np.float32).astype(np.float64)
    return p / p.sum(axis=1, keepdims=True), rng.integers(0, c, n)


def slow_classwise(p: np.ndarray, y: np.ndarray, bins: int, threshold: float) -> float:
    errors = []
    for c in range(p.shape[1]):
        column, is_class = p[p[:, c] > threshold, c], (y == c)[p[:, c] > threshold]
        error = 0.0
        for b in range(bins):
            low, high = b / bins + 2**-25 * (b > 0), (b + 1) / bins + 2**-25
            inside = (column > low) & (column <= high)
            if inside.any():
                error += inside.sum() / len(column) * abs(is_class[inside].mean() - column[inside].mean())
        errors.append(error)
    return float(np.mean(errors))


@given(st.integers(0, 1000), st.integers(1, 15), st.sampled_from([0.0, 0.01, 0.2]))
@settings(deadline=None, max_examples=40)
def test_slow_twins(seed: int, bins: int, threshold: float) -> None:
    p, y = example(seed)
    slow = slow_classwise(p, y, bins, threshold)
    assert classwise_calibration_error(p, y, bins, threshold=threshold) == pytest.approx(slow, abs=1e-12)
    assert classwise_calibration_error(p, y, bins) == pytest.approx(slow_classwise(p, y, bins, 0), abs=1e-12)
    squares = [sum((row[c] - (c == label)) ** 2 for c in range(4)) for row, label in zip(p, y, strict=True)]
    assert brier(p, y) == pytest.approx(np.mean(squares))
    logs = [-np.log(max(row[label], 1e-3)) for row, label in zip(p, y, strict=True)]
    assert nll(p, y, floor=1e-3) == pytest.approx(np.mean(logs))


def test_nll_is_scikit_learns() -> None:
    p, y = example(0)
    p = (p + 0.01) / 1.04
    assert nll(p, y) == pytest.approx(log_loss(y, p, labels=range(4)))


@given(st.integers(0, 1000), st.permutations(range(4)))
@settings(deadline=None, max_examples=30)
def test_renaming_columns_and_classes_alike_changes_nothing(seed: int, order: list[int]) -> None:
    p, y = example(seed)
    renamed = np.argsort(order)[y]
    for metric in (brier, nll, classwise_calibration_error):
        assert metric(p, y) == pytest.approx(metric(p[:, order], renamed))


def test_sure_rows_and_the_floor() -> None:
    p, y = np.eye(3, dtype=np.float32), np.arange(3)
    assert (brier(p, y), nll(p, y), classwise_calibration_error(p, y)) == (0, 0, 0)
    wrong = (y + 1) % 3
    assert brier(p, wrong) == 2
    assert nll(p, wrong) == pytest.approx(-np.log(NLL_FLOOR))
    assert nll(p, wrong, floor=0.5) == pytest.approx(np.log(2))
    assert not np.signbit(nll(p, y))
    assert nll(np.array([[1.0001, 0.0]]), y[:1]) == 0  # 16 bits may sum to a little more
    assert brier(np.tile([1 - 1e-12, 1e-12], (100, 1)), np.zeros(100, int)) == 0  # and not -9e-16


def test_rows_of_another_precision_give_what_float64_rows_give() -> None:
    p, y = example(1, n=20_000)
    for metric in (brier, nll, classwise_calibration_error):
        assert metric(p[:99].astype(np.longdouble), y[:99]) == pytest.approx(metric(p[:99], y[:99]), rel=1e-9)
        assert metric(p.astype(np.float32), y) == pytest.approx(
            metric(p.astype(np.float32).astype(np.float64), y), rel=1e-9
        )


def test_a_threshold_above_every_probability_leaves_nothing() -> None:
    p, y = np.full((4, 4), 0.25), np.arange(4)
    assert np.isnan(classwise_calibration_error(p, y, threshold=0.5))


@pytest.mark.parametrize("y", [[0, 1], [0, 1, 3], [0, -1, 2], [[0], [1], [2]]])
def test_classes_that_do_not_fit_are_refused(y: list[int]) -> None:
    with pytest.raises(InputError, match="class"):
        brier(np.full((3, 3), 1 / 3), np.array(y))


@pytest.mark.parametrize("row", [[2.0, -1.0], [3.0, 1.0], [np.nan, 0.5], [0.2, 0.2]])
def test_rows_that_are_no_probabilities_are_refused(row: list[float]) -> None:
    """Logits gave a number."""
    for number in (brier, nll, classwise_calibration_error):
        with pytest.raises(InputError, match="does not sum to 1, or one is below 0 or not a number"):
            number(np.array([row, [0.5, 0.5]]), np.array([0, 1]))
