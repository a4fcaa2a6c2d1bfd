"""`coterie review`: the server of the review app, where its extra is installed."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from coterie.cli.speech import Speech
from coterie.common.extras import imported
from coterie.common.words import counted
from coterie.types import InputError

NEEDED = ("fastapi", "uvicorn")
ABSENT = "review needs its extra: pip install 'coterie[review]'."


def review_run(run: Path, port: int, speech: Speech, *, browser: bool, source: str | None, name: str | None) -> None:
    """Serve until Ctrl-C and say what was decided. Raises InputError, also where the extra is missing."""
    if any(importlib.util.find_spec(package) is None for package in NEEDED):
        raise InputError(ABSENT)
    if not 0 <= port < 1 << 16:
        raise InputError(f"--port is {port}: give a number from 1 to 65535, or 0 for a free one.")
    for package in NEEDED:
        imported(package, ABSENT)
    from coterie.app.server import serve

    taken = serve(run, port, browser=browser, source=source, name=name)
    print(
        f"{counted(taken, 'decision was', 'decisions were')} taken. Table: {run / 'result.reviewed.parquet'}"
        if taken
        else "Nothing was decided."
    )
    if taken:
        speech.suggest((("export", run, "--to", "csv", "-o", "groups.csv"), "write groups and names as a table"))
