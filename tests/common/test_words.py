"""How thresholds are printed."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from coterie.cli.predict import foreign_sentence
from coterie.common.words import limit
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


def test_sentences_have_such_thresholds() -> None:
    said = foreign_sentence({"below": 2, "score": "entropy", "threshold": -0.00012})
    assert "below -0.00012," in said
    assert [limit_percent(share) for share in (0.934, 0.99997, 1.0, 0.0, 0.0002)] == [
        *("93.4%", "99.997%", "100.0%", "0.0%", "0.02%")
    ]
