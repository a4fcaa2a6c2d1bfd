"""Audits: the numbers of `evaluation.accept`, nothing before the end, and what voids a claim."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from coterie.evaluation import accept
from coterie.review import Review
from coterie.review.audits import own_level, plan
from coterie.review.table import accepted_rows, standing
from coterie.types import InputError
from helpers.review_runs import small_run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return small_run(tmp_path, n=400, pictures=False)


def judge_all(review: Review, size: int, wrong: int = 0, **draw: float) -> np.ndarray:
    """Draw and judge so that the least sure `wrong` items of the sample are wrong."""
    rows = review.draw(size, seed=3, **draw)
    bad = set(rows[np.argsort(review.base.confidence[rows])[:wrong]].tolist())
    for row in rows.tolist():
        review.judge(row, "wrong" if row in bad else "right")
    return rows


def test_the_claim_is_that_of_accept(run: Path) -> None:
    with Review(run) as review:
        rows = judge_all(review, 120, wrong=20, max_error=0.1)
        claim = review.end_audit()
        right = np.ones(120, bool)
        right[np.argsort(review.base.confidence[rows])[:20]] = False
        expected = accept.audit(review.base.confidence, rows, right, 0.1)
        assert claim.found == expected
        assert (claim.judged, claim.wrong) == (120, 20)
        assert claim.threshold is not None
        chosen = accepted_rows(review.base, review.state, claim, None)
        assert (chosen == (review.base.confidence >= claim.threshold)).all()


def test_judgements_become_labels_at_the_end_alone(run: Path) -> None:
    with Review(run) as review:
        rows = review.draw(60, max_error=0.1, seed=0)
        with pytest.raises(InputError, match="not the next"):
            review.judge(int(rows[3]), "right")
        review.judge(int(rows[0]), "wrong", belongs=(int(review.state.label[rows[0]]) + 1) % 4)
        review.judge(int(rows[1]), "right").judge(int(rows[2]), "unsure").judge(int(rows[3]), "wrong")
        assert not review.state.decided.any()
        review.undo()
        review.judge(int(rows[3]), "right")
        was = int(review.base.labels[rows[0]])
        claim = review.end_audit()  # early: the first four count
        assert (claim.judged, claim.wrong, claim.unsure) == (4, 2, 1)
        assert claim.found is None
        assert claim.too_few == accept.judged_needed(0.1) - 4
        assert review.state.label[rows[0]] == (was + 1) % 4
        assert review.state.decided[rows[:4]].tolist() == [True, True, False, True]
        with pytest.raises(InputError, match="No audit is open"):
            review.judge(int(rows[4]), "right")


def test_what_keeps_a_claim_and_what_voids_it(run: Path) -> None:
    with Review(run) as review:
        judge_all(review, 60, max_error=0.1)
        review.end_audit()
        first = review.claims()[1]
        review.rename(0, "a").merge(0, [1]).move([5], 3).reject([6])
        kept = review.claims()[1]
        assert kept.found == first.found
        assert kept.voided is None
        assert standing(review.claims()) is not None
        review.split(2, 2)
        assert "split" in str(review.claims()[1].voided)
        assert standing(review.claims()) is None
        review.undo()
        assert review.claims()[1].voided is None
        review.submit("move", {"rows": "1-9", "to": 0, "how": "lasso"})
        assert review.claims()[1].voided is not None


def test_a_second_audit_takes_its_share_of_the_level(run: Path) -> None:
    assert own_level(0.95, 2) == pytest.approx(0.975)
    with Review(run) as review:
        judge_all(review, 60, max_error=0.1)
        review.end_audit()
        assert review.claims()[1].own_level == pytest.approx(0.95)
        judge_all(review, 80, max_error=0.1)
        second = review.end_audit()
        assert second.own_level == pytest.approx(0.975)
        assert review.claims()[1].own_level == pytest.approx(0.975)


def test_an_audit_that_was_undone_counts(run: Path) -> None:
    with Review(run) as review:
        rows = review.draw(60, max_error=0.1, seed=0)
        review.judge(int(rows[0]), "wrong")
        review.undo()
        review.undo()
        assert review.open_audit() is None
        judge_all(review, 80, max_error=0.1)
        assert review.end_audit().own_level == pytest.approx(0.975)


def test_the_plan_says_what_a_sample_can_show() -> None:
    confidence = np.linspace(0.2, 1, 5000)
    told = plan(confidence, 150, 0.05, 0.95)
    assert told["coverage"] == pytest.approx(0.7, abs=0.06)  # the specification's own numbers
    assert told["allowed"] == 1
    assert plan(confidence, 300, 0.05, 0.95)["coverage"] == pytest.approx(0.4, abs=0.01)
    assert plan(confidence, 150, 0.10, 0.95)["coverage"] == pytest.approx(0.4, abs=0.01)
    assert plan(confidence, 40, 0.05, 0.95) == {"needed": 59, "coverage": None, "expected": None, "allowed": None}


def test_the_bound_of_a_group_without_a_wrong_one() -> None:
    assert accept.error_bound(0, 12) == pytest.approx(0.22, abs=0.005)


def test_judged_confidences_are_a_column_of_their_own(run: Path) -> None:
    with Review(run) as review:
        judge_all(review, 60, wrong=20, max_error=0.1)
        assert not any(review.table()["confidence_judged"].is_valid().to_pylist())  # not before its end
        review.end_audit()
        table = review.table().to_pandas()
    said, judged = table["confidence"].to_numpy(), table["confidence_judged"].to_numpy()
    assert (np.diff(judged[np.argsort(said)]) >= -1e-6).all()
    assert judged.mean() != said.mean()
    assert (table["model_confidence"] == said).all()
