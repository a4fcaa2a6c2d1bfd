"""A clustering made elsewhere, checked and turned into probabilities, and the result of `coterie.calibrate`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coterie.common.words import counted, limit
from coterie.types import InputError

NO_GROUP = (-1, "-1", b"-1")  # the label that DBSCAN and others give to what belongs nowhere
LARGEST = 2.0**53  # from here on a float does not hold every whole number
MANY = 10  # items; so few may well be in groups of one
SLACK = 1e-3  # by which a row of probabilities may miss a sum of 1


@dataclass(frozen=True, repr=False)
class Calibrated:
    """Calibrated probabilities (n, k), their maximum and where it is; column j stands for `groups[j]`."""

    probabilities: NDArray[np.float32]
    confidence: NDArray[np.float32]
    labels: NDArray[Any]
    groups: NDArray[Any]

    def __repr__(self) -> str:
        n, k = self.probabilities.shape
        mean = limit(float(self.confidence.mean(dtype=np.float64)), 2)
        return f"<Calibrated: {n:,} items in {counted(k, 'group')}, mean confidence {mean}>"


@dataclass(frozen=True)
class Clustering:
    """A clustering as probabilities (m, k) of the m items `rows` that it puts into a group."""

    probabilities: NDArray[np.float32]
    groups: NDArray[Any]
    rows: NDArray[np.int64]


def read_clustering(given: Any, n: int) -> Clustering:
    """Probabilities (n, k) or labels (n,) of n items; labels become one-hot rows, and items labelled -1 are left out.

    Raises InputError in one sentence for anything that is neither.
    """
    array = _as_array(given)
    if array.ndim not in (1, 2):
        raise InputError(
            f"The clustering has the shape {array.shape}: give probabilities, one row per item, or one label per item."
        )
    if len(array) != n:
        what = "labels" if array.ndim == 1 else "rows of probabilities"
        raise InputError(f"There are {len(array)} {what} for {n} embeddings: give one for each.")
    return _of_probabilities(array) if array.ndim == 2 else _of_labels(array)


def _as_array(given: Any) -> NDArray[Any]:
    """An array, tensor, column or list as an array; InputError where the conversion would change values silently."""
    kind = type(given).__name__
    if hasattr(given, "detach"):  # a torch tensor, on any device
        given = given.detach().cpu()
        given = given.double().numpy() if given.is_floating_point() else given.resolve_conj().numpy()
    if isinstance(given, np.ma.MaskedArray) and np.ma.is_masked(given):
        raise InputError("The clustering has masked values: leave those items out, or label them -1.")
    if isinstance(given, list | tuple) and any(isinstance(value, str) for value in given):
        given = np.array(given, dtype=object)  # else a missing one among names would become the name "nan"
    try:
        array = np.asarray(given)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"The clustering, a {kind}, cannot be turned into an array ({str(error).splitlines()[0][:120]}): give one "
            "label per item, or one row of probabilities per item."
        ) from error
    if array.ndim == 0:
        raise InputError(f"The clustering is a {kind}: give one label per item, or one row of probabilities per item.")
    return array


def _of_probabilities(array: NDArray[Any]) -> Clustering:
    """Soft groups (n, k), scaled to sum to 1 exactly. Raises InputError with the first row that is no distribution."""
    if array.shape[1] == 1:
        raise InputError(f"The clustering has the shape {array.shape}: give labels with one axis, (n,).")
    if array.dtype.kind == "O":
        try:
            array = array.astype(np.float64)
        except (TypeError, ValueError) as error:
            raise InputError("The probabilities have values that are no numbers: give numbers.") from error
    if array.dtype.kind not in "buif":
        raise InputError(f"The probabilities have the dtype {array.dtype}: give numbers.")
    p = array.astype(np.float64)
    _refuse(~np.isfinite(p).all(1), "holds a value that is not finite: replace it.")
    _refuse((p < 0).any(1), "holds a negative value: give probabilities, not logits or distances.")
    _refuse(np.abs(p.sum(1) - 1) > SLACK, "does not sum to 1: divide each row by its sum.")
    _check_groups(p.argmax(1))
    p /= p.sum(1, keepdims=True)
    return Clustering(p.astype(np.float32), np.arange(p.shape[1]), np.arange(len(p)))


def _refuse(wrong: Any, why: str) -> None:
    """Raise InputError with the first row that is `wrong`."""
    if wrong.any():
        raise InputError(f"Row {int(wrong.argmax())} of the probabilities {why}")


def _of_labels(array: NDArray[Any]) -> Clustering:
    """Groups by name or number, as probabilities of 0 and 1, of the items that are in one. Raises InputError."""
    if array.dtype.kind == "f":
        odd = (array != np.floor(array)) | ~(np.abs(array) < LARGEST)  # NaN and infinity are odd, too
        if odd.any():
            row = int(odd.argmax())
            raise InputError(f"Label {row} is {array[row]}: labels must be whole numbers or names.")
        array = array.astype(np.int64)
    if array.dtype.kind not in "biuSUTO":
        raise InputError(f"The labels have the dtype {array.dtype}: give whole numbers or names.")
    values = array.tolist()
    if array.dtype.kind == "O":
        for row, value in enumerate(values):
            if not isinstance(value, str | bytes | int | float | np.generic) or value != value:
                raise InputError(
                    f"Label {row} is {str(value)[:40]}: labels must be whole numbers or names; -1 stands for no group."
                )
        if all(isinstance(value, str) for value in values):
            array = np.array(values)
    rows = np.array([row for row, value in enumerate(values) if value not in NO_GROUP], np.int64)
    if len(array) and len(rows) == 0:
        raise InputError(
            f"All {len(array)} items are noise (in no group): calibration needs at least 2 groups of items."
        )
    try:
        groups, place = np.unique(array[rows], return_inverse=True)
    except TypeError as error:
        raise InputError(f"The labels are of several kinds ({error}): give whole numbers or names.") from error
    _check_groups(place)
    if len(groups) == len(rows) > MANY:
        raise InputError(
            f"Each of the {len(rows):,} items has a label of its own, as ids have: give the group of each item."
        )
    return Clustering(np.eye(len(groups), dtype=np.float32)[place], groups, rows)


def _check_groups(labels: NDArray[Any]) -> None:
    if len(labels) == 0 or (labels == labels[0]).all():
        raise InputError("The clustering puts all items into one group: calibration needs at least 2 groups.")
