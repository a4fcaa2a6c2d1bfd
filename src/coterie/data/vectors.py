"""Embeddings (n, d): what they must be like, and how they are kept.

Messages about wrong arrays follow scikit-learn's, so that its own checks of an estimator recognise them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coterie.data.array_rows import RowIds, blocks
from coterie.data.column_names import quoted
from coterie.data.column_words import family_of
from coterie.data.feature_columns import codes_among
from coterie.data.fingerprint import array_fingerprint
from coterie.data.items import Embeddings
from coterie.data.picture_form import Options, check_kind
from coterie.data.whole_numbers import STEPS, check_whole
from coterie.types import InputError, ItemSpec, Source

MAPPED = 256 << 20  # bytes of float32 from which on the rows of a mapped file are converted when they are taken
NOISE = 1e-13  # of a float's size: differences below may come from rounding alone


class NotNumeric(InputError, TypeError):
    """An array of objects that are not numbers; scikit-learn's contract wants a TypeError here."""


def open_vectors(
    array: NDArray[Any],
    options: Options,
    *,
    name: str,
    origin: str,
    columns: tuple[str, ...] = (),
    chosen: bool = False,
) -> Source:
    """Check the embeddings in one pass; InputError for anything that could not be clustered.

    `columns` are their names, where they have some: one each, or that of the list column that they come from.
    """
    if array.ndim != 2:
        one = " (one item is array[None], a single feature array[:, None])" if array.ndim == 1 else ""
        raise InputError(
            f"Reshape your data to (n, d): {name} has the shape {array.shape}, but embeddings have a row for each "
            f"item and a column for each feature{one}."
        )
    check_kind(options, "embeddings", name)
    if options.like is not None and options.like.encoding is not None:
        raise InputError(
            f"{name} holds embeddings that do not say where they come from, but the model was fitted on pictures that "
            f"came through {options.like.encoding.encoder}: give it pictures, or a folder that `coterie embed` wrote."
        )
    check_numbers(array, name)
    if array.dtype.kind == "O":
        array = _numbers(array, name)
    _check_shape(array, options, name)
    items = Embeddings(array, offset_of(array, options.like, name, columns), columns, chosen)
    constant = _check_values(items, name, options.first or 0)
    if constant and options.like is None and not options.alone:
        raise InputError(
            f"All features of {name} are constant (every row is the same), so there is nothing to cluster."
        )
    fingerprint = array_fingerprint(array)
    source = Source(name, origin, items, RowIds(len(array)), fingerprint, family="vector")
    offset = items.spec.offset
    if offset and options.like is None:
        moved = [f"{column_name(items, int(place))} ({offset[place]:.6g})" for place in np.flatnonzero(offset)]
        more = f" and {len(moved) - 5} more" if len(moved) > 5 else ""
        source.notes.append(
            f"Columns of {name} with small differences between large numbers had an offset subtracted: "
            f"{', '.join(moved[:5])}{more}."
        )
    room = min(options.memory_limit, MAPPED) if isinstance(array, np.memmap) else options.memory_limit
    if not offset and array.dtype != np.float32 and array.size * 4 <= room:
        source.items = Embeddings(items.convert(array), (), columns, chosen)
    return source


def said_of_codes(array: NDArray[Any], names: Sequence[str], name: str) -> list[str]:
    """A sentence on a column of codes (`codes_among`) among features that nobody chose; `names` may be empty."""
    found = codes_among(array, numbered=len({*map(family_of, names)}) < 2) if array.dtype.kind in "biuf" else None
    if found is None:
        return []
    place, what = found
    column = f"{names[place]}" if names else f"{place} of {name}"
    return [
        f"Column {column} has only {what}, and the others do not: it counts as a feature; leave it out if it is none."
    ]


def column_name(items: Embeddings, place: int) -> str:
    """What a feature is called in messages: its column's name in a table, else its number."""
    columns = items.spec.columns
    return quoted(columns[place]) if len(columns) == items.spec.dim else str(place)


def offset_of(
    array: NDArray[Any], like: ItemSpec | None, name: str, columns: tuple[str, ...] = ()
) -> tuple[float, ...]:
    """What to subtract from every feature so that float32 can hold its differences; empty where nothing is needed.

    Raises InputError for whole numbers so large that even float64 loses their differences.
    """
    if like is not None:
        if like.offset and array.dtype.kind == "f" and array.dtype.itemsize < 8:
            raise InputError(
                f"{name} has dtype {array.dtype}, but the model was fitted on differences that are smaller than its "
                "steps: give float64, as at fit."
            )
        return like.offset
    if array.dtype.itemsize < 4 or array.dtype == np.float32 or array.dtype.kind not in "iuf":
        return ()
    low, high = array[0], array[0]
    for _, rows in blocks(array):
        low, high = np.minimum(low, rows.min(0)), np.maximum(high, rows.max(0))
    if array.dtype.kind in "iu":
        for place, (smallest, greatest) in enumerate(zip(low.tolist(), high.tolist(), strict=True)):
            check_whole(smallest, greatest, columns[place] if len(columns) == len(low) else str(place), name)
    with np.errstate(over="ignore", invalid="ignore"):
        least, most = low.astype(np.float64), high.astype(np.float64)
        span, largest = most - least, np.maximum(np.abs(least), np.abs(most))
        lost = (span > 0) & (span < STEPS * np.spacing(largest.astype(np.float32)).astype(np.float64))
        if array.dtype.kind == "f":
            lost &= span > NOISE * largest
    if not lost.any():
        return ()
    return tuple(np.where(lost, least, 0.0).tolist())


def check_numbers(array: NDArray[Any], name: str) -> None:
    """Raise InputError for an array of anything but real numbers (or of objects, which may be some)."""
    kind = array.dtype.kind
    if kind == "c":
        raise InputError(f"Complex data not supported: {name} has dtype {array.dtype}; give real numbers.")
    if array.dtype.names:
        fields = ", ".join(array.dtype.names[:8])
        raise InputError(
            f"{name} is a structured array with the fields {fields}: give its columns as one array (n, d), such as "
            "numpy.lib.recfunctions.structured_to_unstructured makes."
        )
    if kind in "mM":
        raise InputError(f"{name} holds times (dtype {array.dtype}): turn them into numbers first.")
    if kind not in "buifO":
        what = "text" if kind in "UST" else "values"
        raise InputError(f"{name} holds {what} of dtype {array.dtype}, but embeddings and pixels must be numbers.")


def _numbers(array: NDArray[Any], name: str) -> NDArray[np.float64]:
    """An array of objects as floats, None as NaN; text is no number, even where it reads like one."""
    try:
        if not any(isinstance(value, str | bytes | complex) for value in array.flat):
            return array.astype(np.float64)
    except (TypeError, ValueError, OverflowError):
        pass
    for row, column in np.ndindex(array.shape):
        value = array[row, column]
        where = f"Row {row}, column {column} of {name} has a value that is no real number"
        if type(value).__name__ in ("NAType", "NaTType"):
            raise InputError(
                f"Input X contains NaN: row {row}, column {column} of {name} is empty; fill it or leave it out."
            )
        if isinstance(value, str | bytes):
            raise InputError(f"{where} but text, {str(value)[:40]!r}.")
        try:
            np.float64(value)
        except TypeError as error:
            raise NotNumeric(f"{where} ({error}).") from error
        except ValueError as error:
            raise InputError(f"{where} ({str(error).splitlines()[0]}).") from error
        except OverflowError as error:
            raise InputError(f"{where} that float64 can hold ({error}).") from error
    raise InputError(f"{name} has values that are no real numbers.")


def _check_shape(array: NDArray[Any], options: Options, name: str) -> None:
    n, d = array.shape
    for count, what in ((n, "sample"), (d, "feature")):
        if count == 0 and options.first is None:
            raise InputError(
                f"{name} is empty: found array with 0 {what}(s) (shape={array.shape}) while a minimum of 1 is required."
            )
    if n < options.minimum:
        raise InputError(f"{name} has n_samples={n}, but clustering needs at least {options.minimum}.")
    if options.like is not None and d != options.like.dim:
        raise InputError(
            f"{name} is not as wide as what the model was fitted on: X has {d} features, but coterie is expecting "
            f"{options.like.dim} features as input."
        )


def _check_values(items: Embeddings, name: str, offset: int) -> bool:
    """Raise InputError at the first value that is not a finite float32; return whether all rows are the same.

    `offset` is added to the number of a row in messages.
    """
    constant, first = True, items.convert(np.asarray(items.array[:1]))
    for start, rows in blocks(items.array):
        values = items.convert(rows)
        # A sum is finite only if all its terms are, and costs no second array; it may also overflow, hence the look.
        with np.errstate(all="ignore"):  # whatever the caller has NumPy do of an overflow
            total = values.sum(dtype=np.float64)
        if not np.isfinite(total):
            bad = np.argwhere(~np.isfinite(values))
            if len(bad):
                row, column = bad[0]
                what = "NaN" if np.isnan(values[row, column]) else "infinity or a value too large for float32"
                raise InputError(
                    f"Input X contains {what}: row {offset + start + row}, column "
                    f"{column_name(items, int(column))} of {name}; "
                    "remove or replace such values first."
                )
        constant = constant and bool((values == first).all())
    return constant
