"""labelstudio: the labelling set-up and the undecided items as tasks with predictions, the most doubtful first.

Files of 10,000 tasks: one of 200,000 was refused by the server. Paths are relative to the server's document root and
percent-encoded here, for the server decodes them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

from coterie.export.items import NOWHERE
from coterie.export.jobs import Job
from coterie.export.registry import FolderFormat
from coterie.export.writing import Tree, as_json
from coterie.types import InputError

TASKS = 10_000  # in a file
MANY = 100_000  # tasks of a project


def nowhere_name(names: Mapping[int, str]) -> str:
    """The choice for an item that belongs to no group; no group is called so."""
    name = "none of these"
    while name.casefold() in {other.casefold() for other in names.values()}:
        name += "'"
    return name


def write(tree: Tree, job: Job) -> None:
    """The labelling configuration, and tasks with predictions, 10,000 to a file.

    Raises InputError for a picture outside of the document root.
    """
    items, paths = job.with_files("labelstudio")
    root = _root(job, Path(job.originals.where))
    choices = [*(job.items.names[group] for group in job.items.alive), nowhere_name(items.names)]
    tree.write("config.xml", _set_up(choices))
    tasks = []
    for row, (item, path) in enumerate(zip(items.ids, paths, strict=True)):
        if not Path(path).is_relative_to(root):
            raise InputError(f"{path} does not lie below the document root {root}: give another --document-root.")
        url = f"/data/local-files/?d={quote(os.path.relpath(path, root))}"
        name, number = items.name(row), int(items.rows[row])
        said: dict[str, Any] = {"id": f"r{number}", "type": "choices", "from_name": "group", "to_name": "image"}
        said["value"] = {"choices": [name]}
        guess = {"model_version": f"coterie-{job.version}", "score": items.sure[row], "result": [said]}
        task = {"data": {"image": url, "coterie_id": item}}
        tasks.append(as_json({**task, "predictions": [guess] if items.label[row] != NOWHERE else []}))
    for number, begin in enumerate(range(0, len(tasks), TASKS), start=1):
        tree.write(f"tasks-{number:04d}.json", "[" + ",\n".join(tasks[begin : begin + TASKS]) + "]\n")
    tree.rows("task", range(1, len(items) + 1), items.ids)
    job.notes += [
        "Start Label Studio with LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED=true and "
        f"LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT={root}.",
        f"Add a local storage with the path {job.originals.where}, no slash at its end; do not sync it.",
        f"Choose the model version coterie-{job.version} in the project's settings, or no score is shown.",
    ]
    if len(items) > MANY:
        job.notes.append(f"A project of {len(items):,} tasks is slow: about {MANY:,} are advised; --limit takes fewer.")


def _root(job: Job, pictures: Path) -> Path:
    """The document root; the server wants the pictures in a folder below it."""
    if job.options.document_root is None:
        return pictures.parent
    root = Path(os.path.abspath(os.path.expanduser(job.options.document_root)))
    if root == pictures:
        raise InputError(
            f"Label Studio serves folders below its document root, not the root itself: give --document-root "
            f"{pictures.parent}."
        )
    return root


def _set_up(choices: list[str]) -> str:
    lines = "".join(f"    <Choice value={quoteattr(name)}/>\n" for name in choices)
    return (
        '<View>\n  <Image name="image" value="$image" zoom="true"/>\n'
        f'  <Choices name="group" toName="image" choice="single">\n{lines}  </Choices>\n</View>\n'
    )


FORMAT = FolderFormat(
    write,
    "Label Studio: the undecided items, the most doubtful first",
    pictures=True,
    only="undecided",
    heeds=("document_root",),
)
