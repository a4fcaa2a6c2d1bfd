"""What the tests of the app share: a server that runs, and what a page complains of."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx2

from coterie.app.server import Server
from coterie.review import Review

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
FLAGS = [
    "--no-sandbox",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-gpu",  # which a process of its own would imitate
]


@dataclass
class Running:
    """A server that runs: its address, ending in "/", and the review that it holds."""

    server: Server
    address: str
    stop: Callable[[], None]

    @property
    def review(self) -> Review:
        return self.server.site.review

    @property
    def origin(self) -> str:
        return "/".join(self.address.split("/")[:3])

    def post(self, path: str, body: Any, **headers: str) -> httpx2.Response:
        """As the app's own pages do."""
        given = {"X-Coterie": "1", "Origin": self.origin, "Sec-Fetch-Site": "same-origin"} | headers
        return httpx2.post(self.address + path, json=body, headers={k: v for k, v in given.items() if v}, timeout=60)

    def get(self, path: str, **headers: str) -> httpx2.Response:
        return httpx2.get(self.address + path, headers=headers, timeout=60)


@dataclass
class Complaints:
    """What a page said on its console, and what it asked of anyone but the server."""

    errors: list[str]
    strangers: list[str]


def watch(page: Any) -> Complaints:
    """Collect what a page complains of."""
    told = Complaints([], [])
    page.set_default_timeout(60_000)

    def heard(message: Any) -> None:
        # What a test does on purpose, a conflict or no server, the browser reports as well.
        if message.type == "error" and "409" not in message.text and "net::ERR" not in message.text:
            told.errors.append(message.text)

    page.on("console", heard)
    page.on("pageerror", lambda error: told.errors.append(str(error)))

    def asked(request: Any) -> None:
        if not request.url.startswith("http://127.0.0.1:"):
            told.strangers.append(request.url)

    page.on("request", asked)
    return told
