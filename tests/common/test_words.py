"""How thresholds are printed."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from coterie.cli.predict import PredictRequest, foreign_sentence, print_answer
from coterie.common.words import limit, whole_percent
from coterie.prediction.clusterings import Calibrated
from coterie.prediction.results import ResultTable
from coterie.report.wording import limit_percent


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0.000"),
        (-0.0, "0.000"),
        (1.0, "1.000"),
        (-0.4321, "-0.432"),
        (-1234.5678, "-1234.568"),
        (-0.0004, "-0.0004"),
        (-3e-9, "-3e-09"),
        (0.99951, "0.99951"),
        (1 - 2**-24, "0.99999994"),
        (math.inf, "inf"),
    ],
)
def test_a_threshold_is_never_rounded_to_what_nothing_lies_beyond(value: float, text: str) -> None:
    assert limit(value) == text


@given(st.floats(-10, 10))
@example(-1e-300)
@example(1 - 2**-53)
@example(1 + 2**-52)
def test_a_threshold_is_printed_as_itself_to_its_digits(value: float) -> None:
    shown = float(limit(value))
    assert abs(shown - value) <= 0.0005
    assert (shown in (0, 1)) is (value in (0, 1))


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.997, "0.997"), (0.99964, "0.99964"), (1.0, "1.00"), (0.005, "0.01"), (0.0, "0.00"), (-1e-17, "0.00")],
)
def test_a_metric_is_one_only_where_it_is(value: float, text: str) -> None:
    assert limit(value, 2, (1.0,)) == text


def test_whole_percents_are_none_or_all_only_where_they_are() -> None:
    shares = [0.0, 1e-9, 0.004, 0.006, 0.5, 0.9949, 0.995, 0.99999, 1.0]
    assert [whole_percent(share) for share in shares] == [
        *("0%", "<1%", "<1%", "1%", "50%", "99%", ">99%", ">99%", "100%")
    ]


def test_a_mean_confidence_is_one_only_where_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    rows = np.array([[0.997, 0.003], [0.998, 0.002]], np.float32)
    labels, groups = np.zeros(2, np.int64), np.arange(2)
    assert repr(Calibrated(rows, rows.max(1), labels, groups)).endswith("mean confidence 0.9975>")
    assert repr(ResultTable(["a", "b"], labels, rows.max(1), {"cluster": rows})).endswith("mean confidence 0.9975>")
    answer = {"n": 2, "seconds": 0.1, "calibrated": True, "ood_score": None, "judged_before": "", "notes": []}
    print_answer(answer | {"skipped_items": []}, PredictRequest(Path("run"), "new", Path("new.csv")), 0.9975)
    assert "mean confidence 0.9975." in capsys.readouterr().out


def test_sentences_have_such_thresholds() -> None:
    said = foreign_sentence({"below": 2, "score": "entropy", "threshold": -0.00012})
    assert "below -0.00012," in said
    assert [limit_percent(share) for share in (0.934, 0.99997, 1.0, 0.0, 0.0002)] == [
        *("93.4%", "99.997%", "100.0%", "0.0%", "0.02%")
    ]
