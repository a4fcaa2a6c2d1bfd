"""What values the pixels of a source have, counted in one pass that does not depend on the order of the pictures."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coterie.data.array_rows import blocks
from coterie.types import InputError

BINS = 1 << 16  # the upper half of a float32's bits: sign, exponent and seven bits, so a bin is at most 0.8 % wide
CHUNK = 1 << 21  # values that are counted at a time
TAIL = 1e-3  # share of the values beyond a quantile


class PixelValues:
    """The histogram of all values, and the smallest and largest of each picture; several threads may add to it."""

    def __init__(self) -> None:
        self._counts = np.zeros(BINS, np.int64)
        self._lock = threading.Lock()
        self.whole = True  # whether every value is a whole number
        self.by_picture: dict[int, tuple[float, float]] = {}

    def add(self, first: int, rows: NDArray[Any]) -> None:
        """Count the finite values of pictures `first` ... of the first axis; of a picture, parts may come apart."""
        counts, whole = _count(rows.reshape(-1))
        flat = rows.reshape(len(rows), -1)
        with self._lock:
            self._counts += counts
            self.whole = self.whole and whole
            for row, low, high in zip(range(first, first + len(flat)), flat.min(1), flat.max(1), strict=True):
                before = self.by_picture.get(row, (low, high))
                self.by_picture[row] = min(float(low), before[0]), max(float(high), before[1])

    def join(self, other: PixelValues) -> None:
        """Add what another one has counted."""
        with self._lock:
            self._counts += other._counts
            self.whole = self.whole and other.whole
            self.by_picture |= other.by_picture

    @property
    def low(self) -> float:
        return min(low for low, _ in self.by_picture.values())

    @property
    def high(self) -> float:
        return max(high for _, high in self.by_picture.values())

    @property
    def row_of_high(self) -> int:
        """The first picture that has the largest value."""
        return min(self.by_picture, key=lambda row: (-self.by_picture[row][1], row))

    def quantiles(self) -> tuple[float, float]:
        """The values that all but a thousandth of the values reach, and that all but a thousandth do not pass."""
        order = np.concatenate([np.arange(BINS - 1, BINS // 2 - 1, -1), np.arange(BINS // 2)])
        below = np.cumsum(self._counts[order])
        cut = TAIL * below[-1]
        first, last = np.searchsorted(below, cut, "right"), np.searchsorted(below, below[-1] - cut)
        low, high = (order[[first, last]].astype(np.uint32) << 16).view(np.float32)
        return tuple(np.clip([low, high], self.low, self.high).tolist())

    def typical(self) -> tuple[float, float]:
        """The range of the values: the extremes, or, where they lie far out, the quantiles.

        Far out is what lies beyond the quantile by more than the quantiles lie apart: a hot pixel, a saturated one.
        """
        low, high = self.quantiles()
        span = high - low
        if span == 0:
            return self.low, self.high
        return (
            self.low if self.low >= low - span else low,
            self.high if self.high <= high + span else high,
        )

    def beyond(self, low: float, high: float) -> float:
        """The share of the values outside of low to high, as exact as a bin is wide."""
        edges = (np.arange(BINS, dtype=np.uint32) << 16).view(np.float32)
        outside = np.zeros(BINS, np.bool_)
        if self.low < low:
            outside |= edges < low
        if self.high > high:
            outside |= edges > high
        return float(self._counts[outside].sum() / max(1, self._counts.sum()))

    def flat(self, low: float, high: float, levels: int) -> int:
        """How many pictures that are not constant would get fewer than so many of the 256 greys."""
        least = levels * (high - low) / 255
        return sum(
            bottom < top and min(top, high) - max(bottom, low) < least for bottom, top in self.by_picture.values()
        )


def _count(flat: NDArray[Any]) -> tuple[NDArray[np.int64], bool]:
    """The histogram of the values, and whether all of them are whole numbers."""
    counts, whole = np.zeros(BINS, np.int64), True
    for start in range(0, len(flat), CHUNK):
        part = flat[start : start + CHUNK]
        with np.errstate(over="ignore"):
            single = np.nan_to_num(part.astype(np.float32))
        counts += np.bincount(single.view(np.uint32) >> 16, minlength=BINS)
        whole = whole and (part.dtype.kind != "f" or bool((np.rint(part) == part).all()))
    return counts, whole


def values_of(array: NDArray[Any], name: str) -> PixelValues:
    """Count the values of an array of images; InputError for NaN and infinity."""
    found = PixelValues()
    for start, rows in blocks(array):
        if rows.dtype.kind == "f" and not np.isfinite(rows).all():
            row = start + int(np.flatnonzero(~np.isfinite(rows.reshape(len(rows), -1)).all(1))[0])
            raise InputError(f"Image {row} of {name} contains NaN or infinite values; repair or remove it.")
        found.add(start, rows)
    return found
