"""hf: an imagefolder of Hugging Face's `datasets`: `load_dataset("imagefolder", data_dir=OUT)`.

With a metadata file the names of folders give no label, so it says them. It is a table with types: of CSV `datasets`
takes "NA" for no value and "007" for 7, of JSON "2024-05-01" for a time.
"""

from __future__ import annotations

import io
import re

import pyarrow as pa
import pyarrow.parquet as pq

from coterie.export.jobs import Job
from coterie.export.pictures import arrange, check_room, put, say_links
from coterie.export.registry import FolderFormat
from coterie.export.writing import Tree

# A word of these in a folder's name makes `datasets` take what is below for that split (its `data_files.py`).
SPLITS = frozenset(("validation", "valid", "dev", "val", "test", "testing", "eval", "evaluation"))
NAMES = ("file_name", "label", "confidence", "source", "id")


def write(tree: Tree, job: Job) -> None:
    """A folder for each group below `train`, and the table that `datasets` reads beside them."""
    items, names = arrange(job)
    names = [_of_no_split(name) for name in names]
    check_room(items, job.originals, job.options.link, tree.root)
    for item, name in zip(items.ids, names, strict=True):
        put(item, job.originals, tree.place(f"train/{name}", item), job.options.link)
    labels = [items.name(row) or None for row in range(len(items))]
    kinds = [(name, pa.float32() if name == "confidence" else pa.string()) for name in NAMES]
    columns = [names, labels, items.sure, items.source, items.ids]
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns, schema=pa.schema(kinds, items.mark)), buffer)
    tree.write("train/metadata.parquet", buffer.getvalue())
    say_links(job)


def _of_no_split(name: str) -> str:
    """The name with the group's number alone for its folder, where the group's name would be taken for a split."""
    folder, file = name.split("/", 1)
    return f"{folder.split('_')[0]}/{file}" if SPLITS & set(re.split("[-._ 0-9]+", folder)) else name


FORMAT = FolderFormat(
    write,
    "a folder for each group, for Hugging Face's datasets",
    pictures=True,
    heeds=("link", "include_rejected", "prefix_names"),
)
