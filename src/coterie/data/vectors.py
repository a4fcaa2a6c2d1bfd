"""Embeddings (n, d): what they must be like, and how they are kept.

Messages about wrong arrays follow scikit-learn's, so that its own checks of an estimator recognise them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from coterie.data.fingerprint import array_fingerprint
from coterie.data.forms import Options, check_kind
from coterie.data.items import Embeddings
from coterie.data.rows import RowIds, blocks
from coterie.types import InputError, Source


class NotNumeric(InputError, TypeError):
    """An array of objects that are not numbers; scikit-learn's contract wants a TypeError here."""


def open_vectors(array: NDArray[Any], options: Options, *, name: str, origin: str) -> Source:
    """Check the embeddings in one pass; InputError for anything that could not be clustered."""
    if array.ndim != 2:
        raise InputError(
            f"Expected 2D array, got {array.ndim}D array instead: reshape {name} with array.reshape(-1, 1) if it has "
            "a single feature, or array.reshape(1, -1) if it is a single sample."
        )
    check_kind(options, "embeddings", name)
    if array.dtype.kind == "O":
        array = _numbers(array, name)
    if array.dtype.kind not in "buif":
        raise InputError(f"{name} has dtype {array.dtype}, but embeddings must be numbers.")
    _check_shape(array, options, name)
    constant = _check_values(array, name)
    if constant and options.like is None:
        raise InputError(
            f"All features of {name} are constant (every row is the same), so there is nothing to cluster."
        )
    fingerprint = array_fingerprint(array)
    if array.dtype != np.float32 and array.size * 4 <= options.memory_limit:
        array = array.astype(np.float32)
    return Source(name, origin, Embeddings(array), RowIds(len(array)), fingerprint, family="vector")


def _numbers(array: NDArray[Any], name: str) -> NDArray[np.float64]:
    try:
        return array.astype(np.float64)
    except TypeError as error:
        raise NotNumeric(f"{name} has values that are not numbers ({error}).") from error
    except ValueError as error:
        raise InputError(f"{name} has values that are not numbers ({error}).") from error


def _check_shape(array: NDArray[Any], options: Options, name: str) -> None:
    n, d = array.shape
    for count, what in ((n, "sample"), (d, "feature")):
        if count == 0:
            raise InputError(
                f"{name} is empty: found array with 0 {what}(s) (shape={array.shape}) while a minimum of 1 is required."
            )
    if n < options.minimum:
        raise InputError(f"{name} has n_samples={n}, but clustering needs at least {options.minimum}.")
    if options.like is not None and d != options.like.dim:
        raise InputError(
            f"X has {d} features, but coterie is expecting {options.like.dim} features as input: "
            "the model was fitted on embeddings of that width."
        )


def _check_values(array: NDArray[Any], name: str) -> bool:
    """Raise InputError at the first value that is not a finite float32; return whether all rows are the same."""
    constant, first = True, np.asarray(array[0], np.float32)
    for start, rows in blocks(array):
        with np.errstate(over="ignore"):
            values = rows.astype(np.float32, copy=False)
        # A sum is finite only if all its terms are, and costs no second array; it may also overflow, hence the look.
        if not np.isfinite(values.sum(dtype=np.float64)):
            bad = np.argwhere(~np.isfinite(values))
            if len(bad):
                row, column = bad[0]
                what = "NaN" if np.isnan(values[row, column]) else "infinity or a value too large for float32"
                raise InputError(
                    f"Input X contains {what}: row {start + row}, column {column} of {name}; "
                    "remove or replace such values first."
                )
        constant = constant and bool((values == first).all())
    return constant
