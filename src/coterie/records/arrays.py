"""Reads `.npz` files of a run folder: only the arrays asked for, and none that its file is too small for."""

from __future__ import annotations

import io
import math
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coterie.common.words import in_a_line
from coterie.records.files import is_there, open_regular
from coterie.types import InputError

DENSEST = 1100  # bytes that one byte of a deflated file can stand for, and some


def read_arrays(path: Path, wanted: Mapping[str, tuple[str, int]]) -> dict[str, NDArray[Any]] | None:
    """Arrays by name; `wanted` has the kinds of dtype ("iu", "f", "U") and the number of axes of each.

    None where there is no file. Raises InputError; nothing is unpickled, and no array is made before its size has been
    held against that of the file.
    """
    if not is_there(path):
        return None
    try:
        with open(open_regular(path), "rb") as file, zipfile.ZipFile(file) as stored:
            return {name: _read(stored, name, *form) for name, form in wanted.items()}
    except InputError as error:
        raise error if str(path) in str(error) else InputError(f"{path} is damaged: {error}") from error
    except Exception as error:  # a damaged header alone raises five kinds of errors
        reason = in_a_line(error)
        raise InputError(f"{path} is damaged ({reason}): delete it, or run again.") from error


def _read(stored: zipfile.ZipFile, name: str, kinds: str, axes: int) -> NDArray[Any]:
    """One array of an archive, read only where header, size and kind fit. Raises InputError."""
    try:
        member = stored.getinfo(f"{name}.npy")
    except KeyError:
        raise InputError(f"it has no array {name}.") from None
    if member.file_size > DENSEST * (member.compress_size + 1):
        raise InputError(f"its array {name} asks for {member.file_size:,} bytes, which it cannot hold.")
    with stored.open(member) as file:
        start = io.BytesIO(file.read(min(member.file_size, 1 << 16)))
        version = np.lib.format.read_magic(start)
        read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        shape, _, dtype = read_header[version](start)
        if dtype.kind not in kinds or len(shape) != axes:
            raise InputError(f"its array {name} is of {dtype} with {len(shape)} axes, which is another kind.")
        if math.prod(shape) * dtype.itemsize != member.file_size - start.tell():
            raise InputError(f"its array {name} says it has {shape} entries, but holds another number.")
    with stored.open(member) as file:
        return legible(np.asarray(np.lib.format.read_array(file, allow_pickle=False)))


def legible(array: NDArray[Any]) -> NDArray[Any]:
    """The array, also one of records; InputError where its texts hold numbers that are no characters.

    NumPy takes any 32 bits for a character; Python then fails when the text is first used.
    """
    for name in array.dtype.names or ():
        legible(array[name])
    if array.dtype.kind == "U" and array.nbytes:
        order = "<" if array.dtype.str[0] == "<" else ">"
        codes = np.ascontiguousarray(array).reshape(-1).view(f"{order}u4")
        if len(codes) and int(codes.max()) > sys.maxunicode:
            row = int(np.flatnonzero(codes > sys.maxunicode)[0]) // (array.dtype.itemsize // 4)
            raise InputError(f"text {row} holds what is no character: the file is damaged.")
    return array
