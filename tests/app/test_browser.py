"""The screens in a real browser: keys, mouse, and what stands in the log afterwards."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.app_runs import Running
from helpers.review_runs import write_run

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
from playwright.sync_api import Page, expect

from helpers.app_pages import decided, open_group, ready, tiles


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


# Whether the last number of a text is drawn to the right of the name in Arabic before it.
NUMBER_BEHIND = """(place) => {
    const text = document.querySelector(place).lastChild, range = document.createRange();
    const left = (letter) => {
        const at = text.data.search(letter);
        range.setStart(text, at); range.setEnd(text, at + 1);
        return range.getBoundingClientRect().left;
    };
    return left(/\\d+\\D*$/) > left(/[\u0600-\u06ff]/);
}"""


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
    page.keyboard.press("Escape")
    for group, name in enumerate(["قطة", "كلب", "حصان", "سمكة"]):
        app.review.rename(group, name)
    seq = app.review.move([0, 1], 1).last
    for path, place in (("queue", "#task figcaption"), ("history", f"#history li[data-seq='{seq}'] .what")):
        ready(page, path, app)
        expect(page.locator(place)).to_be_visible()
        assert page.evaluate(NUMBER_BEHIND, place), path


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
