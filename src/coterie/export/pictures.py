"""Pictures in folders, one for each group: their names, and how they get there."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections import defaultdict
from pathlib import Path

import numpy as np

from coterie.common.outputs import NO_ROOM
from coterie.common.words import counted
from coterie.data.extensions import is_picture
from coterie.data.originals import Originals, suffix_of
from coterie.export.file_names import NO_GROUP, distinct, file_name, group_folder
from coterie.export.items import NOWHERE, Items
from coterie.export.jobs import Job
from coterie.records.files import open_regular
from coterie.types import InputError

CLONE = 0x40049409  # ioctl FICLONE: the copy shares the blocks of a file until one of the two is changed


def arrange(job: Job) -> tuple[Items, list[str]]:
    """The items with a picture and a group, and where each goes, as `03_tabby-cat/IMG_1.jpg`.

    With `include_rejected` those of no group, too, in `_unlabeled`. Files keep their names as far as every system takes
    them; where two of a folder agree but for upper and lower case or the writing of accents, all of these get a mark.
    """
    items = job.with_pictures()
    if not job.options.include_rejected:
        items = job.with_group(items)
    folders = [NO_GROUP if label == NOWHERE else _folder(items, label) for label in items.label.tolist()]
    names = [_name(item, job.originals) for item in items.ids]
    if job.options.prefix_names:
        names = [file_name(f"{folder}_{name}") for folder, name in zip(folders, names, strict=True)]
    by_folder: dict[str, list[int]] = defaultdict(list)
    for row, folder in enumerate(folders):
        by_folder[folder].append(row)
    changed = 0
    for rows in by_folder.values():
        told_apart = distinct([names[row] for row in rows], [items.ids[row] for row in rows])
        for row, name in zip(rows, told_apart, strict=True):
            changed += name != items.ids[row].split("/")[-1] and not job.options.prefix_names
            names[row] = name
    if changed and job.originals.kind == "files":
        job.notes.append(
            f"{counted(changed, 'file has', 'files have')} another name than in the source; coterie.jsonl says which."
        )
    return items, [f"{folder}/{name}" for folder, name in zip(folders, names, strict=True)]


def check_room(items: Items, originals: Originals, link: str, place: Path) -> None:
    """Raise InputError where the copies do not fit on the disk."""
    if link != "copy" or originals.path is None:
        return
    needed = sum(originals.path(item).stat().st_size for item in items.ids)
    free = shutil.disk_usage(place).free
    if needed > free:
        raise InputError(
            f"The copies take {_size(needed)}, but only {_size(free)} are free at {place}: free some space, or use "
            "--link symlink."
        )


def _size(count: int) -> str:
    """1234567 bytes -> "1.2 MB"."""
    unit, power = next(((unit, power) for unit, power in (("GB", 9), ("MB", 6)) if count >= 10**power), ("kB", 3))
    return f"{count / 10**power:.1f} {unit}"


def put(item: str, originals: Originals, place: Path, link: str) -> None:
    """Copy or link one picture to its place. Only regular files are read, and nothing is replaced.

    Raises InputError where a link cannot be made.
    """
    if originals.path is None:
        with open(place, "xb") as file:
            file.write(originals.read(item))
        return
    path = originals.path(item)
    if link == "copy":
        _copy(path, place)
        return
    try:
        if link == "symlink":
            os.symlink(path, place)
        else:
            os.link(os.path.realpath(path), place)
    except OSError as error:
        if error.errno in NO_ROOM:
            raise
        must = "the disk of -o must know such" if link == "symlink" else "both must lie on one disk that knows hard"
        raise InputError(
            f"{item} cannot be linked to {place} ({error.strerror}): {must} links; use --link copy."
        ) from error


def say_links(job: Job) -> None:
    """Note what links mean for the user's photos, and that pictures in no file were written, not linked."""
    if job.originals.path is None:
        if job.options.link != "copy":
            job.notes.append(f"The pictures lie in {job.originals.where}, so they were written, not linked.")
        if job.originals.kind == "pixels":
            job.notes.append("The pictures are those that the run saw, as PNG.")
    elif job.options.link == "hard":
        job.notes.append("Hard links: a program that edits the copy edits your photo.")


def _folder(items: Items, label: int) -> str:
    return group_folder(label, items.named.get(label), items.n_groups)


def _name(item: str, originals: Originals) -> str:
    """The name of a picture's file; encoded cells and pixels get the ending of their format."""
    name = file_name(item)
    if originals.kind in ("files", "cells") and is_picture(name):
        return name
    if originals.path is not None:  # an id with a mark behind the ending, since two paths are printed alike
        return file_name(f"{name}{originals.path(item).suffix}")
    if originals.kind == "cells":
        return file_name(f"{name}{suffix_of(originals.read(item))}")
    return file_name(f"{os.path.splitext(name)[0] if is_picture(name) else name}.png")


def _copy(path: Path, place: Path) -> None:
    with os.fdopen(open_regular(path), "rb") as source, open(place, "xb") as target:
        with contextlib.suppress(ImportError, OSError):
            import fcntl

            fcntl.ioctl(target.fileno(), CLONE, source.fileno())
            return
        shutil.copyfileobj(source, target, 1 << 20)


def thumbnail(item: str, originals: Originals, side: int) -> bytes | None:
    """A JPEG of at most `side` pixels, upright and on white; None for a picture that cannot be read any more."""
    import io

    from PIL import Image, ImageOps

    from coterie.data.decode import quiet_pillow

    try:
        with quiet_pillow(), originals.open(item) as image:
            image.draft("RGB", (2 * side, 2 * side))
            upright = ImageOps.exif_transpose(image)
            upright.thumbnail((side, side))
            if upright.has_transparency_data:
                whole = Image.new("RGBA", upright.size, "white")
                upright = Image.alpha_composite(whole, upright.convert("RGBA"))
            buffer = io.BytesIO()
            upright.convert("RGB").save(buffer, "JPEG", quality=82)
            return buffer.getvalue()
    except Exception:  # Pillow raises almost anything on a broken file
        return None


def sizes(items: Items, originals: Originals) -> np.ndarray:
    """Width and height of every picture in pixels, (m, 2), from the headers alone; 0 where it cannot be read."""
    from coterie.data.decode import quiet_pillow

    found = np.zeros((len(items), 2), np.int64)
    with quiet_pillow():
        for row, item in enumerate(items.ids):
            with contextlib.suppress(Exception), originals.open(item) as image:
                found[row] = image.size
    return found
