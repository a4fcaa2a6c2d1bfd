"""`coterie export`: groups and names as other programs read them, and their judgements read back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from coterie.cli.output import check_ending, print_object
from coterie.cli.reviewed import taught
from coterie.cli.speech import Speech
from coterie.common.outputs import write_atomically
from coterie.common.words import counted
from coterie.data.judged import table_content
from coterie.export import Options, export
from coterie.export.back import judged_columns, of_own_groups, read_back
from coterie.export.items import NOWHERE, items_of_run
from coterie.export.registry import format_of
from coterie.export.writing import check_place
from coterie.records.recalibration import kept_beside
from coterie.review.before import is_reviewed
from coterie.types import InputError


@dataclass(frozen=True)
class ExportRequest:
    """What the user asked `export` for."""

    run: Path
    to: str | None
    out: Path | None
    back: Path | None = None
    given: Mapping[str, Any] = field(default_factory=dict)
    as_json: bool = False
    speech: Speech = field(default_factory=Speech)


def export_finished(request: ExportRequest) -> None:
    """Write the run in the formats asked for, or a file of judgements from one that came back. Raises InputError."""
    if request.out is None:
        raise InputError("Where shall it go? Give a file or folder with -o.")
    if request.to is not None and request.back is not None:
        raise InputError("--to writes the run, and --from reads a file that came back: leave one of them out.")
    if request.to is None and request.back is None:
        raise InputError("Give formats with --to (csv, imagefolder, ...), or a file that came back with --from.")
    if request.back is not None:
        read_judgements(request, request.back, request.out)
        return
    assert request.to is not None
    options = Options(**request.given)
    formats = [name.strip() for name in request.to.split(",") if name.strip()]
    for name in formats:
        format_of(name)
    items = items_of_run(request.run, original=options.original)
    with request.speech.bar() as bar:
        done = export(items, formats, request.out, options, [request.run], progress=bar.reading)
    notes = [f"{note}." for note in taught(request.run)]
    notes += [] if (elsewhere := kept_beside(request.run)) is None else [elsewhere]
    if options.original and is_reviewed(request.run):
        notes.append("the run has a review, which --original leaves out.")
    found = {
        "run": str(request.run),
        "reviewed": items.reviewed,
        "notes": notes,
        "exports": [{**asdict(one), "place": str(one.place)} for one in done],
    }
    if request.as_json:
        print_object(found)
        return
    for one in done:
        print(f"{one.format}: {one.items:,} of {len(items):,} items, {one.place}")
        for note in one.notes:
            print(f"  Note: {note}")
    for note in notes:
        print(f"Note: {note}")


def read_judgements(request: ExportRequest, back: Path, out: Path) -> None:
    """Write the judgements of a file that came back as a table for --judged. Raises InputError."""
    check_ending(out, ".csv", ".parquet")
    plain = Options()
    idle = [name for name, value in request.given.items() if value != getattr(plain, name)]
    if idle := [name for name in idle if name not in ("original", "overwrite")]:
        raise InputError(f"--{idle[0].replace('_', '-')} is of what --to writes, and --from reads: leave it out.")
    overwrite = bool(request.given.get("overwrite"))
    place = check_place(out, [back, request.run], folder=False, overwrite=overwrite)
    items = items_of_run(request.run, original=bool(request.given.get("original")))
    found = of_own_groups(read_back(back, items), items)
    columns = judged_columns(found, items)
    write_atomically(place, table_content(place, columns))
    other = int((columns["label"] != columns["proposed"]).sum())
    answer = {"run": str(request.run), "kind": found.kind, "judged": len(found.rows), "other_group": other}
    answer |= {"nowhere": int((found.groups == NOWHERE).sum()), "table": str(out), "notes": found.notes}
    if request.as_json:
        print_object(answer)
        return
    print(
        f"{counted(len(found.rows), 'judgement')} ({found.kind}), {other:,} of them other than the model's group: {out}"
    )
    for note in found.notes:
        print(f"Note: {note}")
    request.speech.suggest(
        (("recalibrate", request.run, "--judged", out), "correct the confidences, if the items were drawn at random"),
        (("accept", request.run, "--judged", out), "which items may be taken as they are, likewise"),
    )
