"""The report of a run that people reviewed: a section of its own, and the model's numbers as they were."""

from __future__ import annotations

import re
from pathlib import Path

from coterie.report import write_report
from coterie.review import Review
from helpers.review_runs import small_run


def test_a_review_gets_a_section_and_changes_nothing_else(tmp_path: Path) -> None:
    run = small_run(tmp_path, pictures=False)
    before = write_report(run).read_text(encoding="utf-8")
    assert "Review</h2>" not in before
    with Review(run) as review:
        review.rename(0, "<b>cat</b>").merge(1, [2])
        review.approve(0, seen=review.state.members(0)[:5])
        review.reject(review.state.members(3)[:2])
        decided, members = int(review.state.decided.sum()), len(review.state.members(0))
    page = write_report(run).read_text(encoding="utf-8")
    section = page[page.index('<section id="review">') : page.index("</section>", page.index('<section id="review">'))]
    assert "&lt;b&gt;cat&lt;/b&gt;" in section
    assert "went into 1" in section
    assert f"{decided} of 120" in section
    assert f"{100 * decided / 120:.1f}%" in section
    assert "imported" not in section
    assert "trained again" not in section
    assert f'<dd class="number">{members - 5}</dd>' in section  # inferred
    assert "No audit stands behind" in section
    without = page.replace(
        page[page.index('<section id="review">') : page.index("</section>", page.index(section)) + 11], ""
    )
    without = re.sub(r'\s*<a href="#review">Review</a>', "", without)
    assert without == before


def test_a_claim_stands_in_the_report(tmp_path: Path) -> None:
    run = small_run(tmp_path, n=300, pictures=False)
    with Review(run) as review:
        for row in review.draw(80, max_error=0.1, seed=0).tolist():
            review.judge(row, "right")
        review.end_audit()
    assert "at most 10.0% of them wrong" in write_report(run).read_text(encoding="utf-8")
    with Review(run) as review:
        review.split(0)
    page = write_report(run).read_text(encoding="utf-8")
    assert "No audit stands behind" in page
    assert "split from 0" in page
