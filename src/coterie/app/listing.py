"""Lists of items, sorted for a person to look through."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coterie.records.group_names import upright
from coterie.review import Review
from coterie.review.columns import columns_of
from coterie.review.state import SOURCES
from coterie.types import InputError

ORDERS = {
    "surest": "surest first",
    "doubtful": "most doubtful first",
    "edge": "edge to another group first",
    "unlike": "unlike the rest first",
    "open": "not looked at first",
}
KEPT = 16  # orders that are remembered
MOST = 500  # rows of one answer


class Listing:
    """The items of a review, by group and order; an order is computed once for a state."""

    def __init__(self, review: Review) -> None:
        self.review = review
        self._kept: OrderedDict[tuple[Any, ...], NDArray[np.int64]] = OrderedDict()

    def rows(self, group: int | None, order: str, *, undecided: bool = False) -> NDArray[np.int64]:
        """The rows of a group (-1: of none; None: of all) in this order. Raises InputError."""
        if order not in ORDERS:
            raise InputError(f"There is no order {order[:40]!r}: there are {', '.join(ORDERS)}.")
        key = (self.review.last, group, order, undecided, self.review.features is None)
        if key not in self._kept:
            state = self.review.state
            rows = np.arange(self.review.base.n) if group is None else state.members(group)
            self._kept[key] = self._ordered(rows[~state.decided[rows]] if undecided else rows, order)
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key]

    def _ordered(self, rows: NDArray[np.int64], order: str) -> NDArray[np.int64]:
        confidence, state = self.review.confidence, self.review.state
        if order == "surest":
            return rows[np.argsort(-confidence[rows], kind="stable")]
        if order == "doubtful":
            return rows[np.argsort(confidence[rows], kind="stable")]
        if order == "open":
            return rows[np.lexsort((confidence[rows], state.seen[rows]))]  # also what was decided without a look
        if order == "edge":
            return rows[np.argsort(margins(self.review, rows), kind="stable")]
        return rows[np.argsort(-_distances(self.review, rows), kind="stable")]

    def items(self, rows: NDArray[np.integer]) -> list[dict[str, Any]]:
        """What a tile shows of each of these rows."""
        review, state = self.review, self.review.state
        confidence, likeliest = review.confidence, self.likeliest(rows)
        return [
            {
                "row": row,
                "id": upright(review.base.ids[row]),
                "group": int(state.label[row]),
                "confidence": _rounded(float(confidence[row])),
                "decided": bool(state.decided[row]),
                "seen": bool(state.seen[row]),
                "source": SOURCES[state.origin[row]],
                "top": likeliest[place],
            }
            for place, row in enumerate(rows.tolist())
        ]

    def likeliest(self, rows: NDArray[np.integer]) -> list[list[list[float]]]:
        """The three likeliest live groups of some rows, as [group, probability]."""
        if not len(rows):
            return []
        p = columns_of(self.review.base, self.review.state, self.review.features).probabilities(rows)
        live = np.array(self.review.state.live)
        p = p[:, live]
        top = np.argsort(-p, axis=1, kind="stable")[:, :3]
        values = np.take_along_axis(p, top, axis=1)
        return [
            [[int(live[g]), _rounded(float(v))] for g, v in zip(groups, chances, strict=True)]
            for groups, chances in zip(top, values, strict=True)
        ]


def _rounded(share: float) -> float:
    """To four decimals; never to 0 or 1 where it is not just that."""
    return min(max(round(share, 4), 1e-4), 1 - 1e-4) if 0 < share < 1 else share


def margins(review: Review, rows: NDArray[np.integer]) -> NDArray[np.float64]:
    """The probability of each row's group, 0 for none, less that of the likeliest other group."""
    if not len(rows):
        return np.empty(0)
    found = np.empty(len(rows))
    columns, label = columns_of(review.base, review.state, review.features), review.state.label
    for start in range(0, len(rows), 8192):
        part = rows[start : start + 8192]
        p = columns.probabilities(part)
        place = np.flatnonzero(label[part] >= 0)
        own, mine = label[part][place], np.zeros(len(part))
        mine[place] = p[place, own]
        p[place, own] = 0
        found[start : start + len(part)] = mine - p.max(axis=1)
    return found


def _distances(review: Review, rows: NDArray[np.integer]) -> NDArray[np.float64]:
    """How far each row's features lie from the mean of all of them; without features, how unsure it is."""
    if review.features is None:
        return 1 - review.confidence[rows]
    z = np.asarray(review.features[rows], np.float32)
    return np.asarray(((z - z.mean(axis=0)) ** 2).sum(axis=1), np.float64)
