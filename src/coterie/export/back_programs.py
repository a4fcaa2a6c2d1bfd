"""Labels that come back from other programs: Label Studio's tasks, FiftyOne's labels, COCO's categories."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any

from coterie.common.arguments import is_number
from coterie.common.words import counted
from coterie.data.column_names import listed
from coterie.data.matching import tidy
from coterie.export.known import ReadLabels, RunIndex, back, once, untouched
from coterie.types import InputError


def of_tasks(tasks: list[Any], known: RunIndex) -> ReadLabels:
    """Label Studio's JSON: of each item the newest annotation that was not cancelled.

    Raises InputError for a file that is no export of it, or of other items.
    """
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
        notes.append(
            f"Of {counted(len(divided), 'item')} people disagree, the newest answer was taken: {listed(divided, 5)}."
        )
    if empty:
        notes.append(
            f"{counted(empty, 'annotation without a choice says', 'annotations without a choice say')} nothing."
        )
    return back("labelstudio", found, known, notes)


def _choices(annotation: Mapping[str, Any], number: int, known: RunIndex) -> str | None:
    """The choice of an annotation, None where it has none."""
    results = annotation.get("result")
    chosen = [one for one in results if isinstance(one, dict)] if isinstance(results, list) else []
    chosen = [one for one in chosen if one.get("type") == "choices"]
    own = [one for one in chosen if one.get("from_name") == "group"] or chosen
    said = [name for one in own for name in (one.get("value") or {}).get("choices", [])]
    if len(set(map(str, said))) > 1:
        raise InputError(f"Task {number} of {known.where} has several choices in one annotation: {listed(said)}.")
    return str(said[0]) if said else None


def _time(value: Any, number: int, known: RunIndex) -> datetime:
    try:
        found = datetime.fromisoformat(str(value))
    except ValueError:
        raise InputError(f"Task {number} of {known.where} has an annotation without updated_at.") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def of_fiftyone(content: Mapping[str, Any], known: RunIndex) -> ReadLabels:
    """FiftyOne's `labels.json`. A label is an index into `classes` (-1 would be the last) or a name.

    Raises InputError for a label that is neither.
    """
    classes, labels = content.get("classes"), content["labels"]
    if not isinstance(labels, dict) or not (classes is None or isinstance(classes, list)):
        raise InputError(f"{known.where} is no labels.json of FiftyOne: labels must be an object, classes a list.")
    bare = _without_endings(known.items.ids)
    found: dict[int, int] = {}
    same, scored = 0, any(isinstance(one, dict) and is_number(one.get("confidence")) for one in labels.values())
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
        if known.untouched(at, group, said.get("confidence"), scored=scored):
            same += 1
            continue
        once(found, at, group, known)
    return back("fiftyone", found, known, [untouched(same, scored=scored)] if same else [])


def _without_endings(ids: Sequence[str]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for at, item in enumerate(ids):
        path = PurePosixPath(tidy(item))
        found.setdefault(str(path.with_suffix("")), []).append(at)
    return found


def _bare(name: str, bare: Mapping[str, list[int]], known: RunIndex) -> int:
    """The item whose path without its ending is this key. Raises InputError where there is none, or several."""
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


def of_coco(content: Mapping[str, Any], known: RunIndex) -> ReadLabels:
    """COCO's categories of whole pictures; the ids of the run are the `file_name`s.

    Raises InputError for a picture or a category that it does not list.
    """
    for name in ("images", "categories", "annotations"):
        if not isinstance(content[name], list):
            raise InputError(f"{known.where} is no COCO file: {name} is no list.")
    pictures = {_entry(one, "id", known): known.at(_entry(one, "file_name", known)) for one in content["images"]}
    names = {_entry(one, "id", known): _entry(one, "name", known) for one in content["categories"]}
    found: dict[int, int] = {}
    same, scored = 0, any(is_number(_score(one)) for one in content["annotations"])
    for one in content["annotations"]:
        picture, category = _entry(one, "image_id", known), _entry(one, "category_id", known)
        if picture not in pictures or category not in names:
            raise InputError(
                f"{known.where} has an annotation of image {picture!r}, category {category!r}: no such one."
            )
        at = pictures[picture]
        group = known.group(names[category], known.items.ids[at])
        if known.untouched(at, group, _score(one), scored=scored):
            same += 1
            continue
        once(found, at, group, known)
    return back("coco", found, known, [untouched(same, scored=scored)] if same else [])


def _score(annotation: Any) -> Any:
    """The confidence of COCO's annotation, which some programs keep among its attributes."""
    content = annotation if isinstance(annotation, dict) else {}
    attributes = content.get("attributes")
    return content.get("score", attributes.get("score") if isinstance(attributes, dict) else None)


def _entry(one: Any, name: str, known: RunIndex) -> Any:
    if not isinstance(one, dict) or not isinstance(one.get(name), int | str):
        raise InputError(f"{known.where} has an entry without {name}, so it is no COCO file of whole pictures.")
    return one[name]
