"""Labels as numbers with names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coterie.types import InputError


@dataclass(frozen=True)
class Labels:
    """True classes for evaluation: one code per item, -1 where it is unknown; `names[code]` is the class."""

    codes: NDArray[np.int64]
    names: list[str]


def encode(values: Sequence[Any]) -> Labels:
    """Number the classes in sorted order (numbers by value); None, NaN, "" and negative numbers are unknown.

    InputError for anything else, such as a list of several labels.
    """
    known = [_clean(value) for value in values]
    classes = sorted({value for value in known if value is not None}, key=lambda value: (isinstance(value, str), value))
    place = {value: code for code, value in enumerate(classes)}
    codes = np.array([-1 if value is None else place[value] for value in known], np.int64)
    return Labels(codes, [str(value) for value in classes])


def _clean(value: Any) -> int | float | str | None:
    """Return a number (whole if it can be) or a text, None for what means unknown."""
    if value is None or value == "":
        return None
    if isinstance(value, str):
        try:
            number = float(value)
        except ValueError:
            return value
        # "007" and "7" are two names, not one number
        return _clean(number) if number == number and f"{number:g}" == value else value
    if not isinstance(value, (int, float, np.number, np.bool_)):
        raise InputError(f"{value!r} is no label; there must be one number or name per item.")
    number = float(value)
    if number != number or number < 0:
        return None
    return int(number) if number.is_integer() else number
