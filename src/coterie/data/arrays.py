"""Arrays -> a Source of images or embeddings."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from coterie.data.array_rows import RowIds, blocks, gather
from coterie.data.fingerprint import array_fingerprint
from coterie.data.items import ArrayImages
from coterie.data.picture_form import Options, check_kind, choose_form
from coterie.data.pictures import Pictures
from coterie.data.pixel_values import ValueRule, array_rule
from coterie.data.survey import Survey
from coterie.data.vectors import check_numbers, open_vectors, said_of_codes
from coterie.types import InputError, ItemSpec, Source

SMALLEST_SIDE = 4  # pixels; (h, w, 3) is no batch of pictures that are 3 pixels wide
PLAIN_SIDE = 16  # pixels; three grey pictures of less are taken as such


def open_array(
    array: NDArray[Any],
    options: Options,
    *,
    name: str,
    origin: str,
    channels_first: bool = False,
    family: Literal["photo", "glyph"] = "photo",
) -> Source:
    """Open (n, d) embeddings or (n, h, w), (n, h, w, c), (n, c, h, w) images with c = 1, 3 or 4.

    Where the shape does not say which axis holds the channels, `channels_first` does.
    Raises InputError for pixels that are no numbers, and for too few images.
    """
    check_numbers(array, name)
    if options.first is None:
        check_batch_axis(array.shape, options.like, name, channels_first=channels_first)
    if array.ndim <= 2:
        source = open_vectors(array, options, name=name, origin=origin)
        source.notes += said_of_codes(array, (), name) if options.like is None else []
        return source
    if options.encode is None:
        check_kind(options, "images", name)
    if array.dtype.kind == "O":
        raise InputError(f"{name} has dtype {array.dtype}, but pixels must be numbers.")
    axis = channel_axis(array.shape, channels_first)
    if len(array) < options.minimum or 0 in array.shape:
        raise InputError(f"{name} has shape {array.shape} (n_samples={len(array)}), too few images to work with.")
    rule = array_rule(array, name, options.like)
    if array.ndim == 3 and array.dtype.kind == "f" and any("stretched" in note for note in rule.notes):
        taken = f"{name} of shape {array.shape} was taken as {len(array):,} grey pictures; embeddings are (n, d)."
        rule = replace(rule, notes=(taken, *rule.notes))
    if options.encode is not None:
        pictures = array_pictures(array, axis, rule, name=name, origin=origin, family=family)
        if (encoded := options.encode(*pictures, options)) is not None:
            return encoded
        check_kind(options, "images", name)
    channels = 1 if axis is None else array.shape[axis]
    height, width = array.shape[2:] if axis == 1 else array.shape[1:3]
    spec, notes = choose_form(np.array([width]), np.array([height]), channels == 1, options, rule.range)
    notes = [*rule.notes, *notes]
    items = _image_items(array, axis, rule, spec, options.memory_limit)
    fingerprint = array_fingerprint(array)
    return Source(name, origin, items, RowIds(len(array)), fingerprint, notes=notes, family=family)


def check_batch_axis(shape: tuple[int, ...], like: ItemSpec | None, name: str, *, channels_first: bool) -> None:
    """Raise InputError for a single picture: its rows of pixels would be taken for items."""
    if like is not None and like.kind == "images" and shape == (like.height, like.width):
        raise InputError(f"{name} has the shape {shape}, one picture without a batch axis: give array[None].")
    if len(shape) != 3:
        return
    if shape[2] in (1, 3, 4) and shape[1] > SMALLEST_SIDE:
        raise InputError(
            f"{name} has the shape {shape}, one picture without a batch axis: give array[None], or several as "
            "(n, h, w, c)."
        )
    few = shape[0] == 3 and ((like is not None and like.channels == 3) or channels_first)
    if few and min(shape[1:]) >= PLAIN_SIDE:
        raise InputError(
            f"{name} has the shape {shape}, one picture of three channels or three grey ones: give array[None] for the "
            "first, array[:, None] for the second."
        )


def channel_axis(shape: tuple[int, ...], channels_first: bool) -> int | None:
    """Return which axis holds the channels, None for (n, h, w); InputError for shapes of no image."""
    if len(shape) == 3:
        return None
    possible = [axis for axis in ((1, 3) if channels_first else (3, 1)) if len(shape) == 4 and shape[axis] in (1, 3, 4)]
    if not possible:
        raise InputError(
            f"An array of shape {tuple(shape)} is neither images (n, h, w), (n, h, w, c), (n, c, h, w) with 1, 3 or 4 "
            "channels nor embeddings (n, d); reshape it."
        )
    return possible[0]


def array_pictures(
    array: NDArray[Any], axis: int | None, rule: ValueRule, *, name: str, origin: str, family: Literal["photo", "glyph"]
) -> tuple[Pictures, Survey]:
    """The images of an array one by one, and the survey that a first pass over picture files would give."""
    from PIL import Image

    def pixels(row: int) -> NDArray[np.uint8]:
        image = rule(gather(array, np.array([row])))[0]
        image = image[..., None] if axis is None else np.moveaxis(image, axis - 1, -1)
        return np.ascontiguousarray(image[..., 0] if image.shape[-1] == 1 else image)

    def digest(row: int) -> bytes:
        image = pixels(row)
        return hashlib.sha256(repr(image.shape).encode() + image.data).digest()

    survey = Survey.empty(len(array))
    survey.heights[:], survey.widths[:] = array.shape[2:] if axis == 1 else array.shape[1:3]
    survey.grey[:] = axis is None or array.shape[axis] == 1
    ids, where = RowIds(len(array)), f"the array {name}"
    stamp = array_fingerprint(array)
    pictures = Pictures(
        *(name, where, origin, ids, lambda row: Image.fromarray(pixels(row)), digest, stamp, list(rule.notes)),
        family=family,
        values=rule.range,
    )
    return pictures, survey


def _image_items(
    array: NDArray[Any], axis: int | None, rule: ValueRule, spec: ItemSpec, memory_limit: int
) -> ArrayImages:
    """Choose between the array as it is, a converted copy in memory, and conversion of what is taken."""
    form = (spec.channels, spec.height, spec.width)
    first, whole = array[:, None] if axis is None else array, spec.encoding is None or spec.encoding.crop == 1
    if whole and axis != 3 and array.dtype == np.uint8 and rule.range == (0, 0) and first.shape[1:] == form:
        return ArrayImages(first, spec)

    def convert(rows: NDArray[Any]) -> NDArray[np.uint8]:
        pixels = rule(rows)
        pixels = pixels[..., None] if axis is None else np.moveaxis(pixels, axis, -1)
        if whole and pixels.shape[1:] == (spec.height, spec.width, spec.channels):
            return pixels.transpose(0, 3, 1, 2)
        return _fit_each(pixels, spec)

    mapped = isinstance(array, np.memmap) and array.dtype == np.uint8
    if mapped or len(array) * int(np.prod(form)) > memory_limit:
        return ArrayImages(array, spec, convert)
    pixels = np.empty((len(array), *form), np.uint8)
    for start, rows in blocks(array):
        pixels[start : start + len(rows)] = convert(rows)
    return ArrayImages(pixels, spec)


def _fit_each(pixels: NDArray[np.uint8], spec: ItemSpec) -> NDArray[np.uint8]:
    """Bring (b, h, w, c) pixels to the form with Pillow, as files are."""
    from PIL import Image

    from coterie.data.decode import fit

    single = pixels[..., 0] if pixels.shape[-1] == 1 else pixels
    return np.stack([fit(Image.fromarray(np.ascontiguousarray(image)), spec) for image in single])
