"""lightly: a table of paths and classes, as LightlyStudio reads classifications."""

from __future__ import annotations

import csv
from pathlib import Path

from coterie.data.guards import guarded
from coterie.export.jobs import Job
from coterie.export.registry import FileFormat

HEAD = ("file_path_abs", "class_name", "confidence", "annotation_source")


def write(path: Path, job: Job) -> None:
    """Absolute paths with their groups."""
    items, paths = job.with_files("lightly")
    by_path = dict(zip(items.ids, paths, strict=True))
    items = job.with_group(items)
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(HEAD)
        for row, (item, sure) in enumerate(zip(items.ids, items.sure, strict=True)):
            writer.writerow([guarded(by_path[item]), guarded(items.name(row)), sure, items.source[row]])


FORMAT = FileFormat(".csv", write, "LightlyStudio", pictures=True)
