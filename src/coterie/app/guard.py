"""Who may ask the server for what: this machine's own name, whoever knows the token, and POST only from its own pages.

The token stands in the path, not in a cookie: there is nothing that a browser would send along by itself, and cookies
are shared between ports. The name of the host is checked as well, since a foreign page may have its name resolve to
127.0.0.1 (jupyter/notebook #1830).
"""

from __future__ import annotations

import hmac
import json
import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

HOST = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:\d{1,5})?", re.IGNORECASE)
LARGEST = 2 << 20  # bytes of a POST
POLICY = (
    "default-src 'none'; img-src 'self'; style-src 'self'; script-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class Guard:
    """An ASGI app around another: what is refused never reaches it, and it sees paths without the token."""

    def __init__(self, app: App, token: str) -> None:
        self.app, self.token = app, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            return  # no websockets
        headers: dict[str, list[str]] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
        refused = self._refusal(scope, headers)
        if refused is not None:
            await _answer(send, *refused)
            return
        path = scope["path"].split("/", 3)
        inner = dict(scope, path="/" + (path[3] if len(path) > 3 else ""), root_path="")
        inner["raw_path"] = inner["path"].encode()
        if scope["method"] == "HEAD":
            inner["method"] = "GET"  # the routes know no other; the server leaves the body out
        if scope["method"] == "POST":
            body = await _body(receive)
            if body is None:
                await _answer(send, 413, "More than 2 MB cannot be sent at once.")
                return
            receive = _given(body, receive)
        await self.app(inner, receive, _with_headers(send))

    def _refusal(self, scope: Scope, headers: dict[str, list[str]]) -> tuple[int, str] | None:
        hosts = headers.get("host", [])
        if len(hosts) != 1 or not HOST.fullmatch(hosts[0]):
            return 400, "This server answers to 127.0.0.1, localhost and [::1] only."
        parts = scope["path"].split("/", 3)
        given = parts[2] if len(parts) > 2 and parts[1] == "t" else ""
        if not hmac.compare_digest(given.encode("utf-8", "replace"), self.token.encode()):
            return 404, "There is nothing here: open the address that coterie review printed."
        method = scope["method"]
        if method in ("GET", "HEAD"):
            return None
        if method != "POST":
            return 405, "Only GET and POST are understood."

        def one(name: str) -> str | None:
            values = headers.get(name, [])
            return values[0] if len(values) == 1 else None

        kind = (one("content-type") or "").split(";")[0].strip().lower()
        if kind != "application/json":
            return 415, "Decisions are sent as JSON."
        own = f"http://{hosts[0]}".lower()
        if one("x-coterie") != "1" or (one("origin") or "").lower() != own or one("sec-fetch-site") != "same-origin":
            return 403, "Decisions are taken from this server's own pages only."
        length = one("content-length")
        if length is not None and (not length.isdigit() or int(length) > LARGEST):
            return 413, "More than 2 MB cannot be sent at once."
        return None


async def _body(receive: Receive) -> bytes | None:
    """The whole body, None for one that is too large."""
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return b""
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > LARGEST:
            return None
        if not message.get("more_body"):
            return b"".join(parts)


def _given(body: bytes, then: Receive) -> Receive:
    sent = False

    async def receive() -> MutableMapping[str, Any]:
        nonlocal sent
        if sent:
            return await then()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive


def _with_headers(send: Send) -> Send:
    async def wrapped(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            given = list(message.get("headers", []))
            names = {name.lower() for name, _ in given}
            extra = HEADERS if b"cache-control" in names else {**HEADERS, "Cache-Control": "no-store"}
            message = {**message, "headers": given + [(k.encode(), v.encode()) for k, v in extra.items()]}
        await send(message)

    return wrapped


async def _answer(send: Send, status: int, text: str) -> None:
    body = json.dumps({"error": text}).encode()
    headers = {"Content-Type": "application/json", "Content-Length": str(len(body)), "Connection": "close"}
    everything = {**headers, **HEADERS, "Cache-Control": "no-store"}
    start = [(name.encode(), value.encode()) for name, value in everything.items()]
    await send({"type": "http.response.start", "status": status, "headers": start})
    await send({"type": "http.response.body", "body": body})
