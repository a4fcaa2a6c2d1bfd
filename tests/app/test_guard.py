"""Who is answered: nobody without the token, under another name, or from another page."""

from __future__ import annotations

import errno
import json
import os
import socket
import stat
from typing import Any

import httpx2
import pytest

from coterie.app.guard import POLICY
from coterie.app.server import SESSION, bind, token_of
from coterie.types import InputError
from helpers.app_runs import Running


def port_of(app: Running) -> int:
    return int(app.origin.rpartition(":")[2])


def raw(app: Running, request: str) -> int:
    """The status of an answer to bytes that no client would send."""
    with socket.create_connection(("127.0.0.1", port_of(app)), 10) as connection:
        connection.sendall(request.encode("latin-1"))
        return int(connection.makefile("rb").readline().split()[1])


@pytest.mark.parametrize("path", ["", "t/", "t/wrong/", "t//", "static/app.css", "items", "t/wrong/items", "docs"])
def test_no_token_no_answer(asked: Running, path: str) -> None:
    answer = httpx2.get(f"{asked.origin}/{path}", timeout=60)
    assert answer.status_code == 404
    assert asked.review.base.ids[0] not in answer.text
    assert answer.headers["content-security-policy"] == POLICY


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("127.0.0.1", 200),
        ("127.0.0.1:4711", 200),  # another forwarded port
        ("[::1]:99", 200),
        ("evil.example", 400),
        ("127.0.0.1.evil.example", 400),
        ("localhost.evil.example:80", 400),
        ("localhost:80:80", 400),
        ("[::1", 400),
        ("0.0.0.0", 400),
        ("", 400),
    ],
)
def test_only_requests_to_a_name_of_this_machine_are_answered(asked: Running, host: str, status: int) -> None:
    path = "/" + asked.address.split("/", 3)[3]
    assert raw(asked, f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n") == status


def test_no_host_two_hosts_and_forwarded_ones(asked: Running) -> None:
    path = "/" + asked.address.split("/", 3)[3]
    assert raw(asked, f"GET {path} HTTP/1.0\r\n\r\n") == 400
    assert (
        raw(asked, f"GET {path} HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\nConnection: close\r\n\r\n") == 400
    )
    forwarded = "X-Forwarded-Host: localhost\r\nX-Forwarded-For: 127.0.0.1\r\nForwarded: host=localhost\r\n"
    assert raw(asked, f"GET {path} HTTP/1.1\r\nHost: evil.example\r\n{forwarded}Connection: close\r\n\r\n") == 400


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"X-Coterie": ""}, 403),
        ({"Origin": ""}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": ""}, 403),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
    ],
)
def test_a_decision_comes_from_the_apps_own_page(app: Running, headers: dict[str, str], status: int) -> None:
    body = {"op": "test-tab-1", "after": 0, "type": "rename", "data": {"group": 0, "name": "a"}}
    assert app.post("events", body, **headers).status_code == status
    assert app.review.last == (1 if status == 200 else 0)


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"])
def test_other_methods_are_refused(asked: Running, method: str) -> None:
    answer = httpx2.request(method, asked.address)
    assert answer.status_code == 405
    assert not any(name.lower().startswith("access-control") for name in answer.headers)


def test_a_head_is_a_get_without_its_body(asked: Running) -> None:
    answer = httpx2.head(asked.address)
    assert (answer.status_code, answer.content) == (200, b"")


def test_what_is_no_json_is_called_that(app: Running) -> None:
    headers = {"X-Coterie": "1", "Origin": app.origin, "Sec-Fetch-Site": "same-origin"}
    headers["Content-Type"] = "application/json"
    for content in (b"\xff\xfe", b'{"after":' + b"9" * 5000 + b"}", b"[" * 100_000):
        answer = httpx2.post(app.address + "events", content=content, headers=headers, timeout=60)
        assert (answer.status_code, answer.json()["error"]) == (400, "What was sent cannot be read as JSON.")
    assert app.get("events").json() == {"error": "Nothing here is asked for by GET."}


def test_a_large_body_is_refused_with_and_without_its_length(app: Running) -> None:
    body = {"op": "test-tab-1", "after": 0, "type": "rename", "data": {"group": 0, "name": "a" * (2 << 20)}}
    assert app.post("events", body).status_code == 413
    headers = {
        "X-Coterie": "1",
        "Origin": app.origin,
        "Sec-Fetch-Site": "same-origin",
        "Content-Type": "application/json",
    }
    chunks = (b" " * 65536 for _ in range(40))
    assert httpx2.post(app.address + "events", content=chunks, headers=headers, timeout=60).status_code == 413
    assert app.review.last == 0


@pytest.mark.parametrize("path", ["", "queue", "items", "thumb/0", "static/app.css", "nothing", "thumb/99999"])
def test_every_answer_has_its_headers(asked: Running, path: str) -> None:
    headers = asked.get(path).headers
    assert headers["content-security-policy"] == POLICY
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-opener-policy"] == headers["cross-origin-resource-policy"] == "same-origin"
    assert "set-cookie" not in headers
    assert not any(name.lower().startswith("access-control") for name in headers)
    if not path.startswith("static"):
        assert headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "path",
    [
        "thumb/../../../../etc/passwd",
        "thumb/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "thumb/-1",
        "thumb/0x1",
        "image/..%2f..%2frun.yaml",
        "static/..%2fserver.py",
        "static/%2e%2e/server.py",
        "static/.%2e/guard.py",
        "static//etc/passwd",
        "static/page.js.j2",
    ],
)
def test_no_path_leads_out(asked: Running, path: str) -> None:
    base = "/" + asked.address.split("/", 3)[3]
    request = f"GET {base}{path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    assert raw(asked, request) in (404, 422)


def test_it_listens_on_this_machine_alone(asked: Running) -> None:
    with bind(0) as listening:
        assert listening.getsockname()[0] == "127.0.0.1"
    with pytest.raises(InputError, match=r"Port \d+ is taken"):
        bind(port_of(asked))


def test_the_token_is_kept_for_its_owner_and_some_hours(app: Running) -> None:
    path = app.review.path / "review" / SESSION
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    token = app.address.split("/")[4]
    assert len(token) == 43  # 256 bits
    assert token_of(app.review.path) == token
    kept = json.loads(path.read_text())
    path.write_text(json.dumps(kept | {"at": kept["at"] - 13 * 3600}))
    assert token_of(app.review.path) != token
    path.chmod(0o644)
    kept = json.loads(path.read_text())
    assert token_of(app.review.path) != kept["token"]


def test_a_token_of_a_clock_that_was_ahead_is_not_kept(app: Running) -> None:
    path = app.review.path / "review" / SESSION
    kept = json.loads(path.read_text(encoding="utf-8"))
    kept["at"] += 30 * 24 * 3600
    path.write_text(json.dumps(kept), encoding="utf-8")
    assert token_of(app.review.path) != kept["token"]


def test_a_token_that_cannot_be_kept_serves_all_the_same(app: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    path = app.review.path / "review" / SESSION
    path.unlink()

    def full(*given: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "open", full)
    assert len(token_of(app.review.path)) == 43
    assert not path.exists()


def test_no_item_and_no_place_of_the_users_stands_in_what_is_public(asked: Running) -> None:
    for path in ("static/common.js", "static/app.css"):
        assert str(asked.review.path.parent) not in asked.get(path).text


def test_pictures_are_encoded_anew(asked: Running) -> None:
    original = (asked.review.path.parent / "photos" / asked.review.base.ids[0]).read_bytes()
    for path in ("thumb/0", "image/0"):
        answer = asked.get(path)
        assert answer.headers["content-type"] == "image/webp"
        assert answer.content[:4] == b"RIFF"
        assert answer.content != original
