"""Approximate nearest neighbours by inverted lists: only points whose list is among the query's nearest are looked at.

The points are split by a short K-means (faiss) into about 4·√n lists. faiss's own search goes query by query; here the
queries that look at the same list are taken together, so that their distances are one product of matrices, several
times as fast, on the tensor's own device, and without a second copy of the points.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

LISTS_LOOKED_AT = 32  # by each query
POINTS_A_LIST = 39  # that K-means sees: the least that faiss takes without a warning; more find no more neighbours
ITERATIONS = 5
LOOKS = 1 << 23  # of queries at lists, sorted by list at a time; a sort takes some 30 bytes for each
BLOCK = 1 << 22  # numbers in one block of distances, 16 MB: small enough for a processor's cache


def candidates(
    rows: Float[Tensor, "n d"], asked: Float[Tensor, "m d"], count: int, looked_at: int = LISTS_LOOKED_AT
) -> Int[Tensor, "m count"]:
    """The rows of `count` points near each query, in no order; -1 where its lists hold fewer.

    Memory beyond the points: count · 12 and looked_at · 12 bytes a query, what K-means sees, and blocks of 16 MB.
    """
    centres = trained(rows)
    looked_at = min(looked_at, len(centres))
    probes = nearest_lists(asked, centres, looked_at)
    own = probes[:, 0] if asked is rows else nearest_lists(rows, centres, 1)[:, 0]
    members, ends = _by_list(own, len(centres))
    squared = torch.full((len(asked), count), torch.inf, device=rows.device)
    found = torch.full((len(asked), count), -1, dtype=torch.long, device=rows.device)
    # The nearest list first: its distances are bounds, and later a list in which no point is nearer is left at once.
    for ranks in (probes[:, :1], *probes[:, 1:].split(max(1, LOOKS // len(asked)), dim=1)):
        order, until = _by_list(ranks.flatten(), len(centres))
        queries = order.div_(max(1, ranks.shape[1]), rounding_mode="floor")
        for number, centre in enumerate(centres):
            of_list, askers = members[ends[number] : ends[number + 1]], queries[until[number] : until[number + 1]]
            if len(of_list) and len(askers):
                _look_through(rows, asked, of_list, askers, centre, squared, found)
    return found


def trained(rows: Float[Tensor, "n d"]) -> Float[Tensor, "l d"]:
    """The centres of the lists."""
    import faiss

    lists = min(len(rows), round(4 * math.sqrt(len(rows))))
    some = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))[: lists * POINTS_A_LIST]
    on_cpu = rows[some.to(rows.device)].cpu().numpy()
    means: Any = faiss.Kmeans(rows.shape[1], lists, niter=ITERATIONS, min_points_per_centroid=1)
    means.train(on_cpu)
    return torch.from_numpy(means.centroids).to(rows.device)


def nearest_lists(queries: Float[Tensor, "m d"], centres: Float[Tensor, "l d"], count: int) -> Int[Tensor, "m count"]:
    """Each query's nearest centres, nearest first, as int32."""
    middle = centres.mean(dim=0)
    moved = centres - middle
    norms = torch.linalg.vector_norm(moved, dim=1).square_()
    near = torch.empty(len(queries), count, dtype=torch.int32, device=queries.device)
    step = max(1, BLOCK // len(centres))
    for begin in range(0, len(queries), step):
        part = queries[begin : begin + step] - middle
        block = torch.addmm(norms, part, moved.T, alpha=-2)
        near[begin : begin + step] = block.topk(count, dim=1, largest=False).indices
    return near


def _by_list(lists: Int[Tensor, " n"], count: int) -> tuple[Int[Tensor, " n"], list[int]]:
    """The places of `lists` in the order of their values, and where each value begins, with the end."""
    sizes = lists.bincount(minlength=count).cumsum(0).tolist()
    return lists.argsort(stable=True), [0, *sizes]


def _look_through(
    rows: Tensor, asked: Tensor, of_list: Tensor, askers: Tensor, centre: Tensor, squared: Tensor, found: Tensor
) -> None:
    """Put points of one list among the nearest found so far by those who look at it, in place."""
    points = rows[of_list] - centre  # products of what is left are exact enough to choose by
    norms = torch.linalg.vector_norm(points, dim=1).square_()
    count = squared.shape[1]
    for part in askers.split(max(1, BLOCK // max(len(of_list), rows.shape[1]))):
        moved = asked[part] - centre
        block = torch.addmm(norms, moved, points.T, alpha=-2)
        worst = squared[part].amax(dim=1)
        away = torch.linalg.vector_norm(moved, dim=1).square_()
        nearer = (block.amin(dim=1) + away < worst).nonzero().flatten()
        if not len(nearer):
            continue
        part, block = part[nearer], block[nearer] + away[nearer, None]
        values, index = block.topk(min(count, block.shape[1]), dim=1, largest=False, sorted=False)
        values, index = torch.cat([squared[part], values], dim=1), torch.cat([found[part], of_list[index]], dim=1)
        values, places = values.topk(count, dim=1, largest=False, sorted=False)
        squared[part], found[part] = values, index.gather(1, places)
