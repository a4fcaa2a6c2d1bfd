"""`coterie export`: groups and names as other programs read them, and their judgements read back."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from coterie.cli import print_object
from coterie.export import Options, export
from coterie.export.items import items_of_run
from coterie.records.review import REVIEWED
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


def export_finished(request: ExportRequest) -> None:
    """Write the run in the formats asked for, or a file of judgements from one that came back. Raises InputError."""
    if request.out is None:
        raise InputError("Where shall it go? Give a file or folder with -o.")
    if (request.to is None) == (request.back is None):
        raise InputError("Give formats with --to (csv, imagefolder, ...), or a file that came back with --from.")
    if request.back is not None:
        read_back(request, request.back, request.out)
        return
    assert request.to is not None
    options = Options(**request.given)
    formats = [name.strip() for name in request.to.split(",") if name.strip()]
    items = items_of_run(request.run, original=options.original)
    done = export(items, formats, request.out, options, [request.run])
    found = {
        "run": str(request.run),
        "reviewed": items.reviewed,
        "exports": [
            {"format": one.format, "place": str(one.place), "items": one.items, "notes": one.notes} for one in done
        ],
    }
    if request.as_json:
        print_object(found)
        return
    for one in done:
        print(f"{one.format}: {one.items:,} of {len(items):,} items, {one.place}")
        for note in one.notes:
            print(f"  Note: {note}")
    if options.original and os.path.lexists(request.run / REVIEWED):
        print("Note: the run has a review, which --original leaves out.")


def read_back(request: ExportRequest, back: Path, out: Path) -> None:
    """Write the judgements of a file that came back as a table for --judged."""
    raise InputError("--from is not there yet.")
