"""Files with labels or judgements of items, read as columns: .csv, .tsv, .json, .npy, .npz, .parquet."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coterie.data.array_files import npy_header
from coterie.data.column_names import is_label, listed, names_items, twice
from coterie.data.files import regular_file
from coterie.data.parquet import open_parquet, read_column
from coterie.data.reading import reading
from coterie.data.table_forms import is_list
from coterie.data.text_tables import read_rows, read_text
from coterie.records.arrays import legible
from coterie.types import InputError

OURS = "The file is a result table of coterie, so that the numbers say how far two runs agree, and nothing of the truth"
OBJECTS = "holds Python objects, whose pickle could run code: save it as text or numbers, such as labels.astype(str)"
SPLITS = ("train", "val", "test")  # MedMNIST's file: train_images, train_labels, ...


@dataclass
class Columns:
    """Cells by column, all of one length. `headed`: the names stand in the file; else the first row may be a header."""

    cells: dict[str, list[Any]]
    headed: bool = True
    notes: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(next(iter(self.cells.values()), []))

    @property
    def names(self) -> list[str]:
        return list(self.cells)

    def with_header(self) -> Columns:
        """Take the first row for the names of the columns. Raises InputError where two are the same."""
        headed = [(str(cells[0]).strip().strip("\ufeff\"'").strip(), cells[1:]) for cells in self.cells.values()]
        headed = [(name, cells) for name, cells in headed if name or any(cells)]  # a table program's empty columns
        again = twice(name for name, _ in headed)
        if again is not None:
            raise InputError(f"Two columns are called {again!r}: rename one.")
        return Columns(dict(headed), True, self.notes)


def read_columns(path: str | os.PathLike[str], what: str, endings: Sequence[str] = ()) -> Columns:
    """Read a file, called `what` in messages ("label file"). Raises InputError for one that cannot be read."""
    path = Path(path)
    allowed = {ending: READERS[ending] for ending in endings or READERS}
    with reading(f"The {what} {str(path)[:200]} cannot be read"):
        path = regular_file(os.path.expanduser(path), f"The {what}")
        if path.suffix.lower() not in allowed:
            *most, last = allowed
            raise InputError(f"The {what} {path} must be a {', '.join(most)} or {last} file.")
        return allowed[path.suffix.lower()](path)


def _read_text(path: Path) -> Columns:
    table = read_rows(path)
    width = len(table.rows[0]) if table.rows else 0
    cells: dict[str, list[Any]] = {f"{place + 1}": [row[place] for row in table.rows] for place in range(width)}
    return Columns(cells, False, table.notes)


def _read_json(path: Path) -> Columns:
    text, notes = read_text(path)
    content = json.loads(text, object_pairs_hook=_object)
    if isinstance(content, list) and content and all(isinstance(row, dict) for row in content):
        names = list(dict.fromkeys(name for row in content for name in row))
        return Columns({name: [row.get(name) for row in content] for name in names}, True, notes)
    if isinstance(content, list):
        return Columns({"label": content}, True, notes)
    if not isinstance(content, dict):
        raise InputError(f"The label file {path} must hold a list of labels or an object of id: label.")
    lists = [value for value in content.values() if isinstance(value, list)]
    if lists and len(lists) == len(content) and any(is_label(name) or names_items(name) for name in content):
        return Columns(_same_length(content, path), True, notes)
    if any(isinstance(value, (list, dict)) for value in content.values()):
        raise InputError(f"The label file {path} must hold one label per id, as in {{'a.png': 'cat', 'b.png': 'dog'}}.")
    return Columns({"id": list(content), "label": list(content.values())}, True, notes)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for name, value in pairs:
        if name in content and content[name] != value:
            raise InputError(f"A JSON object names {name[:200]} twice, with different values: keep one.")
        content[name] = value
    return content


def _read_npy(path: Path) -> Columns:
    with path.open("rb") as content:  # NumPy leaves what it opened open where the content is broken
        if content.read(len(np.lib.format.MAGIC_PREFIX)) == np.lib.format.MAGIC_PREFIX:
            content.seek(0)
            if npy_header(content)[1].hasobject:
                raise InputError(f"The label file {path} {OBJECTS}.")
        content.seek(0)
        values = np.load(content, allow_pickle=False)
        if not isinstance(values, np.ndarray):  # an archive under this name
            raise InputError(f"The label file {path} is a .npz archive: give it that ending.")
        if content.read(1):
            raise InputError(f"The label file {path} goes on after its array: save one array in a file.")
    _legible(values, path)
    if values.dtype.names:
        return Columns({name: values[name].tolist() for name in values.dtype.names})
    if values.size != len(np.atleast_1d(values)):
        raise InputError(f"The label file {path} has shape {values.shape}, but one label per item is needed.")
    return Columns({"label": values.reshape(-1).tolist()})


def _read_npz(path: Path) -> Columns:
    arrays = flat_arrays(path)
    if not arrays:
        raise InputError(f"The label file {path} holds no array with one value per item.")
    return Columns(_same_length({name: array.tolist() for name, array in arrays.items()}, path))


def flat_arrays(path: Path, wanted: Callable[[str], bool] = lambda name: True) -> dict[str, NDArray[Any]]:
    """The arrays (n,) and (n, 1) of a .npz file, of the names that are `wanted`, as (n,).

    Those of MedMNIST's splits are joined. Raises InputError for Python objects under such a name.
    """
    with path.open("rb") as content, np.load(content, allow_pickle=False) as file:
        if not hasattr(file, "files"):
            raise InputError(f"{path} is no .npz archive.")
        flat: dict[str, NDArray[Any]] = {}
        for name in file.files:
            if f"{name}.npy" not in file.zip.namelist() or not wanted(name):
                continue
            with file.zip.open(f"{name}.npy") as member:
                shape, dtype = npy_header(member)
            if dtype.hasobject:
                raise InputError(f"The array {name} of {path} {OBJECTS}.")
            if len(shape) <= 2 and (array := file[name]).size == len(np.atleast_1d(array)):
                flat[name] = _legible(array.reshape(-1), path)
    parts = [flat.pop(f"{split}_labels") for split in SPLITS if f"{split}_labels" in flat]
    return flat | ({"labels": np.concatenate(parts)} if parts else {})


def _legible(values: NDArray[Any], path: Path) -> NDArray[Any]:
    with reading(f"{path} cannot be read as labels"):
        try:
            return legible(values)
        except InputError as error:
            raise ValueError(str(error)) from error


def _same_length(columns: dict[str, list[Any]], path: Path) -> dict[str, list[Any]]:
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        said = listed(f"{name} {count}" for name, count in lengths.items())
        raise InputError(f"The columns of the label file {path} have different lengths ({said}).")
    return columns


def _read_parquet(path: Path) -> Columns:
    import pyarrow.types as types

    file = open_parquet(path)
    nested = (is_list, types.is_struct, types.is_map)
    names = [field.name for field in file.schema_arrow if not any(is_kind(field.type) for is_kind in nested)]
    # Hugging Face's pictures {bytes, path} name their items by the path.
    pictures = [field.name for field in file.schema_arrow if types.is_struct(field.type) and _has_paths(field.type)]
    paths = {name: _paths(read_column(file, name, path)) for name in pictures if names_items(name)}
    paths = {name: cells for name, cells in paths.items() if any(cells)}
    if len(names) < len(file.schema_arrow.names) and not any(map(is_label, names)):
        names = file.schema_arrow.names  # whatever it is, the user hears of it by its name
    cells = paths | {name: read_column(file, name, path).to_pylist() for name in names if name not in paths}
    # Of many groups a result has no column of all probabilities, and a table of accepted items never has one.
    marked = b"coterie.table" in (file.schema_arrow.metadata or {}) or "probabilities" in file.schema_arrow.names
    ours = marked and {"id", "label", "confidence"} <= set(file.schema_arrow.names)
    return Columns(cells, notes=[OURS] if ours else [])


def _has_paths(kind: Any) -> bool:
    import pyarrow.types as types

    place: int = kind.get_field_index("path")
    texts = (types.is_string, types.is_large_string, types.is_string_view)
    return place >= 0 and any(is_text(kind.field(place).type) for is_text in texts)


def _paths(column: Any) -> list[Any]:
    import pyarrow.compute as pc

    return list(pc.struct_field(column, "path").to_pylist())


READERS: dict[str, Callable[[Path], Columns]] = {
    ".csv": _read_text,
    ".tsv": _read_text,
    ".json": _read_json,
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".parquet": _read_parquet,
}
