"""Makes standard output and standard error safe: in any encoding, closed, full, or without a reader."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from coterie.common.outputs import printable


class OutputLost(Exception):
    """Standard output cannot be written any more; the cause is the system's error."""


class Stream:
    """A text stream that takes every text: what it has no character for is written as an escape."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        text = printable(text)
        try:
            self.stream.write(text)
        except UnicodeEncodeError:
            encoding = self.stream.encoding or "ascii"
            self.stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
        return len(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)


class Results(Stream):
    """Standard output: a text that cannot be written ends the command."""

    # click would otherwise write around this class to a stream that is ASCII.
    encoding = "utf-8"

    def write(self, text: str) -> int:
        with self.lost():
            return super().write(text)

    def flush(self) -> None:
        with self.lost():
            self.stream.flush()

    @contextmanager
    def lost(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OutputLost from error


class Remarks(Stream):
    """Standard error: a text that cannot be written is dropped, and the command goes on."""

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            super().write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self.stream.flush()


@contextmanager
def consoles() -> Iterator[Results]:
    """Within, `sys.stdout` and `sys.stderr` are there and take any text."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # else the next file that is opened gets its number, and what is printed
    before = sys.stdout, sys.stderr
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        # None, or closed, is what a program without a console has for them.
        to = [nowhere if stream is None or getattr(stream, "closed", False) else stream for stream in before]
        results, remarks = Results(_buffered(to[0])), Remarks(to[1])
        sys.stdout, sys.stderr = results, remarks
        try:
            yield results
        finally:
            sys.stdout, sys.stderr = before
            if results.stream is not to[0]:
                with contextlib.suppress(OSError, ValueError):
                    results.stream.detach().detach()  # else the file is closed with the buffer
            try:
                remarks.stream.flush()
            except (OSError, ValueError):
                forget(remarks.stream)  # else Python ends with code 120 for remarks that nobody can hear


def _buffered(stream: Any) -> Any:
    """The stream with a buffer, if it has none (PYTHONUNBUFFERED): Python takes a part that was written for all."""
    raw = getattr(stream, "buffer", None)
    if not isinstance(raw, io.RawIOBase):
        return stream
    return io.TextIOWrapper(io.BufferedWriter(raw), stream.encoding, stream.errors, line_buffering=True)


def forget(stream: Any) -> None:
    """Drop what a stream could not write; Python would report it again at exit."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
