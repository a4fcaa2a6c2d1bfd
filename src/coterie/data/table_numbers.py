"""The numbers of a Parquet table: columns of them, or a column of lists, batch by batch into one array."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coterie.data.column_names import quoted
from coterie.data.table_forms import is_list_view
from coterie.data.whole_numbers import Ends, are_large
from coterie.types import InputError


def number_columns(batches: Iterable[Any], count: int, schema: Any, names: Sequence[str], ends: Ends) -> NDArray[Any]:
    """Read numeric columns into one array of `count` rows; `ends` sees their values as they are in the file."""
    kinds = [schema.field(name).type for name in names]
    result = np.empty((count, len(names)), _dtype(kinds))
    start = 0
    for batch in batches:
        for place, name in enumerate(names):
            # A column with empty cells comes as floats with NaN, or as objects with None.
            result[start : start + len(batch), place] = _floats(batch.column(name), result.dtype)
            ends.add(name, batch.column(name))
        start += len(batch)
    return result


def _dtype(kinds: Sequence[Any]) -> np.dtype[Any]:
    """float32, or float64 where a column has numbers that may need it."""
    import pyarrow.types as types

    def is_small(kind: Any) -> bool:
        if types.is_floating(kind) or types.is_integer(kind):
            return bool(kind.bit_width <= (32 if types.is_floating(kind) else 16))
        return bool(types.is_boolean(kind))

    return np.dtype(np.float32 if all(map(is_small, kinds)) else np.float64)


def list_column(
    batches: Iterable[Any], count: int, schema: Any, name: str, path: Path, first: int, ends: Ends
) -> NDArray[Any]:
    """Read a list column into one array of `count` rows, the first of which is row `first`; `ends` as above.

    Raises InputError for lists of different lengths.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = schema.field(name).type
    dtype = _dtype([getattr(kind, "storage_type", kind).value_type])
    result: NDArray[Any] | None = None
    start = 0
    for batch in batches:
        column = batch.column(name)
        column = getattr(column, "storage", column)  # of a tensor
        if is_list_view(column.type):
            column = column.cast(pa.large_list(column.type.value_type))
        lengths = pc.list_value_length(column)
        width = int(pc.max(lengths).as_py() or 0) if result is None else result.shape[1]
        if result is None:
            result = np.empty((count, width), dtype)
        wrong = np.flatnonzero(lengths.fill_null(-1).to_numpy(zero_copy_only=False) != width)
        if len(wrong):
            raise InputError(
                f"Row {first + start + wrong[0]} of {path} has no embedding of {width} numbers in column "
                f"{quoted(name)}, but all rows must have the same length."
            )
        flat = pc.list_flatten(column)
        result[start : start + len(batch)] = _floats(flat, dtype).reshape(len(batch), width)
        if are_large(flat.type):
            for place in range(width):
                ends.add(f"{name}[{place}]", flat[place::width])
        start += len(batch)
    assert result is not None  # an empty table is refused before
    return result


def _floats(column: Any, dtype: np.dtype[Any]) -> NDArray[Any]:
    with np.errstate(over="ignore"):  # what is too large becomes infinite, and is refused with its place
        values: NDArray[Any] = column.to_numpy(zero_copy_only=False).astype(dtype)
    return values
