"""What the rows of a Parquet table are called: its column id or path, else their numbers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from coterie.data.array_rows import RowIds
from coterie.data.column_names import listed, names_items_only
from coterie.data.feature_columns import ID_COLUMNS
from coterie.data.parquet import read_column

EXACT = 2**53  # from here on not every whole number is a float64


def row_ids(file: Any, path: Path) -> tuple[Sequence[str], list[str]]:
    """Return the id or path column if it names every row, else the row numbers, with a note where that may surprise.

    Texts and whole numbers are names, also as categories, decimals or floats, which pandas makes of integers.
    """
    called = {name.strip().casefold(): name for name in reversed(file.schema_arrow.names)}
    notes, names = [], [called[wanted] for wanted in ID_COLUMNS if wanted in called]
    for name in names:
        kind = file.schema_arrow.field(name).type
        values = _texts(read_column(file, name, path), kind)
        if values is None:
            notes.append(f"Column {name} is of type {kind}, which names no rows, so they go by their number.")
        elif "" in values or len({value.strip() for value in values}) < len(values):
            return RowIds(len(values)), [f"Column {name} has empty or repeated values, so rows go by their number."]
        else:
            return values, []
    others = [field.name for field in file.schema_arrow if names_items_only(field.name) and _may_name(field.type)]
    if others and not names:
        notes.append(f"Rows go by their number, and not by {listed(others)}: a column called id would name them.")
    return RowIds(file.metadata.num_rows), notes


def _may_name(kind: Any) -> bool:
    import pyarrow.types as types

    named = (types.is_string, types.is_large_string, types.is_string_view, types.is_integer)
    return any(is_kind(kind) for is_kind in named)


def _texts(column: Any, kind: Any) -> list[str] | None:
    """The cells (n,) as texts, "" for an empty one; None for a type whose values are no names."""
    import pyarrow.types as types

    if types.is_dictionary(kind):
        return _texts(column.cast(kind.value_type), kind.value_type)
    values = column.to_pylist()
    if types.is_floating(kind) or types.is_decimal(kind):
        numbers = [float("nan") if value is None else float(value) for value in values]
        if not all(np.isnan(number) or (number.is_integer() and abs(number) < EXACT) for number in numbers):
            return None
        return ["" if np.isnan(number) else str(int(number)) for number in numbers]
    if _may_name(kind):
        return ["" if value is None else str(value) for value in values]
    return None
