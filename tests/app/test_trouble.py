"""A full disk, tabs that are duplicated or loaded again, a forwarded port, and more items than a page can hold."""

from __future__ import annotations

import contextlib
import resource
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest

from helpers.app_runs import Running, watch
from helpers.review_runs import probabilities_of, small_run, write_run

SERVE = "import sys; from pathlib import Path; from coterie.app.server import serve\n"
SERVE += "serve(Path(sys.argv[1]), 0, browser=False, source=None, name='ana')"


def test_a_full_disk_keeps_the_decision_in_the_tab(browser: Any, run: Path) -> None:
    """A limit on the size of the server's files stands in for the disk; when it is lifted the tab sends again."""
    from playwright.sync_api import expect

    from coterie.review import Review

    process = subprocess.Popen([sys.executable, "-c", SERVE, str(run)], stdout=subprocess.PIPE, text=True)
    page = browser.new_page()
    try:
        assert process.stdout is not None
        address, log = process.stdout.readline().strip(), run / "review" / "log.jsonl"
        page.set_default_timeout(60_000)
        page.goto(f"{address}g/2")
        expect(page.locator("#grid .cell[data-row]").first).to_be_focused()
        row = int(page.locator("#grid .cell[data-row]").first.get_attribute("data-row"))
        whole = log.read_bytes()
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (len(whole) + 10, resource.RLIM_INFINITY))
        page.keyboard.press("x")
        expect(page.locator("#saved")).to_have_text("1 not sent, trying again")
        expect(page.locator("#toast")).to_contain_text("it is sent again.")
        assert log.read_bytes() == whole
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        expect(page.locator("#saved")).to_have_text("saved")
    finally:
        page.close()
        process.terminate()
        process.communicate()
    with Review(run) as review:
        assert [event.type for event, _ in review.events] == ["open", "reject"]
        assert review.state.label[row] == -1


def test_a_key_that_the_server_does_not_answer_says_so(browser: Any, app: Running) -> None:
    """Before, F did nothing at all when the order of the sweep could not be had."""
    from playwright.sync_api import expect

    page = browser.new_page()
    page.goto(app.address + "g/2")
    expect(page.locator("#grid .cell[data-row]").first).to_be_focused()
    page.route("**/order?**", lambda route: route.abort())
    page.keyboard.press("f")
    expect(page.locator("#toast")).to_have_text("The server does not answer: start coterie review again.")
    page.unroute("**/order?**")
    page.keyboard.press("f")
    expect(page.locator("#sweeping")).to_be_visible()
    page.close()


def test_a_run_that_is_moved_takes_decisions_when_it_is_back(browser: Any, app: Running, run: Path) -> None:
    """Before, they went into the moved file, or with a removed one nowhere, and the page said "saved"."""
    from playwright.sync_api import expect

    page = browser.new_page()
    page.goto(app.address + "g/2")
    expect(page.locator("#grid .cell[data-row]").first).to_be_focused()
    row = int(page.locator("#grid .cell[data-row]").first.get_attribute("data-row"))
    away = run.rename(run.with_name("away"))
    page.keyboard.press("x")
    expect(page.locator("#toast")).to_contain_text("log.jsonl is not there any more")
    assert app.review.last == 0
    answer = app.get("export")
    assert answer.status_code == 500
    assert answer.json()["error"] == f"{run} cannot be used (No such file or directory)."
    away.rename(run)
    expect(page.locator("#saved")).to_have_text("saved")
    assert app.review.state.label[row] == -1
    page.close()


@pytest.mark.usefixtures("home")
def test_a_duplicated_tab_has_numbers_of_its_own(page: Any, app: Running) -> None:
    """A browser copies the storage of a tab that it duplicates, or that a page opens."""
    from playwright.sync_api import expect

    with page.context.expect_page() as opening:
        page.evaluate("window.open(location.href)")
    copy_of_it = opening.value
    for group, (tab, name) in enumerate(((page, "cat"), (copy_of_it, "dog"))):
        tab.bring_to_front()
        tab.locator(f'.review[data-group="{group}"]').focus()
        tab.keyboard.press("n")
        tab.locator("#ask-input").fill(name)
        tab.keyboard.press("Enter")
        expect(tab.locator(f'.review[data-group="{group}"] h2')).to_contain_text(name)
    assert [app.review.state.groups[group].name for group in (0, 1)] == ["cat", "dog"]


def test_what_a_tab_keeps_is_of_one_run(browser: Any, serve: Any, tmp_path: Path) -> None:
    """A decision that was not sent, and what could not be told, stay out of the next run at the same port."""
    from playwright.sync_api import expect

    first, page = serve(small_run(tmp_path / "a")), browser.new_page()
    page.on("dialog", lambda dialog: dialog.accept())
    page.goto(first.address + "queue")
    row = page.locator("#task[data-row]").get_attribute("data-row")
    page.keyboard.press("u")
    expect(page.locator(f'#task[data-row="{row}"]')).to_have_count(0)
    first.stop()
    page.keyboard.press("x")
    expect(page.locator("#saved")).to_contain_text("1 not sent")
    second = serve(small_run(tmp_path / "b", n=8), int(first.origin.rpartition(":")[2]))
    page.goto(second.address + "queue")
    expect(page.locator("#task[data-row]")).to_have_count(1)
    expect(page.locator("#saved")).to_have_text("saved")
    assert second.review.last == 0
    page.close()


def test_what_is_sent_again_after_a_reload_and_refused_is_said(page: Any, app: Running) -> None:
    from playwright.sync_api import expect

    page.on("dialog", lambda dialog: dialog.accept())
    page.goto(app.address + "g/2")
    expect(page.locator("#grid .cell[data-row]").first).to_be_focused()
    row = int(page.locator("#grid .cell[data-row]").first.get_attribute("data-row"))
    page.route("**/events", lambda route: route.abort())
    page.locator('[data-pick="reject"]').click()
    expect(page.locator("#saved")).to_contain_text("1 not sent")
    app.review.move([row], to=1)
    page.unroute("**/events")
    page.route("**/events", lambda route: route.abort(), times=1)
    page.reload()
    expect(page.locator("#toast")).to_contain_text("A decision from before this page was loaded was not taken.")
    assert app.review.state.label[row] == 1


def test_an_enlarged_picture_that_is_gone_says_why(browser: Any, serve: Any, tmp_path: Path) -> None:
    from playwright.sync_api import expect

    run = small_run(tmp_path)
    app, page = serve(run), browser.new_page()
    page.goto(app.address + "g/2")
    tile = page.locator("#grid .cell[data-row]").first
    expect(tile.locator("img")).to_have_js_property("complete", True)
    (tmp_path / "photos" / app.review.base.ids[int(tile.get_attribute("data-row"))]).unlink()
    page.keyboard.press("Enter")
    expect(page.locator("#viewer figcaption")).to_contain_text("not shown: ")
    expect(page.locator("#viewer img")).to_be_hidden()
    page.close()


def forward(listening: socket.socket, port: int) -> None:
    """What `ssh -L` does: the bytes of each connection, both ways, to another port."""
    while True:
        try:
            client, _ = listening.accept()
        except OSError:
            return
        threading.Thread(target=both_ways, args=(client, port), daemon=True).start()


def both_ways(client: socket.socket, port: int) -> None:
    with client, socket.create_connection(("127.0.0.1", port)) as server:
        back = threading.Thread(target=copy, args=(server, client), daemon=True)
        back.start()
        copy(client, server)
        back.join()


def copy(source: socket.socket, sink: socket.socket) -> None:
    # Either side may have gone at any moment, which ends the connection and nothing else.
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


def test_another_forwarded_port_serves_and_takes_decisions(app: Running) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        threading.Thread(target=forward, args=(listening, int(app.origin.rpartition(":")[2])), daemon=True).start()
        origin = f"http://localhost:{port}"
        address = app.address.replace(app.origin, origin)
        close, slow = {"Connection": "close"}, {"timeout": 60}
        assert httpx2.get(address, headers=close, **slow).status_code == 200
        body = {"op": "test-tab-1", "after": 0, "type": "rename", "data": {"group": 0, "name": "a"}}
        headers = {"X-Coterie": "1", "Sec-Fetch-Site": "same-origin", **close}
        for sent, status in ((app.origin, 403), (origin, 200)):
            answer = httpx2.post(address + "events", json=body, headers=headers | {"Origin": sent}, **slow)
            assert answer.status_code == status
    assert app.review.state.groups[0].name == "a"


def test_many_items_in_many_groups_stay_few_nodes(browser: Any, serve: Any, tmp_path: Path) -> None:
    """A group of 8,000 of 20,000 items, and 120 groups: three screens of tiles, a hundred groups a page."""
    from playwright.sync_api import expect

    p = probabilities_of(20_000, 120)
    p[:8000] = np.roll(p[:8000], 1, axis=1)
    p[:8000, 0] = 2
    p /= p.sum(axis=1, keepdims=True)
    app = serve(write_run(tmp_path / "run", p, kind="embeddings"))
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    told = watch(page)
    page.goto(app.address)
    expect(page.locator(".review")).to_have_count(100)
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    group = int(page.locator(".review").nth(2).get_attribute("data-group"))
    expect(page.locator("#acting")).to_have_text(f"group {group}")
    page.locator('#table-acts [data-act="rename"]').click()
    page.locator("#ask-input").fill("cat")
    page.keyboard.press("Enter")
    expect(page.locator(f'.review[data-group="{group}"] th')).to_contain_text("cat")
    expect(page.locator("#acting")).to_have_text("cat")
    page.keyboard.press("/")
    for _ in range(60):
        page.keyboard.press("ArrowDown")
    expect(page.locator('#find-list [aria-selected="true"]')).to_be_in_viewport()
    number = page.locator('#find-list [aria-selected="true"] .chip').text_content()
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/g/{number}")
    page.goto(f"{app.address}g/0")
    expect(page.locator("#grid .cell[data-row]").first).to_be_focused()
    size = int((app.review.base.labels == 0).sum())
    assert size >= 8000
    page.evaluate("window.scrollTo(0, document.body.scrollHeight / 2)")
    page.wait_for_function(
        "() => { const all = [...document.querySelectorAll('#grid .cell')];"
        " return all.some((cell) => cell.dataset.index > 3000) && all.every((cell) => cell.dataset.row); }"
    )
    assert page.locator("#grid *").count() <= 2000
    page.keyboard.press("End")
    expect(page.locator(f'#grid [data-index="{size - 1}"]')).to_be_focused()
    assert told.errors == []
    page.close()


def test_very_many_scattered_items_are_decided_at_once(browser: Any, serve: Any, tmp_path: Path) -> None:
    """Half of 150,000 items, no two side by side, are sent in few bytes."""
    from playwright.sync_api import expect

    n = 150_000
    p = np.tile(np.array([[0.9, 0.1], [0.1, 0.9]], np.float32), (n // 2, 1))
    app = serve(write_run(tmp_path / "run", p, kind="embeddings"))
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    told = watch(page)
    page.goto(app.address)
    with page.expect_request("**/events") as asked:
        page.locator('.review[data-group="0"] [data-act="approve"]').click()
        page.locator("#ask-yes").click()
    assert len(asked.value.post_data) < 30_000
    expect(page.locator("#decided")).to_have_text("75,000")
    assert app.review.state.decided.tolist() == [True, False] * (n // 2)
    assert told.errors == []
    page.close()


def test_more_points_than_a_call_has_arguments_are_zoomed_to(browser: Any, serve: Any, tmp_path: Path) -> None:
    from playwright.sync_api import expect

    n = 150_000
    p = np.tile(np.array([[0.9, 0.1], [0.1, 0.9]], np.float32), (n // 2, 1))
    places = np.random.default_rng(0).normal(size=(n, 2)).astype(np.float32)
    app = serve(write_run(tmp_path / "run", p, kind="embeddings", embedding=places))
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    told = watch(page)
    page.goto(f"{app.address}map")
    expect(page.locator("#in-view-count")).to_have_text("150,000")
    box = page.locator("#map").bounding_box()
    for place, (x, y) in enumerate([(0, 0), (1, 0), (1, 1), (0, 1)]):
        page.mouse.move(box["x"] + 10 + x * (box["width"] - 20), box["y"] + 10 + y * (box["height"] - 20))
        if not place:
            page.mouse.down()
    page.mouse.up()
    expect(page.locator("#chosen")).to_have_text("150,000 chosen")
    page.locator('[data-pick="zoom"]').click()
    expect(page.locator("#chosen")).to_have_text("150,000 chosen")
    assert told.errors == []
    page.close()
