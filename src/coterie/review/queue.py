"""The order in which doubtful items are shown, and similar items to which an answer may apply as well."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from coterie.review.session import Review

NEAR, ALIKE = 11, 0.8  # items that come along at most, and the cosine from which they are so alike
BLOCK = 16384


@dataclass(frozen=True)
class Task:
    """The item to decide and, for Shift, the undecided items near it in the same group, nearest first."""

    row: int
    near: list[int]


def waiting(review: Review) -> int:
    """How many items have a group and no decision."""
    return int((~review.state.decided & (review.state.label >= 0)).sum())


def tasks(review: Review, count: int, skip: Collection[int] = ()) -> list[Task]:
    """The next items of the queue: the least confident first; those of `skip`, which nobody could tell, come last."""
    state, confidence = review.state, review.confidence
    open_ones = np.flatnonzero(~state.decided & (state.label >= 0))
    if not len(open_ones):
        return []
    value = confidence[open_ones].copy()
    if skip:
        value[np.isin(open_ones, np.fromiter(skip, np.int64))] += 1
    count = min(count, len(open_ones))
    first = np.argpartition(value, count - 1)[:count]
    order = first[np.lexsort((open_ones[first], value[first]))]
    return [Task(row, near(review, row, open_ones)) for row in open_ones[order].tolist()]


def near(review: Review, row: int, among: NDArray[np.int64]) -> list[int]:
    """Undecided items of the same group with much the same features (cosine from 0.8 on, features centred)."""
    if review.features is None:
        return []
    label = review.state.label
    same = among[(label[among] == label[row]) & (among != row)]
    if not len(same):
        return []
    mean = centre(review)
    asked = np.asarray(review.features[row], np.float32) - mean
    asked /= max(float(np.linalg.norm(asked)), 1e-12)
    cosine = np.empty(len(same), np.float32)
    for start in range(0, len(same), BLOCK):
        z = np.asarray(review.features[same[start : start + BLOCK]], np.float32) - mean
        cosine[start : start + len(z)] = (z @ asked) / np.maximum(np.linalg.norm(z, axis=1), 1e-12)
    order = np.argsort(-cosine, kind="stable")[:NEAR]
    return same[order[cosine[order] >= ALIKE]].tolist()


def centre(review: Review) -> NDArray[np.float32]:
    """The mean of the features, of at most 20,000 items."""
    assert review.features is not None
    step = max(1, review.base.n // 20_000)
    return np.asarray(review.features[::step], np.float32).mean(axis=0)
