"""A server that is away, started anew or at another address, pictures that come late, and two things at once."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from coterie.app import thumbs
from coterie.app.pictures import Pictures
from coterie.app.server import opened
from coterie.app.thumbs import Busy, Store, Thumbs
from coterie.review import journal
from coterie.review.refitting import Proposal
from helpers.app_runs import Running, watch
from helpers.review_runs import write_pictures

GRID = "#grid .cell[data-row]"


def group_page(browser: Any, app: Running) -> tuple[Any, int]:
    """A page at group 2 with the focus on its first item, and that item's row."""
    from playwright.sync_api import expect

    page = browser.new_page()
    page.set_default_timeout(60_000)
    page.on("dialog", lambda dialog: dialog.accept())
    page.goto(app.address + "g/2")
    expect(page.locator(GRID).first).to_be_focused()
    return page, int(page.locator(GRID).first.get_attribute("data-row"))


def test_a_decision_waits_for_the_new_address(browser: Any, serve: Any, run: Path) -> None:
    """Before, a server whose token was over refused what the open tab had kept, and it was lost."""
    from playwright.sync_api import expect

    first = serve(run)
    page, row = group_page(browser, first)
    first.stop()
    page.keyboard.press("x")
    expect(page.locator("#saved")).to_contain_text("1 not sent")
    (run / "review" / "session.json").unlink()
    second = serve(run, int(first.origin.rpartition(":")[2]))
    assert second.address != first.address
    expect(page.locator("#toast")).to_contain_text("This address is old: open in this tab")
    expect(page.locator("#saved")).to_have_text("1 not sent, trying again")
    page.goto(second.address)
    expect(page.locator("#saved")).to_have_text("saved")
    second.review.wait(0, 30)
    assert second.review.state.label[row] == -1
    page.close()


def test_an_answer_that_is_none_stops_no_later_decision(browser: Any, app: Running) -> None:
    """Before, the tab sent it again for ever, also after a reload, and everything behind it waited."""
    from playwright.sync_api import expect

    page, row = group_page(browser, app)
    page.route("**/events", lambda route: route.fulfill(status=500, body="Internal Server Error"), times=1)
    page.keyboard.press("x")
    expect(page.locator("#toast")).to_have_text("The server says 500.")
    page.keyboard.press("x")
    app.review.wait(0, 30)
    expect(page.locator("#saved")).to_have_text("saved")
    assert app.review.state.label[row] == -1
    page.close()


@pytest.mark.usefixtures("home")
def test_questions_come_one_after_the_other(page: Any, app: Running) -> None:
    """Before, the offer of a new head took over the dialog in which a name was typed, and Enter took the labels."""
    from playwright.sync_api import expect

    expect(page.locator(".review").first).to_be_focused()
    number = int(page.locator(".review").first.get_attribute("data-group"))
    page.keyboard.press("n")
    page.keyboard.type("tab")
    ask = "import(document.body.dataset.base + '/static/common.js').then((m) => { window.answers = [];"
    ask += " for (const title of ['First', 'Second']) m.question(title, {}).then((a) => answers.push([title, a])); })"
    page.evaluate(ask)
    page.keyboard.type("by")
    page.keyboard.press("Enter")
    for title in ("First", "Second"):
        expect(page.locator("#ask-title")).to_have_text(title)
        page.locator("#ask-no").click()
    page.wait_for_function("() => answers.length === 2")
    assert page.evaluate("answers") == [["First", None], ["Second", None]]
    app.review.wait(0, 30)
    assert app.review.state.groups[number].name == "tabby"


@pytest.mark.parametrize("away", [False, True])
def test_work_that_ended_with_its_server_says_so(page: Any, app: Running, away: bool) -> None:
    """Before, the page waited without a word, its button pressed for ever."""
    from playwright.sync_api import expect

    page.goto(app.address + "export")
    if away:
        page.route("**/jobs/export", lambda route: route.abort())
    else:
        page.route("**/jobs/export", lambda route: route.fulfill(json={}))
    page.locator("#go").click()
    told = "The server does not answer" if away else "what it was doing has ended with it: begin it again."
    expect(page.locator("#toast")).to_contain_text(told)
    expect(page.locator("#go")).to_be_enabled()
    expect(page.locator("#progress")).to_be_hidden()


def test_a_preview_that_the_server_does_not_answer_says_so(page: Any, app: Running) -> None:
    from playwright.sync_api import expect

    page.route("**/preview", lambda route: route.abort())
    page.goto(app.address + "split/1")
    expect(page.locator("#parts .banner")).to_have_text("The server does not answer: start coterie review again.")
    page.route("**/refit.js", lambda route: route.abort())  # a module of its own, loaded when it is asked for
    page.keyboard.press("r")
    expect(page.locator("#toast")).to_have_text("The server does not answer: start coterie review again.")


def test_pictures_that_come_late_are_shown(browser: Any, app: Running) -> None:
    """Before, a tile said that the server does not answer until the page was loaded again."""
    from playwright.sync_api import expect

    page = browser.new_page()
    told = watch(page)
    page.route("**/thumb/**", lambda route: route.abort())
    page.goto(app.address)
    first = page.locator(".review").first
    expect(first.locator("img").first).to_have_attribute("data-tries", re.compile(r"\d"))
    page.unroute("**/thumb/**")
    # The server is back after some tries, and too busy for each picture once more, though not for the next request.
    page.evaluate("document.querySelectorAll('.review img').forEach((image) => { image.dataset.tries = 3; })")
    busy = set[str]()

    def late(route: Any) -> None:
        asked = route.request
        if asked.resource_type != "image" or asked.url in busy:
            route.continue_()
        else:
            busy.add(asked.url)
            route.fulfill(status=503, json={"error": "later"})

    page.route("**/thumb/**", late)
    for image in first.locator("img").all():
        expect(image).not_to_have_js_property("naturalWidth", 0)
    expect(first.locator("img")).to_have_count(12)
    assert [error for error in told.errors if "503" not in error] == []
    page.close()


def test_a_browser_without_storage_takes_decisions(browser: Any, app: Running) -> None:
    """Before, one that may keep nothing (all cookies blocked) ran no script at all, and no key did anything."""
    from playwright.sync_api import expect

    page = browser.new_page()
    told = watch(page)
    refuse = "Object.defineProperty(window, '{}', {{ get() {{ throw new DOMException('no', 'SecurityError'); }} }});"
    page.add_init_script("".join(refuse.format(name) for name in ("localStorage", "sessionStorage")))
    page.goto(app.address + "g/2")
    expect(page.locator(GRID).first).to_be_focused()
    page.keyboard.press("x")
    app.review.wait(0, 30)
    expect(page.locator("#toast")).to_contain_text("1 item rejected")
    assert told.errors == []
    page.close()


@pytest.mark.usefixtures("home")
def test_a_page_that_comes_back_whole_is_loaded_again(page: Any) -> None:
    with page.expect_navigation():
        page.evaluate("window.dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }))")


def test_the_export_page_begins_anew_after_going_back(page: Any, app: Running) -> None:
    """Before, the browser chose the last format again, beside the name and the command of another."""
    from playwright.sync_api import expect

    page.goto(app.address + "export")
    page.locator('[name="to"][value="parquet"]').check()
    page.goto(app.address + "accept")
    page.go_back()
    expect(page.locator("#command")).to_contain_text("--to csv")
    expect(page.locator('[name="to"][value="csv"]')).to_be_checked()


def test_what_was_said_outlives_the_page(page: Any, app: Running) -> None:
    """Before, taking items over and undoing that loaded the page again, and the message was gone with it."""
    from playwright.sync_api import expect

    page.goto(app.address + "compare/0/1")
    with page.expect_navigation():
        page.keyboard.press("t")
    expect(page.locator("#toast")).to_contain_text("moved to")
    with page.expect_navigation():
        page.keyboard.press("z")
    expect(page.locator("#toast")).to_contain_text("Undone: ")


def test_pages_that_were_left_keep_no_thread(app: Running) -> None:
    """Before, each of them held one of the server's 40 threads for 20 seconds: after as many nothing was answered."""
    host, port = app.origin.removeprefix("http://").split(":")
    path = app.address.removeprefix(app.origin)
    for _ in range(60):
        with socket.create_connection((host, int(port))) as one:
            one.sendall(f"GET {path}changes?after={app.review.last} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
    begun = time.monotonic()
    assert app.get("groups").status_code == 200
    assert time.monotonic() - begun < 10


def test_a_question_for_changes_is_answered_when_there_are_any(app: Running) -> None:
    found: list[Any] = []
    asking = threading.Thread(target=lambda: found.append(app.get("changes?after=0&tab=one").json()))
    asking.start()
    app.review.rename(0, "cat")
    asking.join(15)
    assert [event["type"] for event in found[0]["events"]] == ["rename"]
    assert app.get("changes?after=1&wait=0").json()["events"] == []


def test_an_answer_is_of_one_state(app: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before, a page that came while a decision was taken kept the old list under the decision's number."""
    row, begun, go_on = int(app.review.state.members(2)[0]), threading.Event(), threading.Event()
    apply = journal.apply

    def slow(*given: Any) -> Any:
        begun.set()
        go_on.wait(30)
        return apply(*given)

    monkeypatch.setattr(journal, "apply", slow)
    deciding = threading.Thread(target=app.review.reject, args=([row],))
    deciding.start()
    assert begun.wait(30)
    answers: list[Any] = []
    asking = threading.Thread(target=lambda: answers.append(app.get("items?group=2").json()))
    asking.start()
    asking.join(1.5)
    go_on.set()
    deciding.join(30)
    asking.join(30)
    for answer in (*answers, app.get("items?group=2").json()):
        shown = {item["row"] for item in answer["items"]}
        assert (answer["seq"], row in shown) in {(0, True), (1, False)}


def test_labels_of_a_new_head_are_taken_once(app: Running) -> None:
    """Before, what was sent again, since its answer was lost, was told that there is nothing to take."""
    rows = app.review.state.members(2)[:3]
    app.server.site.proposal = (0, Proposal(rows, rows * 0, "ab" * 32, {}, 0.9, 0.5))
    body = {"op": "0123456789abcdef-1", "after": 0}
    answers = [app.post("refit", body) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[0].json()["seq"] == answers[1].json()["seq"] == app.review.last == 1


def test_the_oldest_thumbnails_go_first(tmp_path: Path) -> None:
    """Before, those of the first rows went, also right after they had been made."""
    store = Store(tmp_path / "thumbs.sqlite", "key", limit=250 * 100)
    for row in range(300, 0, -1):
        store.put(row, b"x" * 100)
    assert store.get(1) == b"x" * 100
    assert store.get(300) is None
    kept = [store.get(row) is None for row in range(1, 301)]
    for _ in range(300):  # of two pages that ask at once each has it made
        store.put(1, b"x" * 100)
    assert [store.get(row) is None for row in range(1, 301)] == kept
    store.close()


class Slow(Pictures):
    """Pictures that take their time."""

    def __init__(self, seconds: float) -> None:
        super().__init__(None)
        self.seconds = seconds

    def encoded(self, row: int, side: int) -> bytes:
        time.sleep(self.seconds)
        return b"picture"


def test_a_picture_has_its_whole_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before, what waited behind slow ones was called too slow itself, and stayed so in the header."""
    monkeypatch.setattr(thumbs, "SECONDS", 1.0)

    async def several(seconds: float, count: int) -> list[Any]:
        made = Thumbs(Slow(seconds), Store(tmp_path / "thumbs.sqlite", str(seconds)))
        found = await asyncio.gather(*(made.thumb(row) for row in range(count)), return_exceptions=True)
        assert made.pictures.broken == {}
        made.close()
        return found

    with ThreadPoolExecutor(1) as thread:  # the browser's tests have a loop in this one
        found = thread.submit(lambda: asyncio.run(several(0.7, 4))).result()
        assert found == [b"picture"] * 4
        # Behind those that take all of it others are asked for again.
        found = thread.submit(lambda: asyncio.run(several(0.8, 6))).result()
        assert [type(one) for one in found[4:]] == [Busy, Busy]


def test_a_picture_that_comes_back_is_broken_no_more(serve: Any, run: Path) -> None:
    app, photo = serve(run), run.parent / "photos" / "photo_00007.png"
    away = photo.rename(photo.with_suffix(".away"))
    assert app.get("thumb/7").status_code == 410
    assert app.get("changes?after=0&wait=0").json()["broken"] == 1
    away.rename(photo)
    assert app.get("thumb/7").status_code == 200
    assert app.get("changes?after=0&wait=0").json()["broken"] == 0


def test_thumbnails_are_of_the_pictures_of_their_place(run: Path) -> None:
    """Before, those of other pictures at the old place stood for the run's own, once `--source` had said where."""
    versions = []
    write_pictures(run.parent / "elsewhere", 120, 3)
    for place in (run.parent / "photos", run.parent / "elsewhere", run.parent / "photos"):
        with opened(run, 0, str(place), "ana") as (server, _, _):
            site = server.site
            assert site.thumbs.store.get(5) is None
            site.thumbs.store.put(5, json.dumps(place.name).encode())
            versions.append(site.version)
    assert versions[0] == versions[2] != versions[1]
