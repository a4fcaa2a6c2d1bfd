"""imagefolder: a folder for each group, as torchvision's ImageFolder and many others read it.

The number in front is padded, for programs number classes in the order of the folders' names as text. There are no
empty folders: torchvision raises for them.
"""

from __future__ import annotations

from coterie.common.words import counted
from coterie.export.jobs import Job
from coterie.export.pictures import arrange, check_room, put, say_links
from coterie.export.registry import FolderFormat
from coterie.export.writing import Tree

TORCHVISION = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")


def write(tree: Tree, job: Job) -> None:
    """A folder for each group, with copies of the pictures or links to them."""
    items, names = arrange(job)
    check_room(items, job.originals, job.options.link, tree.root)
    for item, name in zip(items.ids, names, strict=True):
        put(item, job.originals, tree.place(name, item), job.options.link)
    say_links(job)
    others = [name for name in names if not name.lower().endswith(TORCHVISION)]
    if others:
        are = counted(len(others), "picture is", "pictures are")
        job.notes.append(f"{are} of a type that torchvision leaves out, such as {others[0]}.")


FORMAT = FolderFormat(
    write,
    "a folder for each group: torchvision, fastai, Keras, CVAT",
    pictures=True,
    heeds=("link", "include_rejected", "prefix_names"),
)
