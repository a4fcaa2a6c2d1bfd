"""The named data sets: all images of a set, train and test together, as the papers cluster them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from coterie.data.array_files import IMAGE_KEYS, read_npz
from coterie.data.arrays import open_array
from coterie.data.folders import folder_pictures
from coterie.data.formats import read_cifar, read_idx, read_stl_images
from coterie.data.named_files import MEDMNIST, MEDMNIST_3D, SYNSETS, VGG16_FC1, locate, missing
from coterie.data.picture_form import Options
from coterie.data.pictures import open_pictures
from coterie.data.tables import open_table
from coterie.data.volumes import open_volumes
from coterie.types import InputError, Source

GLYPHS = ("digits", "mnist")  # a mirrored or turned one is another one
Split = Literal["labelled", "unlabeled"]


def open_named(name: str, options: Options, *, split: Split = "labelled") -> Source:
    """Open a named data set; InputError with the expected layout if its files are not here.

    `split="unlabeled"` gives STL-10's 100,000 further images, which serve pre-training only.
    """
    if split == "unlabeled" and name != "stl10":
        raise InputError(f"{name} has no unlabeled images; only stl10 has.")
    source = _open_named(name, options, split)
    source.family_known = True
    return source


def _open_named(name: str, options: Options, split: Split) -> Source:
    if name == "digits":
        return open_array(_digits(), options, name=name, origin=name, family="glyph")
    place = locate(name)
    if place.suffix == ".parquet":
        return open_table(place, options, name=name, origin=name)
    if name in SYNSETS or name == "tiny-imagenet":
        root = place / "train" if name == "tiny-imagenet" else place
        synsets = SYNSETS.get(name, [])
        for synset in synsets:
            if not (root / synset).is_dir():
                raise missing(name, synset)
        return open_pictures(folder_pictures(root, origin=name, name=name, only=synsets), options)
    if split == "unlabeled":
        pixels: NDArray[Any] = read_stl_images(place / "unlabeled_X.bin")
    elif name in MEDMNIST_3D:
        return open_volumes(read_npz(place, IMAGE_KEYS, "images"), options, name=name, origin=name)
    elif name == VGG16_FC1:
        pixels = read_npz(place, ("features",), "features")
    elif name in MEDMNIST:
        pixels = read_npz(place, IMAGE_KEYS, "images")
    else:
        pixels = _READERS[name](place)
    family: Literal["photo", "glyph"] = "glyph" if name in GLYPHS else "photo"
    # CIFAR and STL-10 say (n, 3, h, w), the others have the channels last or none.
    source = open_array(pixels, options, name=name, origin=name, channels_first=True, family=family)
    if name == "stl10" and split == "labelled":
        source.extra_file = "unlabeled_X.bin"
        if (place / source.extra_file).is_file():
            # Opened when a method wants it: a run without it should not wait for 2.8 GB.
            source.extra = lambda: open_named(name, options, split="unlabeled").items
    return source


def _digits() -> NDArray[np.uint8]:
    """scikit-learn's digits, 1,797 images of 8x8 pixels with values 0 to 16."""
    from sklearn.datasets import load_digits

    return np.rint(load_digits().images * (255 / 16)).astype(np.uint8)


def _mnist(folder: Path) -> NDArray[np.uint8]:
    return np.concatenate([read_idx(folder, f"{part}-images-idx3-ubyte") for part in ("train", "t10k")])


def _cifar(folder: Path, batches: list[str]) -> NDArray[np.uint8]:
    parts = []
    for batch in batches:
        pixels = read_cifar(folder / batch).get("data")
        if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.shape[1:] != (3072,):
            raise InputError(f"{folder / batch} holds no CIFAR images; put the data set's original file there.")
        parts.append(pixels.reshape(-1, 3, 32, 32))
    return np.concatenate(parts)


def _stl10(folder: Path) -> NDArray[np.uint8]:
    return np.concatenate([read_stl_images(folder / f"{part}_X.bin") for part in ("train", "test")])


CIFAR10_BATCHES = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]
CIFAR100_BATCHES = ["train", "test"]
_READERS = {
    "fashion-mnist": _mnist,
    "mnist": _mnist,
    "cifar10": lambda folder: _cifar(folder, CIFAR10_BATCHES),
    "cifar20": lambda folder: _cifar(folder, CIFAR100_BATCHES),
    "stl10": _stl10,
}
