"""The queue, two groups side by side, the map, an audit, the history and the export, in a real browser."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from helpers.app_runs import Running

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
from playwright.sync_api import Page, expect

from helpers.app_pages import decided, ready


def test_the_export_page_says_who_reads_each_format(page: Page, app: Running) -> None:
    ready(page, "export", app)
    expect(page.locator(".formats label", has_text="lightly")).to_contain_text("LightlyStudio (file)")
    expect(page.locator(".formats label", has_text="cleanlab")).to_contain_text("groups as arrays (folder)")
    page.locator('.formats input[value="imagefolder"]').check()
    expect(page.locator("#out")).to_have_value(re.compile("/export$"))


def test_an_export_is_written_again_where_that_is_asked_for(page: Page, app: Running, tmp_path: Path) -> None:
    out = tmp_path / "out" / "groups.csv"
    ready(page, "export", app)
    page.locator("#out").fill(str(out))
    page.locator("#go").click()
    expect(page.locator("#job")).to_contain_text("120 items written")
    app.review.rename(0, "tabby")
    page.locator("#go").click()
    expect(page.locator("#job")).to_contain_text("--overwrite")
    page.locator("#overwrite").check()
    expect(page.locator("#command")).to_contain_text("--overwrite")
    page.locator("#go").click()
    expect(page.locator("#job")).to_contain_text("120 items written")
    assert ",tabby," in out.read_text()


def test_the_queue_shows_nothing_that_is_decided(page: Page, app: Running) -> None:
    ready(page, "queue", app)
    seen = []
    for key in ("a", "2", "x", "u", "a"):
        task = page.locator("#task[data-row]")
        row = int(task.get_attribute("data-row"))
        assert not app.review.state.decided[row]
        seen.append(row)
        page.keyboard.press(key)
        expect(page.locator(f'#task[data-row="{row}"]')).to_have_count(0)
    assert len(set(seen)) == 5
    decided(app, page, 4)
    confidence = app.review.base.confidence
    assert confidence[seen].tolist() == sorted(confidence[seen].tolist())
    expect(page.locator("#waiting")).to_have_text("116")


def test_a_queue_that_is_empty_leads_on(page: Page, app: Running) -> None:
    for group in range(4):
        app.review.approve(group)
    ready(page, "queue", app)
    page.locator("#task a", has_text="export").click()
    expect(page.locator("#export")).to_be_visible()


def test_shift_takes_along_what_is_alike(page: Page, app: Running) -> None:
    ready(page, "queue", app)
    expect(page.locator(".near li").first).to_be_visible()
    count = page.locator(".near li").count()
    page.keyboard.press("Shift+A")
    decided(app, page, 1)
    assert app.review.state.decided.sum() == count + 1


def test_compare_merges_and_takes_over(page: Page, app: Running) -> None:
    ready(page, "compare/0/1", app)
    cell = page.locator("#between .cell").first
    row, group = int(cell.get_attribute("data-row")), int(cell.get_attribute("data-group"))
    cell.click()
    with page.expect_navigation():  # what others decide loads the page again; before, nothing was chosen then
        app.review.rename(2, "cat")
    expect(page.locator('#between .cell[aria-selected="true"]')).to_have_attribute("data-row", str(row))
    with page.expect_navigation():
        page.keyboard.press("t")
    decided(app, page, 2)
    assert app.review.state.label[row] == 1 - group
    expect(page.locator("#between .cell").first).to_be_visible()
    page.keyboard.press("d")
    decided(app, page, 3)
    page.keyboard.press("m")
    page.wait_for_url("**/g/0")
    assert app.review.state.groups[1].into == 0


def test_a_lasso_takes_what_it_surrounds(page: Page, app: Running) -> None:
    ready(page, "map", app)
    expect(page.locator("#in-view .cell").first).to_be_visible()
    box = page.locator("#map").bounding_box()
    corners = [(0.5, 0.01), (0.99, 0.01), (0.99, 0.99), (0.5, 0.99), (0.5, 0.5)]  # the right half
    for place, (x, y) in enumerate(corners):
        page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"], steps=4)
        if not place:
            page.mouse.down()
    page.mouse.up()
    expect(page.locator("#chosen")).not_to_have_text("none chosen")
    chosen = int((page.locator("#chosen").text_content() or "").split()[0])
    from coterie.app.places import Places

    places = Places.of(app.server.site)
    inside = places.rows[places.xy[:, 0] > 0.5]
    assert abs(chosen - len(inside)) <= 3  # those that lie on the line
    page.keyboard.press("2")
    decided(app, page, 1)
    assert (app.review.state.label[inside] == 1).mean() > 0.95
    assert app.review.events[-1][0].data["how"] == "lasso"
    assert not app.review.state.seen.any()
    page.keyboard.press("z")
    decided(app, page, 2)


def test_the_map_by_keyboard(page: Page, app: Running) -> None:
    ready(page, "map", app)
    first = page.locator("#in-view .cell").first
    first.focus()
    page.keyboard.press("Space")
    expect(page.locator("#chosen")).to_have_text("1 chosen")
    row = int(first.get_attribute("data-row"))
    page.keyboard.press("x")
    decided(app, page, 1)
    assert app.review.state.label[row] == -1
    assert app.review.state.seen[row]  # it was looked at, unlike what a lasso takes


def test_an_audit_shows_no_number_before_its_end(page: Page, app: Running) -> None:
    ready(page, "audit", app)
    page.locator("#size").fill("40")
    with page.expect_navigation():  # what others decide loads the page again; before, it then drew 120 for 10%
        app.review.rename(2, "cat")
    page.locator("#draw button").click()
    for place in range(40):
        expect(page.locator(f'#task[data-place="{place}"]')).to_have_count(1)
        text = page.locator("main").inner_text()
        assert not re.search(r"wrong:|\d+ wrong|\d+ right|%", text), text
        page.keyboard.press("j" if place == 3 else "f")
    expect(page.locator("#place")).to_have_text("all 40 are judged")
    assert "%" not in page.locator("main").inner_text()
    assert not app.review.state.decided.any()
    page.locator("#end").click()
    expect(page.locator("#audit-1")).to_contain_text("Mean confidence of the judged")
    claim = app.review.claims()[1]
    assert (claim.judged, claim.wrong) == (40, 1)


def test_history_undoes_any_event_and_goes_back(page: Page, app: Running) -> None:
    part = app.review.split(0, 2)[0]
    app.review.move(app.review.state.members(1)[:2], part)
    app.review.rename(2, "cat")
    ready(page, "history", app)
    expect(page.locator("#history li")).to_have_count(4)
    page.locator('#history li[data-seq="1"] [data-act="undo"]').click()
    expect(page.locator("#ask-title")).to_have_text("Other decisions stand on this")
    page.locator("#ask-yes").click()
    decided(app, page, 4)
    assert app.review.state.groups[2].name == "cat"
    assert (app.review.state.label == app.review.base.labels).all()
    page.locator("#start").click()
    page.locator("#ask-yes").click()
    decided(app, page, 5)
    assert app.review.state.groups[2].name == ""
    page.locator('#history li[data-seq="5"] [data-act="undo"]').click()  # the undo itself is undone
    decided(app, page, 6)
    assert app.review.state.groups[2].name == "cat"


def test_the_history_has_its_oldest_decision_too(page: Page, app: Running) -> None:
    for step in range(520):
        app.review.move([step % 120], step % 4)
    ready(page, "history", app)
    expect(page.locator("#history li")).to_have_count(500)
    page.locator("nav.pages a").click()
    expect(page.locator("#history li")).to_have_count(21)
    page.wait_for_load_state()  # a click before the scripts of the new page are there is lost
    page.locator('#history li[data-seq="1"] [data-act="undo"]').click()
    decided(app, page, 521)
    expect(page.locator('#history li[data-seq="1"]')).to_have_class("undone")
    page.locator("nav.pages a", has_text="Later ones").click()
    expect(page.locator('#history li[data-seq="520"]')).to_be_visible()
