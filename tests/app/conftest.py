"""A server in a thread of the test, and a browser that opens it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from coterie.app.server import opened
from helpers.app_runs import CHROMIUM, FLAGS, Running, watch
from helpers.review_runs import small_run


@contextmanager
def serving() -> Iterator[Any]:
    """What starts a server for a run folder."""
    with ExitStack() as stack:

        def start(run: Path, port: int = 0) -> Running:
            inner = stack.enter_context(ExitStack())
            server, listening, address = inner.enter_context(opened(run, port, None, "ana"))
            thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
            thread.start()
            inner.callback(lambda: (server.stop(), thread.join(20)))
            return Running(server, address, inner.close)

        yield start


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Any]:  # ends before the folder goes in which its runs lie
    with serving() as start:
        yield start


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server that is only asked: no test may decide anything there."""
    with serving() as start:
        yield start(small_run(tmp_path_factory.mktemp("asked")))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return small_run(tmp_path)


@pytest.fixture
def app(serve: Any, run: Path) -> Running:
    return serve(run)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine")
    playwright.expect.set_options(timeout=60_000)
    with playwright.sync_playwright() as started:
        opened_browser = started.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield opened_browser
        opened_browser.close()


@pytest.fixture
def page(browser: Any, app: Running) -> Iterator[Any]:
    """A page that has gone nowhere yet; what it complains of fails the test."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    opened_page = context.new_page()
    told = watch(opened_page)
    yield opened_page
    context.close()
    assert told.errors == []
    assert told.strangers == []


@pytest.fixture
def home(page: Any, app: Running) -> None:
    """The page is at the app's first screen."""
    page.goto(app.address)
