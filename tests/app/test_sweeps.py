"""The sweep in a real browser: where it puts the boundary, what it takes as seen, and who decided what meanwhile."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.app_runs import Running, watch
from helpers.review_runs import small_run

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
from playwright.sync_api import Page, expect

from helpers.app_pages import decided, open_group


@pytest.mark.usefixtures("home")
def test_the_search_of_a_sweep_finds_a_planted_boundary(page: Page) -> None:
    """Pages before the boundary belong, the others do not; in as many looks as its logarithm asks for."""
    for boundary, pages in ((7, 20), (0, 20), (20, 20), (19, 20)):
        found = page.evaluate(
            """async ([boundary, pages]) => {
                const { Search, outcome, PAGE } = await import(document.body.dataset.base + "/static/sweep.js");
                const search = new Search(pages), looks = [];
                while (!search.done) {
                    looks.push(search.page);
                    search.page < boundary ? search.yes() : search.no();
                }
                const rows = Array.from({ length: pages * PAGE }, (_, i) => i);
                const { approved, seen } = outcome(search, rows, new Set());
                return { low: search.low, looks, approved: approved.length, seen: seen.length };
            }""",
            [boundary, pages],
        )
        assert found["low"] == boundary - 1
        assert len(found["looks"]) == len(set(found["looks"])) <= 9
        assert found["approved"] == boundary * 60
        assert found["seen"] == 60 * sum(look < boundary for look in found["looks"])


@pytest.mark.usefixtures("home")
def test_the_simulated_reviewer_sweeps_as_the_app_does(page: Page) -> None:
    """Every boundary of up to 12 pages, with and without a page on which something was marked."""
    from _reviewer import Search

    cases = [(b, n, m) for n in range(1, 13) for b in range(n + 1) for m in (-1, 0, b // 2)]
    told = page.evaluate(
        """async (cases) => {
            const { Search } = await import(document.body.dataset.base + "/static/sweep.js");
            return cases.map(([boundary, pages, marked]) => {
                const search = new Search(pages), looks = [];
                while (!search.done) {
                    looks.push(search.page);
                    search.page < boundary ? search.yes(search.page === marked) : search.no();
                }
                return looks;
            });
        }""",
        cases,
    )
    for (boundary, pages, marked), looks in zip(cases, told, strict=True):
        search, found = Search(pages), []
        while not search.done:
            found.append(search.page)
            if search.page < boundary:
                search.yes(marked=search.page == marked)
            else:
                search.no()
        assert found == looks


def test_a_sweep_tells_what_was_seen_from_what_was_inferred(browser: Any, serve: Any, tmp_path: Path) -> None:
    app = serve(small_run(tmp_path, n=1600, k=2, pictures=False))
    page = browser.new_page()
    told = watch(page)
    open_group(page, app, 0)
    rows = np.argsort(-app.review.base.confidence, kind="stable")
    rows = rows[app.review.base.labels[rows] == 0]
    page.keyboard.press("f")
    expect(page.locator("#sweep-text")).to_be_visible()
    looks = []
    while page.locator("#sweeping").is_visible():
        text = page.locator("#sweep-text").text_content() or ""
        number = int(re.findall(r"Page (\d+)", text)[0]) - 1
        looks.append(number)
        page.keyboard.press("f" if number < 9 else "j")
        page.wait_for_function("(text) => document.getElementById('sweep-text')?.textContent !== text", arg=text)
    decided(app, page, 1)
    state = app.review.state
    assert state.decided.sum() == 9 * 60
    assert state.decided[rows[: 9 * 60]].all()
    expected = [row for look in looks if look < 9 for row in rows[60 * look : 60 * look + 60]]
    assert set(np.flatnonzero(state.seen)) == set(expected)
    assert 0 < state.seen.sum() < state.decided.sum()
    assert told.errors == []
    page.close()


def begin_sweep(page: Page, app: Running) -> None:
    """Of group 2, whose 30 members are one page."""
    open_group(page, app, 2)
    page.keyboard.press("f")
    expect(page.locator("#sweep-text")).to_be_visible()


def test_a_stray_of_a_sweep_goes_where_a_digit_says(page: Page, app: Running) -> None:
    """Group 2 has 30 members, so one page; its first goes to group 0, its second nowhere, its third stays after all."""
    begin_sweep(page, app)
    cells = page.locator("#sweeping .cell")
    rows = [int(cells.nth(i).get_attribute("data-row") or -1) for i in range(cells.count())]
    below = page.evaluate(
        "() => { const all = [...document.querySelectorAll('#sweeping .cell')], left = all[0].offsetLeft;"
        " return all.slice(1).findIndex((cell) => cell.offsetLeft === left) + 1; }"
    )
    page.keyboard.press("ArrowDown")
    expect(cells.nth(below)).to_be_focused()
    page.keyboard.press("ArrowUp")
    page.keyboard.press("1")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("x")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("x")
    page.keyboard.press("x")
    expect(page.locator("#sweeping .struck")).to_have_count(2)
    page.keyboard.press("f")
    decided(app, page, 3)
    assert app.review.state.label[rows[:3]].tolist() == [0, -1, 2]
    assert app.review.state.seen[rows].all()
    assert sorted(app.review.state.members(2)) == sorted(rows[2:])


def test_what_is_marked_goes_there_also_from_a_page_that_does_not_belong(page: Page, app: Running) -> None:
    begin_sweep(page, app)
    first = page.locator("#sweeping .cell").first
    row = int(first.get_attribute("data-row") or -1)
    page.keyboard.press("x")
    asked: list[str] = []
    page.once("dialog", lambda dialog: (asked.append(dialog.type), dialog.dismiss()))
    page.keyboard.press("q")
    page.keyboard.press("j")
    decided(app, page, 1)
    assert asked == ["beforeunload"]  # before, a key for another screen threw the marks away
    assert np.flatnonzero(app.review.state.decided).tolist() == [row]
    assert app.review.state.label[row] == -1


def test_a_sweep_leaves_what_others_decided_meanwhile(page: Page, app: Running) -> None:
    begin_sweep(page, app)
    cells = page.locator("#sweeping .cell")
    rows = [int(cells.nth(i).get_attribute("data-row") or -1) for i in range(cells.count())]
    app.review.move([rows[3]], 1)
    expect(page.locator("#toast")).to_contain_text("1 item moved to group 1.")
    page.keyboard.press("f")
    decided(app, page, 2)
    assert app.review.state.label[rows].tolist() == [2] * 3 + [1] + [2] * (len(rows) - 4)
