"""Labels as numbers with names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coterie.types import InputError

# What pandas reads and writes as "no value"; "none" in small letters may be a class.
UNKNOWN = frozenset(
    (
        *("", "NaN", "nan", "-NaN", "-nan", "NA", "<NA>", "N/A", "n/a", "#N/A", "#N/A N/A", "#NA", "NULL", "null"),
        *("None", "1.#IND", "-1.#IND", "1.#QNAN", "-1.#QNAN", "NaT"),
    )
)
# What may say the same, but may be a class as well (Na is sodium): such a class is named in the note.
LIKE_UNKNOWN = frozenset(word.casefold() for word in UNKNOWN) | frozenset(
    ("?", "-", "--", ".", "nil", "missing", "unknown", "unlabeled", "unlabelled", "undefined", "not labeled", "<null>")
)


@dataclass(frozen=True)
class Labels:
    """True classes for evaluation: one code per item, -1 where it is unknown; `names[code]` is the class.

    `note` says where they come from and how they were matched, in a sentence. `by_row`: they stand in the source's own
    file, in the order of its rows, so that they fit no other state of it.
    """

    codes: NDArray[np.int64]
    names: list[str]
    note: str = ""
    by_row: bool = False


def is_unknown(value: Any) -> bool:
    """Whether a cell says that there is no label: None, NaN, pandas' NA, an empty text, or one of `UNKNOWN`."""
    if isinstance(value, str):
        return value.strip() in UNKNOWN
    if type(value).__name__ in ("NAType", "NaTType"):
        return True
    return value is None or (isinstance(value, float) and value != value)


def encode(values: Sequence[Any]) -> Labels:
    """Number the classes in sorted order (numbers by value); `UNKNOWN` words and negative numbers are unknown.

    1, 1.0, "1" and "1.0" are one class, "007" and "7" are two. InputError for anything else, such as a list of several
    labels.
    """
    known = [_clean(value) for value in values]
    classes = sorted({value for value in known if value is not None}, key=lambda value: (isinstance(value, str), value))
    place = {value: code for code, value in enumerate(classes)}
    codes = np.array([-1 if value is None else place[value] for value in known], np.int64)
    return Labels(codes, [str(value) for value in classes])


def _clean(value: Any) -> int | float | str | None:
    """Return a number (whole if it can be) or a text, None for what means unknown."""
    if isinstance(value, bytes):
        value = _text(value)
    if is_unknown(value):
        return None
    if isinstance(value, (bool, np.bool_)):
        return str(bool(value))
    if isinstance(value, str):
        return _number_of(value.strip())
    if isinstance(value, (int, np.integer)):
        return None if value < 0 else int(value)
    if not isinstance(value, (float, np.floating)):
        raise InputError(f"{_short(value)} is no label; there must be one number or name per item.")
    number = float(value)
    if number != number or number < 0:
        return None
    return int(number) if number.is_integer() else number


def _number_of(text: str) -> int | float | str | None:
    """The number that a text is, if it is written as numbers usually are: "007" and "1e3" are names."""
    if re.fullmatch(r"-?(0|[1-9]\d{0,17})(\.0+)?", text):
        number = int(text.partition(".")[0])
        return None if number < 0 else number
    if re.fullmatch(r"-?(0|[1-9]\d{0,17})\.\d{0,17}[1-9]", text):
        return None if text.startswith("-") else float(text)
    return text


def whole_number(text: str) -> int | None:
    """The whole number that a text is, also as 3.0, which is what becomes of 3 beside an empty cell; None for others.

    Python reads 1_0 as ten; as a folder or a class it is a name.
    """
    found = re.fullmatch(r"([-+]?\d{1,18})(\.0*)?", text.strip(), re.ASCII)
    return int(found[1]) if found else None


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise InputError(f"{_short(value)} is no label: its bytes are no text in UTF-8.") from None


def _short(value: Any) -> str:
    said = repr(value)
    return said if len(said) <= 80 else f"{said[:80]}..."
