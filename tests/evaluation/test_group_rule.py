"""The rule that reads a curve: what is recommended, what must agree with it, and what is said where nothing is."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coterie.evaluation.group_rule import Row, alike, choice, confirming, recommended, ticks_of

ROW = Row(2, 1.0, 1.0, 0.5, 0.05, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0)
DOUBTFUL = {"prediction_strength": 0.79}


@pytest.mark.parametrize(
    ("rows", "best"),
    [
        ([replace(ROW, k=2), replace(ROW, k=3, excess=0.46)], 3),  # within an error of the best: the largest
        ([replace(ROW, k=2), replace(ROW, k=3, excess=0.44)], 2),
        ([replace(ROW, k=2), replace(ROW, k=9, excess=0.9, **DOUBTFUL)], 2),  # a stabler one, which does not hold
        ([replace(ROW, k=2, excess=0.09)], None),  # no stabler than a Gaussian's groups
    ],
)
def test_what_is_recommended(rows, best):
    assert recommended(rows) == best


TICKS = {"eigengap": 8, "silhouette": 10, "gap": 50, "coding rate": 2, "stability": 8}


def test_two_other_criteria_must_say_about_as_many():
    rows = [replace(ROW, k=k, excess=0.5 if k == 8 else 0.1) for k in (2, 8, 10, 50)]
    assert confirming(TICKS, (8, 8)) == ["eigengap", "silhouette"]
    sure = choice(rows, TICKS, [], 100)
    assert (sure.k, sure.clear, sure.plateau, sure.sentence) == (8, True, (8, 8), "8 (no other does as well).")
    alone = choice(rows, {**TICKS, "silhouette": 11}, [], 100)
    assert not alone.clear
    assert alone.sentence.startswith("No number of groups stands out; K is your choice.")
    assert any("8 groups hold on other items, but eigengap alone says" in note for note in alone.notes)


def test_where_none_stands_out_those_that_are_alike_are_named():
    rows = [replace(ROW, k=k, excess=excess, **DOUBTFUL) for k, excess in ((2, 0.1), (4, 0.42), (6, 0.5), (9, 0.3))]
    found = choice(rows, {**TICKS, "gap": 60}, [], 100)
    assert (found.clear, found.plateau) == (False, (4, 6))
    assert found.k == 6, "the middle of the criteria, brought within the numbers that are alike"
    assert "From 4 to 6 they are about equally stable." in found.sentence


def test_groups_of_one_gaussian_are_said_to_be_none():
    rows = [replace(ROW, k=k, excess=0.01) for k in (2, 3, 4)]
    found = choice(rows, TICKS, [], 100)
    assert found.plateau == alike(rows) == (2, 4)
    assert "there may be none at all" in found.sentence


@given(st.lists(st.tuples(st.floats(-0.5, 1), st.floats(0.01, 0.2), st.floats(0, 1)), min_size=1, max_size=12))
def test_the_answer_lies_within_its_plateau_and_on_the_curve(numbers):
    rows = [
        replace(ROW, k=k, excess=excess, error=error, prediction_strength=strength)
        for k, (excess, error, strength) in enumerate(numbers, 2)
    ]
    found = choice(rows, TICKS, [], 100)
    assert found.plateau[0] <= found.k <= found.plateau[1]
    assert {*found.plateau} <= {row.k for row in rows}


def test_each_criterion_alone_takes_its_best_and_the_gap_the_first_that_is_not_beaten():
    """Beaten by more than the next one's error, that is; where every next one beats it, the last."""
    rows = [
        replace(ROW, k=k, gap=gap, gap_error=0.1, coding_rate=rate, silhouette=silhouette, excess=excess)
        for k, gap, rate, silhouette, excess in (
            (2, 0.0, 3, 1, 1),
            (3, 0.5, 2, 2, 2),
            (4, 0.55, 1, 9, 3),
            (5, 0.8, 4, 3, 4),
        )
    ]
    assert ticks_of(rows, 7) == {"eigengap": 7, "silhouette": 4, "gap": 3, "coding rate": 4, "stability": 5}
    assert ticks_of([replace(row, gap=row.k) for row in rows], 7)["gap"] == 5


def test_a_plateau_reaches_both_ways_and_the_notes_say_what_to_mind():
    rows = [replace(ROW, k=k, excess=excess) for k, excess in ((20, 0.3), (22, 0.5), (25, 0.48), (28, 0.46), (32, 0.2))]
    near = {"eigengap": 25, "silhouette": 40, "gap": 25, "coding rate": 25, "stability": 22}
    found = choice(rows, near, [], 100)
    assert (found.k, found.plateau) == (28, (22, 28))
    assert found.notes == ["Beyond 20 groups the prediction strength is a mean over groups, not that of the weakest."]
    last = choice(rows[:4], {**near, "silhouette": 45}, [], 100)
    assert last.notes[0].startswith("The criteria differ: eigengap 25, silhouette 45")
    assert last.notes[2] == "28 is the largest number tried: there may be more."
    few = choice([replace(ROW, k=k, excess=0.5 if k == 3 else 0.1) for k in (2, 3, 4)], dict.fromkeys(near, 3), [], 100)
    assert (few.k, few.notes) == (3, [])
