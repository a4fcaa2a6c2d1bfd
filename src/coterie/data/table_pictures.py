"""The encoded pictures in a column of a Parquet table, read a row group at a time."""

from __future__ import annotations

import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np

from coterie.data.parquet import open_parquet
from coterie.data.reading import reading
from coterie.data.table_forms import bytes_of
from coterie.types import InputError


class Cells:
    """The encoded images of a table by row, read a row group at a time; the last groups read are kept up to a limit.

    With the row groups of some hundred rows that image tables have, that keeps memory small without a copy on disk.
    """

    def __init__(self, path: Path, column: str, limit: int) -> None:
        self._path, self._file, self._column, self._limit = path, open_parquet(path), column, limit
        self._inner = bytes_of(self._file.schema_arrow.field(column).type)
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
