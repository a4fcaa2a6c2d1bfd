"""Whether a run that is to be resumed is the run that was begun: what was resolved counts, not how it was asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

Record = Mapping[str, Any]
MISSING = object()
FORM = {"dim": "the number of features", "columns": "the columns", "height": "the height (--image-size)"}
FORM |= {"width": "the width (--image-size)"}


def difference(before: Record, now: Record) -> tuple[str, Any, Any] | None:
    """The first thing in which two records of a run differ: its name, what it was, what it is. None: the same run.

    Left out is what changes no result (how often a checkpoint is written, what is stored beside), and a calibration
    that only one of them has: it comes after all stages. What an older record lacks is not compared.
    """
    for name, was, asked in _pairs(before, now):
        if was is not MISSING and was != asked:
            return name, was, asked
    return None


def _pairs(before: Record, now: Record) -> Iterator[tuple[str, Any, Any]]:
    """What makes a run what it is, entry by entry: its name, what it was (MISSING: not known), what it is."""
    settings, asked = before.get("settings") or {}, now["settings"]
    for name, option in (("n_clusters", "-k"), ("seed", "--seed")):
        yield option, settings.get(name, MISSING), asked[name]
    source, opened = before.get("source") or {}, now["source"]
    for name, called in (("kind", "the kind of items"), ("family", "--family")):
        yield called, source.get(name, MISSING), opened[name]
    form = _form(source.get("spec") or {})
    for name, value in _form(opened["spec"]).items():
        yield FORM.get(name, f"the {name} of the items"), form.get(name, MISSING), value
    stages = before.get("stages")
    if stages:
        yield "the stages", [stage["name"] for stage in stages], [stage["name"] for stage in now["stages"]]
        for stage, other in zip(stages, now["stages"], strict=False):
            yield from _settings(stage["name"], stage.get("settings"), other["settings"])
    yield from _settings("views", before.get("views"), now["views"])
    if before.get("calibration") and now.get("calibration"):
        yield from _settings("calibrate", before["calibration"], now["calibration"])
        yield from _judged(before.get("labels_used") or {}, now.get("labels_used") or {})
    backbone = before.get("backbone")
    yield "--backbone", (backbone or {}).get("name", MISSING), now["backbone"]["name"]
    for name in ("init", "weights"):
        was, given = settings.get(name, MISSING), asked[name]
        both = isinstance(was, str) and isinstance(given, str)
        yield f"--{name}", *(_beginnings(before, now) if both else (_place(was), _place(given)))
    yield "--pretrained", settings.get("pretrained", MISSING), asked["pretrained"]
    device = before.get("device")
    yield "--device", device.split(":")[0] if isinstance(device, str) else MISSING, now["device"].split(":")[0]
    precision = before.get("precision")
    yield "--precision", precision["value"] if isinstance(precision, Mapping) else MISSING, now["precision"]["value"]


def same_items(before: Record, now: Record) -> bool:
    """Whether two sources, as records have them, hold the same items in the same form; what one lacks is not compared.

    Pictures that another encoder embeds, or that are resized to another side, have one fingerprint and another form.
    """
    marks = [source.get("fingerprint") for source in (before, now)]
    forms = [_form(source.get("spec") or {}) for source in (before, now)]
    return (not all(marks) or marks[0] == marks[1]) and all(
        forms[0][name] == value for name, value in forms[1].items() if name in forms[0]
    )


def _form(spec: Record) -> Record:
    """The form of items without name and place of their encoder, whose weights are known by their digest."""
    form = dict(spec)
    if spec.get("spaces"):
        form["spaces"] = [_form(space) for space in spec["spaces"]]
    if spec.get("encoding"):
        form["encoding"] = {
            name: value for name, value in spec["encoding"].items() if name not in ("encoder", "origin")
        }
    return form


def _settings(stage: str, before: Any, now: Record) -> Iterator[tuple[str, Any, Any]]:
    for name, value in now.items():
        yield f"{stage}.{name}", (before or {}).get(name, MISSING), value


def _judged(before: Record, now: Record) -> Iterator[tuple[str, Any, Any]]:
    """The judgements that teach the calibration: by the content of their file, wherever it lies."""
    if before.get("sha256") != now.get("sha256"):
        was, asked = (
            f"{used.get('file')}, sha256 {used.get('sha256', '')[:12]}" if used else None for used in (before, now)
        )
        yield "--judged", was, asked


def _beginnings(before: Record, now: Record) -> tuple[Any, Any]:
    """What the backbone began with: a run by its net, wherever it lies; else by the path, which older records lack."""
    was, asked = (record.get("beginning") or {} for record in (before, now))
    places = [
        _place(entry.get("path") or record["settings"].get("init") or record["settings"].get("weights"))
        for entry, record in ((was, before), (asked, now))
    ]
    if not (was.get("sha256") and asked.get("sha256")):
        return places[0], places[1]
    if was["sha256"] == asked["sha256"]:
        return "", ""
    return f"{places[0]}, sha256 {was['sha256'][:12]}", f"{places[1]}, sha256 {asked['sha256'][:12]}"


def _place(path: Any) -> Any:
    """The resolved path of a file or folder, so that two spellings are equal."""
    return str(Path(path).absolute().resolve()) if isinstance(path, str) else path
