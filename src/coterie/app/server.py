"""`coterie review RUN`: one run, one address on 127.0.0.1, until Ctrl-C."""

from __future__ import annotations

import errno
import json
import os
import secrets
import socket
import sys
import threading
import time
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response
from starlette.exceptions import HTTPException

from coterie.app import answers, pages, posts
from coterie.app.guard import Guard
from coterie.app.site import Site
from coterie.review import Conflict, LogBroken, Review
from coterie.review.log import FOLDER
from coterie.review.sentences import sentence
from coterie.review.undoing import NeedsMore
from coterie.types import CoterieError, InputError

HOURS = 12  # for which a token serves the tabs that are open, over restarts
SESSION = "session.json"
TOLD = 50  # events that a refused decision is answered with; a tab of last week may collide with all
NO_JSON = "What was sent cannot be read as JSON."


def application(site: Site) -> FastAPI:
    """The app behind the guard; nothing of it writes a documentation page or asks another server."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.state.site = site
    for part in (answers, posts, pages):
        app.include_router(part.router)

    def refuse(request: Request, status: int, text: str, **more: Any) -> Response:
        if "text/html" in request.headers.get("accept", ""):
            return HTMLResponse(site.page("error", text=text), status)
        return JSONResponse({"error": text, **more}, status)

    @app.exception_handler(CoterieError)
    async def known(request: Request, error: CoterieError) -> Response:
        if isinstance(error, Conflict | NeedsMore):
            told = [
                {"seq": e.seq, "by": e.by, "text": sentence(*site.review.events[e.seq], site.review.state)}
                for e in error.events[-TOLD:]
            ]
            kind = "conflict" if isinstance(error, Conflict) else "dependents"
            return refuse(request, 409, str(error), kind=kind, events=told)
        return refuse(request, 507 if isinstance(error, LogBroken) else 422, str(error))

    @app.exception_handler(OSError)
    async def gone(request: Request, error: OSError) -> Response:
        return refuse(request, 500, f"{error.filename or 'A file'} cannot be used ({error.strerror or error}).")

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        if first["type"] == "json_invalid":
            return refuse(request, 400, NO_JSON)
        where = ".".join(str(part) for part in first["loc"] if part not in ("body", "query", "path"))
        return refuse(request, 422, f"{where or 'What was sent'} cannot be: {first['msg']}.")

    @app.exception_handler(HTTPException)
    async def missing(request: Request, error: HTTPException) -> Response:
        said = {400: NO_JSON, 405: f"Nothing here is asked for by {request.method}."}
        return refuse(request, error.status_code, said.get(error.status_code, "There is no such page."))

    return app


class Server(uvicorn.Server):
    """A server that answers waiting requests when it is stopped."""

    site: Site

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.stop()
        super().handle_exit(sig, frame)

    def stop(self) -> None:
        """End the server: open questions are answered first."""
        self.site.stopping.set()
        self.site.review.wake()
        self.should_exit = True


def bind(port: int) -> socket.socket:
    """A socket on 127.0.0.1. Raises InputError for a port that is taken or may not be used."""
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(("127.0.0.1", port))
    except OSError as error:
        listening.close()
        reason = "is taken" if error.errno == errno.EADDRINUSE else f"cannot be used ({error.strerror})"
        raise InputError(f"Port {port} {reason}: give another with --port.") from error
    listening.listen(128)
    return listening


def token_of(run: Path) -> str:
    """The token of the last hours, so that a tab that is open goes on, or a new one; only its owner can read it.

    One that cannot be kept, on a full disk, say, holds as long as the server runs.
    """
    path = run / FOLDER / SESSION
    with suppress(OSError, ValueError, TypeError, KeyError):
        facts = os.stat(path)
        kept = json.loads(path.read_text())
        mine = facts.st_uid == os.getuid() and facts.st_mode & 0o077 == 0
        fresh = abs(time.time() - float(kept["at"])) < HOURS * 3600  # of a clock that was ahead: for ever, else
        if mine and fresh and len(str(kept["token"])) == 43:
            return str(kept["token"])
    token = secrets.token_urlsafe(32)
    with suppress(OSError):
        path.unlink()
    with suppress(OSError):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "w") as file:
            json.dump({"token": token, "at": time.time()}, file)
    return token


@contextmanager
def opened(run: Path, port: int, source: str | None, name: str | None) -> Iterator[tuple[Server, socket.socket, str]]:
    """A server that has not begun, its socket and its address. Raises InputError."""
    with Review(run, source=source, name=name) as review:
        token = token_of(run)
        listening = bind(port)
        site = None
        try:
            site = Site(review, token)
            config = uvicorn.Config(
                Guard(application(site), token),
                log_level="error",
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_graceful_shutdown=2,
                lifespan="off",
                ws="none",
            )
            server = Server(config)
            server.site = site
            yield server, listening, f"http://127.0.0.1:{listening.getsockname()[1]}/t/{token}/"
        finally:
            if site is not None:
                site.close()
            listening.close()


def serve(run: Path, port: int, *, browser: bool, source: str | None, name: str | None) -> int:
    """Serve until Ctrl-C; returns how many decisions were taken."""
    with opened(run, port, source, name) as (server, listening, address):
        before = server.site.review.last
        print(address, flush=True)
        if "SSH_CONNECTION" in os.environ:
            here = listening.getsockname()[1]
            print(f"On your own machine: ssh -N -L {here}:127.0.0.1:{here} {socket.gethostname()}", file=sys.stderr)
        elif browser:
            # A browser in the terminal ends before `open` returns, and shows nothing until the server below answers.
            threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
        if server.site.pictures.changed is not None:
            print(f"Note: {server.site.pictures.changed}", file=sys.stderr)
        print("Ctrl-C ends it; nothing is lost.", file=sys.stderr)
        with suppress(KeyboardInterrupt):
            server.run(sockets=[listening])
        return server.site.review.last - before
