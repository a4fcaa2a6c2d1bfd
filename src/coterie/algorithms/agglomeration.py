"""Agglomeration by mutual nearest neighbourhood: the pairs whose items are nearest to each other by rank come first.

Gowda and Krishna, "Agglomerative Clustering Using the Concept of Mutual Nearest Neighbourhood", Pattern Recognition
1978. If j is the p-th neighbour of i and i the q-th of j, both among the first `width`, the pair's value is p + q.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.sparse import csr_array, triu
from scipy.sparse.csgraph import connected_components, minimum_spanning_tree
from torch import Tensor

from coterie.algorithms.neighbours import nearest


def by_mutual_neighbours(rows: Float[Tensor, "n d"], k: int, width: int) -> Int[Tensor, " n"]:
    """Unite the items' groups pair by pair, smallest value first (the closer pair where values tie), until k are left.

    If the pairs run out before that, lists of twice the `width` give more pairs, and so on.
    """
    n, first = len(rows), min(width, len(rows) - 1)
    width = first
    while True:
        pairs, order = ordered_pairs(rows, width, first)
        # This is Kruskal's algorithm: its tree has the pairs that unite two groups.
        tree = minimum_spanning_tree(csr_array((order, (pairs[0], pairs[1])), shape=(n, n))).tocoo()
        if len(tree.data) >= n - k:
            break
        width = min(2 * width, n - 1)
    taken = np.argsort(tree.data)[: n - k]
    united = csr_array((np.ones(n - k), (tree.row[taken], tree.col[taken])), shape=(n, n))
    return torch.from_numpy(connected_components(united, directed=False)[1]).long().to(rows.device)


def ordered_pairs(rows: Float[Tensor, "n d"], width: int, first: int) -> tuple[np.ndarray, np.ndarray]:
    """Pairs (2, m) of mutual neighbours in lists of this `width`, and each one's place (1 to m) in the order.

    Pairs that the lists of `first` hold come before those that only lists of twice that hold, and so on.
    """
    n = len(rows)
    distances, index = nearest(rows, width, exact=True)
    places = (np.repeat(np.arange(n), width), index.cpu().numpy().ravel())
    ranks = csr_array((np.tile(np.arange(1, width + 1), n), places), shape=(n, n))
    # 0 would be no entry, and a distance of 1e-8 added to 1 would be none: each pair is looked up by its place.
    entry = csr_array((np.arange(1, index.numel() + 1), places), shape=(n, n))
    mutual = triu((ranks > 0).multiply(ranks.T > 0), format="csr")
    # Each has the entries of `mutual`, in the same order.
    mutual.sort_indices()
    i, j = mutual.nonzero()
    p, q, found = (in_order(mutual.multiply(table)) for table in (ranks, ranks.T, entry))
    distance = distances.cpu().numpy().ravel()[found - 1]
    rounds = np.ceil(np.log2(np.maximum(np.maximum(p, q) / first, 1)))
    order = np.empty(len(i))
    order[np.lexsort((distance, p + q, rounds))] = np.arange(1, len(i) + 1)
    return np.stack([i, j]).astype(np.int32), order  # older scipy has trees over such rows only


def in_order(table: Any) -> np.ndarray:
    """The entries of a sparse matrix, row by row, in the order of the columns."""
    sorted_table = csr_array(table)
    sorted_table.sort_indices()
    return np.asarray(sorted_table.data)
