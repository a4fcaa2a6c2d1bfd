"""Parquet files, opened and read with one sentence for whatever may be wrong with them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from coterie.data.column_names import twice
from coterie.data.reading import reading
from coterie.types import InputError


def open_parquet(path: Path) -> Any:
    """Return pyarrow's ParquetFile, or what stands for all files of a folder (`parquet_folder.Joined`).

    Raises InputError if it is none, and for two columns of one name.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if path.is_dir():
        from coterie.data.parquet_folder import Joined

        return Joined(path)
    if not path.is_file():
        raise InputError(f"{path} is no regular file.")
    with reading(f"{path} cannot be read as a parquet file"):
        # By its bytes: pyarrow opens no path that is in no encoding.
        file = pq.ParquetFile(pa.OSFile(os.fsencode(path)))
        again = twice(file.schema_arrow.names)
    if again is not None:
        raise InputError(f"{path} has two columns that are called {again!r}: rename one.")
    return file


def read_column(file: Any, name: str, path: Path) -> Any:
    """Read one column as a ChunkedArray; InputError if the file is damaged."""
    with reading(f"Column {name} of {path} cannot be read"):
        # Arrow reads "f.1", too, when asked for "f".
        column = file.read(columns=[name]).column(name)
        if len(column) != file.metadata.num_rows:
            raise InputError(f"Column {name} of {path} has {len(column)} rows, not {file.metadata.num_rows}.")
        return column


def read_batches(file: Any, names: Sequence[str] | None, path: Path, size: int = 65_536) -> Iterator[Any]:
    """Record batches of up to `size` rows with these columns, None: all.

    Raises InputError if the file is damaged, or shorter or longer than it says.
    """
    seen, total = 0, file.metadata.num_rows
    batches = file.iter_batches(size, columns=None if names is None else list(names))
    while True:
        with reading(f"{path} cannot be read"):
            batch = next(batches, None)
        if batch is None:
            break
        seen += len(batch)
        if seen > total:
            break
        yield batch
    if seen != total:
        raise InputError(f"{path} is damaged: it says that it has {total} rows, but holds {seen}.")


def read_rows(file: Any, names: Sequence[str], path: Path, rows: range) -> Iterator[Any]:
    """Record batches with these columns of some rows in a row; InputError if the file is damaged or too short.

    Row groups before and after them are not read.
    """
    groups: list[int] = []
    before = first = 0
    for number in range(file.metadata.num_row_groups):
        count = file.metadata.row_group(number).num_rows
        if before < rows.stop and before + count > rows.start:
            first = first if groups else before
            groups.append(number)
        before += count
    at, seen = first, 0
    batches = file.iter_batches(columns=list(names), row_groups=groups)
    while at < rows.stop:
        with reading(f"{path} cannot be read"):
            batch = next(batches, None)
        if batch is None:
            break
        wanted = batch.slice(max(0, rows.start - at), max(0, min(len(batch), rows.stop - at) - max(0, rows.start - at)))
        at, seen = at + len(batch), seen + len(wanted)
        if len(wanted):
            yield wanted
    if seen != len(rows):
        raise InputError(f"{path} is damaged: rows {rows.start} to {rows.stop - 1} are not all in it.")


def pandas_index(schema: Any) -> list[str]:
    """The columns that pandas wrote as the index of its table, by the file's own words."""
    try:
        facts = json.loads((schema.metadata or {})[b"pandas"])
        named = [name for name in facts["index_columns"] if isinstance(name, str)]
    except (KeyError, TypeError, ValueError, RecursionError):
        return []
    return [name for name in named if name in schema.names]
