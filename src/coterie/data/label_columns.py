"""Which column of a table names the items, and which holds their labels: only where it is plain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coterie.data.column_names import is_index, is_label, like_label, listed, names_items, names_items_only
from coterie.data.encoding import encode, is_unknown
from coterie.data.label_tables import Columns
from coterie.data.matching import Unmatched, key_text, match
from coterie.types import InputError

Key = tuple[str, NDArray[np.int64]]  # the name of the column, and which item each row is


def find_key(table: Columns, ids: Sequence[str], skipped: Sequence[str], where: str, label: str | None = None) -> Key:
    """Return the column that names the items, by its own name or because every value is the name of an item.

    id, filename, path ... go before row numbers such as an unnamed first column. Raises InputError where none is found
    or where two contradict each other.
    """
    names = [name for name in table.names if name != label]
    failed: list[Unmatched] = []
    for called in (names_items, is_index):
        found, wrong = _matching([name for name in names if called(name)], table, ids, skipped, where)
        failed += wrong
        if found:
            return _agreed(found, where)
        if failed and len(ids) and not ids[0].isdecimal():
            break  # files that are not found by their names are not to be found by a row number
    if failed:
        raise max(failed, key=lambda error: error.share)
    # No column is called so: the values may say it, but row numbers only if they are all there and all different.
    rest = [name for name in names if not like_label(name) and _may_name(table.cells[name], ids)]
    found, _ = _matching(rest, table, ids, skipped, where)
    if found:
        return _agreed(found, where)
    raise InputError(
        f"{where} has the columns {listed(table.names)}, and none is called id, filename or path: name the column so "
        f"that says which item a row is about (the source's ids look like {ids[0] if len(ids) else 'nothing'})."
    )


def find_header(table: Columns, ids: Sequence[str], skipped: Sequence[str]) -> Columns:
    """Return the table with its first row as names, or as it is where that row is about an item already."""
    if table.headed or len(table) == 0:
        return table
    for name, cells in table.cells.items():
        # A column name in the first cell would be the name of no item.
        if names_items(str(cells[0])) or is_label(str(cells[0])):
            continue
        if _matching([name], table, ids, skipped, "")[0] and _may_name(cells, ids):
            return Columns(table.cells, True, [*table.notes, "The file has no line of column names."])
    return table.with_header()


def find_label(table: Columns, key: str | None, wanted: str | None, where: str) -> str:
    """Return the column of the labels: `wanted`, or the only one that can be it. Raises InputError."""
    if wanted is not None:
        return chosen(table.names, wanted, where)
    others = [name for name in table.names if name != key and not is_index(name)]
    candidates = [name for name in others if like_label(name) and not measured(table.cells[name])]
    if not candidates:
        rest = [name for name in others if not names_items_only(name)]
        candidates = rest if len(rest) == 1 else []
    if not candidates:
        raise InputError(
            f"{where} has the columns {listed(table.names)}, and none is called label: name the one that holds the "
            "labels so, or give it with --label-column."
        )
    return same_classes(candidates, table, where)


def chosen(names: Sequence[str], wanted: str, where: str) -> str:
    """The column that the user named; upper and lower case make no difference.

    Raises InputError for one that is not there.
    """
    if wanted in names:
        return wanted
    near = [name for name in names if name.strip().casefold() == wanted.strip().casefold()]
    if len(near) == 1:
        return near[0]
    raise InputError(f"{where} has no column {wanted!r}; it has {listed(names)}.")


def same_classes(candidates: Sequence[str], table: Columns, where: str) -> str:
    """Of several label columns with the same classes, the one with names; InputError if their classes differ."""
    codes = {name: encode(table.cells[name]).codes for name in candidates}
    first = codes[candidates[0]]
    for name in candidates[1:]:
        pairs = set(zip(first.tolist(), codes[name].tolist(), strict=True))
        if len(pairs) > len(set(first.tolist())) or len(pairs) > len(set(codes[name].tolist())):
            raise InputError(
                f"{where} has the columns {candidates[0]} and {name}, and either may hold the labels: choose one with "
                f"--label-column {candidates[0]}."
            )
    spoken = [
        name for name in candidates if any(isinstance(cell, str) and not cell.isdecimal() for cell in table.cells[name])
    ]
    return (spoken or list(candidates))[0]


def _matching(
    names: Sequence[str], table: Columns, ids: Sequence[str], skipped: Sequence[str], where: str
) -> tuple[list[Key], list[Unmatched]]:
    found, wrong = [], []
    for name in names:
        try:
            found.append((name, match(table.cells[name], ids, skipped, where)))
        except Unmatched as error:
            wrong.append(error)
    return found, wrong


def _agreed(found: list[Key], where: str) -> Key:
    """The first of several key columns; InputError if they name different items."""
    name, rows = found[0]
    for other, its in found[1:]:
        if not np.array_equal(rows, its):
            raise InputError(
                f"{where} has the columns {name} and {other}, and both name items of the source, but not the same "
                "ones: leave the wrong one out."
            )
    return name, rows


def _may_name(cells: Sequence[Any], ids: Sequence[str]) -> bool:
    """Whether a column with an unknown name may hold ids; numbers may only if they are the ids of all items."""
    names = [key_text(cell) for cell in cells]
    if len(set(names)) < len(names):
        return False
    return set(names) == set(ids) if any(name.isdecimal() for name in names) else True


def measured(cells: Sequence[Any]) -> bool:
    """Whether a column holds measured numbers, such as a confidence, and no classes."""
    values = [cell for cell in cells if not is_unknown(cell)]
    fractions = [cell for cell in values if isinstance(cell, float) and not cell.is_integer()]
    return len(fractions) > len(values) / 2
