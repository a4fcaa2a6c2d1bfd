"""Sets of rows as short texts: "17,40-58" is row 17 and rows 40 to 58."""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from coterie.types import InputError

FORM = re.compile(r"(\d{1,12}(-\d{1,12})?(,\d{1,12}(-\d{1,12})?)*)?")


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
    firsts, lasts = _spans(text)
    if not firsts:
        return np.empty(0, np.int64)
    if lasts[-1] >= n:  # before memory is taken for them
        raise InputError(f"There is no row {lasts[-1]}: the run has {n:,} items.")
    if all(map(int.__eq__, firsts, lasts)):
        return np.array(firsts, np.int64)
    return np.concatenate([np.arange(first, last + 1) for first, last in zip(firsts, lasts, strict=True)])


def count(text: str) -> int:
    """How many rows a text names. Raises InputError for another form, or for rows out of order."""
    firsts, lasts = _spans(text)
    return sum(lasts) - sum(firsts) + len(firsts)


def _spans(text: str) -> tuple[list[int], list[int]]:
    """The first and the last row of each part."""
    if not FORM.fullmatch(text):
        raise InputError(f"{text[:60]!r} is no list of rows, such as 17,40-58.")
    parts = [part.partition("-") for part in text.split(",")] if text else []
    firsts = [int(first) for first, _, _ in parts]
    lasts = [int(last) if dash else int(first) for first, dash, last in parts]
    before = -1
    for first, last in zip(firsts, lasts, strict=True):
        if not before < first <= last:
            raise InputError(f"The rows {text[:60]!r} are not in ascending order, each once.")
        before = last
    return firsts, lasts
