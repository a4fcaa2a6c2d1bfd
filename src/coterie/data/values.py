"""Pixel values of any dtype -> 0 to 255."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from coterie.data.rows import blocks
from coterie.types import InputError, ItemSpec


@dataclass(frozen=True)
class ValueRule:
    """How to turn pixel values into uint8; `note` tells the user of it, "" where nothing is lost."""

    kind: Literal["same", "bool", "high byte", "unit", "stretch"]
    low: float = 0.0
    high: float = 1.0

    @property
    def range(self) -> tuple[float, float]:
        """The values that become 0 and 255, for `ItemSpec`; (0, 0) where the dtype alone says how to map."""
        return (0.0, 1.0) if self.kind == "unit" else (self.low, self.high) if self.kind == "stretch" else (0.0, 0.0)

    @property
    def note(self) -> str:
        if self.kind == "high byte":
            return "16-bit pixel values were reduced to their upper 8 bits."
        if self.kind == "stretch":
            return f"Pixel values from {self.low:g} to {self.high:g} were stretched to 0 to 255."
        return ""

    def __call__(self, values: NDArray[Any]) -> NDArray[np.uint8]:
        if self.kind == "same":
            return values.astype(np.uint8, copy=False)
        if self.kind == "bool":
            return values.astype(np.uint8) * np.uint8(255)
        if self.kind == "high byte":
            return (values >> 8).astype(np.uint8)
        low, high = self.range
        scaled = (values.astype(np.float64) - low) * (255 / (high - low))
        return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)


def rule_for(dtype: np.dtype[Any], low: float, high: float, name: str, like: ItemSpec | None = None) -> ValueRule:
    """Choose by dtype and by the smallest and largest value of the whole source (not of one image).

    Where a fitted model has a range, that one counts: new data must be mapped as the training data were. Values a
    little beyond it are cut off; InputError for others, which are in another unit.
    """
    if dtype == np.uint8:
        return ValueRule("same")
    if dtype == np.bool_:
        return ValueRule("bool")
    if dtype == np.uint16:
        return ValueRule("high byte")
    if like is not None and like.low < like.high:
        span = like.high - like.low
        if low < like.low - span or high > like.high + span:
            raise InputError(
                f"{name} has pixel values from {low:g} to {high:g}, but the model was fitted on values from "
                f"{like.low:g} to {like.high:g}; bring them to that range first."
            )
        return ValueRule("unit") if (like.low, like.high) == (0, 1) else ValueRule("stretch", like.low, like.high)
    if dtype.kind in "iu" and low >= 0 and high <= 255:
        return ValueRule("same")
    if dtype.kind == "f" and low >= 0 and high <= 1:
        return ValueRule("unit")
    if low == high:
        raise InputError(f"Every pixel of {name} has the value {low:g}, so there is nothing to cluster.")
    return ValueRule("stretch", low, high)


def value_range(array: NDArray[Any], name: str) -> tuple[float, float]:
    """Return the smallest and largest value, (0, 0) for dtypes whose rule does not ask; InputError for NaN, inf."""
    low, high = np.inf, -np.inf
    if array.dtype in (np.uint8, np.bool_, np.uint16):
        return 0.0, 0.0
    for start, rows in blocks(array):
        rows = rows.reshape(len(rows), -1)
        if rows.dtype.kind == "f" and not np.isfinite(rows).all():
            row = start + int(np.flatnonzero(~np.isfinite(rows).all(1))[0])
            raise InputError(f"Image {row} of {name} contains NaN or infinite values; repair or remove it.")
        low, high = min(low, float(rows.min())), max(high, float(rows.max()))
    return low, high
