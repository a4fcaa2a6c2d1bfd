"""Turns what other libraries raise on a damaged or odd file into one sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from coterie.types import InputError


@contextmanager
def reading(failure: str) -> Iterator[None]:
    """Turn any error about a file's content into an InputError that begins with `failure` and gives the reason.

    NumPy, zipfile, zlib, tokenize, json and Arrow each raise errors of their own for a damaged file.
    """
    try:
        yield
    except InputError:
        raise
    except MemoryError as error:
        raise InputError(f"{failure}: it asks for more memory than there is.") from error
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0].strip().rstrip(".")[:200] or type(error).__name__
        raise InputError(f"{failure} ({reason}).") from error
