"""A map-style torch Dataset (or anything with `len` and items) -> a Source; labels in its items are not looked at."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from coterie.common.words import kind_in_a_line
from coterie.data.array_rows import RowIds
from coterie.data.arrays import channel_axis
from coterie.data.given import Numbered, tensor_array
from coterie.data.picture_form import Options
from coterie.data.pictures import Pictures, open_pictures
from coterie.data.pixel_values import BYTE, ValueRule, rule_for, scale_of
from coterie.data.ranges import PixelValues
from coterie.data.survey import Survey
from coterie.data.vectors import open_vectors
from coterie.types import InputError, ItemSpec, Source

if TYPE_CHECKING:
    from PIL.Image import Image


IMAGE_KEYS = ("image", "img", "pixel_values")  # of items that are dictionaries, as those of Hugging Face's datasets
VECTOR_KEYS = ("embedding", "embeddings", "features", "vector")


def open_dataset(given: Numbered, options: Options) -> Source:
    """Open items that are a Pillow image, a tensor, an array or a list of numbers (image or vector), a tuple that
    begins with one, or a dictionary that has one of `IMAGE_KEYS` or `VECTOR_KEYS`.

    All items are read once to learn their sizes and values, and a second time to store them, in order and in one
    thread: a Dataset may not be safe to use from several. One with random transforms gives other images each time, so
    give it without them.
    """
    count = _length(given)
    first = _first(given, count)
    origin = f"Dataset {given.name}" if given.where.startswith("the Dataset") else given.where.removeprefix("the ")
    if isinstance(first, np.ndarray) and first.ndim == 1:
        return open_vectors(_vectors(given, count), options, name=given.name, origin=origin)
    survey, rule, digests = _look(given, count, options.like)

    def load(row: int) -> Image:
        return _picture(_content(given, row), rule)

    stamp = hashlib.sha256(b"".join(digests)).hexdigest()
    pictures = Pictures(
        given.name,
        given.where,
        origin,
        RowIds(count),
        load,
        digests.__getitem__,
        stamp,
        list(rule.notes) if rule else [],
        serial=True,
        values=rule.range if rule else None,
    )
    return open_pictures(pictures, options, survey)


def _length(given: Numbered) -> int:
    from torch.utils.data import IterableDataset

    numbered = hasattr(given.items, "__len__") and hasattr(given.items, "__getitem__")
    try:
        if not numbered or isinstance(given.items, IterableDataset):
            raise TypeError
        count = len(given.items)
    except Exception as error:  # a length that cannot be told
        raise InputError(
            f"{given.at_start} has no length or no items by number; only map-style Datasets can be clustered."
        ) from error
    if count == 0:
        raise InputError(f"{given.at_start} is empty.")
    return count


def _first(given: Numbered, count: int) -> Any:
    """The first item that can be read: all others must be of its kind, images or vectors."""
    for row in range(count):
        try:
            return _content(given, row)
        except InputError:
            raise
        except Exception as error:  # whatever the user's own code raises
            reason = error
    raise InputError(f"No item of {given.where} can be read (the last: {kind_in_a_line(reason)}).")


def _content(given: Numbered, row: int) -> Any:
    """Return the item without its label: a Pillow image, or an array with the channels last."""
    import torch
    from PIL import Image

    what = f"Item {row} of {given.where}"
    try:
        item = given.items[row]
    except IndexError as error:
        raise InputError(
            f"{given.at_start} says that it has {len(given.items)} items, but gives none by the number {row}."
        ) from error
    item = _without_label(item, what)
    if isinstance(item, Image.Image):
        return item
    channels_first = isinstance(item, torch.Tensor)
    if isinstance(item, torch.Tensor):
        item = tensor_array(item, what)
    if isinstance(item, list | tuple):
        item = _plain_numbers(item)
    if not isinstance(item, np.ndarray) or item.dtype.kind not in "buif" or item.ndim == 0:
        kind = f"an array of dtype {item.dtype}" if isinstance(item, np.ndarray) else f"of type {type(item).__name__}"
        kind = "a single number" if isinstance(item, np.ndarray) and item.ndim == 0 else kind
        raise InputError(
            f"{what} is {kind}, but it must be an image, a tensor or an array of real numbers "
            "(or a tuple that begins with one)."
        )
    if item.ndim == 3 and channel_axis((1, *item.shape), channels_first) == 1:
        item = np.moveaxis(item, 0, -1)
    return item


def _without_label(item: Any, what: str) -> Any:
    if isinstance(item, Mapping):
        found = [key for key in (*IMAGE_KEYS, *VECTOR_KEYS) if key in item]
        if len(found) != 1:
            keys = ", ".join(map(str, item)) or "nothing"
            raise InputError(
                f"{what} is a dict of {keys}, but it must have exactly one of {', '.join(IMAGE_KEYS + VECTOR_KEYS)}; "
                "give a Dataset whose items are the images or vectors."
            )
        return item[found[0]]
    if isinstance(item, list | tuple) and len(item):
        numbers = isinstance(item[0], int | float | np.generic) or (isinstance(item, list) and _is_plain(item[0]))
        return item if numbers else item[0]
    return item


def _is_plain(part: Any) -> bool:
    """A list of numbers, or of such lists."""
    return isinstance(part, list) and len(part) > 0 and (isinstance(part[0], int | float) or _is_plain(part[0]))


def _plain_numbers(item: Any) -> Any:
    """Lists of numbers as an array; a list of a list and a label, as a tuple of both, is that list."""
    for candidate in (item, item[0] if item else None):
        try:
            array = np.asarray(candidate)
        except (TypeError, ValueError):
            continue
        if array.dtype.kind in "buifc" and array.ndim:
            return array
    return item


def _vectors(given: Numbered, count: int) -> NDArray[Any]:
    rows = []
    for number in range(count):
        try:
            rows.append(np.asarray(_content(given, number)))
        except InputError:
            raise
        except Exception as error:  # whatever the user's own code raises
            raise InputError(
                f"Item {number} of {given.where} cannot be read ({kind_in_a_line(error)}); leave it out."
            ) from error
        if rows[-1].shape != rows[0].shape:
            raise InputError(
                f"Item {number} of {given.where} has shape {rows[-1].shape}, but item 0 has {rows[0].shape}."
            )
    return np.stack(rows)


def _pixels(item: Any, what: str) -> NDArray[Any]:
    from PIL import Image

    try:
        pixels = np.asarray(item)
        if pixels.dtype.kind == "O" and isinstance(item, Image.Image):
            item.load()  # Pillow before 11.1 gives no array of a closed picture and no error either; this raises it
        return pixels
    except Exception as error:
        # What `with Image.open(path) as picture` leaves of a picture that nobody looked at meanwhile.
        if isinstance(item, Image.Image) and (getattr(item, "fp", item) is None or "closed" in str(error)):
            raise InputError(
                f"{what} is a picture that was closed before it was read: give its path, or call its load() first."
            ) from error
        raise


def _look(given: Numbered, count: int, like: ItemSpec | None) -> tuple[Survey, ValueRule | None, list[bytes]]:
    """Read every item once: sizes, values of all of them, digests. The rule is None where items are Pillow images."""
    values, digests = PixelValues(), []
    survey = Survey.empty(count)
    dtype: np.dtype[Any] | None = None
    for row in range(count):
        try:
            item = _content(given, row)
            pixels = _pixels(item, f"Item {row} of {given.where}")
        except InputError:
            raise
        except Exception as error:  # whatever the user's own code raises for an image that it cannot read
            survey.fail(row, error)
            digests.append(b"unreadable")
            continue
        if pixels.ndim not in (2, 3):
            raise InputError(f"Item {row} of {given.where} has shape {pixels.shape}, which is no image.")
        digests.append(hashlib.sha256(np.ascontiguousarray(pixels).data).digest())
        if item is not pixels:
            try:
                survey.look(row, item)
            except Exception as error:  # as for the pictures of a folder
                survey.fail(row, error)
            continue
        survey.heights[row], survey.widths[row] = pixels.shape[:2]
        survey.grey[row] = pixels.ndim == 2 or pixels.shape[2] == 1
        dtype = dtype or pixels.dtype
        if pixels.dtype != dtype:
            raise InputError(f"Item {row} of {given.where} has dtype {pixels.dtype}, but the items before it {dtype}.")
        if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
            raise InputError(f"Item {row} of {given.where} contains NaN or infinite values; repair or remove it.")
        values.add(row, pixels[None])
    if dtype is None:
        return survey, None, digests
    if survey.wide.any():
        raise InputError(
            f"{given.at_start} mixes arrays with Pillow images of more than 8 bits; let all items be of one kind."
        )
    if dtype == np.uint8 and scale_of(like)[:2] == BYTE:
        return survey, ValueRule(), digests
    return survey, rule_for(dtype, values, given.where, like), digests


def _picture(item: Any, rule: ValueRule | None) -> Image:
    from PIL import Image

    if isinstance(item, Image.Image):
        return item.copy()  # it will be closed after use, and it is the Dataset's
    assert rule is not None  # there is one as soon as there is an array
    pixels = rule(item)
    return Image.fromarray(
        np.ascontiguousarray(pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels)
    )
