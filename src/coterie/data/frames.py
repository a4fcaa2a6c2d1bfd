"""DataFrames of pandas and polars and Tables of pyarrow: which of their columns are the features."""

from __future__ import annotations

import os
from collections.abc import Iterable
from decimal import Decimal
from numbers import Integral, Real
from typing import Any

import numpy as np

from coterie.data.column_names import are_values, is_index, like_label, listed, names_items_only, no_names, twice
from coterie.data.column_words import NUMBERS, Form, held_apart
from coterie.data.feature_columns import FeatureColumns, Table, choose
from coterie.data.parquet import pandas_index
from coterie.data.picture_form import Options
from coterie.data.whole_numbers import Ends
from coterie.types import InputError

WIDE = ("int64", "uint64")  # of pandas and polars, with and without empty cells
FORMS: dict[str, Form] = {"f": "float", "i": "integer", "u": "integer", "b": "boolean"}


def has_columns(source: Any) -> bool:
    """Whether this is a table, with names of its columns or their numbers; not what was given no `columns`, as a
    Clusterer."""
    if isinstance(source, np.ndarray) or not hasattr(source, "__getitem__") or reads_by(source) is not None:
        return False
    return isinstance(getattr(source, "columns", None), Iterable)


def reads_by(source: Any) -> str | None:
    """The method that reads this query (polars, Spark, DuckDB) or stream of pyarrow, which holds no rows yet."""
    names = ("fetchdf",) if hasattr(source, "__len__") else ("collect", "read_all", "fetchdf")
    return next((name for name in names if callable(getattr(source, name, None))), None)


def is_frame(source: Any) -> bool:
    """Whether this is a table with column names, at least one of which has a text."""
    return has_columns(source) and any(_has_text(name) for name in _names(source))


def _has_text(name: Any) -> bool:
    return isinstance(name, str | bytes) or (isinstance(name, tuple) and any(map(_has_text, name)))


def take_features(frame: Any, options: Options) -> tuple[Any, FeatureColumns]:
    """The feature columns of a frame: those asked for, those of the model, or all; and what was taken.

    Raises InputError for columns that are not there, and for those that are called as labels, ids or row numbers are.
    """
    if not all(isinstance(name, str) for name in _names(frame)):
        # pandas: an array to which a column was added, whose names are numbers and texts; or names of several levels.
        frame = frame.set_axis([_one_text(name) for name in _names(frame)], axis=1)
    names = _names(frame)
    again = twice(names)
    if again is not None:
        raise InputError(f"Two columns of the {type(frame).__name__} are called {again!r}: rename one.")
    index = pandas_index(frame.schema) if hasattr(frame, "column_names") else []
    like = options.like
    if options.columns is not None or (like is not None and like.kind == "embeddings" and like.columns):
        forms = {name: _form(frame, name) for name in names}
        features = choose(Table(f"the {type(frame).__name__}", forms, index), options.columns, like)
        taken = (frame.select if hasattr(frame, "column_names") else frame.__getitem__)(features.names)
        if like is None:
            _check_whole(taken)
        return taken, features
    if index:
        frame = frame.select([name for name in names if name not in index])
        names = _names(frame)
    plane = {name.strip().casefold() for name in names} >= {"x", "y"}
    wrong = [name for name in names if like_label(name) or (name.strip() and is_index(name))]
    wrong += [name for name in names if names_items_only(name) and _form(frame, name) in NUMBERS]
    wrong = [name for name in wrong if not (plane and name.strip().casefold() == "y")]
    if wrong:
        raise InputError(
            f"The {type(frame).__name__} has columns that are called as labels, ids or row numbers are "
            f"({listed(wrong)}), among its {len(names)}: drop them, or name the features with columns=[...]."
        )
    if are_values(names):
        raise no_names(f"the {type(frame).__name__}", names)
    if like is None:
        _check_whole(frame)
    return frame, FeatureColumns(names, "numbers", held_apart([], index))


def _one_text(name: Any) -> str:
    """A column's name as one text: ("f", "a") is f_a, ("label", "") is label, and so is b"label", as HDF5 has names."""
    if isinstance(name, tuple):
        return "_".join(filter(None, map(_one_text, name)))
    return os.fsdecode(name) if isinstance(name, bytes) else str(name)


def _check_whole(frame: Any) -> None:
    """Raise InputError for whole numbers that lose their differences, as where other columns are floats."""
    import pyarrow as pa

    ends = Ends()
    for name in _names(frame):
        cells = _cells(frame, name)
        of_arrow = isinstance(cells, pa.ChunkedArray | pa.Array)
        if of_arrow or str(cells.dtype).lower() in WIDE:
            # Of a Series of polars, pyarrow itself would make int64 of what may be uint64.
            ends.add(name, cells if of_arrow else cells.to_arrow() if hasattr(cells, "to_arrow") else pa.array(cells))
    ends.check(f"the {type(frame).__name__}")


def _names(frame: Any) -> list[Any]:
    return list(getattr(frame, "column_names", None) or frame.columns)


def _cells(frame: Any, name: str) -> Any:
    return frame.column(name) if hasattr(frame, "column_names") else frame[name]


def _form(frame: Any, name: str) -> Form:
    cells = _cells(frame, name)
    values = np.asarray(cells[:1])
    if len(values) and np.ndim(values[0]) > 0:
        return "list"
    # As pandas says it of a column that may have empty cells: of such a one, NumPy's array is one of objects.
    dtype = getattr(cells, "dtype", None)
    dtype = getattr(getattr(dtype, "categories", None), "dtype", dtype)  # of a category, what it stands for
    kind = getattr(dtype, "kind", values.dtype.kind)
    return _form_of_objects(cells) if kind == "O" else FORMS.get(kind, "other")


def _form_of_objects(cells: Any) -> Form:
    """What the first object is that is no empty cell: numbers of Python are features as others are."""
    first = next((value for value in np.asarray(cells) if not is_empty(value)), None)
    if isinstance(first, bool | np.bool_):
        return "boolean"
    if isinstance(first, Real | Decimal):
        return "integer" if isinstance(first, Integral) else "float"
    return "other"


def is_empty(value: Any) -> bool:
    """Whether this cell says that there is no value."""
    missing = value is None or type(value).__name__ in ("NAType", "NaTType")
    return missing or (isinstance(value, float) and value != value)
