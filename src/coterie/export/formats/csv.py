"""csv: one line an item. What a table program would take for a formula has a quote in front."""

from __future__ import annotations

import csv
from pathlib import Path

from coterie.data.guards import guarded
from coterie.export.jobs import Job
from coterie.export.registry import FileFormat

HEAD = ("id", "label", "name", "confidence", "source", "decided")


def write(path: Path, job: Job) -> None:
    """One line for each item, cells guarded against formulas."""
    items = job.items
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(HEAD)
        decided = ["true" if value else "false" for value in items.decided.tolist()]
        rows = zip(items.ids, items.label.tolist(), items.sure, items.source, decided, strict=True)
        for row, (item, label, sure, source, answer) in enumerate(rows):
            writer.writerow([guarded(item), label, guarded(items.name(row)), sure, source, answer])


FORMAT = FileFormat(".csv", write, "table programs")
