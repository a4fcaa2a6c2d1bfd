"""Parquet tables: a column of encoded images, or embeddings in a list column or in numeric columns."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from coterie.data.feature_columns import FeatureColumns, check_values, choose
from coterie.data.files import escaped
from coterie.data.parquet import open_parquet, read_batches, read_rows
from coterie.data.parquet_folder import Joined, tables_in
from coterie.data.picture_form import Options, check_kind
from coterie.data.pictures import Pictures, open_pictures
from coterie.data.reading import reading
from coterie.data.row_names import row_ids
from coterie.data.table_forms import describe
from coterie.data.table_numbers import list_column, number_columns
from coterie.data.table_pictures import Cells
from coterie.data.vectors import offset_of, open_vectors
from coterie.data.whole_numbers import Ends
from coterie.types import InputError, ItemSpec, Source

if TYPE_CHECKING:
    from PIL.Image import Image


def open_table(path: Path, options: Options, *, name: str | None = None, origin: str | None = None) -> Source:
    """Open a table, one file or a folder of files (`parquet_folder`): the column of pictures first, then a list column,
    then numeric columns (`feature_columns`).
    """
    table = look_at(path, options, name, origin)
    if table.features.form == "picture":
        return open_pictures(table.pictures(options), options)
    return table.embeddings(options)


@dataclass(frozen=True)
class OpenTable:
    """An open table; only its ids have been read."""

    path: Path
    file: Any
    features: FeatureColumns
    ids: Sequence[str]
    notes: list[str]
    name: str
    origin: str
    judged: bool  # whether what its columns hold must be looked at, all rows of it, to believe that they are features

    @property
    def stamp(self) -> str:
        return f"{self.path.resolve()} {' '.join(self.features.names)} {_changes(self.path)}"

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
            names, first, ends = self.features.names, rows.start if rows else 0, Ends()
            if self.features.form == "list":
                values = list_column(batches, count, self.file.schema_arrow, names[0], self.path, first, ends)
            else:
                values = number_columns(batches, count, self.file.schema_arrow, names, ends)
        if options.like is None:
            ends.check(self.name)
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
    features = choose(describe(file, path), options.columns, options.like)
    ids, notes = row_ids(file, path)
    judged = features.form == "numbers" and not features.chosen and not (options.like and options.like.columns)
    joined = file.notes if isinstance(file, Joined) else []
    named = name or _name(path), origin or os.fspath(path)
    return OpenTable(path, file, features, ids, [*joined, *features.notes, *notes], *named, judged)


def _name(path: Path) -> str:
    return escaped(path.resolve().name.removesuffix(".parquet")) or "tables" if path.is_dir() else path.stem


def _changes(path: Path) -> str:
    """Sizes and times of change of a file, or of the files of a folder: what shows that a table is another by now."""
    if not path.is_dir():
        facts = path.stat()
        return f"{facts.st_size} {facts.st_mtime_ns}"
    files = [(file.name, facts.st_size, facts.st_mtime_ns) for file in tables_in(path) for facts in (file.stat(),)]
    return hashlib.sha256(repr(files).encode("utf-8", "surrogateescape")).hexdigest()


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
    features = choose(describe(file, path), columns, ItemSpec("images"))
    if features.form != "picture":
        raise InputError(f"{path} has no column of pictures.")
    return row_ids(file, path)[0], Cells(path, features.names[0], limit)
