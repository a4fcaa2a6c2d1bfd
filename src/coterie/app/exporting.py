"""The export page: what `coterie.export` offers, and the job that runs it."""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coterie.types import InputError

if TYPE_CHECKING:
    from coterie.app.jobs import Report
    from coterie.app.site import Site


def formats() -> list[str]:
    """The names of all formats; none where exports are not part of this version."""
    if importlib.util.find_spec("coterie.export") is None:
        return []
    from coterie.export import format_names

    return list(format_names())


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
        from coterie.export import Options, export  # type: ignore[attr-defined,unused-ignore]

        site.review.write()
        done = export(site.review.path, [name], place, Options(only=str(settings.get("only", "all"))))
        return f"Written: {place}", str(done)

    return work
