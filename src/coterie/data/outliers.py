"""Rows of embeddings so far from all others that they would set the scale for them: a unit mixed up, a code for "none".

They are named, and training leaves them out; they get a group like everyone else. What is a little unusual stays: a
row is one of these only where it lies tens of times farther out than three quarters of the rows, where nothing lies
between it and the others, and where it is not one of a group that keeps together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coterie.data.array_rows import blocks, gather
from coterie.data.items import ChosenItems, Embeddings
from coterie.data.spaces import SideBySide
from coterie.types import Items, Source

FAR = 40.0  # times the distance from the median that three quarters of the rows keep
GAP = 8.0  # times farther out than the farthest of the others
MOST = 0.2  # share of the rows that may be left out
NEAR = 5.0  # in the same units: rows this close to two others are a group, however far out
SAMPLE = 4096  # rows that the units are taken from, fewer where they are long
VALUES = 16 << 20  # numbers that such a sample has at most
JUDGED = 500  # rows that are compared with each other
SMALL_DIM = 64  # from here on all features share one unit, as in `views.normalise`
NAMED = 5
FEWEST = 8  # rows, of which one may be far outside
RARE = 25.0  # the unit where all rows but one or two have one value: such a value, or this if it is less than 1
BLANK_DIM = 8  # features from which a row of zeros is no point like others
CODES = (-999.0, -9999.0, -99999.0, 999.0, 9999.0, 99999.0, -32768.0)  # that stand for missing values


@dataclass(frozen=True)
class Outliers:
    """The rows that training leaves out, and a sentence about them or about what may be codes for missing values."""

    rows: NDArray[np.int64]
    warning: str = ""


def mark_outliers(source: Source) -> None:
    """Name the rows of a source to be fitted that lie far outside: see `Source.outliers` and `Source.warnings`."""
    several = source.items if isinstance(source.items, SideBySide) else None
    spaces = [(source.items, source.name)] if several is None else zip(several.spaces, several.names, strict=True)
    rows: set[int] = set()
    for items, name in spaces:
        if isinstance(items, Embeddings):
            found = find_outliers(items, name)
            rows.update(found.rows.tolist())
            if found.warning:
                source.warnings.append(found.warning)
    source.outliers = sorted(rows)


def find_outliers(items: Embeddings, name: str) -> Outliers:
    """Look through all rows, a block at a time; 4 bytes of memory for each."""
    none, n = np.empty(0, np.int64), len(items)
    if n < FEWEST:
        return Outliers(none)
    size = min(n, SAMPLE, max(256, VALUES // items.spec.dim))
    some = np.linspace(0, n - 1, size).astype(np.int64)
    sample = items.convert(gather(items.array, some))
    centre, unit = _units(sample)
    distance, blank = np.empty(n, np.float32), []
    with np.errstate(over="ignore", invalid="ignore"):
        for start, block in blocks(items.array):
            values = items.convert(block)
            distance[start : start + len(block)] = (np.abs(values - centre) / unit).max(1)
            blank += [start + row for row in np.flatnonzero(~values.any(1)).tolist()]
    rows = _beyond_the_gap(distance, n // 4)
    # Of very many, some are looked at and stand for all.
    some = np.linspace(0, len(rows) - 1, min(len(rows), JUDGED)).astype(np.int64)
    looked_at = rows[some]
    values = items.convert(gather(items.array, looked_at)).astype(np.float64)
    column = np.argmax(np.abs(values - centre) / unit, axis=1) if len(rows) else some
    alone = _alone(values / unit, values[np.arange(len(some)), column], column)
    if len(some) < len(rows):
        alone[:] = alone.mean() > 0.5
        rows = rows if alone[0] else none
    else:
        rows = rows[alone]
    if len(rows) == 0:
        return Outliers(none, _codes(sample, name) or _blank_rows(blank, sample, name))
    offset = np.array(items.spec.offset or [0.0] * items.spec.dim)
    places = [
        f"row {row}, column {at}: {value + offset[at]:.6g}, the median is {centre[at] + offset[at]:.3g}"
        for row, at, value in zip(looked_at[alone], column[alone], values[alone, column[alone]], strict=True)
    ]
    said = "; ".join(places[:NAMED]) + (f"; and {len(rows) - NAMED} more" if len(rows) > NAMED else "")
    what = f"{len(rows)} rows of {name} lie" if len(rows) > 1 else f"1 row of {name} lies"
    if len(rows) > MOST * n:
        text = f"{what} far outside the others ({said}): repair or remove them, for they determine the scale of all."
        return Outliers(none, text)
    rest = "them out, and their groups and confidences" if len(rows) > 1 else "it out, and its group and confidence"
    text = f"{what} far outside the others ({said}): training leaves {rest} mean little; repair or remove such rows."
    return Outliers(np.sort(rows), text)


def _units(sample: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The median of every feature, and the distance from it that three quarters of the rows keep."""
    centre = np.median(sample, axis=0).astype(np.float32)
    with np.errstate(over="ignore"):
        distance = np.abs(sample - centre)
    unit = np.partition(distance, 3 * (len(sample) - 1) // 4, axis=0)[3 * (len(sample) - 1) // 4].astype(np.float64)
    if sample.shape[1] >= SMALL_DIM:
        unit = np.maximum(unit, np.sqrt(np.square(unit).mean()))
    for place in np.flatnonzero(unit == 0):
        # Most rows have the same value here, as in counts: those that have another are measured by each other.
        others = distance[:, place][distance[:, place] > 0]
        unit[place] = np.median(others) if len(others) > 2 else RARE * max(1.0, abs(float(centre[place])))
    return centre, np.maximum(unit, np.finfo(np.float32).tiny).astype(np.float32)


def _beyond_the_gap(distance: NDArray[np.float32], most: int) -> NDArray[np.int64]:
    """The rows farther out than the innermost gap, the farthest first; at most `most` of them."""
    far = np.flatnonzero(distance >= FAR)
    if len(far) == 0 or len(far) > most:
        return np.empty(0, np.int64)
    far = far[np.argsort(-distance[far], kind="stable")]
    inside = np.delete(distance, far).max()
    falling = np.append(distance[far], inside)
    gaps = np.flatnonzero(falling[:-1] >= GAP * falling[1:])
    return far[: gaps[-1] + 1] if len(gaps) else np.empty(0, np.int64)


def _alone(scaled: NDArray[Any], far: NDArray[Any], column: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which rows are no members of a group: with fewer than two others near, or with a value that many repeat.

    scaled: (m, d) in the units of the features; far: (m,) the value of each row that is farthest out, in its `column`.
    """
    from scipy.spatial.distance import cdist

    near = (cdist(scaled, scaled, "chebyshev") <= NEAR).sum(1) - 1
    same = column[:, None] == column
    repeats = (same & (far[:, None] == far)).sum(1)
    alone: NDArray[np.bool_] = (near < 2) | (repeats > np.maximum(1, same.sum(1) / 2))
    return alone


def _blank_rows(rows: list[int], sample: NDArray[np.float32], name: str) -> str:
    """A warning where some rows are all zeros while the others have hardly any zero."""
    if not rows or sample.shape[1] < BLANK_DIM or (sample[sample.any(1)] == 0).mean() > 0.01:
        return ""
    said = ", ".join(map(str, rows[:NAMED])) + (f" and {len(rows) - NAMED} more" if len(rows) > NAMED else "")
    return f"Nothing but zeros: row{'s' if len(rows) > 1 else ''} {said} of {name}; remove what has no embedding."


def _codes(sample: NDArray[np.float32], name: str) -> str:
    """A sentence where a well-known code for a missing value lies well outside all other values of its column."""
    for code in CODES:
        is_code = sample == np.float32(code)
        for place in np.flatnonzero((is_code.sum(0) > 1) & (is_code.mean(0) < 0.5)):
            others = sample[~is_code[:, place], place]
            low, high = float(others.min()), float(others.max())
            if max(low - code, code - high) > 2 * (high - low):
                return (
                    f"Column {place} of {name} has the value {code:g} in several rows and else {low:.3g} to "
                    f"{high:.3g}: if it stands for a missing value, replace it or remove those rows."
                )
    return ""


def usual_rows(source: Source) -> NDArray[np.int64]:
    """The rows of a source that are not far outside all others, in order."""
    return np.setdiff1d(np.arange(len(source.items)), np.asarray(source.outliers, np.int64), assume_unique=True)


def usual_items(source: Source) -> Items:
    """The items of these rows: what training sees, and what sets the scale."""
    return ChosenItems(source.items, usual_rows(source)) if len(source.outliers) else source.items
