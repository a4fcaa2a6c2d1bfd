"""A server in a thread of the test, and a browser that opens it."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from helpers.review_runs import small_run

from coterie.app.server import Server, opened
from coterie.review import Review

CHROMIUM = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)
FLAGS = ["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"]


@dataclass
class Running:
    """A server that runs: its address, ending in "/", and the review that it holds."""

    server: Server
    address: str

    @property
    def review(self) -> Review:
        return self.server.site.review

    @property
    def origin(self) -> str:
        return "/".join(self.address.split("/")[:3])

    def post(self, path: str, body: Any, **headers: str) -> httpx2.Response:
        """As the app's own pages do."""
        given = {"X-Coterie": "1", "Origin": self.origin, "Sec-Fetch-Site": "same-origin"} | headers
        return httpx2.post(self.address + path, json=body, headers={k: v for k, v in given.items() if v})

    def get(self, path: str, **headers: str) -> httpx2.Response:
        return httpx2.get(self.address + path, headers=headers)


@pytest.fixture
def serve() -> Iterator[Any]:
    """Start a server for a run folder."""
    with ExitStack() as stack:

        def start(run: Path, port: int = 0) -> Running:
            server, listening, address = stack.enter_context(opened(run, port, None, "ana"))
            thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
            thread.start()
            stack.callback(lambda: (server.stop(), thread.join(20)))
            return Running(server, address)

        yield start


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
    with playwright.sync_playwright() as started:
        opened_browser = started.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield opened_browser
        opened_browser.close()


@dataclass
class Complaints:
    """What a page said on its console, and what it asked of anyone but the server."""

    errors: list[str]
    strangers: list[str]


@pytest.fixture
def page(browser: Any, app: Running) -> Iterator[Any]:
    """A page at the app's first screen; what it complains of fails the test."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    opened_page = context.new_page()
    told = watch(opened_page)
    opened_page.goto(app.address)
    yield opened_page
    context.close()
    assert told.errors == []
    assert told.strangers == []


def watch(page: Any) -> Complaints:
    """Collect what a page complains of."""
    told = Complaints([], [])
    page.set_default_timeout(30_000)
    page.on("console", lambda message: told.errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: told.errors.append(str(error)))

    def asked(request: Any) -> None:
        if not request.url.startswith("http://127.0.0.1:"):
            told.strangers.append(request.url)

    page.on("request", asked)
    return told
