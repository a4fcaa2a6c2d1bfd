"""True labels, apart from the images and never part of a `Source`: only evaluation and the user ask for them.

May not be imported by anything that trains.
"""

from __future__ import annotations

import json
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coterie.data.addresses import local
from coterie.data.array_rows import RowIds
from coterie.data.column_names import is_label, like_label, listed, words
from coterie.data.encoding import LIKE_UNKNOWN, Labels, encode, is_unknown
from coterie.data.folders import is_table_folder
from coterie.data.label_columns import chosen, find_header, find_key, find_label, measured, same_classes
from coterie.data.label_tables import Columns, flat_arrays, read_columns
from coterie.data.matching import key_text
from coterie.data.named_files import SYNSETS, locate, names
from coterie.data.named_labels import folder_labels, row_labels
from coterie.data.parquet import open_parquet, read_column
from coterie.data.reading import reading
from coterie.data.row_names import row_ids
from coterie.types import InputError

FEW = 10  # labelled items; of fewer, each may well be of a class of its own


def labels_of(source: Any, ids: Sequence[str], column: str | None = None) -> Labels | None:
    """Return the labels that come with a source (named set, parquet column, .npz key) for these ids, None if none do.

    Folders have none: their names count as labels only if the user says so (`labels_from_folders`). `column` names the
    one to take of a table or .npz file; InputError if there is none of that name, or if several may be it.
    """
    if not isinstance(source, (str, os.PathLike)):
        return None
    text = os.fspath(source)
    if text in names():
        return _of_named(text, ids, column)
    path = Path(os.path.expanduser(local(text)))
    if (path.suffix.lower() == ".parquet" and path.is_file()) or is_table_folder(path):
        return _of_table(path, ids, column)
    if path.suffix.lower() == ".npz" and path.is_file():
        return _of_npz(path, ids, column)
    if column is not None:
        raise InputError(f"{text} has no columns to take labels from: give a file of labels beside {column!r}.")
    return None


def labels_from_folders(ids: Sequence[str]) -> Labels:
    """Return the name of the folder that each image lies in; -1 for images at the top; InputError if all are."""
    parents = [PurePosixPath(name).parent.name for name in ids]
    if not any(parents):
        raise InputError("The items lie in no sub-folders whose names could serve as labels: give a file of labels.")
    # Not `encode`: a folder called "-1", "007" or "NA" is a name.
    classes = sorted({parent for parent in parents if parent})
    place = {name: code for code, name in enumerate(classes)}
    codes = np.array([place.get(parent, -1) for parent in parents], np.int64)
    return Labels(codes, classes, f"the folders' names{_left_without(codes, [])}")


def read_label_file(
    path: str | os.PathLike[str], ids: Sequence[str], skipped: Collection[str] = (), column: str | None = None
) -> Labels:
    """Read labels that the user gives in a file of their own, matched to the ids by name.

    .csv, .tsv, .parquet, .npz, .json (a list of objects, or an object of lists): a column that names the items and one
    that holds the labels (`column`, where several may); .json: also an object of id: label. Only one label alone per
    item, without any other column, goes by position. An id of the source that is not in the file gets -1. The `note` of
    what comes back says what was taken. InputError for a wrong number of rows, for names that are neither in the source
    nor among its `skipped` images, and wherever it is not plain what a column means.
    """
    where = f"The label file {path}"
    table = read_columns(path, "label file")
    if len(table.names) <= 1 and column is None:
        return _by_position(table, len(ids), where, Path(path))
    with reading(f"{where} cannot be read"):
        table = find_header(table, ids, list(skipped))
        if column is not None:
            column = chosen(table.names, column, where)
        key, rows = find_key(table, ids, list(skipped), where, column)
        name = find_label(table, key, column, where)
        values = _place(table, name, rows, len(ids), where, key)
    by = f"column {key}" if key.isdigit() else key or "its unnamed column"
    return _checked(values, f"column {name} of {Path(path).name}, matched by {by}", table.notes, where)


def _by_position(table: Columns, count: int, where: str, path: Path) -> Labels:
    values: list[Any] = next(iter(table.cells.values()), [])
    notes = list(table.notes)
    if not table.headed and len(values) > 1:
        first, rest = values[0], values[1:]
        # A first line that comes again is a label, and one above nothing but numbers is a name.
        if is_label(first) or (len(rest) == count and first not in rest) or (_numeric(rest) and not _numeric([first])):
            values = rest
        elif first not in rest:
            notes.append(f"Its first line, {first!r}, counts as the label of the first item.")
    if len(values) != count:
        raise InputError(f"{where} has {len(values)} labels for {count} items; give one each, or columns id and label.")
    return _checked(values, f"{path.name} by position, the first label for the first item", notes, where)


def about(labels: Labels, groups: NDArray[np.integer]) -> str:
    """Which labels they are, and what is to be said of them beside these groups (n,)."""
    return ". ".join(filter(None, (labels.note, alike(labels), _caution(labels, groups))))


def _caution(labels: Labels, groups: NDArray[np.integer]) -> str:
    """What to say of labels that cannot measure these groups (n,): very few, of one class, the groups themselves.

    "" for others.
    """
    rows = np.flatnonzero(labels.codes >= 0)
    found, known = np.unique(labels.codes[rows]), len(rows)
    if (
        known >= FEW
        and [labels.names[code] for code in labels.codes[rows].tolist()] == groups[rows].astype(str).tolist()
    ):
        return "They equal the run's own groups: if they are from the run, nothing here says anything of the truth"
    if len(found) == 1 < known:
        return "All labelled items are of one class: NMI and ARI say nothing, and ACC is how many of them are together"
    if 0 < known < FEW:
        return f"Only {known} labelled item{'s' * (known > 1)}: no number here says anything of the run"
    return ""


def alike(labels: Labels) -> str:
    """What to say of classes that differ in writing alone: "cat", "Cat" and " cat", or 1 and 01; "" where none do."""
    spelt: dict[str, list[str]] = {}
    for code in np.unique(labels.codes[labels.codes >= 0]).tolist():
        name = labels.names[code]
        number = re.fullmatch(r"0*(\d+)", name.strip())
        plain = number[1] if number else " ".join(unicodedata.normalize("NFKC", name).casefold().split())
        spelt.setdefault(plain, []).append(name)
    several = [" and ".join(map(repr, names[:3])) for names in spelt.values() if len(names) > 1]
    if not several:
        return ""
    others = f" ({len(several)} classes are written in several ways)" if len(several) > 1 else ""
    return f"{several[0]} count as different classes{others}: write one in one way, if they are one"


def _numeric(values: Sequence[str]) -> bool:
    return all(re.fullmatch(r"-?\d+(\.\d*)?", value) or is_unknown(value) for value in values)


def _place(table: Columns, name: str, rows: NDArray[np.int64], count: int, where: str, key: str) -> list[Any]:
    """The label of every item, None where the file has none. InputError for an item with two."""
    values: list[Any] = [None] * count
    seen: dict[int, Any] = {}
    again = 0
    for at, row in enumerate(rows.tolist()):
        if row < 0:
            continue
        value = table.cells[name][at]
        if row in seen and not _same(seen[row], value):
            item = key_text(table.cells[key][at])
            raise InputError(f"{where} names {item} twice, with the labels {seen[row]!r} and {value!r}: keep one.")
        again += row in seen
        seen[row] = values[row] = value
    if again:
        table.notes.append(f"{again} of its {len(rows)} rows name an item once more, with the same label.")
    return values


def _same(one: Any, other: Any) -> bool:
    return one == other or (is_unknown(one) and is_unknown(other))


def _checked(values: list[Any], said: str, notes: Sequence[str], where: str) -> Labels:
    """Encode the labels; InputError where none is known or nearly all are classes of their own."""
    labels = encode(values)
    known = int((labels.codes >= 0).sum())
    if known == 0 and values:
        raise InputError(f"{where} has no label for any item: all are empty, or words for that, such as NA.")
    if len(labels.names) == known and (known >= FEW or (known == len(values) > 2)):
        raise InputError(
            f"{where} has a class of its own for every item ({labels.names[0]}, {labels.names[1]} ...): these are no "
            "labels; give a column of classes, with the separator , ; | or a tab."
        )
    if known >= FEW and len(labels.names) > known / 2:
        notes = [*notes, f"These are {len(labels.names)} classes for {known} items."]
    like_unknown = [name for name in labels.names if name.casefold() in LIKE_UNKNOWN]
    if like_unknown:
        said_so = listed(map(repr, like_unknown), 3)
        notes = [*notes, f"{said_so} counts as a class: leave those cells empty if it says that there is no label"]
    return Labels(
        labels.codes,
        labels.names,
        ". ".join(part.rstrip(".") for part in [said + _left_without(labels.codes, values), *notes]),
    )


def _left_without(codes: NDArray[np.int64], values: Sequence[Any]) -> str:
    missing = int((codes < 0).sum())
    if missing == 0:
        return ""
    said = Counter(str(value).strip() for value, code in zip(values, codes, strict=False) if code < 0 and value)
    words = f" ({listed(map(repr, list(said)), 3)})" if said else ""
    return f"; {missing} of {len(codes)} items have no label{words}"


def _of_named(name: str, ids: Sequence[str], column: str | None) -> Labels | None:
    if name != "digits":
        place = locate(name)
        if place.suffix == ".parquet":
            return _of_table(place, ids, column)
        if name in SYNSETS or name == "tiny-imagenet":
            return folder_labels(ids)
    labels = row_labels(name)
    return None if labels is None else _pick_rows(labels, ids, name)


def _of_npz(path: Path, ids: Sequence[str], wanted: str | None) -> Labels | None:
    with reading(f"{path} cannot be read as a .npz file"):
        arrays = flat_arrays(path, lambda name: like_label(name) or name == wanted)
    table = Columns({name: a.tolist() for name, a in arrays.items()})
    column = _column_of(table, wanted, str(path))
    if column is None:
        return None
    labels = _pick_rows(encode(table.cells[column]), ids, str(path))
    return replace(_said(labels, f"array {column} of {path.name}, by row"), by_row=True)


def _of_table(path: Path, ids: Sequence[str], wanted: str | None) -> Labels | None:
    """Labels from a .parquet file: matched by its ids, or by row where it has none. None: it has no such column."""
    file = open_parquet(path)
    there = file.schema_arrow.names
    found = [name for name in there if like_label(name)] if wanted is None else [chosen(there, wanted, str(path))]
    table = Columns({name: read_column(file, name, path).to_pylist() for name in found})
    column = _column_of(table, wanted, str(path))
    if column is None:
        return None
    values = table.cells[column]
    labels = encode(values)
    classes = _class_names(file, column, labels, path)
    labels = Labels(labels.codes, _told_apart(classes, labels.names))
    rows, _ = row_ids(file, path)
    if isinstance(rows, RowIds):
        note = f"column {column} of {path.name}, by row"
        return replace(_said(_pick_rows(labels, ids, str(path)), note), by_row=True)
    place = {name: row for row, name in enumerate(rows)}
    unknown = [name for name in ids if name not in place]
    if unknown:
        raise InputError(f"{path} has no row called {unknown[0]} ({len(unknown)} such ids): it is another table.")
    labels = Labels(labels.codes[[place[name] for name in ids]], labels.names)
    return _said(labels, f"column {column} of {path.name}, matched by its ids")


def _said(labels: Labels, note: str) -> Labels:
    return replace(labels, note=note + _left_without(labels.codes, []))


def _column_of(table: Columns, wanted: str | None, where: str) -> str | None:
    """The column of a source's own table that holds its labels, None if none does."""
    if wanted is not None:
        return chosen(table.names, wanted, where)
    there = [name for name in table.names if not measured(table.cells[name])]
    found = [name for name in there if is_label(name)] or there
    # What Hugging Face calls label_name says the classes of another column.
    found = [name for name in found if words(name) != ["label", "name"]] or found
    return same_classes(found, table, where) if found else None


def _told_apart(classes: Mapping[str, str], codes: Sequence[str]) -> list[str]:
    """A name for each code; of codes that share one with its code behind: "rose (3)" and "rose (7)"."""
    names = [classes.get(code, code) for code in codes]
    count = Counter(names)
    return [f"{name} ({code})" if count[name] > 1 else name for name, code in zip(names, codes, strict=True)]


def _class_names(file: Any, column: str, labels: Labels, path: Path) -> dict[str, str]:
    """Return code -> name, from the column label_name, or from what Hugging Face writes into the file.

    Raises InputError where that column gives one code two names: it is about something else, or the rows are mixed up.
    """
    if "label_name" in file.schema_arrow.names:
        spoken = read_column(file, "label_name", path).to_pylist()
        known: dict[str, str] = {}
        for code, name in zip(labels.codes.tolist(), spoken, strict=True):
            label, said = labels.names[code], str(name)
            if code >= 0 and name is not None and known.setdefault(label, said) != said:
                raise InputError(
                    f"Label {label} of {path} is called {known[label]!r} and {said!r} in its column label_name: give "
                    "each label one name, or leave that column out."
                )
        return known
    try:
        facts = json.loads((file.schema_arrow.metadata or {})[b"huggingface"])
        classes = facts["info"]["features"][column]["names"]
        return {str(code): str(name) for code, name in enumerate(classes)}
    except (KeyError, TypeError, ValueError, RecursionError):
        return {}


def _pick_rows(labels: Labels, ids: Sequence[str], name: str) -> Labels:
    """Take the labels of the rows that the ids name; InputError if they are no rows of this source."""
    if isinstance(ids, RowIds) and len(ids) == len(labels.codes):
        return labels
    try:
        rows = np.array([int(row) for row in ids], np.int64)
        if len(rows) and rows.min() < 0:
            raise ValueError("negative rows")
        return Labels(labels.codes[rows], labels.names)
    except (ValueError, IndexError, OverflowError) as error:
        raise InputError(
            f"The labels of {name} are for {len(labels.codes)} rows, which are not those of the items: it has changed "
            "since, or is another source."
        ) from error
