"""The export page: what `coterie.export` offers, and the job that runs it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from coterie.app.jobs import JobBody, Report
from coterie.app.site import Site
from coterie.common.words import counted
from coterie.export import Options, export, format_names
from coterie.export.items import items_of_run
from coterie.export.registry import Format, format_of
from coterie.review.table import accepted_rows, standing
from coterie.types import InputError

HOLDING = ("hf", "hf-parquet", "imagefolder")  # formats with the pictures themselves
GROUPED = ("cleanlab", "hf", "imagefolder", "lightly")  # formats without the items that belong nowhere
LOOKED_FOR = 10_000  # pictures that are looked for one by one; more would keep the review waiting for seconds
SAMPLED = 200  # pictures whose sizes stand for all


def formats() -> dict[str, Format]:
    """All formats by name."""
    return {name: format_of(name) for name in format_names()}


def space_left(path: Path) -> int:
    """Free bytes on the disk of the default export folder."""
    return shutil.disk_usage(path).free


def size_of(site: Site, name: str, only: str) -> dict[str, int | None]:
    """How many items an export would take and, where it holds their pictures, about how many bytes these are.

    Of many items those whose pictures are gone count, too, though no export takes them.

    Raises InputError for a format, or a choice of items, that is not there.
    """
    state = site.review.state
    rows = state.label >= 0 if name in GROUPED else np.ones(len(state.label), bool)
    only = Options(only=only or None).only or format_of(name).only
    if only == "accepted":
        claim = standing(site.review.claims())
        found = None if claim is None else accepted_rows(site.review.base, state, claim, site.review.features)
        rows = np.zeros_like(rows) if found is None else found
    elif only in ("decided", "undecided"):
        rows &= state.decided if only == "decided" else ~state.decided
    chosen = np.flatnonzero(rows)
    if format_of(name).pictures and site.pictures.there and len(chosen) <= LOOKED_FOR:
        chosen = chosen[np.fromiter(map(site.pictures.has, chosen.tolist()), bool, len(chosen))]
    some = chosen[:: max(1, len(chosen) // SAMPLED)]
    each = [site.pictures.size(row) for row in some.tolist()] if name in HOLDING and site.pictures.there else []
    known = [one for one in each if one is not None]
    return {"items": len(chosen), "bytes": round(len(chosen) * sum(known) / len(known)) if known else None}


def exporting(site: Site, settings: dict[str, Any]) -> JobBody:
    """A job that writes the reviewed items in a format. Raises InputError for what cannot be."""
    name, out = str(settings.get("to", "")), str(settings.get("out", ""))
    if name not in formats():
        raise InputError(f"There is no export format {name[:40]!r}.")
    if not out.strip():
        raise InputError("Say where the export goes.")
    if not _is_path(out):
        raise InputError(f"{out[:60]!r} is no path on this machine: say where the export goes.")
    place = Path(os.path.expanduser(out))

    def task(report: Report) -> tuple[str, Any]:
        site.review.write()
        run = site.review.path
        only = str(settings["only"]) if settings.get("only") else None
        options = Options(only=only, source=site.review.source, overwrite=settings.get("overwrite") is True)
        done = export(items_of_run(run), [name], place, options, [run])
        told = " ".join(note for one in done for note in one.notes)
        return f"{counted(done[0].items, 'item')} written: {place}. {told}".strip(), str(place)

    return task


def _is_path(text: str) -> bool:
    """Whether the text can be the bytes of a path: half a character and a zero byte cannot."""
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False
