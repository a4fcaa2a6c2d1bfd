"""The true labels of the named data sets, in the order of `named.open_named`. Only evaluation asks for them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from coterie.data.array_files import read_npz
from coterie.data.encoding import Labels, encode
from coterie.data.formats import read_cifar, read_idx, read_stl_labels
from coterie.data.named import CIFAR10_BATCHES, CIFAR100_BATCHES
from coterie.data.named_files import MEDMNIST, VGG16_FC1, locate

FASHION = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]
CIFAR10 = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
DIGITS = [str(digit) for digit in range(10)]


def row_labels(name: str) -> Labels | None:
    """Return a label for every row; None for a set whose labels are not one class per image (chestmnist).

    Not for sets in folders, whose ids hold the class, nor for those in a table.
    """
    if name == "digits":
        from sklearn.datasets import load_digits

        return Labels(load_digits().target.astype(np.int64), DIGITS)
    place = locate(name)
    if name in MEDMNIST:
        return None if name == "chestmnist" else _medmnist(name, place)
    if name == VGG16_FC1:
        codes = read_npz(place, ("labels",), "labels").reshape(-1)
        return Labels(codes.astype(np.int64), CIFAR10)
    if name in ("mnist", "fashion-mnist"):
        codes = np.concatenate([read_idx(place, f"{part}-labels-idx1-ubyte") for part in ("train", "t10k")])
        return Labels(codes.astype(np.int64), DIGITS if name == "mnist" else FASHION)
    if name == "stl10":
        codes = np.concatenate([read_stl_labels(place / f"{part}_y.bin") for part in ("train", "test")])
        file = place / "class_names.txt"
        return Labels(
            codes, file.read_text(encoding="utf-8").split() if file.is_file() else [str(code) for code in range(10)]
        )
    if name == "cifar10":
        return Labels(_cifar(place, CIFAR10_BATCHES, "labels"), CIFAR10)
    codes = _cifar(place, CIFAR100_BATCHES, "coarse_labels")
    meta = place / "meta"
    classes = read_cifar(meta)["coarse_label_names"] if meta.is_file() else [str(code) for code in range(20)]
    return Labels(codes, list(classes))


def folder_labels(ids: Sequence[str]) -> Labels:
    """Return the first folder of each path: ImageNet's synset."""
    return encode([name.split("/", 1)[0] for name in ids])


def _cifar(folder: Path, batches: list[str], key: str) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.concatenate([np.asarray(read_cifar(folder / batch)[key], np.int64) for batch in batches])


def _medmnist(name: str, file: Path) -> Labels:
    labels = encode(read_npz(file, ("labels",), "labels").reshape(-1).tolist())
    try:
        from medmnist import INFO
    except ImportError:  # the package only adds the names of the classes
        return labels
    classes = INFO[name]["label"]
    return Labels(labels.codes, [classes.get(code, code) for code in labels.names])
