"""A source of new items for a fitted model, opened part by part, so that several processes can share it.

What only all items together can say (the columns of a table, the axes of an array, the files of a folder) is settled
here once. Where a part alone would be read otherwise than in the whole, the whole is opened and rows are taken of it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coterie.data.addresses import copied, is_address
from coterie.data.array_files import holds_npy, read_npy
from coterie.data.array_rows import RowIds
from coterie.data.arrays import check_batch_axis, open_array
from coterie.data.items import ChosenItems
from coterie.data.picture_form import Options
from coterie.data.pictures import Pictures, open_pictures
from coterie.data.pixel_values import bytes_as_they_are
from coterie.data.source import open_as_asked, pictures_at, place_of
from coterie.data.spaces import Spaces
from coterie.data.tables import look_at
from coterie.types import InputError, ItemSpec, Skipped, Source


@dataclass(frozen=True)
class Parted:
    """A source that is opened by ranges of its items. `stamp` changes when the source looks changed."""

    name: str
    count: int  # items, readable or not
    stamp: str
    open: Callable[[int, int], Source]  # items start to stop; those of them that cannot be read are in its `skipped`
    locked: Sequence[Skipped] = ()  # what could not even be listed


def parted(source: str | Spaces, options: Options) -> Parted:
    """Look at a source without reading its items; `options.like` is what the model asks for. Raises InputError."""
    assert options.like is not None
    if isinstance(source, str) and is_address(source):
        copy = copied(source)
        return _with_note(parted(os.fspath(copy.path), options), copy.said)
    if isinstance(source, Spaces) or options.like.spaces:
        return _of_whole(source, options)
    kind, path = place_of(source, one=True)
    if kind in ("folder", "picture"):
        return _of_pictures(pictures_at(kind, path, source), options)
    if kind == "table":
        return _of_table(path, options)
    if kind == "array" and holds_npy(path):
        array = read_npy(path)
        if array.ndim == 2 or (bytes_as_they_are(array.dtype, options.like) and options.encode is None):
            return _of_array(array, path, options, options.like)
    return _of_whole(source, options)


def _with_note(source: Parted, note: str) -> Parted:
    """The same, whose first part says this."""

    def opened(start: int, stop: int) -> Source:
        part = source.open(start, stop)
        return part if start else replace(part, notes=[note, *part.notes])

    return replace(source, open=opened)


def _of_pictures(pictures: Pictures, options: Options) -> Parted:
    def opened(start: int, stop: int) -> Source:
        return open_pictures(pictures.part(start, stop), replace(options, first=start))

    return Parted(pictures.name, len(pictures.ids), pictures.stamp, opened, pictures.locked)


def _of_table(path: Path, options: Options) -> Parted:
    table = look_at(path, options)
    if table.features.form == "picture":
        return _of_pictures(table.pictures(options), options)
    if table.judged:
        return _of_whole(str(path), options)

    def opened(start: int, stop: int) -> Source:
        return table.embeddings(replace(options, first=start), range(start, stop))

    return Parted(table.name, len(table.ids), table.stamp, opened)


def _of_array(array: NDArray[Any], path: Path, options: Options, like: ItemSpec) -> Parted:
    check_batch_axis(array.shape, like, path.stem, channels_first=False)
    if len(array) == 0:
        raise InputError(f"{path} has the shape {array.shape}: there is no item in it.")
    facts = path.stat()
    ids = RowIds(len(array))

    def opened(start: int, stop: int) -> Source:
        part = replace(options, first=start)
        source = open_array(array[start:stop], part, name=path.stem, origin=str(path))
        source.ids = ids[start:stop]
        return source

    stamp = f"{path.resolve()} {array.shape} {array.dtype} {facts.st_size} {facts.st_mtime_ns}"
    return Parted(path.stem, len(array), stamp, opened)


def _of_whole(given: str | Spaces, options: Options) -> Parted:
    whole = open_as_asked(given, options)

    def opened(start: int, stop: int) -> Source:
        items = ChosenItems(whole.items, np.arange(start, stop))
        first = start == 0
        return replace(
            whole,
            items=items,
            ids=whole.ids[start:stop],
            skipped=whole.skipped if first else [],
            notes=whole.notes if first else [],
            pictures=None,
        )

    return Parted(whole.name, len(whole.items), _stamp_of_whole(whole), opened)


def _stamp_of_whole(whole: Source) -> str:
    """The fingerprint, which is that of the values, and the ids where they are more than numbers of rows."""
    if isinstance(whole.ids, RowIds):
        return whole.fingerprint
    ids = hashlib.sha256("\0".join(whole.ids).encode("utf-8", "surrogateescape"))
    return f"{whole.fingerprint} {ids.hexdigest()}"
