"""coco: Datumaro's `coco_labels`, one category for a picture and no box, in `annotations/labels_default.json`.

COCO itself has no classification. Numbers of pictures and categories begin at 1: a picture's is its row + 1, a
category's its group + 1. Sizes are those of the stored pixels, before EXIF rotation. Datumaro asks for a folder
`images` beside, which may be empty, and takes names that differ in their endings alone for one.
"""

from __future__ import annotations

import os
from collections import Counter

from coterie.export.items import NOWHERE
from coterie.export.jobs import Job
from coterie.export.pictures import sizes
from coterie.export.registry import FolderFormat
from coterie.export.writing import Tree, as_json
from coterie.types import InputError


def write(tree: Tree, job: Job) -> None:
    """One annotation file with a label for each picture, as Datumaro's `coco_labels` reads it.

    Raises InputError where no picture can be read.
    """
    items, _ = job.with_files("coco")
    pixels = sizes(items, job.originals)
    readable = pixels.min(axis=1) > 0
    if not readable.any():
        raise InputError(f"None of the pictures in {job.originals.where} can be read any more: put them back.")
    job.say_left_out(~readable, "whose pictures cannot be read any more", items)
    images, annotations = [], []
    for row, (item, number) in enumerate(zip(items.ids, (items.rows + 1).tolist(), strict=True)):
        if not readable[row]:
            continue
        width, height = pixels[row].tolist()
        images.append({"id": number, "file_name": item, "width": width, "height": height})
        if items.label[row] != NOWHERE:
            said = {"category_id": int(items.label[row]) + 1, "score": items.sure[row]}
            annotations.append({"id": number, "image_id": number, **said})
    categories = [{"id": group + 1, "name": items.names[group], "supercategory": ""} for group in range(items.n_groups)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    tree.write("annotations/labels_default.json", as_json(content) + "\n")
    (tree.root / "images").mkdir()
    tree.rows("image", (image["id"] for image in images), (str(image["file_name"]) for image in images))
    job.notes.append(
        f"The pictures stay where they are: file_name is the path below {job.originals.where}, which may be put in "
        "place of the empty folder images."
    )
    stems = [os.path.splitext(str(image["file_name"]))[0] for image in images]
    if again := next((stem for stem, count in Counter(stems).items() if count > 1), None):
        job.notes.append(f"Several pictures are called {again} but for their endings, and Datumaro refuses that.")


FORMAT = FolderFormat(write, "Datumaro, CVAT: a category for each picture", pictures=True)
