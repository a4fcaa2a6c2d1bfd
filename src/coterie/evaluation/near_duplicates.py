"""Items nearer to each other than chance explains: copies, crops, shots of one scene.

The limit comes from the data. Where neighbours lie in m dimensions, the share of items whose nearest neighbour is
within t times the median of that distance is about ln 2 · t^m; t is chosen so that this is one in 10,000, and at most a
quarter. m is the two-neighbour estimate N / sum ln(r2 / r1) (Facco et al. 2017).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from coterie.evaluation.contingency import Ints
from coterie.evaluation.ranking import Floats

BY_CHANCE = 1e-4
WIDEST = 0.25


@dataclass(frozen=True)
class Duplicates:
    """`sets`: rows of each set, largest first. `limit`: the distance up to which items count as near-duplicates."""

    sets: list[Ints]
    exact: list[bool]  # of each set: whether all its items have the same content
    limit: float
    dimension: float

    @property
    def items(self) -> int:
        """Items in any set."""
        return sum(len(rows) for rows in self.sets)


def nearness_limit(distances: Floats) -> tuple[float, float]:
    """The limit and the intrinsic dimension, of distances (n, k >= 2) to the nearest neighbours, nearest first.

    0 where items have too many exact copies, or none differ.
    """
    apart = distances[(distances[:, 0] > 0) & (distances[:, 1] > distances[:, 0])]
    if len(apart) < 10:
        return 0.0, 0.0
    dimension = len(apart) / float(np.log(apart[:, 1] / apart[:, 0]).sum())
    share = min(WIDEST, (BY_CHANCE / np.log(2)) ** (1 / dimension))
    return share * float(np.median(apart[:, 0])), dimension


def near_duplicates(distances: Floats, neighbours: Ints, content: NDArray[Any]) -> Duplicates:
    """Sets of items that are linked by nearness or by equal `content` (n,), a digest of each item."""
    n = len(content)
    limit, dimension = nearness_limit(distances)
    near = distances <= limit
    rows = np.repeat(np.arange(n), near.sum(1))
    _, first, number = np.unique(content, return_index=True, return_inverse=True)
    start = np.concatenate([rows, np.arange(n)])
    end = np.concatenate([neighbours[near], first[number]])
    found = connected_components(coo_array((np.ones(len(start)), (start, end)), shape=(n, n)), directed=False)[1]
    sizes = np.bincount(found)
    order = np.argsort(found, kind="stable")
    parts = np.split(order, np.cumsum(sizes)[:-1])
    sets = sorted((part for part in parts if len(part) > 1), key=lambda part: (-len(part), int(part[0])))
    return Duplicates(sets, [len(set(number[part].tolist())) == 1 for part in sets], limit, dimension)


def together(probabilities: NDArray[np.floating], sets: list[Ints]) -> list[int]:
    """One group for each set: the one with the largest sum of its items' probabilities."""
    return [int(probabilities[rows].sum(0).argmax()) for rows in sets]
