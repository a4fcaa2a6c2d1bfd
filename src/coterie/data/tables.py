"""Parquet tables: a column of encoded images, or embeddings in a list column or in numeric columns."""

from __future__ import annotations

import hashlib
import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from coterie.data.forms import Options
from coterie.data.pictures import Pictures, open_pictures
from coterie.data.rows import RowIds
from coterie.data.vectors import open_vectors
from coterie.types import InputError, Source

if TYPE_CHECKING:
    from PIL.Image import Image

VECTOR_COLUMNS = ("embedding", "embeddings", "features")
ID_COLUMNS = ("id", "path")
NOT_FEATURES = frozenset(("label", "labels", "target", "y", "class", "label_name", "split", *ID_COLUMNS))


def open_table(path: Path, options: Options, *, name: str | None = None, origin: str | None = None) -> Source:
    """Open a table: column `image` first, then a list column of `VECTOR_COLUMNS`, then all numeric columns."""
    name, origin = name or path.stem, origin or os.fspath(path)
    file = open_parquet(path)
    schema = file.schema_arrow
    if file.metadata.num_rows == 0:
        raise InputError(f"{path} has no rows.")
    ids, notes = row_ids(file, path)
    column = _image_column(schema)
    if column:
        return open_pictures(_table_pictures(path, column, ids, notes, name, origin, options), options)
    source = open_vectors(_vectors(file, path, notes), options, name=name, origin=origin)
    source.ids, source.notes = ids, [*notes, *source.notes]
    return source


def open_parquet(path: Path) -> Any:
    """Return pyarrow's ParquetFile; InputError if it is none."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # By its bytes: pyarrow opens no path that is in no encoding.
        return pq.ParquetFile(pa.OSFile(os.fsencode(path)))
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path} cannot be read as a parquet file ({str(error).splitlines()[0]}).") from error


def _image_column(schema: Any) -> str:
    """Return the column with encoded images: Hugging Face's `image: {bytes, path}`, or a binary `image`."""
    import pyarrow.types as types

    if "image" not in schema.names:
        return ""
    kind = schema.field("image").type
    if types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        return "image.bytes"
    return "image" if types.is_binary(kind) or types.is_large_binary(kind) else ""


def row_ids(file: Any, path: Path) -> tuple[Sequence[str], list[str]]:
    """Return the id or path column if it names every row, the row numbers otherwise."""
    import pyarrow.types as types

    for name in ID_COLUMNS:
        if name not in file.schema_arrow.names:
            continue
        kind = file.schema_arrow.field(name).type
        if not (types.is_string(kind) or types.is_large_string(kind) or types.is_integer(kind)):
            continue
        values = read_column(file, name, path).to_pylist()
        ids = [str(value) for value in values]
        if None not in values and len(set(ids)) == len(ids):
            return ids, []
        return RowIds(len(ids)), [f"Column {name} has empty or repeated values, so rows go by their number."]
    return RowIds(file.metadata.num_rows), []


def read_column(file: Any, name: str, path: Path) -> Any:
    """Read one column as a ChunkedArray; InputError if the file is damaged."""
    import pyarrow as pa

    try:
        return file.read(columns=[name]).column(0)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"Column {name} of {path} cannot be read ({str(error).splitlines()[0]}).") from error


class Cells:
    """The encoded images of a table by row, read a row group at a time; the last groups read are kept up to a limit.

    With the row groups of some hundred rows that image tables have, that keeps memory small without a copy on disk.
    """

    def __init__(self, path: Path, column: str, limit: int) -> None:
        self._file, self._column, self._limit = open_parquet(path), column, limit
        groups = range(self._file.metadata.num_row_groups)
        self._edges = np.cumsum([0, *(self._file.metadata.row_group(group).num_rows for group in groups)])
        self._kept: OrderedDict[int, Any] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, row: int) -> bytes | None:
        group = int(np.searchsorted(self._edges, row, side="right")) - 1
        with self._lock:
            if group not in self._kept:
                self._kept[group] = self._read(group)
                while len(self._kept) > 1 and sum(column.nbytes for column in self._kept.values()) > self._limit:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(group)
            column = self._kept[group]
        value: bytes | None = column[row - int(self._edges[group])].as_py()
        return value

    def _read(self, group: int) -> Any:
        import pyarrow.compute as pc

        column = self._file.read_row_group(group, columns=[self._column]).column(0)
        return pc.struct_field(column, "bytes") if self._column.endswith(".bytes") else column


def _table_pictures(
    path: Path, column: str, ids: Sequence[str], notes: list[str], name: str, origin: str, options: Options
) -> Pictures:
    cells = Cells(path, column, options.memory_limit)
    facts = path.stat()

    def load(row: int) -> Image:
        import io

        from coterie.data.extensions import open_image
        from coterie.data.shrink import Unreadable

        content = cells(row)
        if not content:
            raise Unreadable("no bytes in this row")
        return open_image(io.BytesIO(content))

    def digest(row: int) -> bytes:
        return hashlib.sha256(cells(row) or b"").digest()

    stamp = f"{path.resolve()} {facts.st_size} {facts.st_mtime_ns}"
    return Pictures(name, f"the table {path}", origin, ids, load, digest, stamp, notes)


def _vectors(file: Any, path: Path, notes: list[str]) -> NDArray[Any]:
    """Read the embeddings row group by row group into one float32 array."""
    import pyarrow.types as types

    schema = file.schema_arrow

    def is_number(kind: Any) -> bool:
        return types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)

    for name in VECTOR_COLUMNS:
        kind = schema.field(name).type if name in schema.names else None
        if kind is not None and hasattr(kind, "value_type") and is_number(kind.value_type):
            return _list_column(file, name, path)
    names = [field.name for field in schema if is_number(field.type) and field.name not in NOT_FEATURES]
    others = [field.name for field in schema if not is_number(field.type) and field.name not in NOT_FEATURES]
    if not names:
        raise InputError(
            f"{path} has neither a column of images (image) nor of embeddings ({', '.join(VECTOR_COLUMNS)}), nor "
            f"numeric columns; it has {', '.join(schema.names)}."
        )
    if others:
        notes.append(f"Columns that are not numbers were left out: {', '.join(others)}.")
    result = np.empty((file.metadata.num_rows, len(names)), np.float32)
    start = 0
    for batch in file.iter_batches(columns=names):
        for place, name in enumerate(names):
            values = batch.column(batch.schema.get_field_index(name)).to_numpy(zero_copy_only=False)
            # A column with empty cells comes as floats with NaN, or as objects with None if it is boolean.
            result[start : start + len(batch), place] = values.astype(np.float32)
        start += len(batch)
    return result


def _list_column(file: Any, name: str, path: Path) -> NDArray[np.float32]:
    import pyarrow.compute as pc

    result: NDArray[np.float32] | None = None
    start = 0
    for batch in file.iter_batches(columns=[name]):
        column = batch.column(0)
        lengths = pc.list_value_length(column)
        width = int(pc.max(lengths).as_py() or 0) if result is None else result.shape[1]
        if result is None:
            result = np.empty((file.metadata.num_rows, width), np.float32)
        wrong = np.flatnonzero(lengths.fill_null(-1).to_numpy(zero_copy_only=False) != width)
        if len(wrong):
            raise InputError(
                f"Row {start + wrong[0]} of {path} has no embedding of {width} numbers in column {name}, "
                "but all rows must have the same length."
            )
        values = pc.list_flatten(column).to_numpy(zero_copy_only=False)
        result[start : start + len(batch)] = values.astype(np.float32).reshape(len(batch), width)
        start += len(batch)
    assert result is not None  # an empty table is refused before
    return result
