"""Reading rows of an array that may be a memory map larger than memory."""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Sequence
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

BLOCK = 32 << 20  # bytes that a pass over an array holds at a time


def release(array: NDArray[Any]) -> None:
    """Hand the pages of a memory map back to the system, which keeps them in its own cache as long as it can.

    Without this every page ever read counts as resident memory of the process. Copy-on-write maps are left alone:
    dropping their pages would drop changes that their owner made.
    """
    if not isinstance(array, np.memmap) or array.mode == "c":
        return
    base: Any = array.base
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        base.madvise(mmap.MADV_DONTNEED)


def gather(array: NDArray[Any], index: NDArray[np.int64]) -> NDArray[Any]:
    """Return a copy of the rows `index`; a memory map is read in the order of the file."""
    if not isinstance(array, np.memmap):
        return array[index]
    order = np.argsort(index, kind="stable")
    rows = np.empty((len(index), *array.shape[1:]), array.dtype)
    rows[order] = array[index[order]]
    release(array)
    return rows


def blocks(array: NDArray[Any], size: int = BLOCK) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield (first row, rows) over the whole array, about `size` bytes at a time."""
    row_bytes = max(1, array.dtype.itemsize * int(np.prod(array.shape[1:])))
    step = max(1, size // row_bytes)
    for start in range(0, len(array), step):
        yield start, np.asarray(array[start : start + step])
        release(array)


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
