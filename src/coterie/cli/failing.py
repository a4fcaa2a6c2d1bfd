"""What a command prints when it ends early: one sentence on standard error, and an exit code."""

from __future__ import annotations

import os
import re
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import typer

from coterie.common.outputs import what_helps
from coterie.common.shortage import shortage
from coterie.types import CoterieError, InputError

DEBUG = "COTERIE_DEBUG"  # set to 1: an error that nobody foresaw comes with its traceback


@contextmanager
def failures(*, run: Path | None = None, sources: Sequence[str | None] = ()) -> Iterator[None]:
    """Turn the errors that a user can do something about into one sentence and an exit code.

    A run folder or a source that is not there is refused at once, before a command imports what it works with.
    """
    try:
        _check_date()
        _look_for(run, sources)
        yield
    except (Exception, KeyboardInterrupt) as error:
        told = sentence(error)
        if told is None:
            raise
        stop(*told)


def _check_date() -> None:
    """Raise InputError for a SOURCE_DATE_EPOCH that is no number: NumPy cannot be imported as a whole with it."""
    if not re.fullmatch(r"\s*-?[0-9]+\s*", given := os.environ.get("SOURCE_DATE_EPOCH", "0")):
        raise InputError(f"SOURCE_DATE_EPOCH is {given[:80]!r} in the environment: it takes a whole number of seconds.")


def _look_for(run: Path | None, sources: Sequence[str | None]) -> None:
    if run is not None:
        from coterie.records.run import record_in

        record_in(run)
    if given := [source for source in sources if source is not None]:
        from coterie.data.addresses import is_address
        from coterie.data.source import looked_up

        for source in given:
            if not is_address(source):
                looked_up(source)


def sentence(error: BaseException) -> tuple[str, int] | None:
    """The sentence for an error and the exit code; None for an error that nobody foresaw."""
    if isinstance(error, CoterieError):
        return str(error), 2 if isinstance(error, InputError) else 1
    if isinstance(error, KeyboardInterrupt):
        return str(error) or "Stopped.", 128 + getattr(error, "number", 2)
    if (few := shortage(error)) is not None:
        return few, 1
    if isinstance(error, OSError) and error.errno is not None:
        name = error.filename if error.filename is not None else "A file"
        helps = what_helps(error) or "give another place"
        return f"{name} cannot be used ({error.strerror}): {helps}.", 2
    return None


def unforeseen(error: Exception) -> str:
    """The message for an error that is coterie's own fault."""
    where = " ".join(getattr(error, "__notes__", ()))
    again = f"with {DEBUG}=1 in the environment the same command shows where"
    text = " ".join(str(error).split())[:300]
    if (place := in_own_method(error)) is not None:
        return f"{type(error).__name__} in a method that is not coterie's, {place}: {text} ({where or again})."
    return f"This is an error of coterie itself, please report it: {type(error).__name__}: {text} ({where or again})."


def in_own_method(error: Exception) -> str | None:
    """FILE:LINE of the last step of an error that lies in the file of a method from outside the package."""
    from coterie.catalogue import outside_files

    files = outside_files()
    steps = [step for step in traceback.extract_tb(error.__traceback__) if step.filename in files]
    return f"{steps[-1].filename}:{steps[-1].lineno}" if steps else None


def debugging() -> bool:
    """Whether the user wants a traceback in place of a sentence."""
    return os.environ.get(DEBUG, "0") not in ("", "0")


def stop(text: str, code: int) -> NoReturn:
    """Say why on standard error, in one line, and exit."""
    print(f"coterie: {' '.join(text.split())}", file=sys.stderr)
    raise typer.Exit(code)
