"""Reading rows of an array that may be a memory map larger than memory.

A map is read through its file, not through its pages: every page once touched counts as memory of the process (and the
system brings in many around it), while a read leaves nothing behind and is no slower.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from coterie.types import InputError

BLOCK = 32 << 20  # bytes that a pass over an array holds at a time


def gather(array: NDArray[Any], index: NDArray[np.int64]) -> NDArray[Any]:
    """Return a copy of the rows `index`. Raises InputError for a file that has become shorter."""
    place = _file_of(array)
    if place is None:
        return array[index]
    path, offset = place
    order = np.argsort(index, kind="stable")
    wanted = index[order]
    rows = np.empty((len(index), *array.shape[1:]), array.dtype)
    row_bytes = array.strides[0]
    # Rows that follow each other in the file are read at once.
    edges = [0, *(np.flatnonzero(np.diff(wanted) != 1) + 1).tolist(), len(wanted)] if len(wanted) else []
    with path.open("rb", buffering=0) as file:
        for start, stop in pairwise(edges):
            file.seek(offset + int(wanted[start]) * row_bytes)
            if file.readinto(rows[start:stop].data) != (stop - start) * row_bytes:
                raise InputError(f"{path} has become shorter while it was in use; start again.")
    if bool((order[1:] > order[:-1]).all()):
        return rows
    result = np.empty_like(rows)
    result[order] = rows
    return result


def blocks(array: NDArray[Any]) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield (first row, rows) over the whole array, about 32 MB at a time."""
    row_bytes = max(1, array.dtype.itemsize * int(np.prod(array.shape[1:])))
    step = max(1, BLOCK // row_bytes)
    for start in range(0, len(array), step):
        if isinstance(array, np.memmap):
            yield start, gather(array, np.arange(start, min(start + step, len(array))))
        else:
            yield start, array[start : start + step]


def _file_of(array: NDArray[Any]) -> tuple[Path, int] | None:
    """Return the file behind a memory map and the array's offset in it; None where the file cannot be read instead.

    That is so for axes in another order than in the file, for copy-on-write maps, whose owner may have changed them in
    memory only, and for a file that has been deleted since.
    """
    if not isinstance(array, np.memmap) or array.mode == "c" or not array.flags.c_contiguous or array.size == 0:
        return None
    root: Any = array
    while isinstance(root.base, np.ndarray):
        root = root.base
    if not isinstance(root, np.memmap) or not isinstance(root.base, mmap.mmap) or not root.filename:
        return None
    path = Path(root.filename)
    if not path.is_file():
        return None
    return path, int(root.offset + array.ctypes.data - root.ctypes.data)


class RowIds(Sequence[str]):
    """The row numbers "0", "1", ... as ids, made when asked for: a million strings would take 60 MB."""

    def __init__(self, rows: range | int) -> None:
        self._rows = range(rows) if isinstance(rows, int) else rows

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> RowIds: ...

    def __getitem__(self, index: int | slice) -> str | RowIds:
        if isinstance(index, slice):
            return RowIds(self._rows[index])
        return str(self._rows[index])

    def __iter__(self) -> Iterator[str]:
        return map(str, self._rows)

    def __repr__(self) -> str:
        return f"RowIds({self._rows!r})"
