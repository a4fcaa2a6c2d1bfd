"""Methods from outside that a test makes known."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from coterie import catalogue


@contextmanager
def forgotten() -> Iterator[None]:
    """What is registered inside is unknown afterwards."""
    before = dict(catalogue._registered)
    try:
        yield
    finally:
        catalogue._registered.clear()
        catalogue._registered.update(before)
