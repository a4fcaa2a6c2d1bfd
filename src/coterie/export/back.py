"""Labels that come back from elsewhere: Label Studio, FiftyOne, COCO, CSV -> rows of the run and their groups.

What a person did is told from what coterie had proposed: a prediction that nobody touched comes back as nothing. An id
or a name that the run does not have is named in an error, never guessed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from coterie.data.column_names import listed
from coterie.data.encoding import is_unknown
from coterie.data.guards import unguarded
from coterie.data.label_columns import find_key
from coterie.data.label_tables import Columns, read_columns
from coterie.data.matching import tidy
from coterie.export.formats.labelstudio import nowhere_name
from coterie.export.items import NOWHERE, Items
from coterie.records.files import read_bytes, read_json
from coterie.types import InputError

LARGEST = 256 << 20  # bytes of a file that comes back
SAME = 1e-6  # confidences that were written and read again

Kind = Literal["labelstudio", "fiftyone", "coco", "csv"]


@dataclass(frozen=True)
class Back:
    """What a person said: rows of the result table and the group of each, -1 for none (m,)."""

    kind: Kind
    rows: NDArray[np.int64]
    groups: NDArray[np.int64]
    notes: list[str] = field(default_factory=list)


@dataclass
class Known:
    """The run's ids and names, to look up what a file says; `where` is the file."""

    items: Items
    where: str

    def __post_init__(self) -> None:
        items = self.items
        self.place = {item: at for at, item in enumerate(items.ids)}
        self.groups = {items.names[group]: group for group in items.alive}
        self.groups[nowhere_name(items.names)] = NOWHERE

    def at(self, item: Any) -> int:
        """The place of an id. Raises InputError for one that the run does not have."""
        found = self.place.get(item) if isinstance(item, str) else None
        if found is None:
            raise InputError(f"{self.where} names {str(item)[:200]!r}, which is no id of the run.")
        return found

    def group(self, name: Any, item: str) -> int:
        """The group of this name. Raises InputError for a name that no group has."""
        if not isinstance(name, str) or name not in self.groups:
            raise InputError(
                f"{self.where} says {str(name)[:80]!r} of {item}, and no group of the run is called so; there are "
                f"{listed(self.groups)}."
            )
        return self.groups[name]

    def untouched(self, at: int, group: int, confidence: Any) -> bool:
        """Whether this is what was exported: the same group with the same confidence, which no person writes."""
        number = isinstance(confidence, int | float) and not isinstance(confidence, bool)
        same = number and abs(float(confidence) - float(self.items.confidence[at])) <= SAME
        return bool(same and group == self.items.label[at])


def read_back(path: Path, items: Items) -> Back:
    """Read a file that came back; `items` are those of the export. Raises InputError for what is not understood."""
    if path.is_dir() and (path / "labels.json").is_file():
        path = path / "labels.json"
    known = Known(items, str(path))
    if path.suffix.lower() != ".json":
        if len(read_bytes(path, LARGEST)) == 0:
            raise InputError(f"{path} is empty.")
        return _of_table(read_columns(path, "file that came back", (".tsv", ".csv", ".parquet")), known)
    content = read_json(path, LARGEST)
    if isinstance(content, list):
        return _of_tasks(content, known)
    if isinstance(content, dict) and {"images", "annotations", "categories"} <= content.keys():
        return _of_coco(content, known)
    if isinstance(content, dict) and "labels" in content:
        return _of_fiftyone(content, known)
    raise InputError(
        f"{path} is none of what comes back: Label Studio's JSON, FiftyOne's labels.json, COCO with images, "
        "annotations and categories, or CSV."
    )


def _of_tasks(tasks: list[Any], known: Known) -> Back:
    """Label Studio's JSON: of each item the newest annotation that was not cancelled."""
    answers: dict[int, list[tuple[datetime, int, Any]]] = {}
    empty = 0
    for number, task in enumerate(tasks, start=1):
        data = task.get("data") if isinstance(task, dict) else None
        if not isinstance(data, dict) or not isinstance(task.get("annotations", []), list):
            raise InputError(
                f"Task {number} of {known.where} is no task of Label Studio: export the project as JSON, not "
                "as JSON-MIN."
            )
        if "coterie_id" not in data:
            raise InputError(f"Task {number} of {known.where} has no coterie_id, so it is of no export of coterie.")
        at = known.at(data["coterie_id"])
        for annotation in task.get("annotations", []):
            if not isinstance(annotation, dict) or annotation.get("was_cancelled"):
                continue
            choices = _choices(annotation, number, known)
            if choices is None:
                empty += 1
                continue
            when = _time(annotation.get("updated_at") or annotation.get("created_at"), number, known)
            group = known.group(choices, known.items.ids[at])
            answers.setdefault(at, []).append((when, group, annotation.get("completed_by")))
    notes, divided = [], []
    found = {}
    for at, said in answers.items():
        said.sort(key=lambda answer: answer[0])
        found[at] = said[-1][1]
        last = {by if isinstance(by, int | str) else str(by): group for _, group, by in said}
        if len(set(last.values())) > 1:
            divided.append(known.items.ids[at])
    if divided:
        notes.append(f"Of {len(divided):,} items people disagree, the newest answer was taken: {listed(divided, 5)}.")
    if empty:
        notes.append(f"{empty:,} annotations without a choice say nothing.")
    return _back("labelstudio", found, known, notes)


def _choices(annotation: Mapping[str, Any], number: int, known: Known) -> str | None:
    """The choice of an annotation, None where it has none."""
    results = annotation.get("result")
    chosen = [one for one in results if isinstance(one, dict)] if isinstance(results, list) else []
    chosen = [one for one in chosen if one.get("type") == "choices"]
    own = [one for one in chosen if one.get("from_name") == "group"] or chosen
    said = [name for one in own for name in (one.get("value") or {}).get("choices", [])]
    if len(set(map(str, said))) > 1:
        raise InputError(f"Task {number} of {known.where} has several choices in one annotation: {listed(said)}.")
    return str(said[0]) if said else None


def _time(value: Any, number: int, known: Known) -> datetime:
    try:
        found = datetime.fromisoformat(str(value))
    except ValueError:
        raise InputError(f"Task {number} of {known.where} has an annotation without updated_at.") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _of_fiftyone(content: Mapping[str, Any], known: Known) -> Back:
    """FiftyOne's `labels.json`. A label is a place in `classes`, of which -1 would be the last, or a name."""
    classes, labels = content.get("classes"), content["labels"]
    if not isinstance(labels, dict) or not (classes is None or isinstance(classes, list)):
        raise InputError(f"{known.where} is no labels.json of FiftyOne: labels must be an object, classes a list.")
    bare = _without_endings(known.items.ids)
    found: dict[int, int] = {}
    same = 0
    for name, value in labels.items():
        if value is None:
            continue
        said = value if isinstance(value, dict) else {"label": value}
        attributes = said.get("attributes") or {}
        item = attributes.get("coterie_id", said.get("coterie_id")) if isinstance(attributes, dict) else None
        item = item.get("value") if isinstance(item, dict) else item
        at = known.at(item) if item is not None else _bare(name, bare, known)
        label = said.get("label")
        if label is None:
            continue
        if isinstance(label, int) and not isinstance(label, bool):
            if classes is None or not 0 <= label < len(classes):
                raise InputError(f"{known.where} says label {label} of {name}, which is no place in its classes.")
            label = classes[label]
        group = known.group(label, known.items.ids[at])
        if known.untouched(at, group, said.get("confidence")):
            same += 1
            continue
        _once(found, at, group, known)
    return _back("fiftyone", found, known, [_untouched(same)] if same else [])


def _without_endings(ids: Sequence[str]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for at, item in enumerate(ids):
        path = PurePosixPath(tidy(item))
        found.setdefault(str(path.with_suffix("")), []).append(at)
    return found


def _bare(name: str, bare: Mapping[str, list[int]], known: Known) -> int:
    """The item whose path is this key but for its ending. Raises InputError where none is, or several are."""
    found = bare.get(tidy(name), [])
    if len(found) > 1:
        both = " or ".join(known.items.ids[at] for at in found[:2])
        raise InputError(
            f"{known.where} names {name!r}, which may be {both}: export with include_attributes, so that coterie_id "
            "comes back."
        )
    if not found:
        raise InputError(f"{known.where} names {name[:200]!r}, which is no id of the run.")
    return found[0]


def _of_coco(content: Mapping[str, Any], known: Known) -> Back:
    """COCO's categories of whole pictures; the ids of the run are the `file_name`s."""
    for name in ("images", "categories", "annotations"):
        if not isinstance(content[name], list):
            raise InputError(f"{known.where} is no COCO file: {name} is no list.")
    pictures = {_entry(one, "id", known): known.at(_entry(one, "file_name", known)) for one in content["images"]}
    names = {_entry(one, "id", known): _entry(one, "name", known) for one in content["categories"]}
    found: dict[int, int] = {}
    same = 0
    for one in content["annotations"]:
        picture, category = _entry(one, "image_id", known), _entry(one, "category_id", known)
        if picture not in pictures or category not in names:
            raise InputError(
                f"{known.where} has an annotation of image {picture!r}, category {category!r}: no such one."
            )
        at = pictures[picture]
        group = known.group(names[category], known.items.ids[at])
        attributes = one.get("attributes")
        score = one.get("score", attributes.get("score") if isinstance(attributes, dict) else None)
        if known.untouched(at, group, score):
            same += 1
            continue
        _once(found, at, group, known)
    return _back("coco", found, known, [_untouched(same)] if same else [])


def _entry(one: Any, name: str, known: Known) -> Any:
    if not isinstance(one, dict) or not isinstance(one.get(name), int | str):
        raise InputError(f"{known.where} has an entry without {name}, so it is no COCO file of whole pictures.")
    return one[name]


def _of_table(table: Columns, known: Known) -> Back:
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
            if not is_unknown(value) and str(value).strip():
                said[name] = _cell(value, name.strip().lower() == "label", known, known.items.ids[at])
        if not said:
            continue
        before = int(known.items.label[at])
        changed = {group for group in said.values() if group != before}
        if len(changed) > 1 or (not ours and len(set(said.values())) > 1):
            raise InputError(
                f"{known.where} says two things of {known.items.ids[at]}: label and name are of different groups."
            )
        if ours and not changed and str(decided[row]).strip().lower() != "true":
            same += 1
            continue
        _once(found, at, changed.pop() if changed else before, known)
    return _back("csv", found, known, [*table.notes, *([_untouched(same)] if same else [])])


def _cell(value: Any, number: bool, known: Known, item: str) -> int:
    """The group that a cell says, by number or by name."""
    text = str(unguarded(value, known.groups)).strip()
    if number:
        try:
            group = float(text)
        except ValueError:
            return known.group(text, item)
        if group == NOWHERE or (group.is_integer() and int(group) in known.items.alive):
            return int(group)
        raise InputError(f"{known.where} says group {text} of {item}, which the run does not have.")
    return known.group(text, item)


def _once(found: dict[int, int], at: int, group: int, known: Known) -> None:
    if found.setdefault(at, group) != group:
        raise InputError(f"{known.where} says two things of {known.items.ids[at]}: keep one.")


def _untouched(count: int) -> str:
    return (
        f"{count:,} items came back as they went out, which says nothing. So what came back are corrections, no random "
        "sample: for fit --judged, not for the bound of accept --judged."
    )


def _back(kind: Kind, found: Mapping[int, int], known: Known, notes: list[str]) -> Back:
    if not found:
        raise InputError(f"{known.where} holds nothing that a person said: only what had been exported came back.")
    places = np.array(sorted(found), np.int64)
    groups = np.array([found[at] for at in places.tolist()], np.int64)
    return Back(kind, known.items.rows[places], groups, notes)


def judged_columns(back: Back, items: Items) -> dict[str, Any]:
    """The table for `accept --judged` and `fit --judged`: id, label, and the model's group as `proposed`.

    The model knows no groups that a review made: where somebody merged the model's group into the one that was named,
    the model is right, and its own number is written.
    """
    label = back.groups.copy()
    for at, (row, group) in enumerate(zip(back.rows.tolist(), back.groups.tolist(), strict=True)):
        own = int(items.model_label[row])
        if group != NOWHERE and items.resolve(own) == group:
            label[at] = own
    ids = [items.ids[row] for row in back.rows.tolist()]
    return {"id": ids, "label": label, "proposed": items.model_label[back.rows]}
