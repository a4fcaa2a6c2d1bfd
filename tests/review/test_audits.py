"""Audits: the numbers of `evaluation.accept`, nothing before the end, and what voids a claim."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pyarrow.parquet import read_table

from coterie.evaluation import accept
from coterie.evaluation.recalibration import recalibrate
from coterie.records.review import read_review
from coterie.review import Review
from coterie.review.audits import own_level, plan
from coterie.review.table import accepted_rows, standing
from coterie.types import InputError
from helpers.review_runs import put_far_outside, small_run


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


def test_no_row_far_outside_is_accepted_however_sure_it_looks(run: Path) -> None:
    with Review(run) as review:
        far = np.argsort(-review.base.confidence)[:30]
    put_far_outside(run, ",".join(map(str, sorted(far.tolist()))))
    with Review(run) as review:
        rows = review.draw(120, seed=3, max_error=0.1)
        for row in rows.tolist():  # all that are wrong look surest
            review.judge(row, "wrong" if row in far else "right")
        claim = review.end_audit()
        assert claim.threshold is not None
        chosen = accepted_rows(review.base, review.state, claim, None)
        assert not chosen[far].any()
        assert chosen.sum() > 100
        ranked = np.where(np.isin(np.arange(400), far), 0, review.base.confidence)
        assert claim.found == accept.audit(ranked, rows, ~np.isin(rows, far), 0.1)
    assert not read_table(run / "result.reviewed.parquet")["accepted"].to_numpy()[far].any()


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
        rows = review.draw(10)
        review.split(2, 2)
        assert review.open_audit() is None  # before, it was judged for nothing: a void one could not be ended
        review.undo()
        review.judge(int(rows[0]), "right")
        review.split(2, 2)
        assert review.end_audit().voided is not None  # what was judged becomes labels all the same


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
        judge_all(review, 10, max_error=0.1)
        assert review.end_audit().number == 3
        for claim in review.claims().values():
            assert claim.own_level == pytest.approx(1 - 0.05 / 3)
        with pytest.raises(InputError, match="No audit is open"):
            review.end_audit()


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


def test_a_claim_is_about_the_items_that_had_a_group_at_the_draw_and_their_confidence_then(run: Path) -> None:
    """The second audit of a run: groups are merged and items rejected before its draw and after it."""
    with Review(run) as review:
        judge_all(review, 60, max_error=0.2)
        review.end_audit()
        gone = np.argsort(review.base.confidence)[-30:]
        review.merge(0, [1]).reject(gone)
        then, label = review.confidence.copy(), review.state.label.copy()
        rows = review.draw(120, seed=5, max_error=0.2)
        right = np.ones(120, bool)
        right[np.argsort(then[rows])[:12]] = right[[0, 50]] = False
        for row, answer in zip(rows.tolist(), right.tolist(), strict=True):
            review.judge(row, "right" if answer else "wrong", belongs=None if answer else 3)
        claim = review.end_audit()
        frame = np.setdiff1d(np.arange(400), gone)
        assert not np.isin(rows, gone).any()
        assert claim.found == accept.audit(then[frame], np.searchsorted(frame, rows), right, 0.2, 0.975)
        assert claim.mean_confidence == pytest.approx(then[rows].mean())
        for group in claim.groups:
            inside = label[rows] == group["group"]
            wrong = int((~right[inside]).sum())
            assert (group["judged"], group["wrong"]) == (inside.sum(), wrong)
            assert group["bound"] == accept.error_bound(wrong, int(inside.sum()), 0.95)
        assert sum(group["judged"] for group in claim.groups) == 120
        thresholds = [step["threshold"] for step in claim.band]
        assert thresholds == sorted(set(thresholds), reverse=True)
        for place, step in enumerate(claim.band, 1):
            assert step["accepted"] == (then[frame] >= step["threshold"]).sum() == np.ceil(place / 20 * 370)
            inside = then[rows] >= step["threshold"]
            assert (step["judged"], step["wrong"]) == (inside.sum(), (~right[inside]).sum())
            assert step["upper"] == accept.error_bound(step["wrong"], step["judged"], 1 - 0.05 / 20)

        more = np.setdiff1d(np.flatnonzero(then >= claim.threshold), [*gone, *rows])[:5]
        review.merge(2, [3]).reject(more[:2]).move(more[2:], 0)
        accepted = (then >= claim.threshold) & ~np.isin(np.arange(400), [*gone, *more[:2]])
        assert (accepted_rows(review.base, review.state, claim, None) == accepted).all()
        table = review.table()
        assert table["accepted"].to_pylist() == accepted.tolist()
        said = np.array(table["confidence"].fill_null(0).to_numpy(), np.float64)
        judged = recalibrate(*(np.concatenate(both) for both in judgements(review)))
        there = review.state.label >= 0
        np.testing.assert_allclose(
            table["confidence_judged"].fill_null(0).to_numpy()[there], judged.map(said)[there], atol=1e-5
        )
        review.write()
    entry = read_review(run)
    assert entry is not None
    assert entry.claim is not None
    assert (entry.claim.audit, entry.claim.of, entry.claim.accepted) == (2, 370, accepted.sum())


def judgements(review: Review) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Confidences at each audit's draw, and whether they were right."""
    groups = review.base.probabilities(np.arange(400)).astype(np.float64)
    merged = np.c_[groups[:, 0] + groups[:, 1], 0 * groups[:, 1], groups[:, 2:]]
    values, right = [], []
    for p, audit in zip((groups, merged), review.state.audits.values(), strict=True):
        rows = audit.sample
        values.append(p[rows, audit.labels[rows]])
        right.append(np.array([audit.judged[row].answer == "right" for row in rows.tolist()]))
    return values, right


def test_the_table_counts_what_people_decided(run: Path) -> None:
    with Review(run) as review:
        review.approve(0, [0, 4, 8, 12], seen=[0, 4]).move([1, 2], 3).reject([5])
        review.submit("import", {"sha256": "0" * 64, "kind": "csv", "rows": "30-36", "labels": [1] * 7})
        rows = review.draw(20, seed=0)
        for row in rows[:3].tolist():
            review.judge(row, "unsure")
        review.write()
        state = review.state
    entry = read_review(run)
    assert entry is not None
    used = entry.labels_used
    assert (used.decided, used.seen, used.inferred, used.judged, used.imported) == (14, 12, 2, 3, 7)
    assert entry.rejected == 1
    for group in entry.groups:
        inside = state.label == group.number
        assert group.size == inside.sum()
        assert (group.decided, group.seen) == ((inside & state.decided).sum(), (inside & state.seen).sum())


@pytest.mark.parametrize("what", ["lasso", "reject", "import", "refit"])
def test_what_moves_items_that_nobody_looked_at_voids_the_claim(run: Path, what: str) -> None:
    kinds = {"lasso": "move", "reject": "reject"}
    data = {
        "lasso": {"rows": "1-3", "to": 0, "how": "group"},
        "reject": {"rows": "1-3", "how": "lasso"},
        "import": {"sha256": "0" * 64, "kind": "csv", "rows": "1", "labels": [0]},
        "refit": {"sha256": "0" * 64, "settings": {}, "rows": "1", "labels": [0]},
    }
    with Review(run) as review:
        judge_all(review, 60, max_error=0.1)
        review.end_audit()
        assert review.table()["confidence_judged"].null_count < 400
        review.submit(kinds.get(what, what), data[what])
        assert standing(review.claims()) is None
        first = review.claims()[1].voided
        review.split(2, 2)
        assert review.claims()[1].voided == first, "it was void already"
        assert review.table()["confidence_judged"].null_count == 400


def test_what_was_decided_after_it_was_judged_stays(run: Path) -> None:
    with Review(run) as review:
        rows = review.draw(20, seed=0).tolist()
        for row in rows[:4]:
            review.judge(row, "wrong", belongs=3)
        review.move([rows[1]], 2)
        review.reject([rows[2]])
        review.end_audit()
        assert review.state.label[rows[:4]].tolist() == [3, 2, -1, 3]
