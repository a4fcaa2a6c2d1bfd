"""fiftyone: a `FiftyOneImageClassificationDataset`; no picture is copied.

FiftyOne's reader takes the extension off the keys, so that a.jpg and a.png would be one: keys are row numbers. It reads
a label as a place in `classes`, so that -1 would be the last class: an item of no group is null.
"""

from __future__ import annotations

from coterie.export.items import NOWHERE
from coterie.export.jobs import Job
from coterie.export.registry import FolderFormat
from coterie.export.writing import Tree, as_json


def write(tree: Tree, job: Job) -> None:
    """Paths and labels of a `FiftyOneImageClassificationDataset`; nothing is copied."""
    items, paths = job.with_files("fiftyone")
    keys = [f"{row:07d}" for row in items.rows.tolist()]
    labels = {}
    for row, (key, label) in enumerate(zip(keys, items.label.tolist(), strict=True)):
        said = {"label": label, "confidence": items.sure[row], "attributes": {"coterie_id": items.ids[row]}}
        labels[key] = None if label == NOWHERE else said
    classes = [items.names[group] for group in range(items.n_groups)]
    tree.write("data.json", as_json(dict(zip(keys, paths, strict=True))) + "\n")
    tree.write("labels.json", as_json({"classes": classes, "labels": labels}) + "\n")
    tree.rows("key", keys, items.ids)
    job.notes.append(
        "Open it with fiftyone.Dataset.from_dir(OUT, fiftyone.types.FiftyOneImageClassificationDataset, "
        "data_path='data.json'); to bring labels back export them with include_confidence=True and "
        "include_attributes=True."
    )


FORMAT = FolderFormat(write, "FiftyOne; the pictures stay where they are", pictures=True)
