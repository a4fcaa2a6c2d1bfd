"""Sets of rows as short texts, "17,40-58" is row 17 and rows 40 to 58, and which a record of a run marks so."""

from __future__ import annotations

import base64
import functools
import re
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from coterie.records.run import Record
from coterie.types import InputError

SINGLE = re.compile("[0-9]{1,12}")
BITS = "bits:"
SHORT = 2000  # characters; a longer text is read as a whole, not part by part
FORM = re.compile(r"(?:[0-9]{1,12}(?:-[0-9]{1,12})?(?:,[0-9]{1,12}(?:-[0-9]{1,12})?)*)?")


def written(rows: Iterable[int] | NDArray[np.integer]) -> str:
    """The rows as a text, in ascending order, each once."""
    array = np.unique(np.fromiter(rows, np.int64) if not isinstance(rows, np.ndarray) else rows.astype(np.int64))
    if not len(array):
        return ""
    breaks = np.flatnonzero(np.diff(array) != 1) + 1
    firsts, lasts = array[np.r_[0, breaks]].tolist(), array[np.r_[breaks - 1, len(array) - 1]].tolist()
    return ",".join(f"{a}" if a == b else f"{a}-{b}" for a, b in zip(firsts, lasts, strict=True))


def read(text: str, n: int) -> NDArray[np.int64]:
    """The rows of a text, ascending. Raises InputError for another form, for rows out of order, or beyond n - 1."""
    if SINGLE.fullmatch(text) and int(text) < n:  # by far the most events name one
        return np.array([int(text)], np.int64)
    firsts, lasts = _spans(text)
    if not len(firsts):
        return np.empty(0, np.int64)
    if lasts[-1] >= n:  # before memory is taken for them
        raise InputError(f"There is no row {lasts[-1]}: the run has {n:,} items.")
    sizes = lasts - firsts + 1
    before = np.cumsum(sizes) - sizes
    return np.repeat(firsts - before, sizes) + np.arange(sizes.sum())


def count(text: str) -> int:
    """How many rows a text names. Raises InputError for another form, or for rows out of order."""
    if SINGLE.fullmatch(text):
        return 1
    firsts, lasts = _spans(text)
    return int((lasts - firsts + 1).sum())


def unpacked(text: str) -> str:
    """The text of rows that a page sent as bits: "bits:" and, in base64, a bit for each row from 0 on, lowest first.

    Any other text is as it was: a group of 300,000 scattered rows is 2 MB as a text. Raises InputError.
    """
    if not text.startswith(BITS):
        return text
    try:
        content = base64.b64decode(text[len(BITS) :], validate=True)
    except ValueError:
        raise InputError(f"{text[:60]!r} is no list of rows.") from None
    return written(np.flatnonzero(np.unpackbits(np.frombuffer(content, np.uint8), bitorder="little")))


def outside_of(record: Record, n: int) -> NDArray[np.bool_]:
    """The rows (n,) that lie far outside all others, which are accepted at no threshold. Raises InputError."""
    return _marked((record.get("source") or {}).get("outliers"), n)


def taught_by(record: Record, n: int) -> NDArray[np.bool_]:
    """The rows (n,) whose judgement took part in a run (`fit --judged`). Raises InputError."""
    return _marked((record.get("labels_used") or {}).get("rows"), n)


def _marked(rows: str | None, n: int) -> NDArray[np.bool_]:
    found = np.zeros(n, bool)
    found[read(str(rows or ""), n)] = True
    return found


@functools.lru_cache(maxsize=4)  # one decision asks for the same long text ten times
def _spans(text: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The first and the last row of each part."""
    if not FORM.fullmatch(text):
        raise InputError(f"{text[:60]!r} is no list of rows, such as 17,40-58.")
    if len(text) < SHORT:
        parts = [part.partition("-") for part in text.split(",")] if text else []
        firsts = np.array([int(first) for first, _, _ in parts], np.int64)
        lasts = np.array([int(last) if dash else int(first) for first, dash, last in parts], np.int64)
    else:
        numbers = np.fromstring(text.replace("-", ","), np.int64, sep=",")
        signs = np.frombuffer(text.encode(), np.uint8)
        dash = np.append(signs[(signs == ord("-")) | (signs == ord(","))] == ord("-"), False)  # what follows a number
        first = ~np.insert(dash[:-1], 0, False)
        firsts, lasts = numbers[first], numbers[first].copy()
        lasts[dash[first]] = numbers[~first]
    if (firsts > lasts).any() or (firsts[1:] <= lasts[:-1]).any():
        raise InputError(f"The rows {text[:60]!r} are not in ascending order, each once.")
    return firsts, lasts
