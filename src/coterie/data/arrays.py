"""Arrays in memory or in .npy and .npz files -> a Source of images or embeddings."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from coterie.data.fingerprint import array_fingerprint
from coterie.data.forms import Options, check_kind, choose_form
from coterie.data.items import ArrayImages
from coterie.data.rows import RowIds, blocks
from coterie.data.values import ValueRule, array_rule
from coterie.data.vectors import open_vectors
from coterie.types import InputError, ItemSpec, Source

IMAGE_KEYS = ("images", "x", "X", "data", "embeddings", "embedding", "features")  # tried in this order
SPLITS = ("train", "val", "test")  # MedMNIST's file: train_images, train_labels, ...


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
    """
    if array.dtype.kind == "c":
        raise InputError(f"Complex data not supported: {name} has dtype {array.dtype}; give real numbers.")
    if array.ndim <= 2:
        return open_vectors(array, options, name=name, origin=origin)
    check_kind(options, "images", name)
    if array.dtype.kind not in "buif":
        raise InputError(f"{name} has dtype {array.dtype}, but pixels must be numbers.")
    axis = channel_axis(array.shape, channels_first)
    if len(array) < options.minimum or 0 in array.shape:
        raise InputError(f"{name} has shape {array.shape} (n_samples={len(array)}), too few images to work with.")
    rule = array_rule(array, name, options.like)
    channels = 1 if axis is None else array.shape[axis]
    height, width = array.shape[2:] if axis == 1 else array.shape[1:3]
    spec, notes = choose_form(np.array([width]), np.array([height]), channels == 1, options, rule.range)
    notes = [*rule.notes, *notes]
    items = _image_items(array, axis, rule, spec, options.memory_limit)
    fingerprint = array_fingerprint(array)
    return Source(name, origin, items, RowIds(len(array)), fingerprint, notes=notes, family=family)


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


def _image_items(
    array: NDArray[Any], axis: int | None, rule: ValueRule, spec: ItemSpec, memory_limit: int
) -> ArrayImages:
    """Choose between the array as it is, a converted copy in memory, and conversion of what is taken."""
    form = (spec.channels, spec.height, spec.width)
    first = array[:, None] if axis is None else array
    if axis != 3 and array.dtype == np.uint8 and rule.range == (0, 0) and first.shape[1:] == form:
        return ArrayImages(first, spec)

    def convert(rows: NDArray[Any]) -> NDArray[np.uint8]:
        pixels = rule(rows)
        pixels = pixels[..., None] if axis is None else np.moveaxis(pixels, axis, -1)
        if pixels.shape[1:] == (spec.height, spec.width, spec.channels):
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


def open_npy(path: Path, options: Options) -> Source:
    """Open a .npy file as a read-only memory map."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path} cannot be read as a .npy array of numbers ({error}).") from error
    return open_array(array, options, name=path.stem, origin=os.fspath(path))


def open_npz(path: Path, options: Options) -> Source:
    """Open a .npz file: see `IMAGE_KEYS`, MedMNIST's train/val/test_images, or its only array."""
    return open_array(read_npz(path, IMAGE_KEYS, "images"), options, name=path.stem, origin=os.fspath(path))


def read_npz(path: Path, keys: tuple[str, ...], suffix: str) -> NDArray[Any]:
    """Return the first of `keys`, or the splits' `train_<suffix>` ... joined, or the only array; else InputError."""
    try:
        with np.load(path, allow_pickle=False) as file:
            for key in keys:
                if key in file.files:
                    return file[key]
            parts = [f"{split}_{suffix}" for split in SPLITS if f"{split}_{suffix}" in file.files]
            if not parts and len(file.files) == 1:
                parts = file.files
            if parts:
                return np.concatenate([file[part] for part in parts])
            names = ", ".join(file.files) or "nothing"
    # numpy lets zipfile's and zlib's own errors through for a damaged archive
    except Exception as error:
        raise InputError(f"{path} cannot be read as a .npz file of numbers ({error}).") from error
    raise InputError(f"{path} holds {names}, and none of them is called {', '.join(keys)} or train_{suffix}.")
