"""The file formats that well-known data sets come in: IDX (MNIST), CIFAR's Python batches, STL-10's binary files."""

from __future__ import annotations

import gzip
import pickle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coterie.data.files import regular_file
from coterie.types import InputError

STL_SHAPE = (3, 96, 96)


def _check(path: Path) -> None:
    """Refuse pipes and devices, which have no end. A missing file is reported by whoever reads it."""
    if path.exists():
        regular_file(path, "The file")


def read_idx(folder: Path, name: str) -> NDArray[np.uint8]:
    """Read an IDX file of unsigned bytes, as it is or as .gz.

    Format: two zero bytes, type 8, number of axes, each axis' length as a big-endian 32-bit number, then the values.
    Raises InputError for a file of another kind.
    """
    path = folder / name if (folder / name).is_file() else folder / f"{name}.gz"
    _check(path)
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError) as error:
        raise InputError(f"{path} cannot be read ({error}); put the data set's original file there.") from error
    axes = content[3] if len(content) > 3 else 0
    start = 4 + 4 * axes
    shape = tuple(np.frombuffer(content[4:start], ">u4").astype(int)) if len(content) >= start else ()
    if content[:3] != b"\0\0\x08" or not axes or len(content) - start != int(np.prod(shape)):
        raise InputError(f"{path} is no whole IDX file of bytes; put the data set's original file there.")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


class _ArraysOnly(pickle.Unpickler):
    """Unpickles arrays, lists and strings and nothing else: a pickle may otherwise run any code."""

    def find_class(self, module: str, name: str) -> Any:
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name == "_reconstruct":
            return np.empty(0).__reduce__()[0]
        if module == "numpy" and name in ("ndarray", "dtype"):
            return getattr(np, name)
        if (module, name) == ("_codecs", "encode"):
            return lambda text, encoding: text.encode(encoding)
        raise pickle.UnpicklingError(f"it holds {module}.{name}")


def read_cifar(path: Path) -> dict[str, Any]:
    """Read one of CIFAR's Python batches or its `meta` file: a pickled dictionary of an array and lists.

    Raises InputError for a file of another kind.
    """
    _check(path)
    try:
        with path.open("rb") as file:
            content = _ArraysOnly(file, encoding="latin1").load()
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror}); put the data set's original file there."
        ) from error
    # A damaged pickle raises almost anything.
    except Exception as error:
        raise InputError(f"{path} is no CIFAR batch ({error}); put the data set's original file there.") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} is no CIFAR batch; put the data set's original file there.")
    return content


def read_stl_images(path: Path) -> NDArray[np.uint8]:
    """Map an STL-10 image file, uint8 (n, 3, 96, 96): the file has the columns of each channel one after the other.

    Raises InputError for a file of another kind.
    """
    _check(path)
    try:
        flat = np.memmap(path, np.uint8, "r")
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}); put the data set's original file there.") from error
    if flat.size % int(np.prod(STL_SHAPE)):
        raise InputError(f"{path} is no whole STL-10 file of images; put the data set's original file there.")
    return flat.reshape(-1, *STL_SHAPE).transpose(0, 1, 3, 2)


def read_stl_labels(path: Path) -> NDArray[np.int64]:
    """Read an STL-10 label file, from 0; the file counts from 1. Raises InputError for a file that cannot be read."""
    _check(path)
    try:
        return np.fromfile(path, np.uint8).astype(np.int64) - 1
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror}); put the data set's original file there."
        ) from error
