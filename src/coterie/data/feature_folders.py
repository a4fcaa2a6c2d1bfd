"""A folder that `coterie embed` wrote -> a Source of embeddings whose items are the pictures."""

from __future__ import annotations

import os
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from coterie.data.array_files import read_npy
from coterie.data.extensions import open_image
from coterie.data.items import DecodedImages, Embeddings
from coterie.data.picture_form import Options
from coterie.data.pixel_values import ValueRule
from coterie.data.vectors import open_vectors
from coterie.records.features import FEATURES, ITEMS, read_features
from coterie.records.files import check_regular
from coterie.records.run import EncodingEntry
from coterie.records.table import open_table
from coterie.types import Encoding, InputError, Items, ItemSpec, Skipped, Source

if TYPE_CHECKING:
    from PIL.Image import Image

SHOWN = 128  # pixels of the pictures in a report


def open_features(folder: Path, options: Options, *, origin: str | None = None) -> Source:
    """Open the embeddings of pictures. Raises InputError where the files do not fit each other or the model `like`."""
    record = read_features(folder)
    array = read_npy(folder / FEATURES)
    check_regular(folder / ITEMS)
    ids, _ = read_items(folder)
    if array.shape != (record.n, record.dim) or len(ids) != record.n:
        raise InputError(
            f"{folder} is damaged: {FEATURES} has the shape {array.shape} and {ITEMS} {len(ids)} rows, but its "
            f"manifest says {record.n} x {record.dim}: embed again."
        )
    skipped = [Skipped(item.id, item.reason) for item in record.skipped]
    source = with_encoding(array, encoding_of(record.encoding), (record.low, record.high), options, record.name)
    source.origin = origin if origin is not None else os.fspath(folder)
    source.ids, source.fingerprint, source.skipped = ids, record.fingerprint, skipped
    source.notes = [*record.notes, *source.notes]
    if record.path and Path(record.path).is_dir():
        source.pictures = files_below(Path(record.path), ids, options)
    return source


def encoding_of(entry: EncodingEntry) -> Encoding:
    """A manifest's encoder as an `Encoding`, which the other stages use."""
    values = entry.model_dump(include=set(Encoding.__dataclass_fields__))
    return Encoding(**{**values, "mean": tuple(entry.mean), "std": tuple(entry.std)})


def with_encoding(
    array: NDArray[Any], encoding: Encoding, values: tuple[float, float], options: Options, name: str
) -> Source:
    """Embeddings with their encoder in the `ItemSpec`. Raises InputError where the model was fitted with another."""
    check_encoding(encoding, options.like, name)
    like = None if options.like is None else replace(options.like, encoding=None)
    source = open_vectors(array, replace(options, like=like), name=name, origin=name)
    assert isinstance(source.items, Embeddings)
    source.items.spec = replace(source.items.spec, encoding=encoding, low=values[0], high=values[1])
    return source


def check_encoding(encoding: Encoding, like: ItemSpec | None, name: str) -> None:
    """Raise InputError where a model was fitted on embeddings of another encoder, or of another transform."""
    if like is None or like.encoding == encoding:
        return
    if like.encoding is None:
        kind = like.kind
        raise InputError(
            f"{name} holds embeddings of {encoding.encoder}, but the model was fitted on {kind}: give it those."
        )
    if like.encoding.encoder != encoding.encoder and like.encoding.weights != encoding.weights:
        raise InputError(
            f"{name} came through the encoder {encoding.encoder}, but the model was fitted on embeddings of "
            f"{like.encoding.encoder}: give it the pictures, or their embeddings by that one."
        )
    compared = (field.name for field in fields(encoding) if field.compare)
    differs = next(key for key in compared if getattr(encoding, key) != getattr(like.encoding, key))
    raise InputError(
        f"{name} came through {encoding.encoder} with {differs} {_brief(getattr(encoding, differs))}, but the model "
        f"was fitted with {_brief(getattr(like.encoding, differs))}: embed the pictures as they were for the model."
    )


def _brief(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 16 else f"{text[:12]}..."


def read_items(folder: Path) -> tuple[list[str], list[bytes]]:
    """The ids of the pictures and the SHA-256 of their files, in the order of the embeddings.

    Raises InputError for a damaged file.
    """
    with open_table(folder / ITEMS, "id", "digest") as file:
        table = file.read(columns=["id", "digest"])
        ids, digests = table["id"].to_pylist(), table["digest"].to_pylist()
    if not all(isinstance(item, str) for item in ids) or not all(isinstance(digest, bytes) for digest in digests):
        raise InputError(f"{folder / ITEMS} is damaged: it needs a text and a digest for each picture: embed again.")
    return ids, digests


def files_below(root: Path, ids: list[str], options: Options) -> Items:
    """The pictures of a folder by their ids, decoded only when they are asked for, as by a report."""

    def load(row: int) -> Image:
        from coterie.data.shrink import Unreadable

        place = Path(ids[row])
        if place.is_absolute() or ".." in place.parts:
            raise Unreadable("its name leads out of the folder")
        return open_image(root / place)

    spec = ItemSpec("images", channels=3, height=SHOWN, width=SHOWN)
    return DecodedImages(load, np.arange(len(ids)), ids, spec, options.threads, ValueRule())
