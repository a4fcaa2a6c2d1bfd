"""`result.parquet`: opening it, and what its columns must hold whoever reads them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from coterie.common.words import in_a_line
from coterie.records.files import check_regular
from coterie.types import InputError

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

ROWS_A_BYTE = 64  # more rows than that no table with ids can hold
VALUES_A_BYTE = 1000  # nor more probabilities: sure ones compress to almost nothing, their ids do not


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn whatever a reader of Parquet raises into an InputError that names the file."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # damaged pages raise OSError, ArrowException, ValueError, UnicodeDecodeError, ...
        reason = in_a_line(error)
        raise InputError(
            f"{path} is not a result table of coterie, or a damaged one ({reason}): run `coterie fit` or "
            "`coterie predict` again."
        ) from error


@contextmanager
def open_table(path: Path, *needed: str) -> Iterator[pq.ParquetFile]:
    """A Parquet file with these columns whose size its content can have. Raises InputError, also while it is read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    check_regular(path)
    # By its bytes: pyarrow opens no path that is in no encoding.
    with reading(path), pa.OSFile(os.fsencode(path)) as content, pq.ParquetFile(content) as file:
        columns = file.schema_arrow.names
        for name in needed:
            if columns.count(name) != 1:
                raise InputError(
                    f"{path} is not a result table of coterie: it has {columns.count(name) or 'no'} columns {name}."
                )
        rows, size = file.metadata.num_rows, path.stat().st_size
        widest = max((getattr(kind, "list_size", 1) for kind in file.schema_arrow.types), default=1)
        if not 0 <= rows <= ROWS_A_BYTE * size or rows * widest > VALUES_A_BYTE * size + (1 << 22):
            raise InputError(f"{path} is damaged: it says it has {rows:,} rows, which its size cannot hold.")
        yield file


def check_ids(path: Path, ids: pa.ChunkedArray) -> None:
    """Raise InputError for ids that are no texts, missing, or there twice."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if ids.type not in (pa.string(), pa.large_string()):
        raise InputError(f"{path} is not a result table of coterie: its column id holds {ids.type}, not texts.")
    if ids.null_count:
        raise InputError(f"{path} is damaged: its column id has {ids.null_count:,} empty places.")
    if pc.count_distinct(ids).as_py() < len(ids):
        counted = pc.value_counts(ids)
        twice = counted.filter(pc.greater(counted.field("counts"), 1))[0]["values"].as_py()
        raise InputError(f"{path} is damaged: the id {twice!r} stands in it twice.")


FLOATS = {"halffloat": "float16", "float": "float32", "double": "float64"}  # by pyarrow's names of them


def numbers(column: pa.Array | pa.ChunkedArray) -> NDArray[Any]:
    """The values of a column of integers or floats, NaN at empty places. pyarrow's own way imports pandas."""
    import pyarrow as pa

    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if array.null_count:
        return np.asarray(array.to_numpy(zero_copy_only=False))
    kind = np.dtype(FLOATS.get(str(array.type), str(array.type)))
    content = array.buffers()[1] if len(array) else b""
    return np.frombuffer(content, kind, len(array), array.offset * kind.itemsize if len(array) else 0)


def labels_of(path: Path, table: pa.Table, k: int | None) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Labels and confidences. Raises InputError for labels outside of 0 to k - 1 and for what is no probability."""
    import pyarrow as pa

    label, confidence = table["label"], table["confidence"]
    if not pa.types.is_integer(label.type) or not pa.types.is_floating(confidence.type):
        raise InputError(
            f"{path} is not a result table of coterie: label holds {label.type}, confidence {confidence.type}."
        )
    if label.null_count or confidence.null_count:
        raise InputError(f"{path} is damaged: label or confidence has empty places.")
    labels, sure = numbers(label).astype(np.int64), numbers(confidence).astype(np.float64)
    wrong = (labels < 0) | (labels >= (len(labels) if k is None else k))
    if wrong.any():
        row = int(wrong.argmax())
        most = "" if k is None else f", but the run has {k} groups"
        raise InputError(f"{path} is damaged: row {row} is in group {labels[row]}{most}.")
    wrong = ~((sure >= 0) & (sure <= 1 + 1e-4))
    if wrong.any():
        row = int(wrong.argmax())
        raise InputError(f"{path} is damaged: row {row} has the confidence {sure[row]:g}, which is no probability.")
    return labels, sure
