"""Where the files of the named data sets are looked for, and their download, if the user asks for it.

The places are folders below `$COTERIE_DATA` (`~/.cache/coterie` if that is not set), and absolute ones.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from coterie.common.extras import imported
from coterie.common.words import in_a_line
from coterie.data.files import path_of
from coterie.types import InputError

# The classes of both subsets, by their WordNet ids ("n" and eight digits).
IMAGENET10 = [
    f"n{number:08d}"
    for number in (2056570, 2085936, 2128757, 2690373, 2692877, 3095699, 4254680, 4285008, 4467665, 7747607)
]
IMAGENET_DOGS = [
    f"n{number:08d}"
    for number in (
        *(2085936, 2086646, 2088238, 2091467, 2097130, 2099601, 2101388, 2101556),
        *(2102177, 2105056, 2105412, 2105855, 2107142, 2110958, 2112137),
    )
]
SYNSETS = {"imagenet10": IMAGENET10, "imagenet-dogs": IMAGENET_DOGS}
MEDMNIST_3D = (
    "organmnist3d",
    "nodulemnist3d",
    "adrenalmnist3d",
    "fracturemnist3d",
    "vesselmnist3d",
    "synapsemnist3d",
)
MEDMNIST = (
    *("pathmnist", "chestmnist", "dermamnist", "octmnist", "pneumoniamnist", "retinamnist"),
    *("breastmnist", "bloodmnist", "tissuemnist", "organamnist", "organcmnist", "organsmnist"),
    *MEDMNIST_3D,
)
VGG16_FC1 = "cifar10-vgg16fc1"  # embeddings: see experiments/vgg16_features.py
# How many groups the papers ask for. BreastMNIST's files carry two labels, though R-DC's table says three classes; an
# image of ChestMNIST may have several.
GROUPS = {
    "digits": 10,
    "fashion-mnist": 10,
    "mnist": 10,
    "cifar10": 10,
    VGG16_FC1: 10,
    "cifar20": 20,
    "stl10": 10,
    "tiny-imagenet": 200,
    "imagenet10": 10,
    "imagenet-dogs": 15,
    "pathmnist": 9,
    "dermamnist": 7,
    "octmnist": 4,
    "pneumoniamnist": 2,
    "retinamnist": 5,
    "breastmnist": 2,
    "bloodmnist": 8,
    "tissuemnist": 8,
    "organamnist": 11,
    "organcmnist": 11,
    "organsmnist": 11,
    "organmnist3d": 11,
    "nodulemnist3d": 2,
    "adrenalmnist3d": 2,
    "fracturemnist3d": 3,
    "vesselmnist3d": 2,
    "synapsemnist3d": 2,
}


@dataclass(frozen=True)
class Layout:
    """Folders to try, the file or folder that shows that it is the right one, and torchvision's class that loads it."""

    folders: tuple[str, ...]
    probe: str
    torchvision: str = ""


IDX = "train-images-idx3-ubyte"
LAYOUTS = {
    # The last one is where Debian's package dataset-fashion-mnist puts the files.
    "fashion-mnist": Layout(
        ("fashion-mnist", "FashionMNIST/raw", "/usr/share/datasets/fashion-mnist"), IDX, "FashionMNIST"
    ),
    "mnist": Layout(("mnist", "MNIST/raw"), IDX, "MNIST"),
    "cifar10": Layout(("cifar-10-batches-py", "cifar10/cifar-10-batches-py", "cifar10"), "data_batch_1", "CIFAR10"),
    "cifar20": Layout(("cifar-100-python", "cifar100/cifar-100-python", "cifar100"), "train", "CIFAR100"),
    "stl10": Layout(("stl10_binary", "stl10/stl10_binary", "stl10"), "train_X.bin", "STL10"),
    "tiny-imagenet": Layout(("tiny-imagenet-200", "tiny-imagenet"), "train"),
    "imagenet10": Layout(("imagenet10", "imagenet/train", "imagenet"), IMAGENET10[0]),
    "imagenet-dogs": Layout(("imagenet-dogs", "imagenet/train", "imagenet"), IMAGENET_DOGS[0]),
}


def names() -> list[str]:
    """Return the names that `open_source` knows."""
    return ["digits", *LAYOUTS, VGG16_FC1, *MEDMNIST]


def data_root() -> Path:
    """Where data sets are looked for and kept. Raises InputError where no such place is known."""
    root = os.environ.get("COTERIE_DATA")
    if not root and os.path.expanduser("~") == "~":  # as in a container whose user has no name
        raise InputError("This user has no home folder to keep data sets in: set COTERIE_DATA to a folder.")
    return path_of(root or "~/.cache/coterie", "COTERIE_DATA")


def locate(name: str) -> Path:
    """Return the folder, .npz or .parquet file of a data set; InputError with the expected layout if it is nowhere.

    It is downloaded where `$COTERIE_DOWNLOAD` is 1; nothing goes to the network otherwise.
    """
    found = _find(name)
    if found is None and os.environ.get("COTERIE_DOWNLOAD") == "1":
        _download(name)
        found = _find(name)
    if found is None:
        raise missing(name)
    return found


def missing(name: str, file: str = "") -> InputError:
    """Return the error that says what must lie where."""
    root = data_root()
    lacks = f"The data set {name} lacks {file}" if file else f"The data set {name} is not here"
    if name in MEDMNIST:
        return InputError(
            f"{lacks}: put {name}.npz into {root} (or set COTERIE_DATA), or set COTERIE_DOWNLOAD=1 with the package "
            "medmnist installed."
        )
    if name == VGG16_FC1:
        return InputError(
            f"{lacks}: put {name}.npz with the arrays features (n, 4096) and labels (n,) into {root} (or set "
            "COTERIE_DATA); experiments/vgg16_features.py of coterie's repository makes it from cifar10."
        )
    place = LAYOUTS[name]
    below = " or ".join(str(root / folder) for folder in place.folders)
    ask = ", or set COTERIE_DOWNLOAD=1" if place.torchvision else ""
    return InputError(
        f"{lacks}: put its original files (among them {place.probe}) into {below}, or a table with the columns image "
        f"and label at {root / f'{name}.parquet'} (or set COTERIE_DATA){ask}."
    )


def _find(name: str) -> Path | None:
    root = data_root()
    if name in MEDMNIST:
        files = (root / f"{name}.npz", Path(os.path.expanduser("~/.medmnist"), f"{name}.npz"))
        return next((file for file in files if file.is_file()), None)
    if name == VGG16_FC1:
        file = root / f"{name}.npz"
        return file if file.is_file() else None
    place = LAYOUTS[name]
    for folder in place.folders:
        probe = root / folder / place.probe
        if probe.exists() or probe.with_name(f"{probe.name}.gz").exists():
            return root / folder
    table = root / f"{name}.parquet"
    return table if table.is_file() else None


def _download(name: str) -> None:
    root = data_root()
    try:
        root.mkdir(parents=True, exist_ok=True)
        if name in MEDMNIST:
            absent = f"To download {name}, install medmnist first: pip install 'coterie[medmnist]'."
            medmnist = imported("medmnist", absent)
            info = medmnist.INFO[name]
            getattr(medmnist, info["python_class"])(split="train", download=True, root=str(root))
        elif name in LAYOUTS and LAYOUTS[name].torchvision:
            from torchvision import datasets

            getattr(datasets, LAYOUTS[name].torchvision)(root=str(root), download=True)
    except (OSError, RuntimeError) as error:
        raise InputError(f"{name} could not be downloaded into {root} ({in_a_line(error)}).") from error
