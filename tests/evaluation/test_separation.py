import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from coterie.evaluation import (
    evaluate_separation,
    separation_aupr_in,
    separation_aupr_out,
    separation_auroc,
    separation_fpr95,
)
from coterie.types import InputError

scores = st.lists(st.integers(-8, 8).map(float), min_size=1, max_size=40)


@given(scores, scores)
@settings(deadline=None, max_examples=60)
def test_separation_is_scikit_learns(inside: list[float], outside: list[float]) -> None:
    score, is_inside = np.r_[inside, outside], np.r_[np.ones(len(inside)), np.zeros(len(outside))]
    false, true, _ = roc_curve(is_inside, score, drop_intermediate=False)
    false_out, true_out, _ = roc_curve(1 - is_inside, -score, drop_intermediate=False)
    expected = {
        "auroc": roc_auc_score(is_inside, score),
        "fpr95": false[true >= 0.95 - 1e-12].min(),
        "fpr95_out_positive": false_out[true_out >= 0.95 - 1e-12].min(),
        "aupr_in": average_precision_score(is_inside, score),
        "aupr_out": average_precision_score(1 - is_inside, -score),
    }
    assert evaluate_separation(inside, outside) == pytest.approx(expected)


def test_single_functions_are_those_of_the_table() -> None:
    rng = np.random.default_rng(0)
    inside, outside = rng.normal(1, 1, 300), rng.normal(0, 1, 200)
    assert evaluate_separation(inside, outside) == {
        "auroc": separation_auroc(inside, outside),
        "fpr95": separation_fpr95(inside, outside),
        "fpr95_out_positive": separation_fpr95(inside, outside, positive="out"),
        "aupr_in": separation_aupr_in(inside, outside),
        "aupr_out": separation_aupr_out(inside, outside),
    }


@given(scores, scores)
@settings(deadline=None, max_examples=40)
def test_only_the_order_counts_and_the_two_sides_mirror_each_other(inside: list[float], outside: list[float]) -> None:
    a, b = np.array(inside), np.array(outside)
    assert evaluate_separation(a, b) == pytest.approx(evaluate_separation(np.exp(a), np.exp(b)))
    here, there = evaluate_separation(a, b), evaluate_separation(-b, -a)
    assert here["auroc"] == pytest.approx(there["auroc"])
    assert here["fpr95"] == pytest.approx(there["fpr95_out_positive"])
    assert here["aupr_in"] == pytest.approx(there["aupr_out"])


def test_identical_and_parted_scores() -> None:
    same = np.linspace(-3, 5, 50)
    assert separation_auroc(same, same) == 0.5
    assert evaluate_separation([2.0, np.inf], [-1.0, -np.inf, 1.9]) == {
        "auroc": 1,
        "fpr95": 0,
        "fpr95_out_positive": 0,
        "aupr_in": 1,
        "aupr_out": 1,
    }


def test_the_two_conventions_differ() -> None:
    inside, outside = np.arange(20.0), np.array([0.5, -1])
    assert separation_fpr95(inside, outside) == 0  # 19 of 20 inside lie at 1 and above
    assert separation_fpr95(inside, outside, positive="out") == 0.05  # at 0.5 and below lies one inside item


@pytest.mark.parametrize(("inside", "outside"), [([], [1.0]), ([1.0], []), ([float("nan")], [1.0]), ([[1.0]], [1.0])])
def test_bad_scores_are_refused(inside: list[float], outside: list[float]) -> None:
    with pytest.raises(InputError, match="score"):
        evaluate_separation(np.array(inside), np.array(outside))


@pytest.mark.usefixtures("unchecked_types")
def test_an_unknown_convention_is_refused() -> None:
    with pytest.raises(InputError, match="positive is 'inside': it takes 'in' or 'out'"):
        separation_fpr95([0.9, 0.7], [0.2], positive="inside")  # type: ignore[arg-type]
