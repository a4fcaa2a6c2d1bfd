"""A folder of image files, nested at will -> Pictures. Files are only ever opened for reading."""

from __future__ import annotations

import hashlib
import os
import stat
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from coterie.common.outputs import OF_SEVERAL
from coterie.common.words import counted
from coterie.data.array_rows import RowIds
from coterie.data.extensions import JUNK, JUNK_FOLDERS, extensions, left_out, open_image
from coterie.data.files import escaped, kind_of, path_of, system_folders
from coterie.data.parquet_folder import refuse_tables_below, tables_in
from coterie.data.pictures import Pictures
from coterie.records.features import holds_features
from coterie.types import InputError, Skipped

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass
class Listing:
    """The image files below a folder: paths relative to it, with their sizes and times for the stamp."""

    files: list[tuple[str, int, int]] = field(default_factory=list)  # path, bytes, nanoseconds
    others: Counter[str] = field(default_factory=Counter)  # files that are no images, by the end of their name
    locked: list[Skipped] = field(default_factory=list)
    bad: dict[str, str] = field(default_factory=dict)  # paths among `files` that are not to be opened, and why


def folder_pictures(root: Path, *, origin: str, name: str | None = None, only: Sequence[str] = ()) -> Pictures:
    """Return the images below `root`, or below its sub-folders `only`; InputError if there are none."""
    listing = list_images(root, only)
    if not listing.files:
        if (root / "run.yaml").exists():
            raise InputError(f"{root} is a run folder, which holds no items: give the source that it was fitted on.")
        if _holds_runs(root):
            raise InputError(
                f"{root} holds runs and no items: give the source that they were fitted on; or one of them, by "
                "the name of its own folder, to a command that takes a run."
            )
        refuse_tables_below(root)
        wanted = ", ".join(sorted(extension[1:] for extension in extensions()))
        locked = f", {len(listing.locked)} sub-folders may not be read" if listing.locked else ""
        types = f": {left_out(listing.others)}" if listing.others else ""
        raise InputError(
            f"The folder {root} holds no images ({wanted}; {listing.others.total()} other files{types}{locked}); check "
            "the path."
        )
    notes = []
    if listing.others:
        files = counted(listing.others.total(), "file was", "files were")
        notes.append(f"{files} left out: {left_out(listing.others)}.")
    name = name or escaped(root.resolve().name) or "images"
    return _pictures_of(listing, root, name=name, where=f"the folder {root}", origin=origin, notes=notes)


def is_table_folder(path: Path) -> bool:
    """Whether a folder is a table in several files: Parquet files lie in it, and below it no picture.

    What coterie itself wrote, embeddings of pictures, a run or several, is none.
    """
    try:
        path = path.expanduser()
        if not path.is_dir() or not tables_in(path) or holds_features(path):
            return False
        if (path / "run.yaml").exists() or _holds_runs(path):
            return False
        return not list_images(path).files
    except (OSError, ValueError, RuntimeError):  # what cannot be looked up is refused where it is opened
        return False


def _holds_runs(folder: Path) -> bool:
    """Whether `fit --runs` wrote several runs here, and the table of their ensemble beside them."""
    return all((folder / name).exists() for name in OF_SEVERAL)


def file_picture(path: Path, *, origin: str) -> Pictures:
    """Return the one picture in this file."""
    facts = path.stat()
    listing = Listing([(path.name, facts.st_size, facts.st_mtime_ns)])
    where = f"the file {path}"
    return _pictures_of(listing, path.parent, name=escaped(path.stem), where=where, origin=origin, notes=[])


def listed_pictures(paths: Sequence[str]) -> Pictures:
    """Return the pictures of these files, in their order; InputError if one is no file: items go by their place."""
    listing = Listing()
    for row, path in enumerate(paths):
        full = path_of(path, f"item {row}")
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
        listing.files.append((str(full), facts.st_size, facts.st_mtime_ns))
    where = f"the list of {len(paths)} paths"
    pictures = _pictures_of(listing, Path(), name="paths", where=where, origin=where.removeprefix("the "), notes=[])
    ids: Sequence[str] = [escaped(path) for path in paths]
    if len(set(ids)) < len(ids):
        pictures.notes.append("Some paths stand twice in the list, so items go by their number.")
        ids = RowIds(len(ids))
    return replace(pictures, ids=ids, whole=True)


def _pictures_of(listing: Listing, root: Path, *, name: str, where: str, origin: str, notes: list[str]) -> Pictures:
    """The pictures of a listing, in its order; their ids are their paths below `root`."""
    paths = [path for path, _, _ in listing.files]
    sizes = [size for _, size, _ in listing.files]
    stamp = hashlib.sha256("\n".join(map(repr, listing.files)).encode("utf-8", "surrogateescape")).hexdigest()

    def load(row: int) -> Image:
        from coterie.data.shrink import Unreadable

        if paths[row] in listing.bad:
            raise Unreadable(listing.bad[paths[row]])
        if sizes[row] == 0:
            raise Unreadable("empty file (0 bytes)")
        return open_image(root / paths[row])

    def digest(row: int) -> bytes:
        if paths[row] in listing.bad:
            return b"unreadable"
        with (root / paths[row]).open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()

    return Pictures(name, where, origin, ids_of(paths), load, digest, stamp, notes, listing.locked)


def ids_of(paths: Sequence[str]) -> list[str]:
    """The ids of listed files: their paths, with escapes for bytes that are not UTF-8 and for control characters.

    An escape may be another file's real name (the byte FF, and the four characters \\xff): the escaped one then gets
    `~` and 6 digits of its own bytes' hash, so that ids differ.
    """
    ids = [escaped(path) for path in paths]
    if len(set(ids)) == len(ids):
        return ids
    plain = {path for path, item in zip(paths, ids, strict=True) if path == item}
    taken: set[str] = set()
    for row, (path, item) in enumerate(zip(paths, ids, strict=True)):
        if path != item and (item in plain or item in taken):
            ids[row] = f"{item}~{hashlib.sha256(os.fsencode(path)).hexdigest()[:6]}"
        taken.add(ids[row])
    return ids


def list_images(root: Path, only: Sequence[str] = ()) -> Listing:
    """List the image files below a folder, sorted by path, without hidden files and folders.

    Links to folders are followed after all real folders, and no folder is entered twice, so loops end and an image
    that is reached both ways is listed under its real path. Raises InputError for a folder that cannot be read.
    """
    listing, seen, system = Listing(), set(), system_folders()
    folders = deque([f"{name}/" for name in only] or [""])
    links: deque[str] = deque()
    while folders or links:
        folder = folders.popleft() if folders else links.popleft()
        try:
            facts = os.stat(root / folder)
            if (facts.st_dev, facts.st_ino) in seen:
                continue
            seen.add((facts.st_dev, facts.st_ino))
            if facts.st_dev in system and not str(root.resolve()).startswith("/dev/shm"):
                raise OSError(0, "a folder of the system, which holds no files")
            with os.scandir(root / folder) as entries:
                for entry in entries:
                    _sort_in(entry, folder, listing, folders, links)
        except OSError as error:
            why = (error.strerror or "cannot be read").lower()
            if not folder:
                raise InputError(f"The folder {root} cannot be read ({why}); check the path and its rights.") from error
            listing.locked.append(Skipped(escaped(folder), why))
    listing.files.sort()
    return listing


def _sort_in(entry: os.DirEntry[str], folder: str, listing: Listing, folders: deque[str], links: deque[str]) -> None:
    """Put an entry of `folder` where it belongs: into the listing, or into what is still to be looked at."""
    path, end = folder + entry.name, os.path.splitext(entry.name)[1].lower()
    if entry.name.startswith(".") or entry.name.lower() in JUNK:
        return
    try:
        facts = entry.stat()
    except OSError as error:  # a link to nothing or to itself: of a picture, the user should hear of it
        if end in extensions():
            listing.files.append((path, -1, 0))
            listing.bad[path] = (error.strerror or "cannot be looked up").lower()
        return
    if stat.S_ISDIR(facts.st_mode):
        if entry.name not in JUNK_FOLDERS:
            (links if entry.is_symlink() else folders).append(path + "/")
    elif end not in extensions():
        listing.others[end if len(end) < 16 and end.isprintable() else ".?"] += 1
    else:
        listing.files.append((path, facts.st_size, facts.st_mtime_ns))
        kind = kind_of(facts.st_mode)
        if kind:
            listing.bad[path] = f"it is {kind}, no file"
