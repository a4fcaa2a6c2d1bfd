"""A folder of Parquet files with the same columns, read as one file: in the order of their names, then of their rows.

Files whose names begin with . or _ are no tables: Spark and others leave their marks under such names.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from coterie.data.column_names import listed
from coterie.data.extensions import JUNK, left_out
from coterie.data.parquet import open_parquet, pandas_index, read_batches, read_column
from coterie.types import InputError

OPEN = 16  # files that are held open


def tables_in(folder: Path) -> list[Path]:
    """The Parquet files directly in a folder, in the order of their names; none where it cannot be read."""
    try:
        names = sorted(
            entry.name
            for entry in os.scandir(folder)
            if _counts(entry.name) and _is_table(entry.name) and not entry.is_dir()
        )
    except OSError:
        return []
    return [folder / name for name in names]


def _counts(name: str) -> bool:
    return not name.startswith((".", "_")) and name.lower() not in JUNK


def _is_table(name: str) -> bool:
    return name.lower().endswith(".parquet")


class Joined:
    """As much of pyarrow's ParquetFile as is used here, of all files together, each of which is opened when needed.

    Raises InputError, as all that reads from it does: for a file that cannot be read, for one whose columns are others
    than those of the first, and for tables in sub-folders.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.paths = folder, tables_in(folder)
        if not self.paths:
            raise InputError(f"The folder {folder} holds no Parquet files.")
        _refuse_nested(folder)
        self._open = lru_cache(maxsize=OPEN)(open_parquet)
        first = self._open(self.paths[0])
        self.schema_arrow = first.schema_arrow
        counts, groups, places = [], list[Any](), list[tuple[int, int]]()
        for number, path in enumerate(self.paths):
            file = self._open(path)
            _check_alike(self.schema_arrow, file.schema_arrow, self.paths[0], path)
            counts.append(file.metadata.num_rows)
            for group in range(file.metadata.num_row_groups):
                groups.append(file.metadata.row_group(group))
                places.append((number, group))
        self._places = places
        self.metadata = _Metadata(sum(counts), groups)
        self.notes = _notes(folder, self.paths, counts)

    def iter_batches(
        self, batch_size: int = 65_536, columns: Sequence[str] | None = None, row_groups: Sequence[int] | None = None
    ) -> Iterator[Any]:
        """Record batches of all files, or of some row groups, counted over all files."""
        if row_groups is None:
            for path in self.paths:
                yield from read_batches(self._open(path), columns, path, batch_size)
            return
        for number, group in (self._places[place] for place in row_groups):
            yield from self._open(self.paths[number]).iter_batches(batch_size, row_groups=[group], columns=columns)

    def read(self, columns: Sequence[str]) -> Any:
        """Whole columns."""
        import pyarrow as pa

        def whole(name: str) -> Any:
            kind = self.schema_arrow.field(name).type
            chunks = [chunk for path in self.paths for chunk in read_column(self._open(path), name, path).chunks]
            return pa.chunked_array(chunks, type=kind)

        return pa.table({name: whole(name) for name in columns})

    def read_row_group(self, place: int, columns: Sequence[str]) -> Any:
        """One row group, counted over all files."""
        number, group = self._places[place]
        return self._open(self.paths[number]).read_row_group(group, columns=columns)


class _Metadata:
    def __init__(self, rows: int, groups: Sequence[Any]) -> None:
        self.num_rows, self.num_row_groups, self._groups = rows, len(groups), groups

    def row_group(self, place: int) -> Any:
        return self._groups[place]


def _refuse_nested(folder: Path) -> None:
    """Raise InputError for tables in sub-folders, which may be other parts of the same, or something else."""
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if _counts(entry.name) and entry.is_dir() and tables_in(Path(entry.path)) and not _is_run(Path(entry.path)):
            raise InputError(
                f"{folder} holds Parquet files and a folder with more of them ({entry.name}): give one folder whose "
                "files are all of one table."
            )


def refuse_tables_below(folder: Path) -> None:
    """Raise InputError where tables lie in sub-folders only, as Hugging Face and partitioned tables have them."""
    below = []
    for at, names, _ in os.walk(folder):
        names[:] = sorted(name for name in names if _counts(name))
        if at != os.fspath(folder) and tables_in(Path(at)) and not _is_run(Path(at)):
            below.append(os.path.relpath(at, folder))
    if len(below) == 1:
        raise InputError(
            f"{folder} holds no images, but Parquet files in its folder {below[0]}: give {folder / below[0]}."
        )
    if below:
        made = f"pandas.read_parquet({folder.name!r}).to_parquet({folder.name + '.parquet'!r})"
        raise InputError(
            f"{folder} holds no images, but Parquet files in {len(below)} folders ({listed(below, 3)}): give one of "
            f"them, or make one table of all: {made}."
        )


def _is_run(folder: Path) -> bool:
    """Whether coterie wrote a run here: its table of results is no source."""
    return (folder / "run.yaml").exists()


def _check_alike(first: Any, other: Any, of_first: Path, path: Path) -> None:
    """Raise InputError for other columns, in another order or of other types, and for another index of pandas."""
    where = f"{path} does not fit {of_first.name} in the same folder"
    if first.names != other.names:
        lacks = [name for name in first.names if name not in other.names]
        more = [name for name in other.names if name not in first.names]
        parts = [f"it lacks {listed(lacks, 5)}"] if lacks else []
        parts += [f"it has {listed(more, 5)} besides"] if more else []
        why = " and ".join(parts) or "its columns stand in another order"
        raise InputError(f"{where}: {why}; all files of a folder must have the same columns.")
    for field in first:
        if (kind := other.field(field.name).type) != field.type:
            raise InputError(f"{where}: its column {field.name} is of type {kind}, not {field.type}.")
    if pandas_index(first) != pandas_index(other):
        raise InputError(f"{where}: it has another column as its index; write all files in one way.")


def _notes(folder: Path, paths: Sequence[Path], counts: Sequence[int]) -> list[str]:
    """How many files were taken, and what of the folder was not."""
    named = f"{paths[0].name} to {paths[-1].name}" if len(paths) > 1 else paths[0].name
    taken = f"{len(paths)} files of {folder} were read as one table, in the order of their names ({named})."
    notes = [taken if len(paths) > 1 else f"The one table of {folder}, {named}, was read."]
    empty = [path.name for path, count in zip(paths, counts, strict=True) if count == 0]
    if empty and len(empty) < len(paths):
        notes.append(f"{len(empty)} of them have no rows ({listed(empty, 3)}).")
    others = [entry.name for entry in os.scandir(folder) if _counts(entry.name) and not _is_table(entry.name)]
    if others:
        types = Counter(os.path.splitext(name)[1].lower() for name in others)
        notes.append(f"{len(others)} other files and folders of {folder} were left out: {left_out(types)}.")
    return notes
