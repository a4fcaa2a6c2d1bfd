"""The screens in a real browser: keys, mouse, and what stands in the log afterwards."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.app_runs import Running, watch
from helpers.review_runs import small_run, write_run

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
from playwright.sync_api import Page, expect


def ready(page: Page, path: str, app: Running) -> None:
    page.goto(app.address + path)


def tiles(page: Page) -> Any:
    """The tiles of the grid that have their item."""
    return page.locator("#grid .cell[data-row]")


def open_group(page: Page, app: Running, group: int) -> None:
    ready(page, f"g/{group}", app)
    expect(tiles(page).first).to_be_focused()


def decided(app: Running, page: Page, count: int) -> None:
    """Wait until the log has so many events after its first line, and the page has heard of it."""
    app.review.wait(count - 1, 30)
    expect(page.locator("#saved")).to_have_text("saved")
    assert app.review.last == count


@pytest.mark.usefixtures("home")
def test_the_first_page_and_a_name(page: Page, app: Running) -> None:
    expect(page.locator("h1")).to_have_text("120 images in 4 groups")
    expect(page.locator(".review")).to_have_count(4)
    card = page.locator(".review").first
    expect(card).to_be_focused()
    number = int(card.get_attribute("data-group") or -1)
    page.keyboard.press("n")
    expect(page.locator("#ask-input")).to_be_focused()
    page.keyboard.type("mmm tabby cat")  # an m merges nothing while a name is typed
    page.keyboard.press("Enter")
    expect(page.locator(f'.review[data-group="{number}"] h2')).to_contain_text("mmm tabby cat")
    page.reload()
    expect(page.locator(f'.review[data-group="{number}"] h2')).to_contain_text("mmm tabby cat")
    assert [event.type for event, _ in app.review.events] == ["open", "rename"]
    words = (
        "import(document.body.dataset.base + '/static/common.js').then((m) => [0, 0.003, 0.5, 0.995, 1].map(m.percent))"
    )
    assert page.evaluate(words) == ["0%", "<1%", "50%", ">99%", "100%"]


@pytest.mark.usefixtures("home")
def test_every_picture_that_is_in_view_is_shown(page: Page) -> None:
    page.wait_for_function(
        "() => [...document.querySelector('.review').querySelectorAll('img')].every((image) => image.naturalWidth > 0)"
    )
    assert page.locator(".review img").count() == 4 * 12


@pytest.mark.usefixtures("home")
def test_merge_and_undo_keep_the_numbers(page: Page, app: Running) -> None:
    page.locator('.review[data-group="1"]').focus()
    page.keyboard.press("m")
    # Enter ends the input of a Japanese name first; before, it chose the group that was at the top.
    page.locator("#find-input").dispatch_event("keydown", {"key": "Enter", "isComposing": True})
    page.keyboard.type("3")
    page.keyboard.press("Enter")
    expect(page.locator(".review")).to_have_count(3)
    expect(page.locator("#toast")).to_contain_text("Group 3 merged into group 1")
    assert app.review.state.live == [0, 1, 2]
    page.keyboard.press("z")
    expect(page.locator(".review")).to_have_count(4)
    expect(page.locator("#toast")).to_contain_text("Undone: Group 3 merged")
    assert app.review.state.live == [0, 1, 2, 3]
    page.keyboard.press("y")
    expect(page.locator(".review")).to_have_count(3)


def test_split_and_undo(page: Page, app: Running) -> None:
    ready(page, "split/0", app)
    expect(page.locator(".part")).to_have_count(2)
    expect(page.locator("#quality")).to_contain_text("Silhouette 0.")
    page.keyboard.press("ArrowRight")
    expect(page.locator(".part")).to_have_count(3)
    page.keyboard.press("2")
    expect(page.locator(".part")).to_have_count(2)
    expect(page.locator("#take")).to_be_enabled()
    # What somebody decided after the parts were found was lost without a word: a split takes back what was decided.
    app.review.approve(0, app.review.state.members(0)[:1])
    expect(page.locator("#toast")).to_contain_text("1 item approved")
    page.keyboard.press("Enter")
    expect(page.locator("#ask-list li")).to_have_count(1)
    page.keyboard.press("Enter")
    expect(page.locator("#take")).to_be_enabled()
    assert app.review.state.decided.sum() == 1
    page.keyboard.press("Enter")
    page.wait_for_url("**/?sort=number")
    expect(page.locator(".review")).to_have_count(6)  # the four of the model, one of them empty, and two parts
    assert app.review.state.live == [0, 1, 2, 3, 4, 5]
    page.keyboard.press("z")
    expect(page.locator(".review")).to_have_count(4)
    assert (app.review.state.label == app.review.base.labels).all()


def test_move_by_digit_range_and_all_in_view(page: Page, app: Running) -> None:
    open_group(page, app, 2)
    rows = [int(tiles(page).nth(i).get_attribute("data-row")) for i in range(6)]
    # The first digit is the first group, also beside the letters, where it did nothing.
    tiles(page).first.dispatch_event("keydown", {"key": "1", "code": "Numpad1"})
    expect(page.locator("#size")).to_have_text(f"{(app.review.base.labels == 2).sum() - 1} images")
    assert app.review.state.label[rows[0]] == 0
    expect(tiles(page).first).to_be_focused()  # the focus stays where it was
    page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("Shift+ArrowRight")
    expect(page.locator("#chosen")).to_have_text("3 chosen")
    page.keyboard.press("x")
    expect(page.locator("#chosen")).to_have_text("none chosen")
    assert app.review.state.label[rows[1:4]].tolist() == [-1] * 3
    page.keyboard.press("*")
    expect(page.locator("#chosen")).not_to_have_text("none chosen")
    seen = int((page.locator("#chosen").text_content() or "0").split()[0])
    assert seen >= 8
    page.keyboard.press("a")
    expect(page.locator("#chosen")).to_have_text("none chosen")
    decided(app, page, 3)
    assert app.review.state.decided.sum() == 4 + seen
    assert app.review.state.seen[app.review.state.decided].all()


def test_a_range_of_what_was_never_on_the_screen_is_not_called_looked_at(
    browser: Any, serve: Any, tmp_path: Path
) -> None:
    """A click, the end, and a click with Shift: 1,200 items, at once, of which two screens were looked at."""
    p = np.tile(np.array([[0.9, 0.1]], np.float32), (1300, 1))
    p[1200:] = [0.1, 0.9]
    app = serve(write_run(tmp_path / "run", p, kind="embeddings"))
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    for key, kind in (("2", "move"), ("a", "approve")):
        page.goto(f"{app.address}g/0")
        expect(tiles(page).first).to_be_focused()
        tiles(page).first.click()
        page.keyboard.press("End")
        last = page.locator('#grid [data-index="1199"][data-row]')
        expect(last).to_be_focused()
        last.click(modifiers=["Shift"])
        page.keyboard.press(key)  # waits for the range
        expect(page.locator("#decided")).to_have_text("1,200")
        event, content = app.review.events[-1]
        assert event.type == kind
        assert app.review.state.decided.sum() == 1200
        if kind == "move":
            assert content.how == "range"
            assert not app.review.state.seen.any()
            app.review.undo()
        else:
            assert 60 < app.review.state.seen.sum() < 600
    page.close()


def test_keys_work_right_after_a_click(page: Page, app: Running) -> None:
    open_group(page, app, 1)
    tiles(page).nth(2).click()
    row = int(tiles(page).nth(2).get_attribute("data-row"))
    page.keyboard.press("x")
    decided(app, page, 1)
    assert app.review.state.label[row] == -1
    page.mouse.click(5, 500)  # beside everything
    page.keyboard.press("z")
    decided(app, page, 2)
    assert app.review.state.label[row] == 1


def test_letters_can_be_switched_off(page: Page, app: Running) -> None:
    open_group(page, app, 1)
    page.keyboard.press("?")
    page.locator("#letters").uncheck()
    page.keyboard.press("Escape")
    tiles(page).first.focus()
    page.keyboard.press("x")
    page.keyboard.press("Space")
    expect(page.locator("#chosen")).to_have_text("1 chosen")
    page.locator('[data-pick="approve"]').click()
    decided(app, page, 1)
    assert app.review.events[-1][0].type == "approve"


def test_a_new_group_from_what_is_chosen(page: Page, app: Running) -> None:
    open_group(page, app, 1)
    page.keyboard.press("Space")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Space")
    page.keyboard.press("w")
    page.locator("#ask-input").fill("strange ones")
    page.keyboard.press("Enter")
    decided(app, page, 2)
    assert app.review.state.groups[4].name == "strange ones"
    assert len(app.review.state.members(4)) == 2


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


def test_a_stray_of_a_sweep_goes_where_a_digit_says(page: Page, app: Running) -> None:
    """Group 2 has 30 members, so one page; its first goes to group 0, its second nowhere, its third stays after all."""
    open_group(page, app, 2)
    page.keyboard.press("f")
    expect(page.locator("#sweep-text")).to_be_visible()
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
    open_group(page, app, 2)
    page.keyboard.press("f")
    expect(page.locator("#sweep-text")).to_be_visible()
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
    open_group(page, app, 2)
    page.keyboard.press("f")
    expect(page.locator("#sweep-text")).to_be_visible()
    cells = page.locator("#sweeping .cell")
    rows = [int(cells.nth(i).get_attribute("data-row") or -1) for i in range(cells.count())]
    app.review.move([rows[3]], 1)
    expect(page.locator("#toast")).to_contain_text("1 item moved to group 1.")
    page.keyboard.press("f")
    decided(app, page, 2)
    assert app.review.state.label[rows].tolist() == [2] * 3 + [1] + [2] * (len(rows) - 4)


def test_what_others_took_away_is_chosen_no_more(page: Page, app: Running) -> None:
    open_group(page, app, 2)
    rows = [int(tiles(page).nth(i).get_attribute("data-row")) for i in range(2)]
    page.keyboard.press("Space")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Space")
    app.review.move(rows[:1], 1)
    expect(page.locator("#chosen")).to_have_text("1 chosen")
    page.keyboard.press("x")
    decided(app, page, 2)
    assert app.review.state.label[rows].tolist() == [1, -1]


def test_an_emptied_group_is_whole_again_after_undo(page: Page, app: Running) -> None:
    members = app.review.state.members(2)
    app.review.reject(members)
    ready(page, "g/2", app)
    expect(page.locator("#grid .empty")).to_be_visible()
    expect(page.locator("#toolbar")).to_be_hidden()
    page.keyboard.press("z")
    expect(tiles(page)).to_have_count(len(members))
    expect(page.locator("#grid .empty")).to_have_count(0)
    expect(page.locator("#toolbar")).to_be_visible()


def test_the_large_view_shows_the_picture_itself(page: Page, app: Running) -> None:
    for path in ("queue", "audit"):
        if path == "audit":
            app.review.draw(20, max_error=0.1, seed=0)
        ready(page, path, app)
        shown = page.locator("#task .big img")
        expect(shown).to_have_attribute("src", re.compile(r"/image/\d+"))
        assert shown.evaluate("image => image.naturalWidth") > 0


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


def test_undo_waits_for_what_was_decided_before_it(page: Page, app: Running) -> None:
    """Keys come faster than answers: Z undoes the key before it, and no earlier decision."""
    open_group(page, app, 2)
    page.keyboard.press("x")
    decided(app, page, 1)
    for path, screen in (("g/2", "#grid .cell[data-row]"), ("queue", "#task[data-row]"), ("", ".review")):
        ready(page, path, app)
        page.locator(screen).first.wait_for()
        before = app.review.last
        page.keyboard.press("x")
        page.keyboard.press("z")
        decided(app, page, before + 2)
        assert [event.type for event, _ in app.review.events[-2:]] == ["reject", "undo"]
        assert app.review.events[-1][0].data["targets"] == [before + 1]


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


@pytest.mark.parametrize("width", [320, 640])
def test_no_name_makes_a_page_wider_than_its_screen(browser: Any, app: Running, width: int) -> None:
    """320 pixels are a small phone, and a screen of 1,280 at 400 %."""
    app.review.rename(0, "W" * 80).rename(1, "W" * 79)
    page = browser.new_page(viewport={"width": width, "height": 256})
    for path in ("", "g/0", "queue", "map", "accept", "audit", "history", "export", "compare/0/1", "split/0"):
        page.goto(app.address + path)
        page.wait_for_function(
            "() => document.querySelectorAll('#digits button').length || !document.querySelector('#digits')"
        )
        if path == "accept":
            expect(page.locator("#by-group tbody tr")).to_have_count(4)
        assert page.evaluate("document.scrollingElement.scrollWidth") <= width, path
    page.close()


def test_a_small_window_shows_the_whole_picture_and_the_choice(browser: Any, app: Running) -> None:
    context = browser.new_context(viewport={"width": 800, "height": 600})
    page = context.new_page()
    page.goto(f"{app.address}queue")
    picture = page.locator("#task .big img")
    expect(picture).to_be_visible()
    assert picture.evaluate("image => getComputedStyle(image).objectFit") == "contain"
    box = page.locator("#task .big .tile-picture").bounding_box()
    assert box is not None
    assert box["height"] <= 300  # half of the window: the groups to choose from begin below it
    context.close()


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


def test_a_decision_about_what_another_tab_changed_is_refused_and_shown(page: Page, app: Running, browser: Any) -> None:
    """The same group: 409, what changed is shown, and what is still there stays chosen. Another group passes."""
    page.route("**/changes*", lambda route: route.abort())  # from its first request on this tab hears nothing
    open_group(page, app, 2)
    page.keyboard.press("Space")
    page.keyboard.press("Shift+ArrowRight")
    row = int(tiles(page).first.get_attribute("data-row"))
    other = browser.new_page()
    open_group(other, app, 2)
    other.keyboard.press("n")
    other.locator("#ask-input").fill("cat")
    other.keyboard.press("Enter")
    other.locator("#title", has_text="cat").wait_for()
    other.keyboard.press("x")
    expect(other.locator("#toast")).to_contain_text("rejected")
    page.keyboard.press("1")
    expect(page.locator("#ask-title")).to_have_text("This was changed meanwhile")
    expect(page.locator("#ask-list li")).to_have_count(1)
    page.keyboard.press("Enter")
    expect(page.locator("#chosen")).to_have_text("1 chosen")
    assert app.review.state.label[row] == -1
    assert app.review.last == 2
    page.unroute("**/changes*")
    other.close()
    ready(page, "g/1", app)  # others' groups pass
    expect(tiles(page).first).to_be_visible()
    page.keyboard.press("1")
    decided(app, page, 3)


def test_names_that_are_html_or_from_right_to_left(page: Page, app: Running) -> None:
    names = ["<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "قطة 🐈", "=cmd()"]
    for group, name in enumerate(names):
        app.review.rename(group, name)
    for path in ("", "g/0", "queue", "compare/0/1", "history", "accept", "audit"):
        ready(page, path, app)
        assert page.evaluate("document.querySelectorAll('main script, img[src=x]').length") == 0
    ready(page, "", app)
    for name in names:
        expect(page.locator(".review h2", has_text=name)).to_have_count(1)
    page.keyboard.press("/")
    expect(page.locator("#find-list li", has_text=names[1])).to_have_count(1)


def test_a_server_that_dies_loses_nothing(serve: Any, browser: Any, run: Path) -> None:
    """The tab keeps what is not sent, and goes on with the next server of the same token and port."""
    first = serve(run)
    page = browser.new_page()
    open_group(page, first, 2)
    rows = [int(tiles(page).nth(i).get_attribute("data-row")) for i in range(2)]
    first.stop()
    page.keyboard.press("x")
    expect(page.locator("#saved")).to_contain_text("1 not sent")
    second = serve(run, int(first.origin.rpartition(":")[2]))
    assert second.address == first.address
    expect(page.locator("#saved")).to_have_text("saved")
    decided(second, page, 1)
    assert second.review.state.label[rows[0]] == -1
    page.keyboard.press("z")
    decided(second, page, 2)
    assert second.review.state.label[rows[0]] == 2
    page.close()
