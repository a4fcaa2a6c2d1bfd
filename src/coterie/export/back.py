"""Labels that come back from elsewhere: Label Studio, FiftyOne, COCO, CSV -> rows of the run and their groups.

Only what a person changed or decided counts: a prediction of coterie that nobody touched is ignored. An id
or a name that the run does not have is named in an error, never guessed.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from coterie.data.column_names import listed
from coterie.data.encoding import is_unknown, whole_number
from coterie.data.guards import unguarded
from coterie.data.judged import NO, YES
from coterie.data.label_columns import find_key
from coterie.data.label_tables import Columns, read_columns
from coterie.export.back_programs import of_coco, of_fiftyone, of_tasks
from coterie.export.items import NOWHERE, Items
from coterie.export.known import ReadLabels, RunIndex, back, once, untouched
from coterie.records.files import read_bytes, read_json
from coterie.records.run import groups_of
from coterie.types import InputError

LARGEST = 256 << 20  # bytes of a file that comes back


def read_back(path: Path, items: Items) -> ReadLabels:
    """Read a file that came back; `items` are those of the export. Raises InputError for what is not understood."""
    if path.is_dir() and (path / "labels.json").is_file():
        path = path / "labels.json"
    if path.is_dir():
        raise InputError(f"{path} is a folder without FiftyOne's labels.json: give the file that came back.")
    known = RunIndex(items, str(path))
    if path.suffix.lower() != ".json":
        if len(read_bytes(path, LARGEST)) == 0:
            raise InputError(f"{path} is empty.")
        return _of_table(read_columns(path, "file that came back", (".tsv", ".csv", ".parquet")), known)
    content = read_json(path, LARGEST)
    if isinstance(content, list):
        return of_tasks(content, known)
    if isinstance(content, dict) and {"images", "annotations", "categories"} <= content.keys():
        return of_coco(content, known)
    if isinstance(content, dict) and "labels" in content:
        return of_fiftyone(content, known)
    raise InputError(
        f"{path} cannot be read back: give Label Studio's JSON, FiftyOne's labels.json, COCO with images, "
        "annotations and categories, or CSV."
    )


def _of_table(table: Columns, known: RunIndex) -> ReadLabels:
    """A table with an id and a label (a group's number) or a name; of an export what was changed or decided."""
    if not table.headed and len(table):
        table = table.with_header()
    lower = {name.strip().lower(): name for name in table.names}
    columns = [lower[name] for name in ("label", "name") if name in lower]
    if not columns:
        raise InputError(f"{known.where} needs a column label or name; it has {listed(table.names)}.")
    named = next((name for name in ("id", "filename", "file_name", "path") if name in lower), None)
    if named is None:
        raise InputError(f"{known.where} needs a column id; it has {listed(table.names)}.")
    only = Columns({lower[named]: table.cells[lower[named]]}, True)
    _, places = find_key(only, known.items.ids, (), known.where)
    ours = {"confidence", "source", "decided"} <= lower.keys()
    decided = table.cells[lower["decided"]] if ours else [None] * len(table)
    found: dict[int, int] = {}
    same = 0
    for row, at in enumerate(places.tolist()):
        said = {}
        for name in columns:
            value = table.cells[name][row]
            is_name = isinstance(value, str) and value.strip() in known.groups  # a group may be called NA
            if is_name or not (is_unknown(value) or str(value).isspace()):
                said[name] = _cell(value, name.strip().lower() == "label", known, known.items.ids[at])
        if not said:
            continue
        before = int(known.items.label[at])
        changed = {group for group in said.values() if group != before}
        if len(changed) > 1 or (not ours and len(set(said.values())) > 1):
            raise InputError(
                f"{known.where} says two things of {known.items.ids[at]}: label and name belong to different groups."
            )
        if ours and not changed and not _decided(decided[row], known, known.items.ids[at]):
            same += 1
            continue
        once(found, at, changed.pop() if changed else before, known)
    return back("csv", found, known, [*table.notes, *([untouched(same)] if same else [])])


def _decided(value: Any, known: RunIndex, item: str) -> bool:
    """Whether a cell of the column decided says so; an empty one says no. Raises InputError for what is no answer."""
    text = "" if is_unknown(value) else str(value).strip().lower()
    if text and text not in YES | NO:  # as a spreadsheet of another language writes it
        raise InputError(f"{known.where} says {text!r} of {item} in the column decided: write true or false.")
    return text in YES


def _cell(value: Any, number: bool, known: RunIndex, item: str) -> int:
    """The group in a cell, by its number or its name."""
    text = str(unguarded(value, known.groups)).strip()
    group = whole_number(text) if number else None
    if group is None:
        return known.group(text, item)
    if group == NOWHERE or group in known.items.alive:
        return group
    raise InputError(f"{known.where} says group {text} of {item}, which the run does not have.")


def of_own_groups(said: ReadLabels, items: Items) -> ReadLabels:
    """The labels that name groups of the run itself: those that a review split off no command of the run knows.

    Raises InputError where none is left.
    """
    k = groups_of(items.record) or items.n_groups
    own = said.groups < k
    if own.all():
        return said
    named = listed([items.names[group] for group in np.unique(said.groups[~own]).tolist()], 5)
    note = f"Left out ({int((~own).sum()):,}): judgements for {named}, which the review split off and the run has not."
    if not own.any():
        raise InputError(f"No judgement is left. {note}")
    return replace(said, rows=said.rows[own], groups=said.groups[own], notes=[*said.notes, note])


def judged_columns(said: ReadLabels, items: Items) -> dict[str, Any]:
    """The table for `accept --judged` and `fit --judged`: id, label, and the model's group as `proposed`.

    The model knows no groups that a review made: where somebody merged the model's group into the one that was named,
    the model is right, and its own number is written.
    """
    label = said.groups.copy()
    for at, (row, group) in enumerate(zip(said.rows.tolist(), said.groups.tolist(), strict=True)):
        own = int(items.model_label[row])
        if group != NOWHERE and items.resolve(own) == group:
            label[at] = own
    ids = [items.ids[row] for row in said.rows.tolist()]
    return {"id": ids, "label": label, "proposed": items.model_label[said.rows]}
