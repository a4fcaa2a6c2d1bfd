"""The export page: what `coterie.export` offers, and the job that runs it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coterie.export import Options, export, format_names
from coterie.export.items import items_of_run
from coterie.export.registry import format_of
from coterie.types import InputError

if TYPE_CHECKING:
    from coterie.app.jobs import Report
    from coterie.app.site import Site


def formats() -> dict[str, str]:
    """The names of all formats, and what the file of each ends in; "" is a folder."""
    return {name: getattr(format_of(name), "ending", "") for name in format_names()}


def space_left(path: Path) -> int:
    """Bytes that are free where exports go, if nobody says another place."""
    return shutil.disk_usage(path).free


def exporting(site: Site, settings: dict[str, Any]) -> Any:
    """A job that writes the reviewed items in a format. Raises InputError for what cannot be."""
    name, out = str(settings.get("to", "")), str(settings.get("out", ""))
    if name not in formats():
        raise InputError(f"There is no export format {name[:40]!r}.")
    if not out.strip():
        raise InputError("Say where the export goes.")
    place = Path(os.path.expanduser(out))

    def work(report: Report) -> tuple[str, Any]:
        site.review.write()
        run = site.review.path
        options = Options(only=str(settings["only"]) if settings.get("only") else None, source=site.review.source)
        done = export(items_of_run(run), [name], place, options, [run])
        told = " ".join(note for one in done for note in one.notes)
        return f"{done[0].items:,} items written: {place}. {told}".strip(), str(place)

    return work
