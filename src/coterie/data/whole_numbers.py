"""Whole numbers so large that float64 loses their differences: identifiers and times in nanoseconds, most often."""

from __future__ import annotations

import math
from typing import Any

from coterie.types import InputError

STEPS = 1024  # of a float between the smallest and the largest value of a feature: with fewer, its form is lost


def check_whole(least: int, most: int, column: str, name: str) -> None:
    """Raise InputError for whole numbers from `least` to `most` that are few steps of float64 apart."""
    # Where a step is 1 nothing is rounded, however few there are.
    if 0 < most - least < STEPS * (math.ulp(float(max(abs(least), abs(most)))) - 1):
        raise InputError(
            f"Column {column} of {name} holds whole numbers from {least} to {most}, and float64 rounds those: "
            f"subtract {least} from it first, or leave it out if it is an identifier."
        )


def are_large(kind: Any) -> bool:
    """Whether values of this type of Arrow may be too large for float64."""
    import pyarrow.types as types

    return bool(types.is_int64(kind) or types.is_uint64(kind))


class Ends:
    """The smallest and the largest value of columns of whole numbers, as they are read from Arrow batch by batch."""

    def __init__(self) -> None:
        self.of: dict[str, tuple[int, int]] = {}

    def add(self, column: str, values: Any) -> None:
        """Look at these values, if they are 64-bit integers."""
        import pyarrow.compute as pc

        if are_large(values.type):
            found = pc.min_max(values).as_py()
            if found["min"] is not None:
                least, most = self.of.get(column, (found["min"], found["max"]))
                self.of[column] = min(least, found["min"]), max(most, found["max"])

    def check(self, name: str) -> None:
        """Raise InputError for a column whose differences float64 loses."""
        for column, (least, most) in self.of.items():
            check_whole(least, most, column, name)
