"""Arrays in .npy and .npz files: headers are read and measured before anything is allocated; no pickle is opened."""

from __future__ import annotations

import math
import os
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coterie.data.arrays import open_array
from coterie.data.column_names import listed, names_items_only
from coterie.data.picture_form import Options
from coterie.types import InputError, Source

IMAGE_KEYS = ("images", "x", "X", "data", "embeddings", "embedding", "features")  # tried in this order
SPLITS = ("train", "val", "test")  # MedMNIST's file: train_images, train_labels, ...
NPY, ZIP = b"\x93NUMPY", b"PK"
OBJECTS = "it holds Python objects, whose pickle could run code; save numbers"
Header = tuple[tuple[int, ...], "np.dtype[Any]"]


def open_array_file(path: Path, options: Options) -> Source:
    """Open a .npy file as a read-only memory map, or a .npz file; the first bytes of the file say which it is."""
    zipped = _is_zip(path)
    notes: list[str] = []
    if zipped:
        array, notes = _images_of(path)
    else:
        array = read_npy(path)
    kind = ".npz" if zipped else ".npy"
    if path.suffix.lower() != kind:
        notes.append(f"{path.name} is a {kind} file by its content and was read as one.")
    source = open_array(array, options, name=path.stem, origin=os.fspath(path))
    source.notes.extend(notes)
    return source


def read_npy(path: Path) -> NDArray[Any]:
    """Map a .npy file for reading; InputError for one that is damaged, cut off, or holds Python objects."""
    try:
        with path.open("rb") as file:
            shape, dtype = npy_header(file)
            begin = file.tell()
        if dtype.hasobject:
            raise InputError(OBJECTS)
        _check_size((shape, dtype), path.stat().st_size - begin)
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    # numpy parses the header as Python, and lets whatever that raises through
    except Exception as error:
        raise InputError(f"{path} cannot be read as a .npy array of numbers ({_why(error)}).") from error
    return array


def read_npz(path: Path, keys: tuple[str, ...], suffix: str) -> NDArray[Any]:
    """Return the first of `keys`, or the splits' `train_<suffix>` ... joined, or the only array; else InputError."""
    headers = npz_headers(path)
    return _read(path, headers, _choose(path, headers, keys, suffix))


def npz_headers(path: Path) -> dict[str, Header]:
    """Shape and dtype of every array in a .npz file; InputError where one is damaged."""
    found: dict[str, Header] = {}
    try:
        with zipfile.ZipFile(path) as file:
            for info in file.infolist():
                name = info.filename.removesuffix(".npy")
                if name == info.filename:
                    continue
                with file.open(info) as member:
                    found[name] = npy_header(member)
                    begin = member.tell()
                _check_size(found[name], info.file_size - begin)
    # zipfile and zlib have errors of their own for a damaged archive
    except Exception as error:
        raise InputError(f"{path} cannot be read as a .npz file of numbers ({_why(error)}).") from error
    if {"format", "shape", "data"} <= found.keys():
        raise InputError(f"{path} holds a sparse matrix of SciPy; save it dense, as matrix.toarray().")
    return found


def _images_of(path: Path) -> tuple[NDArray[Any], list[str]]:
    """The array of items in a .npz file, and what else might have been meant."""
    headers = npz_headers(path)
    chosen = _choose(path, headers, IMAGE_KEYS, "images")
    for key in chosen:
        shape = headers[key][0]
        if len(shape) < 2 and not headers[key][1].hasobject:
            raise InputError(
                f"{key} in {path} is {len(shape)}-D, but items have a row each and at least two axes; the file holds "
                f"{_listed(headers, headers)}."
            )
    _check_one_kind(path, headers, chosen)
    others = [key for key, (shape, _) in headers.items() if len(shape) > 1 and key not in chosen and "label" not in key]
    notes = []
    if others:
        notes.append(f"{path.name} holds {_listed(headers, [*chosen, *others])}: {' and '.join(chosen)} was taken.")
    naming = [key for key, (shape, _) in headers.items() if len(shape) == 1 and names_items_only(key)]
    if naming:
        notes.append(f"Items go by their number, and not by {listed(naming)} in {path.name}.")
    return _read(path, headers, chosen), notes


def _check_one_kind(path: Path, headers: dict[str, Header], chosen: list[str]) -> None:
    """Raise InputError for parts whose items differ in shape or type: a byte and a share of one are no common scale."""
    kinds = {(shape[1:], dtype.newbyteorder("=")) for shape, dtype in (headers[key] for key in chosen)}
    if len(kinds) > 1:
        parts = " and ".join(f"{key} {headers[key][0]} of {headers[key][1].name}" for key in chosen)
        raise InputError(f"{path} holds {parts}: items of one shape and one type are grouped; save one as .npy.")


def _choose(path: Path, headers: dict[str, Header], keys: tuple[str, ...], suffix: str) -> list[str]:
    for key in keys:
        if key in headers:
            return [key]
    parts = [f"{split}_{suffix}" for split in SPLITS if f"{split}_{suffix}" in headers]
    if not parts and len(headers) == 1:
        parts = list(headers)
    if not parts:
        raise InputError(
            f"{path} holds {_listed(headers, headers)}, and none of them is called {', '.join(keys)} or train_{suffix}."
        )
    return parts


def _read(path: Path, headers: dict[str, Header], chosen: Sequence[str]) -> NDArray[Any]:
    try:
        size = sum(math.prod(headers[key][0]) * headers[key][1].itemsize for key in chosen)
        if size > _memory():
            raise InputError(f"unpacked it takes {size / 1e9:,.0f} GB, more than the memory; save it as .npy")
        with np.load(path, allow_pickle=False) as file:
            if any(headers[key][1].hasobject for key in chosen):
                raise InputError(OBJECTS)
            parts = [file[key] for key in chosen]
            return parts[0] if len(parts) == 1 else np.concatenate(parts)
    except Exception as error:
        raise InputError(f"{path} cannot be read as a .npz file of numbers ({_why(error)}).") from error


def holds_npy(path: Path) -> bool:
    """Whether a file is a .npy array by its content. Raises InputError where it is neither .npy nor .npz."""
    return not _is_zip(path)


def _is_zip(path: Path) -> bool:
    """Whether a file is .npz (a zip) and not .npy; InputError for an empty file and for one that is neither."""
    if not path.is_file():
        raise InputError(f"{path} is no regular file; give one that is.")
    try:
        with path.open("rb") as file:
            first = file.read(len(NPY))
    except OSError as error:
        raise InputError(f"{path} cannot be read ({(error.strerror or str(error)).lower()}).") from error
    if first.startswith(ZIP):
        return True
    if first != NPY:
        what = "array" if path.suffix.lower() == ".npy" else "file"
        why = "it begins otherwise" if first else "it is empty: 0 bytes"
        raise InputError(f"{path} cannot be read as a {path.suffix.lower()} {what} of numbers ({why}).")
    return False


def npy_header(file: Any) -> Header:
    """Shape and dtype, by the header at the start of a .npy file; leaves the file where the values begin."""
    version = np.lib.format.read_magic(file)
    # Version 3 differs from 2 in the encoding of field names alone.
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    return shape, dtype


def _check_size(header: Header, size: int) -> None:
    """Raise InputError where the header promises more or fewer values than the file's `size` bytes hold."""
    shape, dtype = header
    if dtype.hasobject:
        return  # pickled: how many bytes that takes, nothing says
    if any(length < 0 for length in shape):
        raise InputError(f"its header has the shape {shape}")
    needed = math.prod(shape) * dtype.itemsize
    if needed > size:
        raise InputError(f"it is cut off: of {needed:,} bytes there are {max(size, 0):,}")
    if needed < size:
        raise InputError(
            f"{size - needed:,} bytes follow its array, which may be a second one; save one array in a file"
        )


def _listed(headers: dict[str, Header], keys: Any) -> str:
    named = [f"{key} {headers[key][0]}" for key in keys]
    return ", ".join(named[:12]) + (f" and {len(named) - 12} more" if len(named) > 12 else "") or "nothing"


def _memory() -> int:
    """Bytes of memory that this machine has; a huge number where the system does not say."""
    if not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:
        return 1 << 62
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _why(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text).splitlines()[0][:160]
