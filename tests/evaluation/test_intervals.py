from typing import Any

import numpy as np
import pytest
from scipy import stats

from coterie.evaluation import (
    aurc,
    auroc,
    bootstrap,
    bootstrap_counts,
    bootstrap_ranking,
    calibration_errors,
    contingency,
    nmi,
    rejection,
)
from coterie.evaluation.agreement import nmi_of
from coterie.evaluation.calibration_errors import by_confidence
from coterie.evaluation.intervals import GROUPS, grouped
from coterie.evaluation.ranking import Ranking, area_under_roc, average_precision, false_positive_rate
from coterie.types import InputError

# Each number of arrays beside its form of a ranking.
NUMBERS = {
    "ece": (calibration_errors.calibration_error, calibration_errors.calibration_error_of),
    "adaptive": (calibration_errors.adaptive_calibration_error, calibration_errors.adaptive_calibration_error_of),
    "debiased": (calibration_errors.debiased_calibration_error, calibration_errors.debiased_calibration_error_of),
    "squared": (calibration_errors.squared_calibration_error, calibration_errors.squared_calibration_error_of),
    "over": (calibration_errors.overconfidence, calibration_errors.overconfidence_of),
    "auroc": (rejection.auroc, area_under_roc),
    "aurc": (rejection.aurc, rejection.aurc_of),
    "e_aurc": (rejection.e_aurc, rejection.e_aurc_of),
    "augrc": (rejection.augrc, rejection.augrc_of),
    "fpr95": (rejection.fpr95, false_positive_rate),
    "aupr": (rejection.aupr_success, average_precision),
}


def example(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    confidence = rng.beta(5, 1.5, n)
    return confidence, rng.random(n) < confidence**1.5


def width(interval: tuple[float, float]) -> float:
    return interval[1] - interval[0]


def test_interval_of_a_mean_is_the_normal_one() -> None:
    x = np.random.default_rng(1).normal(3, 2, 400)
    low, high = bootstrap(lambda rows: float(rows.mean()), x, resamples=2000)
    half = 1.96 * x.std() / 20
    assert (low, high) == (pytest.approx(x.mean() - half, abs=0.03), pytest.approx(x.mean() + half, abs=0.03))
    narrower = bootstrap(lambda rows: float(rows.mean()), x, resamples=2000, level=0.5)
    assert low < narrower[0] < narrower[1] < high


def test_interval_is_scipys() -> None:
    confidence, correct = example(100)

    def of_floats(values: np.ndarray, right: np.ndarray) -> float:
        return auroc(values, right > 0)

    asked: Any = {"paired": True, "vectorized": False, "n_resamples": 400, "method": "percentile", "random_state": 0}
    theirs = stats.bootstrap((confidence, correct), of_floats, **asked).confidence_interval
    ours = bootstrap(auroc, confidence, correct, resamples=400)
    assert ours == pytest.approx((theirs.low, theirs.high), abs=0.2 * width(ours))


def test_seed_decides() -> None:
    confidence, correct = example(50)
    first, again, other = (bootstrap(aurc, confidence, correct, seed=seed, resamples=50) for seed in (1, 1, 2))
    assert first == again != other
    ranking = by_confidence(confidence, correct)
    first, again, other = (
        bootstrap_ranking({"aurc": rejection.aurc_of}, ranking, seed=seed, resamples=50)["aurc"] for seed in (1, 1, 2)
    )
    assert first == again != other


def test_large_tables_are_drawn_a_few_at_a_time_and_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    table = np.random.default_rng(0).integers(1, 9, (4, 5))
    at_once = bootstrap_counts({"nmi": nmi_of}, table, resamples=50)
    monkeypatch.setattr("coterie.evaluation.intervals.CELLS", 140)  # 7 of 20 cells
    drawn: list[int] = []

    def counted(tables: np.ndarray) -> np.ndarray:
        drawn.append(len(tables))
        return nmi_of(tables)

    assert bootstrap_counts({"nmi": counted}, table, resamples=50) == at_once
    assert drawn == [7] * 7 + [1]


def test_undefined_resamples_are_left_out() -> None:
    confidence, correct = np.array([0.9, 0.8, 0.3]), np.array([True, True, False])
    assert bootstrap(auroc, confidence, correct) == (1, 1)
    assert np.isnan(bootstrap(auroc, confidence, np.ones(3, dtype=bool))).all()


@pytest.mark.parametrize("name", NUMBERS)
def test_many_resamples_at_once_are_each_by_itself(name: str) -> None:
    """Row r of a ranking of many stands for its items repeated as often as it says, at times not at all."""
    single, of_ranking = NUMBERS[name]
    rng = np.random.default_rng(3)
    scores = np.linspace(1, 0.1, 12)
    drawn = rng.multinomial(30, rng.dirichlet(np.ones(24)), size=8).reshape(8, 2, 12)
    drawn[0, 1] = 0  # none wrong
    drawn[0, 0, 0] += 30 - drawn[0].sum()
    found = of_ranking(Ranking(scores, drawn.sum(1).astype(float), drawn[:, 0].astype(float)))
    assert found.shape == (8,)
    for number, (right, wrong) in zip(found, drawn, strict=True):
        confidence, correct = np.repeat(np.r_[scores, scores], np.r_[right, wrong]), np.arange(30) < right.sum()
        assert number == pytest.approx(single(confidence, correct), abs=1e-9, nan_ok=True)


def test_counts_give_the_intervals_that_rows_give() -> None:
    rng = np.random.default_rng(2)
    true = rng.integers(0, 5, 300)
    pred = np.where(rng.random(300) < 0.7, true, rng.integers(0, 5, 300))
    by_rows = bootstrap(nmi, true, pred, resamples=400)
    by_counts = bootstrap_counts({"nmi": nmi_of}, contingency(true, pred), resamples=400)["nmi"]
    assert by_counts == pytest.approx(by_rows, abs=0.15 * width(by_rows))


@pytest.mark.parametrize("n", [300, 3 * GROUPS])
def test_rankings_give_the_intervals_that_rows_give(n: int) -> None:
    """300 confidences are taken as they are, 6,144 in groups."""
    confidence, correct = example(n)
    numbers = {name: NUMBERS[name] for name in ("ece", "auroc", "aurc")}
    metrics = {name: of_ranking for name, (_, of_ranking) in numbers.items()}
    found = bootstrap_ranking(metrics, by_confidence(confidence, correct), resamples=300)
    for name, (single, _) in numbers.items():
        by_rows = bootstrap(single, confidence, correct, resamples=300)
        assert found[name] == pytest.approx(by_rows, abs=0.25 * width(by_rows)), name


def test_groups_hold_every_item_and_move_no_number() -> None:
    confidence, correct = example(20_000)
    fine = by_confidence(confidence, correct)
    coarse = grouped(fine)
    assert len(coarse.scores) <= GROUPS
    assert (np.diff(coarse.scores) < 0).all()
    assert (coarse.positives.sum(), coarse.negatives.sum()) == (correct.sum(), (~correct).sum())
    for name, (_, of_ranking) in NUMBERS.items():
        assert float(of_ranking(coarse)) == pytest.approx(float(of_ranking(fine)), abs=2e-3), name


def test_equal_confidences_stay_in_one_group() -> None:
    confidence = np.r_[np.ones(9_000), np.linspace(0.2, 0.9, 5_000)]
    coarse = grouped(by_confidence(confidence, np.ones(14_000, dtype=bool)))
    assert (coarse.scores[0], coarse.counts[0]) == (1, 9_000)


@pytest.mark.parametrize(
    ("arrays", "settings"),
    [
        ([[1, 2], [1]], {}),
        ([], {}),
        ([[]], {}),
        ([[1, 2]], {"resamples": 0}),
        ([[1, 2]], {"level": 1.0}),
        ([[1, 2]], {"level": 95.0}),
    ],
)
def test_bad_settings_are_refused(arrays: list[list[float]], settings: dict[str, float]) -> None:
    with pytest.raises(InputError, match=r"give|it takes a whole number from 1"):
        bootstrap(np.mean, *map(np.array, arrays), **settings)  # type: ignore[arg-type]
