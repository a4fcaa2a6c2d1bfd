"""hf: an imagefolder of Hugging Face's `datasets`: `load_dataset("imagefolder", data_dir=OUT)`.

With a metadata file the names of folders give no label, so it says them. It is JSON, not CSV, which `datasets` reads by
pandas: that takes "NA" for no value and "007" for 7.
"""

from __future__ import annotations

from coterie.export.jobs import Job
from coterie.export.pictures import arrange, check_room, put, say_links
from coterie.export.registry import FolderFormat
from coterie.export.writing import Tree, as_json


def write(tree: Tree, job: Job) -> None:
    """A folder for each group below `train`, and the table that `datasets` reads beside them."""
    items, names = arrange(job)
    check_room(items, job.originals, job.options.link, tree.root)
    lines = []
    for row, (item, name, sure) in enumerate(zip(items.ids, names, items.sure, strict=True)):
        put(item, job.originals, tree.place(f"train/{name}", item), job.options.link)
        line = {"file_name": name, "label": items.name(row) or None, "confidence": sure, "source": items.source[row]}
        lines.append(as_json({**line, "id": item}) + "\n")
    tree.write("train/metadata.jsonl", "".join(lines))
    say_links(job)


FORMAT = FolderFormat(write, pictures=True)
