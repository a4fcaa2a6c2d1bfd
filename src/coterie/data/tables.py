"""Parquet tables: a column of encoded images, or embeddings in a list column or in numeric columns."""

from __future__ import annotations

import hashlib
import os
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from coterie.data.array_rows import RowIds
from coterie.data.column_words import Form
from coterie.data.feature_columns import ID_COLUMNS, Features, Table, check_values, choose
from coterie.data.parquet import open_parquet, pandas_index, read_batches, read_column, read_rows
from coterie.data.picture_form import Options, check_kind
from coterie.data.pictures import Pictures, open_pictures
from coterie.data.reading import reading
from coterie.data.vectors import offset_of, open_vectors
from coterie.types import InputError, ItemSpec, Source

if TYPE_CHECKING:
    from PIL.Image import Image

# How the files begin that Pillow may read: PNG, JPEG, GIF, BMP, WebP, TIFF.
_PICTURES = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"RIFF", b"II*\0", b"MM\0*")


def open_table(path: Path, options: Options, *, name: str | None = None, origin: str | None = None) -> Source:
    """Open a table: the column of pictures first, then a list column, then numeric columns (`feature_columns`)."""
    table = look_at(path, options, name, origin)
    if table.features.form == "picture":
        return open_pictures(table.pictures(options), options)
    return table.embeddings(options)


@dataclass(frozen=True)
class OpenTable:
    """A table of which nothing but its ids was read."""

    path: Path
    file: Any
    features: Features
    ids: Sequence[str]
    notes: list[str]
    name: str
    origin: str
    judged: bool  # whether what its columns hold must be looked at, all rows of it, to believe that they are features

    @property
    def stamp(self) -> str:
        facts = self.path.stat()
        return f"{self.path.resolve()} {' '.join(self.features.names)} {facts.st_size} {facts.st_mtime_ns}"

    def pictures(self, options: Options) -> Pictures:
        """Its column of pictures."""
        return _table_pictures(self, options.memory_limit)

    def embeddings(self, options: Options, rows: range | None = None) -> Source:
        """Its embeddings, all or those of `rows` in a row. Raises InputError."""
        check_kind(options, "embeddings", self.name)
        if rows is None:
            batches, count = read_batches(self.file, self.features.names, self.path), self.file.metadata.num_rows
        else:
            batches, count = read_rows(self.file, self.features.names, self.path, rows), len(rows)
        with reading(f"{self.path} cannot be read"):
            read = _list_column if self.features.form == "list" else _numbers
            values = read(batches, count, self, rows.start if rows else 0)
        if self.judged:
            check_values(values, self.features.names, str(self.path))
        if values.dtype != np.float32 and not offset_of(values, options.like, self.name):
            with np.errstate(over="ignore"):
                values = values.astype(np.float32)
        columns, chosen = tuple(self.features.names), self.features.chosen
        source = open_vectors(values, options, name=self.name, origin=self.origin, columns=columns, chosen=chosen)
        source.ids = self.ids if rows is None else self.ids[rows.start : rows.stop]
        source.notes = [*self.notes, *source.notes]
        return source


def look_at(path: Path, options: Options, name: str | None = None, origin: str | None = None) -> OpenTable:
    """Open a table and decide which of its columns are the items. Raises InputError."""
    file = open_parquet(path)
    if file.metadata.num_rows == 0:
        raise InputError(f"{path} has no rows.")
    features = choose(_describe(file, path), options.columns, options.like)
    ids, notes = row_ids(file, path)
    judged = features.form == "numbers" and not features.chosen and not (options.like and options.like.columns)
    named = name or path.stem, origin or os.fspath(path)
    return OpenTable(path, file, features, ids, [*features.notes, *notes], *named, judged)


def _describe(file: Any, path: Path) -> Table:
    schema = file.schema_arrow
    forms = {field.name: _form(file, field, path) for field in schema}
    return Table(str(path), forms, pandas_index(schema))


def _form(file: Any, field: Any, path: Path) -> Form:
    import pyarrow.types as types

    kind = _storage(field.type)
    if types.is_floating(kind) or types.is_decimal(kind):
        return "float"
    if types.is_integer(kind):
        return "integer"
    if types.is_boolean(kind):
        return "boolean"
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        inner = kind.value_type
        numeric = (
            types.is_floating(inner) or types.is_integer(inner) or types.is_decimal(inner) or types.is_boolean(inner)
        )
        return "list" if numeric else "other"
    return "picture" if _bytes_of(kind) is not None and _holds_pictures(file, field, path) else "other"


def _storage(kind: Any) -> Any:
    """What a tensor column of one axis lies in; other types as they are."""
    if getattr(kind, "extension_name", "") == "arrow.fixed_shape_tensor":
        return kind.storage_type if len(kind.shape) == 1 else kind
    return kind


def _bytes_of(kind: Any) -> str | None:
    """Where a column has the bytes of a file: Hugging Face's {bytes, path} in "bytes", a binary one in ""."""
    import pyarrow.types as types

    if types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        return "bytes"
    return "" if types.is_binary(kind) or types.is_large_binary(kind) else None


def _holds_pictures(file: Any, field: Any, path: Path) -> bool:
    """A column called image is believed; any other must begin with one."""
    if field.name == "image":
        return True
    inner = _bytes_of(field.type)
    with reading(f"Column {field.name} of {path} cannot be read"):
        for batch in file.iter_batches(batch_size=16, columns=[field.name]):
            for cell in batch.column(field.name).to_pylist():
                content = cell.get("bytes") if inner and cell is not None else cell
                if content:
                    return bytes(content[:4]).startswith(_PICTURES)
    return False


def row_ids(file: Any, path: Path) -> tuple[Sequence[str], list[str]]:
    """Return the id or path column if it names every row, the row numbers otherwise."""
    import pyarrow.types as types

    called = {name.strip().casefold(): name for name in reversed(file.schema_arrow.names)}
    for name in (called[wanted] for wanted in ID_COLUMNS if wanted in called):
        kind = file.schema_arrow.field(name).type
        if not (types.is_string(kind) or types.is_large_string(kind) or types.is_integer(kind)):
            continue
        values = read_column(file, name, path).to_pylist()
        ids = [str(value) for value in values]
        if None not in values and len(set(ids)) == len(ids):
            return ids, []
        return RowIds(len(ids)), [f"Column {name} has empty or repeated values, so rows go by their number."]
    return RowIds(file.metadata.num_rows), []


class Cells:
    """The encoded images of a table by row, read a row group at a time; the last groups read are kept up to a limit.

    With the row groups of some hundred rows that image tables have, that keeps memory small without a copy on disk.
    """

    def __init__(self, path: Path, column: str, limit: int) -> None:
        self._path, self._file, self._column, self._limit = path, open_parquet(path), column, limit
        self._inner = _bytes_of(self._file.schema_arrow.field(column).type)
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

        path = f"{self._column}.{self._inner}" if self._inner else self._column
        with reading(f"Column {self._column} of {self._path} cannot be read"):
            column = self._file.read_row_group(group, columns=[path]).column(self._column)
            column = pc.struct_field(column, self._inner) if self._inner else column
            if len(column) != self._edges[group + 1] - self._edges[group]:
                raise InputError(f"{self._path} is damaged: row group {group} is not as long as it says.")
            return column


def _table_pictures(table: OpenTable, limit: int) -> Pictures:
    cells = Cells(table.path, table.features.names[0], limit)

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

    where = f"the table {table.path}"
    return Pictures(table.name, where, table.origin, table.ids, load, digest, table.stamp, table.notes)


def picture_cells(path: Path, columns: str | Sequence[str] | None, limit: int) -> tuple[Sequence[str], Cells]:
    """The ids of a table's rows and its encoded pictures; `limit` bytes of them are kept. Raises InputError."""
    file = open_parquet(path)
    features = choose(_describe(file, path), columns, ItemSpec("images"))
    if features.form != "picture":
        raise InputError(f"{path} has no column of pictures.")
    return row_ids(file, path)[0], Cells(path, features.names[0], limit)


def _numbers(batches: Iterable[Any], count: int, table: OpenTable, first: int) -> NDArray[Any]:
    """Read numeric columns batch by batch into one array of `count` rows."""
    names = table.features.names
    kinds = [table.file.schema_arrow.field(name).type for name in names]
    result = np.empty((count, len(names)), _dtype(kinds))
    start = 0
    for batch in batches:
        for place, name in enumerate(names):
            # A column with empty cells comes as floats with NaN, or as objects with None.
            result[start : start + len(batch), place] = _floats(batch.column(name), result.dtype)
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


def _list_column(batches: Iterable[Any], count: int, table: OpenTable, first: int) -> NDArray[Any]:
    """Read a list column batch by batch into one array of `count` rows, the first of which is row `first`."""
    import pyarrow.compute as pc

    name = table.features.names[0]
    kind = table.file.schema_arrow.field(name).type
    dtype = _dtype([getattr(kind, "storage_type", kind).value_type])
    result: NDArray[Any] | None = None
    start = 0
    for batch in batches:
        column = batch.column(name)
        column = getattr(column, "storage", column)  # of a tensor
        lengths = pc.list_value_length(column)
        width = int(pc.max(lengths).as_py() or 0) if result is None else result.shape[1]
        if result is None:
            result = np.empty((count, width), dtype)
        wrong = np.flatnonzero(lengths.fill_null(-1).to_numpy(zero_copy_only=False) != width)
        if len(wrong):
            raise InputError(
                f"Row {first + start + wrong[0]} of {table.path} has no embedding of {width} numbers in column {name}, "
                "but all rows must have the same length."
            )
        result[start : start + len(batch)] = _floats(pc.list_flatten(column), dtype).reshape(len(batch), width)
        start += len(batch)
    assert result is not None  # an empty table is refused before
    return result


def _floats(column: Any, dtype: np.dtype[Any]) -> NDArray[Any]:
    with np.errstate(over="ignore"):  # what is too large becomes infinite, and is refused with its place
        values: NDArray[Any] = column.to_numpy(zero_copy_only=False).astype(dtype)
    return values
