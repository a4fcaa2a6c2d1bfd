"""The original pictures of a finished run by their ids: files, cells of a table, or pixels of an array."""

from __future__ import annotations

import hashlib
import io
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import unquote_to_bytes

from coterie.common.outputs import printable
from coterie.data.addresses import is_address, local
from coterie.data.array_rows import RowIds
from coterie.data.changed import changed_files, counted_ids, touched
from coterie.data.files import path_of
from coterie.data.fingerprint import list_fingerprint
from coterie.data.folders import ids_of, is_table_folder, list_images
from coterie.data.named_files import names
from coterie.records.files import check_regular, open_regular
from coterie.types import InputError, ItemSpec

if TYPE_CHECKING:
    from PIL.Image import Image

CELLS_IN_MEMORY = 256 << 20  # bytes of a table's encoded pictures that are kept
EMBEDDED_SIDE = 128  # pixels, of pictures that a run saw through an encoder
BEGINNINGS = {b"\x89PNG": ".png", b"\xff\xd8\xff": ".jpg", b"GIF8": ".gif", b"BM": ".bmp", b"II*\0": ".tif"}
BEGINNINGS |= {b"MM\0*": ".tif", b"RIFF": ".webp", b"\0\0\0\x0cjP": ".jp2"}


CHANGED_TABLE = (
    "{path} has changed since the run was fitted: a group is that of the picture that had the id then, which may be "
    "another one now. Fit again, or sort what is new with coterie predict."
)


@dataclass(frozen=True)
class Originals:
    """Where the pictures of a run are. Nothing here writes, and only regular files are opened.

    kind: "files" have a path each, "cells" lie in a table as encoded files, "pixels" in an array.
    """

    kind: Literal["files", "cells", "pixels"]
    where: Path | str  # the folder or file, or the name of the data set
    has: Callable[[str], bool]  # whether the picture of this id is there
    read: Callable[[str], bytes]  # its file's bytes; of pixels those of a PNG. Raises InputError
    path: Callable[[str], Path] | None = None  # of "files": the absolute path, which may be in no encoding
    changed: Callable[[], str | None] = lambda: None  # what to say of files that hold other pictures than the run saw

    def open(self, item: str) -> Image:
        """Open the picture of this id, to be decoded by the caller. Raises whatever Pillow does, and InputError."""
        from coterie.data.extensions import open_image

        if self.path is None:
            return open_image(io.BytesIO(self.read(item)))
        check_regular(self.path(item))
        return open_image(self.path(item))


def absolute_path(source: Any) -> str | None:
    """What `run.yaml` keeps of where a source lies: a path, or, of one that is not UTF-8, its file:// address.

    Of a list of paths it is the working directory, of a data set's name or an array None.
    """
    if isinstance(source, str | os.PathLike):
        text = os.fspath(source)
        if not isinstance(text, str) or text in names():
            return None
        path = Path(os.path.abspath(os.path.expanduser(local(text))))
    elif (
        isinstance(source, Sequence)
        and not isinstance(source, memoryview)
        and source
        and all(isinstance(item, str | os.PathLike) for item in source)
    ):
        path = Path.cwd()
    else:
        return None
    text = str(path)
    try:
        text.encode()
    except UnicodeEncodeError:
        return path.as_uri()
    return text if text.isprintable() else path.as_uri()


def lies_at(entry: Mapping[str, Any]) -> str:
    """Where the data of a run are, by the entry `source` of its record: what was typed, or the copy of an address.

    What was typed in another folder means the path that it had there, where that still is: of the same name, something
    else may lie here. Addresses in records are never asked for: a run folder may come from someone else.
    """
    origin = str(entry.get("origin") or "")
    stored = str(entry.get("path") or "")
    if not is_address(origin):
        meant, here = _stored_path(stored), os.path.abspath(os.path.expanduser(origin))
        # Of a name that is not UTF-8 the record has what can be written.
        same = printable(meant.name) == os.path.basename(os.path.normpath(origin))
        if same and os.path.lexists(meant) and here != str(meant):
            return str(meant)
    return origin if not is_address(origin) else "no path" if is_address(stored) or not stored else stored


def is_gone(entry: Mapping[str, Any]) -> bool:
    """Whether the data of a run lay in a file or folder that is not there any more, by the entry `source`."""
    stored = entry.get("path")
    return stored is not None and not any(os.path.lexists(path) for path in (_stored_path(str(stored)), lies_at(entry)))


def originals_of(record: Mapping[str, Any], ids: Sequence[str], given: str | None = None) -> Originals:
    """The pictures of a run from its record (`run.yaml`) and all its ids; `given` says where they lie, if elsewhere.

    Raises InputError where there are no pictures, where they cannot be found, or where they are known by their rows and
    the data are not those of the run any more.
    """
    source: Mapping[str, Any] = record.get("source") or {}
    spec = _spec(source)
    if spec.kind != "images":
        raise InputError("The run is over embeddings, which have no pictures: only a run over pictures can show them.")
    origin = str(source.get("origin") or "")
    if given is None and origin in names():
        return _pixels(origin, spec, {})  # a named set does not change
    path = place_of(source, origin, given)
    if re.fullmatch(r"list of \d+ paths", origin):
        return _files(path, {item: item for item in ids}, ids, source)
    if (path.suffix.lower() == ".parquet" and path.is_file()) or is_table_folder(path):
        return _cells(path, (record.get("settings") or {}).get("columns"), ids, source)
    if path.is_dir():
        paths = [name for name, _, _ in list_images(path).files]
        found = dict(zip(ids_of(paths), paths, strict=True))
        if ids and not any(item in found for item in ids):
            raise InputError(f"None of the run's pictures is in {path} ({ids[0]} is not): say where with --source.")
        return _files(path, found, ids, source)
    return _pixels(str(path), spec, source)


def has_pictures(record: Mapping[str, Any]) -> bool:
    """Whether the items of a run are pictures, those that were embedded among them."""
    return _spec(record.get("source") or {}).kind == "images"


def uncounted(source: Mapping[str, Any]) -> set[str]:
    """Ids that do not count in the fingerprint of a run's data, by the entry `source` of its record.

    That of embedded pictures is over the readable ones alone.
    """
    embedded = (source.get("spec") or {}).get("encoding") is not None
    return {item["id"] for item in source.get("skipped") or []} if embedded else set()


def suffix_of(content: bytes) -> str:
    """The ending that fits the bytes of a picture file, "" for an unknown kind."""
    return next((end for begin, end in BEGINNINGS.items() if content.startswith(begin)), "")


def place_of(source: Mapping[str, Any], origin: str, given: str | None) -> Path:
    """Where a run's data lie, by the entry `source` of its record or as `given`. Raises InputError if not there."""
    stored = source.get("path")
    if given is not None:
        path = path_of(local(given), "--source")
    elif stored is not None:
        path = _stored_path(str(stored))
    elif re.search(r" of shape \(|^Dataset |^list of ", origin):
        raise InputError(
            f"The run was fitted on what was in memory ({origin}), so its pictures are in no file: fit a folder."
        )
    else:  # a run of an older version has only what was typed
        path = Path(os.path.expanduser(origin))
    if not path.exists():
        was = given or stored or origin
        raise InputError(f"The photos are not where they were ({was}): say where with --source.")
    return Path(os.path.abspath(path))


def _stored_path(text: str) -> Path:
    return Path(os.fsdecode(unquote_to_bytes(text[7:]))) if text.startswith("file://") else Path(text)


def _spec(source: Mapping[str, Any]) -> ItemSpec:
    known = {field.name for field in fields(ItemSpec)} - {"encoding", "spaces"}
    stated: dict[str, Any] = source.get("spec") or {}
    if (
        stated.get("encoding") and stated.get("kind") == "embeddings"
    ):  # the run grouped embeddings that coterie made of pictures
        return ItemSpec("images", channels=3, height=EMBEDDED_SIDE, width=EMBEDDED_SIDE)
    entries: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in stated.items() if name in known
    }
    entries |= {"kind": entries.get("kind") or source.get("kind") or "images"}
    return ItemSpec(**entries)


def _files(root: Path, listed: Mapping[str, str], ids: Sequence[str], source: Mapping[str, Any]) -> Originals:
    """The path of each id below the root, joined only when asked for, since most never are."""

    def path(item: str) -> Path:
        try:
            return root / listed[item]
        except KeyError:
            raise InputError(f"The picture {item} is not in {root} any more.") from None

    def read(item: str) -> bytes:
        with os.fdopen(open_regular(path(item)), "rb") as file:
            return file.read()

    def changed() -> str | None:
        return changed_files(path, list(listed), ids, source, uncounted(source))

    return Originals("files", root, lambda item: item in listed and path(item).is_file(), read, path, changed)


def _check_same(fingerprint: str, path: Path | str, source: Mapping[str, Any]) -> None:
    """Raise InputError for other data than a run's: where rows are the only names, each picture would be another."""
    if fingerprint != source["fingerprint"]:
        raise InputError(
            f"{path} has changed since the run was fitted, and its pictures are known by their row alone: say with "
            "--source where the data are as they were, or fit them again."
        )


def _cells(path: Path, columns: str | Sequence[str] | None, ids: Sequence[str], source: Mapping[str, Any]) -> Originals:
    """Pictures in the cells of a table; `ids` and `source` are those of the run."""
    from coterie.data.tables import picture_cells

    found, cells = picture_cells(path, columns, CELLS_IN_MEMORY)
    rows = {item: row for row, item in enumerate(found)}

    def fingerprint(counted: Sequence[str]) -> str:
        return list_fingerprint(counted, (hashlib.sha256(cells(rows[item]) or b"").digest() for item in counted))

    if by_row := isinstance(found, RowIds) and source.get("fingerprint") is not None:
        left_out = uncounted(source)
        _check_same(fingerprint([item for item in found if item not in left_out]), path, source)

    def changed() -> str | None:
        files = [path, *path.glob("*.parquet")] if path.is_dir() else [path]
        if by_row or not touched(files, source):
            return None
        wanted = counted_ids(ids, source, uncounted(source))
        # Rows that changed places are no other pictures; where those left out stood among the others nobody knows.
        there = [item for item in (ids if wanted == set(ids) else found) if item in wanted and item in rows]
        # Of a table that lacks some of the run's rows nothing can be said of the others.
        same = len(there) < len(wanted) or fingerprint(there) == source["fingerprint"]
        return None if same else CHANGED_TABLE.format(path=path)

    def read(item: str) -> bytes:
        content = cells(rows[item]) if item in rows else None
        if not content:
            raise InputError(f"The picture {item} is not in {path} any more.")
        return content

    return Originals("cells", path, lambda item: item in rows and bool(cells(rows[item])), read, changed=changed)


def _pixels(source: str, spec: ItemSpec, entry: Mapping[str, Any]) -> Originals:
    """Pictures of an array or of a named set, in the form in which the run saw them."""
    import torch
    from PIL import Image

    from coterie.data.pictures import recognised
    from coterie.data.source import open_source

    opened = open_source(source, like=spec)
    if entry.get("fingerprint"):
        embedded = (entry.get("spec") or {}).get("encoding") is not None
        same = open_source(source, like=spec, encode=recognised(uncounted(entry))) if embedded else opened
        _check_same(same.fingerprint, source, entry)
    rows = {item: row for row, item in enumerate(opened.ids)}

    def read(item: str) -> bytes:
        if item not in rows:
            raise InputError(f"The picture {item} is not in {source} any more.")
        pixels = opened.items.take(torch.tensor([rows[item]], device="cpu"))[0].permute(1, 2, 0).numpy()
        image = Image.fromarray(pixels if pixels.shape[2] in (3, 4) else pixels[..., pixels.shape[2] // 2])
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        return buffer.getvalue()

    return Originals("pixels", source, lambda item: item in rows, read)
