"""Items that a person judged: how the filled-in file is read."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coterie.common.outputs import typed
from coterie.data.column_names import listed, names_items
from coterie.data.encoding import is_unknown, whole_number
from coterie.data.guards import guarded, unguarded
from coterie.data.label_columns import find_key
from coterie.data.label_tables import OURS, Columns, read_columns
from coterie.data.matching import key_text
from coterie.types import InputError

YES, NO = {"true", "yes", "1", "1.0"}, {"false", "no", "0", "0.0"}
ELSEWHERE = -2
NOWHERE = -1  # what a person writes for an item that belongs in none of the groups


@dataclass(frozen=True)
class Judged:
    """The judged rows (m,), whether each is right (m,), its group, and sentences about what was taken."""

    rows: NDArray[np.int64]
    right: NDArray[np.bool_]
    groups: NDArray[np.int64]  # (m,) where each belongs: NOWHERE in none, ELSEWHERE in one that nobody named
    notes: list[str] = field(default_factory=list)


def read_judged(
    path: Path, ids: Sequence[str], labels: NDArray[np.integer], n_clusters: int, names: Mapping[str, int]
) -> Judged:
    """The rows that a file of judgements names, and whether the assignment of each is right.

    .csv, .tsv or .parquet with a column `id` and one of: `right`, true or false; `label`, the group in which the item
    belongs, by number (-1: in none) or by a class name. A name that is none of `names`, those of this run's groups,
    makes the item wrong, unless no name of the file is. A column `proposed` must agree with the groups of this run: the
    judgements of another run say nothing of this one. All other columns are left alone. Raises InputError.
    """
    table = _read(path)
    answer = _answer_column(table, path)
    key, judged = find_key(table, ids, (), str(path), answer)
    items = [key_text(value) for value in table.cells[key]]
    _check_once(judged, items, path)
    _check_proposed(table, judged, ids, labels, path)
    if answer == "right":
        right = _answers(table.cells["right"], items, path)
        return Judged(judged, right, np.where(right, labels[judged], ELSEWHERE).astype(np.int64), table.notes)
    groups, notes = _groups(table, items, n_clusters, names, path)
    drawn = "proposed" in table.cells
    if table.notes[-1:] == [OURS] or ("confidence" in table.cells and not drawn and (groups == labels[judged]).all()):
        raise InputError(
            f"{path} is a table that coterie wrote, with the groups of this run for labels, and nobody judged them: "
            "judge a sample (coterie accept RUN --draw 300 -o to-judge.csv)."
        )
    return Judged(judged, groups == labels[judged], groups, [*table.notes, *notes])


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
    writer.writerows(map(guarded, row) for row in zip(*columns.values(), strict=True))
    return text.getvalue().encode()


def _read(path: Path) -> Columns:
    table = read_columns(path, "file of judgements", (".tsv", ".csv", ".parquet"))
    if not table.headed and len(table):
        table = table.with_header()
    cells = {name if names_items(name) else name.strip().lower(): values for name, values in table.cells.items()}
    if len(cells) < len(table.cells):
        raise InputError(f"Two columns of {path} have the same name but for upper and lower case: rename one.")
    return Columns(cells, True, table.notes)


def _answer_column(table: Columns, path: Path) -> str:
    """The column that a person filled in. Raises InputError where there is none, or none that names the items."""
    if not any(map(names_items, table.names)):
        said = ", ".join(table.names) or "none"
        raise InputError(f"{path} needs a column id, as in the result table; it has {said}.")
    answers = [name for name in ("right", "label") if name in table.cells]
    if not answers:
        raise InputError(
            f"{path} needs a column right (true or false) or label (the group in which the item belongs); "
            f"it has {', '.join(table.names)}."
        )
    if {"confidence", "source", "decided"} <= table.cells.keys():
        raise InputError(
            f"{path} is a table of a review or of coterie export, and nobody judged the items that it calls undecided: "
            f"coterie export RUN --from {typed(path)} -o judged.csv takes what a person said."
        )
    # The file that --draw writes has an empty column right, whichever column a person fills in.
    return next((name for name in answers if not all(map(is_unknown, table.cells[name]))), answers[0])


def _groups(
    table: Columns, items: Sequence[str], n_clusters: int, names: Mapping[str, int], path: Path
) -> tuple[NDArray[np.int64], list[str]]:
    """The group that the column `label` gives each item, and a sentence about names that are of no group."""
    values = [unguarded(value, names) for value in table.cells["label"]]
    spoken = {name for name in map(_spoken, values) if name is not None}
    names = {**_other_letters(spoken, names), **names}
    strangers = spoken - names.keys()
    if strangers and (strangers == spoken or not names):
        strangers = set()  # not one name is known, so these are no classes of this run
    groups = [
        ELSEWHERE if _spoken(value) in strangers else _group(value, item, n_clusters, names, path)
        for value, item in zip(values, items, strict=True)
    ]
    notes = []
    if strangers:
        count = sum(_spoken(value) in strangers for value in values)
        said = listed(sorted(strangers), 5)
        notes.append(f"{count} of {len(values)} judged items count as wrong: no group of this run stands for {said}.")
    return np.array(groups, np.int64), notes


def _check_once(judged: NDArray[np.int64], items: Sequence[str], path: Path) -> None:
    first_places = np.unique(judged, return_index=True)[1]
    if len(first_places) < len(judged):
        twice = np.setdiff1d(np.arange(len(judged)), first_places)[0]
        raise InputError(f"{path} names {items[twice]} twice: judge every item once.")


def _check_proposed(
    table: Columns, judged: NDArray[np.int64], ids: Sequence[str], labels: NDArray[np.integer], path: Path
) -> None:
    for row, value in zip(judged.tolist(), table.cells.get("proposed", []), strict=False):
        if _number(value) != labels[row]:
            raise InputError(
                f"{path} was drawn from another run: there {ids[row]} is in group {value}, here in group "
                f"{labels[row]}; judge a sample of this run."
            )


def _answers(values: Sequence[Any], items: Sequence[str], path: Path) -> NDArray[np.bool_]:
    blank = [row for row, value in enumerate(values) if is_unknown(value)]
    if blank:
        raise InputError(
            f"{len(blank)} of the {len(values)} items of {path} have no answer in the column right, the first is "
            f"{items[blank[0]]}: write true or false for each, and false where nobody can tell."
        )
    answers = [str(value).strip().lower() for value in values]
    for answer, item in zip(answers, items, strict=True):
        if answer not in YES | NO:
            raise InputError(f"{path} says {answer!r} of {item} in the column right: write true or false.")
    return np.array([answer in YES for answer in answers], dtype=bool)


def _other_letters(spoken: Collection[str], names: Mapping[str, int]) -> dict[str, int]:
    """Names that differ from a group's only in upper and lower case."""
    found = {}
    for name in spoken:
        same = [group for known, group in names.items() if known.casefold() == name.casefold()]
        if len(same) == 1:
            found[name] = same[0]
    return found


def _spoken(value: Any) -> str | None:
    """The class name in a cell; None where the cell has a number or is empty."""
    return None if is_unknown(value) or _number(value) is not None else str(value).strip()


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
    return whole_number(str(value))
