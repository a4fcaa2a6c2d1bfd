"""Items that a person judged: the file to fill in, and what comes back."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coterie.data.tables import ID_COLUMNS, open_parquet, read_column
from coterie.types import InputError

YES, NO = {"true", "yes", "1", "1.0"}, {"false", "no", "0", "0.0"}
NOWHERE = -1  # what a person writes for an item that belongs in none of the groups

Table = dict[str, list[Any]]


def read_judged(
    path: Path, ids: Sequence[str], labels: NDArray[np.integer], n_clusters: int, names: Mapping[str, int]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The rows that a file of judgements names, and whether the assignment of each is right.

    .csv or .parquet with a column `id` and one of: `right`, true or false; `label`, the group in which the item
    belongs, by number (-1: in none) or by one of `names`. A column `proposed` must agree with the groups of this run:
    the judgements of another run say nothing of this one. All other columns are left alone. Raises InputError.
    """
    table = _read(path)
    key = next((name for name in ID_COLUMNS if name in table), None)
    if key is None:
        raise InputError(f"{path} needs a column id, as in the result table; it has {', '.join(table) or 'none'}.")
    if "right" not in table and "label" not in table:
        raise InputError(
            f"{path} needs a column right (true or false) or label (the group in which the item belongs); "
            f"it has {', '.join(table)}."
        )
    judged = _rows([str(name) for name in table[key]], ids, path)
    _check_proposed(table, judged, ids, labels, path)
    if "right" in table:
        return judged, _answers(table, key, path)
    groups = [
        _group(value, name, n_clusters, names, path) for value, name in zip(table["label"], table[key], strict=True)
    ]
    return judged, np.array(groups) == labels[judged]


def table_content(path: Path, columns: Mapping[str, Any], *, ours: bool = True) -> bytes:
    """A table as the bytes of a .csv or .parquet file, by the ending of its name.

    One that is `ours` may be replaced later; one that a person fills in may not.
    """
    if path.suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        sink = io.BytesIO()
        table = pa.table(dict(columns)).replace_schema_metadata({"coterie.table": "accepted"} if ours else None)
        pq.write_table(table, sink, compression="zstd")
        return sink.getvalue()
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    return text.getvalue().encode()


def _read(path: Path) -> Table:
    if not path.is_file():
        raise InputError(f"The file of judgements {path} does not exist.")
    if path.suffix == ".parquet":
        file = open_parquet(path)
        return {name: read_column(file, name, path).to_pylist() for name in file.schema_arrow.names}
    if path.suffix != ".csv":
        raise InputError(f"The file of judgements {path} must be a .csv or .parquet file.")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"The file of judgements {path} cannot be read ({error}).") from error
    # Spreadsheets write semicolons where the comma is the decimal sign.
    first = text.partition("\n")[0]
    delimiter = ";" if first.count(";") > first.count(",") else ","
    rows = [row for row in csv.reader(io.StringIO(text), delimiter=delimiter) if any(cell.strip() for cell in row)]
    head = [cell.strip().lower() for cell in rows[0]] if rows else []
    for number, row in enumerate(rows[1:], 2):
        if len(row) != len(head):
            raise InputError(f"Row {number} of {path} has {len(row)} columns, but the first has {len(head)}.")
    return {name: [row[place] for row in rows[1:]] for place, name in enumerate(head)}


def _rows(found: Sequence[str], ids: Sequence[str], path: Path) -> NDArray[np.int64]:
    """The rows of these ids in the run's order of items."""
    place = {name: row for row, name in enumerate(ids)}
    unknown = [name for name in found if name not in place]
    if unknown:
        raise InputError(
            f"{path} names {unknown[0]}, which is not in this run ({len(unknown)} such ids); "
            f"its ids look like {ids[0]}."
        )
    judged = np.array([place[name] for name in found], dtype=np.int64)
    first_places = np.unique(judged, return_index=True)[1]
    if len(first_places) < len(judged):
        twice = np.setdiff1d(np.arange(len(judged)), first_places)[0]
        raise InputError(f"{path} names {found[twice]} twice: judge every item once.")
    return judged


def _check_proposed(
    table: Table, judged: NDArray[np.int64], ids: Sequence[str], labels: NDArray[np.integer], path: Path
) -> None:
    if "proposed" not in table:
        return
    for row, value in zip(judged.tolist(), table["proposed"], strict=True):
        if _number(value) != labels[row]:
            raise InputError(
                f"{path} was drawn from another run: there {ids[row]} is in group {value}, here in group "
                f"{labels[row]}; judge a sample of this run."
            )


def _answers(table: Table, key: str, path: Path) -> NDArray[np.bool_]:
    answers = ["" if value is None else str(value).strip().lower() for value in table["right"]]
    blank = [row for row, answer in enumerate(answers) if answer in ("", "nan")]
    if blank:
        raise InputError(
            f"{len(blank)} of the {len(answers)} items of {path} have no answer in the column right, the first is "
            f"{table[key][blank[0]]}: write true or false for each, and false where nobody can tell."
        )
    for answer, name in zip(answers, table[key], strict=True):
        if answer not in YES | NO:
            raise InputError(f"{path} says {answer!r} of {name} in the column right: write true or false.")
    return np.array([answer in YES for answer in answers], dtype=bool)


def _group(value: Any, item: Any, n_clusters: int, names: Mapping[str, int], path: Path) -> int:
    """The group that a person names. Whole numbers are groups' numbers, even where a name is a number, too."""
    number, text = _number(value), "" if value is None else str(value).strip()
    if number is None and text in names:
        return names[text]
    if number is not None and NOWHERE <= number < n_clusters:
        return number
    named = f", or one of {', '.join(names)}" if names else ""
    raise InputError(
        f"{path} says {text!r} of {item} in the column label: write the number of its group, 0 to {n_clusters - 1}, "
        f"-1 for none{named}."
    )


def _number(value: Any) -> int | None:
    """A whole number, also as 3.0, which is what becomes of 3 in a column with an empty cell."""
    try:
        number = float(str(value))
    except ValueError:
        return None
    return int(number) if number.is_integer() else None
