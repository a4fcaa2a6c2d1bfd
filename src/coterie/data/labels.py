"""True labels, apart from the images and never part of a `Source`: only evaluation and the user ask for them.

May not be imported by anything that trains.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from coterie.data.array_files import read_npz
from coterie.data.encoding import Labels, encode
from coterie.data.named_files import SYNSETS, locate, names
from coterie.data.named_labels import folder_labels, row_labels
from coterie.data.rows import RowIds
from coterie.data.tables import ID_COLUMNS, open_parquet, read_column, row_ids
from coterie.types import InputError

LABEL_COLUMNS = ("label", "labels", "target", "y", "class", "label_name")
NPZ_KEYS = ("y", "labels", "label", "target", "targets")


def labels_of(source: Any, ids: Sequence[str]) -> Labels | None:
    """Return the labels that come with a source (named set, parquet column, .npz key) for these ids, None if none do.

    Folders have none: their names count as labels only if the user says so (`labels_from_folders`).
    """
    if not isinstance(source, (str, os.PathLike)):
        return None
    text = os.fspath(source)
    if text in names():
        return _of_named(text, ids)
    path = Path(os.path.expanduser(text))
    if path.suffix.lower() == ".parquet" and path.is_file():
        return _of_table(path, ids)
    if path.suffix.lower() == ".npz" and path.is_file():
        return _of_npz(path, ids)
    return None


def labels_from_folders(ids: Sequence[str]) -> Labels:
    """Return the name of the folder that each image lies in; -1 for images at the top; InputError if all are."""
    parents = [PurePosixPath(name).parent.name for name in ids]
    if not any(parents):
        raise InputError("The images lie in no sub-folders, so the folders' names cannot serve as labels.")
    # Not `encode`: a folder called "-1" or "007" is a name.
    classes = sorted({parent for parent in parents if parent})
    place = {name: code for code, name in enumerate(classes)}
    return Labels(np.array([place.get(parent, -1) for parent in parents], np.int64), classes)


def read_label_file(path: str | os.PathLike[str], ids: Sequence[str], skipped: Collection[str] = ()) -> Labels:
    """Read labels that the user gives in a file of their own.

    .csv or .parquet: columns id and label, or label alone in the order of the source; .npy: in order; .json: an object
    of id: label, or a list in order. An id of the source that is not in the file gets -1. InputError for a wrong
    number of rows, and for an id that is neither in the source nor among its `skipped` images.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"The label file {path} does not exist.")
    readers = {".csv": _read_csv, ".npy": _read_npy, ".parquet": _read_parquet, ".json": _read_json}
    if path.suffix not in readers:
        raise InputError(f"The label file {path} must be one of {', '.join(readers)}.")
    try:
        content = readers[path.suffix](path, len(ids))
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"The label file {path} cannot be read ({error}).") from error
    if isinstance(content, Mapping):
        unknown = content.keys() - set(ids) - set(skipped)
        if unknown:
            raise InputError(
                f"The label file {path} names {min(unknown)}, which is not in the source ({len(unknown)} such ids); "
                f"its ids look like {ids[0]}."
            )
        return encode([content.get(name) for name in ids])
    if len(content) != len(ids):
        raise InputError(
            f"The label file {path} has {len(content)} labels for {len(ids)} items; give one each, or columns id and "
            "label."
        )
    return encode(content)


def _of_named(name: str, ids: Sequence[str]) -> Labels | None:
    if name != "digits":
        place = locate(name)
        if place.suffix == ".parquet":
            return _of_table(place, ids)
        if name in SYNSETS or name == "tiny-imagenet":
            return folder_labels(ids)
    labels = row_labels(name)
    return None if labels is None else _pick_rows(labels, ids, name)


def _of_npz(path: Path, ids: Sequence[str]) -> Labels | None:
    with np.load(path, allow_pickle=False) as file:
        if not any(key in NPZ_KEYS or key.endswith("_labels") for key in file.files):
            return None
    values = read_npz(path, NPZ_KEYS, "labels")
    if values.ndim > 1 and values.size != len(values):
        return None  # several labels per image are no classes
    return _pick_rows(encode(values.reshape(-1).tolist()), ids, str(path))


def _of_table(path: Path, ids: Sequence[str]) -> Labels | None:
    file = open_parquet(path)
    column = next((name for name in LABEL_COLUMNS if name in file.schema_arrow.names), None)
    if column is None:
        return None
    values = read_column(file, column, path).to_pylist()
    classes = _class_names(file, column, values, path)
    labels = encode(values)
    labels = Labels(labels.codes, [classes.get(name, name) for name in labels.names])
    rows, _ = row_ids(file, path)
    if isinstance(rows, RowIds):
        return _pick_rows(labels, ids, str(path))
    place = {name: row for row, name in enumerate(rows)}
    codes = [labels.codes[place[name]] if name in place else -1 for name in ids]
    return Labels(np.array(codes, np.int64), labels.names)


def _class_names(file: Any, column: str, values: list[Any], path: Path) -> dict[str, str]:
    """Return code -> name, from the column label_name, or from what Hugging Face writes into the file."""
    if "label_name" in file.schema_arrow.names:
        spoken = read_column(file, "label_name", path).to_pylist()
        return {str(value): str(name) for value, name in zip(values, spoken, strict=True) if name is not None}
    try:
        facts = json.loads((file.schema_arrow.metadata or {})[b"huggingface"])
        classes = facts["info"]["features"][column]["names"]
        return {str(code): str(name) for code, name in enumerate(classes)}
    except (KeyError, TypeError, ValueError):
        return {}


def _pick_rows(labels: Labels, ids: Sequence[str], name: str) -> Labels:
    """Take the labels of the rows that the ids name; InputError if they are no rows of this source."""
    if isinstance(ids, RowIds) and len(ids) == len(labels.codes):
        return labels
    try:
        return Labels(labels.codes[np.array([int(row) for row in ids], np.int64)], labels.names)
    except (ValueError, IndexError) as error:
        raise InputError(f"The labels of {name} are for {len(labels.codes)} rows, and not those of the ids.") from error


def _read_csv(path: Path, count: int) -> list[Any] | dict[str, Any]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = [row for row in csv.reader(file) if row]
    if not rows:
        return []
    head = [cell.strip().lower() for cell in rows[0]]
    label = next((head.index(name) for name in LABEL_COLUMNS if name in head), None)
    key = next((head.index(name) for name in ID_COLUMNS if name in head), None)
    if label is None:
        if len(head) > 1:
            raise InputError(f"The label file {path} needs a first line with the column names id and label.")
        return [row[0] for row in (rows if len(rows) == count else rows[1:] if len(rows) == count + 1 else rows)]
    for number, row in enumerate(rows[1:], 2):
        if len(row) != len(head):
            raise InputError(f"Line {number} of {path} has {len(row)} columns, but the first has {len(head)}.")
    if key is None:
        return [row[label] for row in rows[1:]]
    return _by_id([row[key] for row in rows[1:]], [row[label] for row in rows[1:]], path)


def _read_npy(path: Path, count: int) -> list[Any]:
    values = np.load(path, allow_pickle=False)
    if values.size != len(np.atleast_1d(values)):
        raise InputError(f"The label file {path} has shape {values.shape}, but one label per item is needed.")
    content: list[Any] = values.reshape(-1).tolist()
    return content


def _read_parquet(path: Path, count: int) -> list[Any] | dict[str, Any]:
    file = open_parquet(path)
    present = file.schema_arrow.names
    label = next((name for name in LABEL_COLUMNS if name in present), present[0] if len(present) == 1 else None)
    if label is None:
        raise InputError(f"The label file {path} needs a column label; it has {', '.join(present)}.")
    values: list[Any] = read_column(file, label, path).to_pylist()
    key = next((name for name in ID_COLUMNS if name in present), None)
    return values if key is None else _by_id(map(str, read_column(file, key, path).to_pylist()), values, path)


def _read_json(path: Path, count: int) -> list[Any] | dict[str, Any]:
    content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, (list, dict)):
        raise InputError(f"The label file {path} must hold a list of labels or an object of id: label.")
    return content


def _by_id(keys: Any, values: Sequence[Any], path: Path) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name, value in zip(keys, values, strict=True):
        if name in result:
            raise InputError(f"The label file {path} names {name} twice.")
        result[name] = value
    return result
