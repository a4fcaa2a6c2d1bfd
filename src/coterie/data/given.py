"""What a Python user hands over -> a path, paths of pictures, an array, or items by number.

Whatever is none of them gets one sentence that says what to give instead.
"""

from __future__ import annotations

import datetime
import io
import os
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coterie.common.words import capital
from coterie.data.column_names import listed, quoted
from coterie.data.frames import has_columns, is_empty, reads_by
from coterie.types import InputError

TIMES = (np.datetime64, np.timedelta64, datetime.date, datetime.time, datetime.timedelta)
MOST_TABLES = 3  # for training, validation and test
WANTED = "give a folder, a file, an array (n, d) or (n, h, w, c), a list of pictures or of their paths, or a Dataset"


@dataclass(frozen=True)
class Table:
    """An array and its name in messages; `channels_first` decides where the shape leaves the channels' axis open."""

    array: NDArray[Any]
    name: str = "array"
    channels_first: bool = False


@dataclass(frozen=True)
class Paths:
    """Picture files, one by one."""

    paths: list[str]


@dataclass(frozen=True)
class Numbered:
    """Anything with a length and items by number; `name` is what messages call it."""

    items: Any
    name: str
    where: str

    @property
    def at_start(self) -> str:
        """`where` with a capital letter, to begin a sentence."""
        return capital(self.where)


Given = str | Table | Paths | Numbered


def understand(source: Any) -> Given:
    """Sort out what was given, without looking at the values; InputError for what cannot be items to cluster."""
    import torch

    if isinstance(source, str | bytes | os.PathLike):
        return os.fsdecode(source)
    _refuse_what_is_no_source(source)
    if isinstance(source, torch.Tensor):
        return Table(tensor_array(source, "The tensor"), "tensor", channels_first=True)
    if isinstance(source, list | tuple):
        return _of_list(source, type(source).__name__)
    if has_columns(source):
        return _of_frame(source)
    if _is_dataset(source):
        name = type(source).__name__
        return Numbered(source, name, f"the Dataset {name}")
    array = _as_array(source)
    if array.ndim == 1 and array.dtype.kind in "OUST" and len(array):  # texts, or an array in each cell
        return _of_list(array.tolist() if array.dtype.kind != "O" else list(array), type(source).__name__)
    return Table(array)


def tensor_array(tensor: Any, what: str) -> NDArray[Any]:
    """The values of a tensor on any device; InputError, which calls it `what`, where it holds no real dense numbers."""
    import torch

    if tensor.is_nested:
        raise InputError(f"{what} is nested, with rows of different sizes; give one tensor (n, d).")
    if tensor.layout != torch.strided:
        raise InputError("Sparse input is not supported; give a dense tensor (tensor.to_dense()).")
    if tensor.is_meta:
        raise InputError(f"{what} is on the device meta and holds no values; give one that does.")
    if tensor.is_complex():
        raise InputError(f"Complex data not supported: {what.lower()} has dtype {tensor.dtype}; give real numbers.")
    if tensor.is_quantized:
        tensor = tensor.dequantize()
    tensor = tensor.detach().cpu().resolve_neg()
    if tensor.is_floating_point() and tensor.dtype not in (torch.float16, torch.float32, torch.float64):
        tensor = tensor.float()  # NumPy has no bfloat16 and no float8
    try:
        array: NDArray[Any] = tensor.numpy()
    except (TypeError, RuntimeError) as error:
        raise InputError(f"{what} of dtype {tensor.dtype} cannot be read as numbers; give tensor.float().") from error
    return array


def _refuse_what_is_no_source(source: Any) -> None:
    """Raise InputError for what a user may well take for a source, with what to give in its place."""
    from PIL import Image
    from scipy.sparse import issparse
    from torch.utils.data import DataLoader

    name = type(source).__name__
    if source is None or isinstance(source, int | float | complex | np.generic):
        raise InputError(f"{source!r} is no source; {WANTED}.")
    if isinstance(source, Image.Image):
        raise InputError("One picture cannot be sorted by itself; give a list of pictures ([picture] for one).")
    if issparse(source):
        raise InputError("Sparse input is not supported; give a dense array (matrix.toarray()).")
    if isinstance(source, Mapping):
        keys = ", ".join(map(str, list(source)[:8])) or "nothing"
        raise InputError(f"{_a(name)} is no source; give one of the values that it holds ({keys}).")
    if isinstance(source, DataLoader):
        raise InputError("A DataLoader gives batches in an order of its own; give its Dataset (loader.dataset).")
    if isinstance(source, Set):
        raise InputError(f"{_a(name)} has no order; give a list of them.")
    if isinstance(source, type):
        raise InputError(f"{_a(name)} holds no items yet; give an instance of it.")
    if (method := reads_by(source)) is not None:
        raise InputError(f"{_a(name)} holds no items yet; give what its {method}() returns.")
    if isinstance(source, Iterator):
        if hasattr(source, "read"):
            raise InputError("An open file is no source; give its path.")
        raise InputError(f"{_a(name)} can be read only once; give a list of its items.")


def _a(name: str) -> str:
    """The name of a class with its article, for the beginning of a sentence."""
    return f"{'An' if name[:1].lower() in 'aeio' else 'A'} {name}"


def _is_dataset(source: Any) -> bool:
    from torch.utils.data import Dataset

    if isinstance(source, Dataset):
        return True
    if isinstance(source, memoryview):
        return False
    arrays = ("__array__", "__array_interface__", "tocsr")
    sized = hasattr(source, "__len__") and hasattr(source, "__getitem__")
    return sized and not any(hasattr(source, name) for name in arrays)


def _of_list(items: Sequence[Any], name: str) -> Given:
    """A list of paths, pictures, arrays or rows of numbers: all items must be of the first one's kind."""
    import torch
    from PIL import Image

    if len(items) == 0:
        raise InputError(f"The {name} is empty: found 0 sample(s) while a minimum of 1 is required.")
    first = items[0]
    if _is_content(first):
        raise InputError(
            f"Item 0 of the {name} is the content of a file, not a picture or its path: give opened pictures, such as "
            "[PIL.Image.open(io.BytesIO(content)) for content in contents]."
        )
    if isinstance(first, str | bytes | os.PathLike):
        for row, item in enumerate(items):
            if not isinstance(item, str | bytes | os.PathLike):
                raise InputError(f"Item {row} of the {name} is a {type(item).__name__}, but the first is a path.")
        return Paths([os.fsdecode(item) for item in items])
    numbered = Numbered(items, name, f"the {name}")
    if isinstance(first, Image.Image | Mapping) or _begins_with_content(first):
        return numbered
    if all(isinstance(item, torch.Tensor) for item in items):
        if all(item.ndim == 2 for item in items):
            _refuse_blocks_of_rows(items, name)
        rows = [tensor_array(item, f"Item {row} of the {name}") for row, item in enumerate(items)]
        return _of_arrays(rows, numbered, channels_first=True)
    if hasattr(first, "__array__") and np.ndim(first) > 0:
        if len(items) == 2 and np.ndim(first) > 1 and np.ndim(items[1]) == 1 and len(first) == len(items[1]):
            raise InputError(f"The {name} is a pair of items and labels; give the items alone.")
        if all(np.ndim(item) == 2 for item in items):
            _refuse_blocks_of_rows(items, name)
        if not all(hasattr(item, "__array__") for item in items):
            return numbered
        return _of_arrays([_as_array(item) for item in items], numbered)
    return Table(_as_array(items))


def _is_content(item: Any) -> bool:
    """Whether this is an encoded picture: bytes, an open file, or what `datasets` makes of a picture for pandas."""
    if isinstance(item, Mapping):
        return item.keys() == {"bytes", "path"}
    return (isinstance(item, bytes | bytearray) and 0 in item) or isinstance(item, io.IOBase)  # no path has a zero byte


def _refuse_blocks_of_rows(items: Sequence[Any], name: str) -> None:
    """Raise InputError for tables of embeddings, such as those for training and test, which look like pictures."""
    shapes = [np.shape(item) for item in items]
    one_width = len({width for _, width in shapes}) == 1 and len({height for height, _ in shapes}) > 1
    if one_width or (name == "tuple" and len(items) <= MOST_TABLES):
        raise InputError(
            f"The {name} of {len(items)} arrays of shapes such as {shapes[0]} may be tables of embeddings or grey "
            "pictures: give one array of all rows (numpy.concatenate), or a list of pictures (h, w, 1)."
        )


def _begins_with_content(item: Any) -> bool:
    """Whether the item is a tuple, or list, of an image or vector and something that is none, such as a label."""
    from PIL import Image

    if not isinstance(item, list | tuple) or not item:
        return False
    if isinstance(item[0], Image.Image):
        return True
    shapes = [getattr(part, "shape", ()) for part in item]
    return len(shapes[0]) > 0 and any(shape != shapes[0] for shape in shapes)


def _of_arrays(rows: list[NDArray[Any]], numbered: Numbered, *, channels_first: bool = False) -> Given:
    if all(row.shape == rows[0].shape and row.dtype == rows[0].dtype for row in rows):
        return Table(np.stack(rows), channels_first=channels_first)
    if rows[0].ndim > 1:
        return numbered  # images of several sizes
    for number, row in enumerate(rows):
        if row.shape != rows[0].shape:
            raise InputError(
                f"Item {number} of {numbered.where} has the shape {row.shape}, but item 0 has {rows[0].shape}."
            )
    return Table(np.stack(rows))


def _of_frame(frame: Any) -> Given:
    """A DataFrame or a pyarrow Table: its only column if that holds lists or texts, else all columns as one array."""
    names = [str(name) for name in (getattr(frame, "column_names", None) or frame.columns)]
    kind = type(frame).__name__
    if not names or len(frame) == 0:
        raise InputError(
            f"The {kind} is empty: it has 0 feature(s) or 0 sample(s) (shape=({len(frame)}, {len(names)})) while a "
            "minimum of 1 is required."
        )
    cells = [_first_cell(frame, place) for place in range(len(names))]
    texts = str | bytes | os.PathLike | Mapping
    inner = [place for place, cell in enumerate(cells) if np.ndim(cell) > 0 or isinstance(cell, texts)]
    if inner and len(names) > 1:
        best = next((place for place in inner if np.ndim(cells[place]) > 0), inner[0])  # vectors before their names
        raise InputError(
            f"The {kind} has columns that are not numbers ({listed(names[place] for place in inner)}) beside "
            f"others; give one column, such as frame[{names[best]!r}], or the columns of features alone."
        )
    if inner:
        items = list(_as_array(_column(frame, 0)))
        for row, cell in enumerate(items):
            if is_empty(cell):
                raise InputError(
                    f"Row {row} of the {kind} is empty in column {quoted(names[0])}: fill it or leave it out."
                )
        return _of_list(items, kind)
    times = [names[place] for place, cell in enumerate(cells) if isinstance(cell, TIMES)]
    if 0 < len(times) < len(names):
        raise InputError(
            f"The {kind} has columns of times ({', '.join(times)}) beside others: turn them into numbers, or leave "
            "them out."
        )
    return Table(_as_array(frame))


def _column(frame: Any, place: int) -> Any:
    if hasattr(frame, "iloc"):
        return frame.iloc[:, place]
    return frame.column(place) if hasattr(frame, "column") else frame[frame.columns[place]]


def _first_cell(frame: Any, place: int) -> Any:
    """The first cell that holds anything: a row that is empty says nothing of its column's kind."""
    column = _as_array(_column(frame, place))
    if column.dtype != object:
        return column[0]
    return next((cell for cell in column if not is_empty(cell)), column[0])


def _as_array(source: Any) -> NDArray[Any]:
    if isinstance(source, np.ma.MaskedArray):
        if np.ma.is_masked(source):
            place = tuple(int(at) for at in np.argwhere(np.ma.getmaskarray(source))[0])
            raise InputError(f"The array has masked values, the first at {place}; fill them or leave those rows out.")
        return np.asarray(source.data)
    if isinstance(source, np.memmap):
        return source
    kind = type(source).__name__
    try:
        array = np.asarray(source)
    except Exception as error:  # whatever the object raises instead of becoming an array
        raise InputError(_why_no_array(source, kind)) from error
    if array.ndim == 0 and not isinstance(source, np.ndarray):
        raise InputError(f"{_a(kind)} is no source; {WANTED}.")
    return array


def _why_no_array(source: Any, kind: str) -> str:
    lengths = (
        [len(row) if hasattr(row, "__len__") else -1 for row in source] if isinstance(source, list | tuple) else []
    )
    if lengths and min(lengths) < 0:
        return f"Row {lengths.index(-1)} of the {kind} has no row of values, as others have; give rows of one length."
    for row, length in enumerate(lengths):
        if length != lengths[0]:
            return (
                f"Row {row} of the {kind} has {length} values and row 0 has {lengths[0]}: it cannot be turned into an "
                "array; give rows of one length."
            )
    return f"The {kind} cannot be turned into an array of numbers; {WANTED}."
