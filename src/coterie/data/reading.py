"""Turns what other libraries raise on a damaged or odd file into one sentence; names the pictures left out for that."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from coterie.common.words import counted
from coterie.types import InputError, Skipped

ReadingProgress = Callable[[str, int, int], None]  # what is being done, how many are done, of how many


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
        if "allow_pickle" in reason:  # of any file that it does not know NumPy says this, and how to run what is in it
            reason = "it is neither a .npy nor a .npz file"
        raise InputError(f"{failure} ({reason}).") from error


def said_of(skipped: Sequence[Skipped]) -> list[str]:
    """A sentence about the pictures that could not be read; none where there are none."""
    if not skipped:
        return []
    first = "; ".join(f"{item.id}: {item.reason}" for item in skipped[:3]) + ("; ..." if len(skipped) > 3 else "")
    pictures = counted(len(skipped), "unreadable picture was", "unreadable pictures were")
    return [f"{pictures} left out, and the answers are of the others ({first})."]
