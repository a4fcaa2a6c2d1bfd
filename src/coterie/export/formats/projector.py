"""projector: `vectors.tsv` and `metadata.tsv` of TensorBoard's embedding projector.

With several columns the metadata has a line of names; with one it would have none. A tab or a line break in a file's
name is written as a blank, for the projector splits at both; `coterie.jsonl` has the ids as they are.
"""

from __future__ import annotations

import re

import numpy as np

from coterie.export.jobs import Job
from coterie.export.registry import FolderFormat
from coterie.export.writing import Tree
from coterie.types import InputError

MANY = 10_000  # points that the projector lays out without trouble
PART = 1000  # rows that are written at once


def write(tree: Tree, job: Job) -> None:
    """Vectors and what belongs to them, as TensorBoard's projector reads them. Raises InputError without embeddings."""
    items = job.items
    if items.embedding is None:
        raise InputError("The run stores no embeddings, which projector needs: fit it with --set store_embedding=true.")
    with open(tree.place("vectors.tsv"), "w", encoding="ascii", newline="") as file:
        for begin in range(0, len(items), PART):
            np.savetxt(file, items.embedding[begin : begin + PART], fmt="%.7g", delimiter="\t", newline="\n")
    lines = ["id\tgroup\tname\tconfidence\tsource\tdecided"]
    for row, item in enumerate(items.ids):
        sure, label = items.sure[row], int(items.label[row])
        decided = "true" if items.decided[row] else "false"
        cells = [item, str(label), items.name(row), "" if sure is None else f"{sure}", items.source[row], decided]
        lines.append("\t".join(re.sub(r"[\t\n\r]", " ", cell) for cell in cells))
    tree.write("metadata.tsv", "\n".join(lines) + "\n")
    tree.rows("row", range(len(items)), items.ids)
    if len(items) > MANY:
        job.notes.append(f"The projector shows up to about {MANY:,} points well: --limit takes fewer.")


FORMAT = FolderFormat(write, "TensorBoard's projector")
