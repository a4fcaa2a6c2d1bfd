"""A map-style torch Dataset (or anything with `len` and items) -> a Source; labels in its items are not looked at."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from coterie.data.arrays import channel_axis
from coterie.data.forms import Options
from coterie.data.pictures import Pictures, open_pictures
from coterie.data.ranges import PixelValues
from coterie.data.rows import RowIds
from coterie.data.survey import Survey
from coterie.data.values import BYTE, ValueRule, rule_for, scale_of
from coterie.data.vectors import open_vectors
from coterie.types import InputError, ItemSpec, Source

if TYPE_CHECKING:
    from PIL.Image import Image


def open_dataset(dataset: Any, options: Options) -> Source:
    """Open items that are a Pillow image, a tensor or array (image or vector), or a tuple that begins with one.

    All items are read once to learn their sizes and values, and a second time to store them, in order and in one
    thread: a Dataset may not be safe to use from several. One with random transforms gives other images each time, so
    give it without them.
    """
    if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
        raise InputError("The Dataset has no length or no items by number; only map-style Datasets can be clustered.")
    name = type(dataset).__name__
    if len(dataset) == 0:
        raise InputError(f"The Dataset {name} is empty.")
    if np.ndim(_content(dataset, 0)) == 1:
        return open_vectors(_vectors(dataset), options, name=name, origin=f"Dataset {name}")
    survey, rule, digests = _look(dataset, name, options.like)

    def load(row: int) -> Image:
        return _picture(_content(dataset, row), rule)

    stamp = hashlib.sha256(b"".join(digests)).hexdigest()
    pictures = Pictures(
        name,
        f"the Dataset {name}",
        f"Dataset {name}",
        RowIds(len(dataset)),
        load,
        digests.__getitem__,
        stamp,
        list(rule.notes) if rule else [],
        serial=True,
        values=rule.range if rule else None,
    )
    return open_pictures(pictures, options, survey)


def _content(dataset: Any, row: int) -> Any:
    """Return the item without its label: a Pillow image, or an array with the channels last."""
    import torch
    from PIL import Image

    item = dataset[row]
    if isinstance(item, (tuple, list)) and len(item):
        item = item[0]
    if isinstance(item, Image.Image):
        return item
    channels_first = isinstance(item, torch.Tensor)
    if isinstance(item, torch.Tensor):
        item = item.detach().cpu()
        item = (item.float() if item.dtype == torch.bfloat16 else item).numpy()
    if not isinstance(item, np.ndarray) or item.dtype.kind not in "buif":
        raise InputError(
            f"Item {row} of the Dataset is a {type(item).__name__}, but it must be an image, a tensor or an array "
            "(or a tuple that begins with one)."
        )
    if item.ndim == 3 and channel_axis((1, *item.shape), channels_first) == 1:
        item = np.moveaxis(item, 0, -1)
    return item


def _vectors(dataset: Any) -> NDArray[Any]:
    rows = [np.asarray(_content(dataset, row)) for row in range(len(dataset))]
    for number, row in enumerate(rows):
        if row.shape != rows[0].shape:
            raise InputError(f"Item {number} of the Dataset has shape {row.shape}, but item 0 has {rows[0].shape}.")
    return np.stack(rows)


def _look(dataset: Any, name: str, like: ItemSpec | None) -> tuple[Survey, ValueRule | None, list[bytes]]:
    """Read every item once: sizes, values of all of them, digests. The rule is None where items are Pillow images."""
    count, values, digests = len(dataset), PixelValues(), []
    survey = Survey.empty(count)
    dtype: np.dtype[Any] | None = None
    for row in range(count):
        try:
            item = _content(dataset, row)
            pixels = np.asarray(item)
        except InputError:
            raise
        except Exception as error:  # whatever the user's own code raises for an image that it cannot read
            survey.fail(row, error)
            digests.append(b"unreadable")
            continue
        if pixels.ndim not in (2, 3):
            raise InputError(f"Item {row} of the Dataset has shape {pixels.shape}, which is no image.")
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
            raise InputError(f"Item {row} of the Dataset has dtype {pixels.dtype}, but the items before it {dtype}.")
        if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
            raise InputError(f"Item {row} of the Dataset contains NaN or infinite values; repair or remove it.")
        values.add(row, pixels[None])
    if dtype is None:
        return survey, None, digests
    if survey.wide.any():
        raise InputError(
            f"The Dataset {name} mixes arrays with Pillow images of more than 8 bits; let all items be of one kind."
        )
    if dtype == np.uint8 and scale_of(like)[:2] == BYTE:
        return survey, ValueRule(), digests
    return survey, rule_for(dtype, values, f"the Dataset {name}", like), digests


def _picture(item: Any, rule: ValueRule | None) -> Image:
    from PIL import Image

    if isinstance(item, Image.Image):
        return item.copy()  # it will be closed after use, and it is the Dataset's
    assert rule is not None  # there is one as soon as there is an array
    pixels = rule(item)
    return Image.fromarray(
        np.ascontiguousarray(pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels)
    )
