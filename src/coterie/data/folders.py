"""A folder of image files, nested at will -> Pictures. Files are only ever opened for reading."""

from __future__ import annotations

import hashlib
import os
import stat
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from coterie.data.pictures import Pictures
from coterie.data.rows import RowIds
from coterie.outputs import printable
from coterie.types import InputError, Skipped

if TYPE_CHECKING:
    from PIL.Image import Image

EXTENSIONS = frozenset((".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif"))


@dataclass
class Listing:
    """The image files below a folder: paths relative to it, with their sizes and times for the stamp."""

    files: list[tuple[str, int, int]] = field(default_factory=list)  # path, bytes, nanoseconds
    others: int = 0
    locked: list[Skipped] = field(default_factory=list)


def folder_pictures(root: Path, *, origin: str, name: str | None = None, only: Sequence[str] = ()) -> Pictures:
    """Return the images below `root`, or below its sub-folders `only`; InputError if there are none."""
    listing = list_images(root, only)
    if not listing.files:
        wanted = ", ".join(sorted(extension[1:] for extension in EXTENSIONS))
        locked = f", {len(listing.locked)} sub-folders may not be read" if listing.locked else ""
        raise InputError(
            f"The folder {root} holds no images ({wanted}; {listing.others} other files{locked}); check the path."
        )
    notes = []
    if listing.others:
        notes.append(f"{listing.others} files that are not images by their extension were left out.")
    name = name or root.resolve().name or "images"
    return _pictures_of(listing, root, name=name, where=f"the folder {root}", origin=origin, notes=notes)


def listed_pictures(paths: Sequence[str]) -> Pictures:
    """Return the pictures of these files, in their order; InputError if one is no file: items go by their place."""
    listing = Listing()
    for row, path in enumerate(paths):
        full = os.path.expanduser(path)
        try:
            facts = os.stat(full)
        except (OSError, ValueError) as error:
            why = (getattr(error, "strerror", None) or str(error)).lower()
            raise InputError(
                f"Item {row}, {path[:200]!r}, is no file that can be read ({why}); a list of texts is "
                "taken for paths of pictures."
            ) from error
        if not stat.S_ISREG(facts.st_mode):
            raise InputError(f"Item {row}, {path!r}, is no file; a list is taken for the paths of picture files.")
        listing.files.append((full, facts.st_size, facts.st_mtime_ns))
    where = f"the list of {len(paths)} paths"
    pictures = _pictures_of(listing, Path(), name="paths", where=where, origin=where.removeprefix("the "), notes=[])
    ids: Sequence[str] = [printable(path) for path in paths]
    if len(set(ids)) < len(ids):
        pictures.notes.append("Some paths stand twice in the list, so items go by their number.")
        ids = RowIds(len(ids))
    return replace(pictures, ids=ids, whole=True)


def _pictures_of(listing: Listing, root: Path, *, name: str, where: str, origin: str, notes: list[str]) -> Pictures:
    paths = [path for path, _, _ in listing.files]
    sizes = [size for _, size, _ in listing.files]
    stamp = hashlib.sha256("\n".join(map(repr, listing.files)).encode("utf-8", "surrogateescape")).hexdigest()

    def load(row: int) -> Image:
        from PIL import Image

        from coterie.data.shrink import Unreadable

        if sizes[row] == 0:
            raise Unreadable("empty file (0 bytes)")
        return Image.open(root / paths[row])

    def digest(row: int) -> bytes:
        with (root / paths[row]).open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()

    return Pictures(
        name, where, origin, [printable(path) for path in paths], load, digest, stamp, notes, listing.locked
    )


def list_images(root: Path, only: Sequence[str] = ()) -> Listing:
    """List the image files below a folder, sorted by path, without hidden files and folders.

    Links to folders are followed after all real folders, and no folder is entered twice, so loops end and an image
    that is reached both ways is listed under its real path.
    """
    listing, seen = Listing(), set()
    folders = deque([f"{name}/" for name in only] or [""])
    links: deque[str] = deque()
    while folders or links:
        folder = folders.popleft() if folders else links.popleft()
        try:
            facts = os.stat(root / folder)
            if (facts.st_dev, facts.st_ino) in seen:
                continue
            seen.add((facts.st_dev, facts.st_ino))
            with os.scandir(root / folder) as entries:
                for entry in entries:
                    _sort_in(entry, folder, listing, folders, links)
        except OSError as error:
            why = (error.strerror or "cannot be read").lower()
            if not folder:
                raise InputError(f"The folder {root} cannot be read ({why}); check its rights.") from error
            listing.locked.append(Skipped(printable(folder), why))
    listing.files.sort()
    return listing


def _sort_in(entry: os.DirEntry[str], folder: str, listing: Listing, folders: deque[str], links: deque[str]) -> None:
    path = folder + entry.name
    if entry.name.startswith("."):
        return
    if entry.is_dir():
        (links if entry.is_symlink() else folders).append(path + "/")
    elif os.path.splitext(entry.name)[1].lower() not in EXTENSIONS:
        listing.others += 1
    elif entry.is_file():
        facts = entry.stat()
        listing.files.append((path, facts.st_size, facts.st_mtime_ns))
    elif entry.is_symlink():  # a link to nothing: the user should hear of it
        listing.files.append((path, -1, 0))
