"""Nearest neighbours on the tensor's own device: exact by chunked products, by inverted lists for very many.

|a|² + |b|² - 2 a·b is one large product, but in float32 its error is relative to |a|² + |b|² and not to the distance,
so close neighbours of points far from the origin come out wrong. Here products only choose candidates: points are
centred, each product is taken at its lower bound, and a few more candidates than asked for are measured again from
differences. A row whose candidates may have missed a neighbour, which the bounds tell, is measured against all points.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from coterie.algorithms.inverted_lists import BLOCK, candidates
from coterie.common.extras import imported
from coterie.common.isolation import warn_caller
from coterie.types import InputError

Metric = Literal["euclidean", "cosine"]

EXACT_UP_TO = 200_000  # points on a CPU; beyond it approximate search, where faiss is installed
EXACT_UP_TO_ON_GPU = 1_000_000
COLUMNS = 1 << 15  # points in one block
GROUP = 32  # columns whose smallest number is found first, which spares a sort of most of a block
SPARE = 8  # candidates beyond the k neighbours
SAME = 1e-5  # relative difference below which two squared distances count as equal, about 100 roundings


class NotFinite(InputError):
    """A point whose distances cannot be computed."""


def nearest(
    points: Float[Tensor, "n d"],
    k: int,
    queries: Float[Tensor, "m e"] | None = None,
    metric: Metric = "euclidean",
    exact: bool | None = None,
) -> tuple[Float[Tensor, "m k"], Int[Tensor, "m k"]]:
    """Return each query's k nearest points, nearest first: distances and rows of `points`.

    Without `queries` the points are asked about themselves, and none is its own neighbour; a copy of it may be. Of
    points that are equally far, to 5e-6 of the distance, any may be returned. Cosine distance is 1 - cosine; a row of
    zeros has no direction and lies at distance 1 from all but other rows of zeros.

    `exact` None chooses by size: exact up to 200,000 points (a million on a GPU), beyond that approximate by inverted
    lists, or, where faiss, which makes these, is not installed, exact with a warning; the distances of approximate
    neighbours are exact, too. Memory beyond the points: a centred copy where exact, one of unit length for cosine,
    and blocks of 16 MB.

    Raises InputError for k outside 1..n (1..n-1 without queries) and for exact=False without faiss, and its kind
    NotFinite for rows that are not finite.
    """
    alone = queries is None
    most = len(points) - alone
    if not 1 <= k <= most:
        raise InputError(f"{k} nearest neighbours cannot be found: choose a number from 1 to {most}.")
    if queries is not None and queries.shape[1] != points.shape[1]:
        raise InputError(f"The queries have {queries.shape[1]} features, but the points have {points.shape[1]}.")
    # A surrounding autocast would compute the products in half precision.
    with torch.no_grad(), torch.autocast(points.device.type, enabled=False):
        rows = comparable(points, metric)
        asked = rows if queries is None else comparable(queries, metric)
        if queries is not None and rows.shape[1] != asked.shape[1]:  # rows of zeros in one of the two only
            rows, asked = comparable(points, metric, zeros=True), comparable(queries, metric, zeros=True)
        if _approximate(len(points), points.device, exact):
            squared, index = _by_lists(rows, asked, k, alone=alone)
        else:
            squared, index = _by_products(rows, asked, k, alone=alone)
    return (squared / 2 if metric == "cosine" else squared.sqrt()), index


def scale_of(rows: Float[Tensor, "n d"]) -> float:
    """A power of two that brings the largest value to between 1/2 and 1, so that float32 holds the squares.

    A product with it loses no digit. 1 where all values are 0.
    """
    largest = float(torch.linalg.vector_norm(rows, torch.inf))
    return 2.0 ** -max(-126, math.frexp(largest)[1]) if 0 < largest < math.inf else 1.0


def neighbour_lists(features: Float[Tensor, "n d"], count: int) -> Int[Tensor, "n m"]:
    """Each item's own row and after it those of its `count` neighbours, the one of largest cosine first."""
    _, near = nearest(features, count, metric="cosine")
    itself = torch.arange(len(features), device=near.device)[:, None]
    return torch.cat([itself, near], dim=1)


def comparable(points: Tensor, metric: Metric, *, zeros: bool = False) -> Tensor:
    """The points in float32; for cosine as unit rows, of which half the squared distance is 1 - cosine.

    Rows of zeros get a direction of their own, in a dimension that is added when there are any, or with `zeros`.
    Raises NotFinite for a row with NaN, or with infinite or too large values.
    """
    points = points.float()
    largest = torch.linalg.vector_norm(points, torch.inf, dim=1, keepdim=True)
    # A direction has none of the squares that Euclidean distances need.
    bad = ~torch.isfinite(largest[:, 0] if metric == "cosine" else torch.linalg.vector_norm(points, dim=1).square())
    if bool(bad.any()):
        raise NotFinite(
            f"Nearest neighbours cannot use row {int(bad.int().argmax())}: it holds a NaN, infinite or too large "
            "value; remove or mend it."
        )
    if metric == "euclidean":
        return points
    n, d = points.shape
    empty = largest[:, 0] == 0
    unit = points.new_zeros(n, d + (zeros or bool(empty.any())))
    for part, into, most in zip(*(rows.split(max(1, BLOCK // d)) for rows in (points, unit, largest)), strict=True):
        # Each row is first divided by its largest value: the square of a tiny one would be 0.
        into[:, :d] = F.normalize(part / most.clamp(min=torch.finfo(torch.float32).tiny), dim=1)
    unit[:, d:] = empty.float()[:, None]
    return unit


def _approximate(n: int, device: torch.device, exact: bool | None) -> bool:
    if exact or (exact is None and n <= (EXACT_UP_TO if device.type == "cpu" else EXACT_UP_TO_ON_GPU)):
        return False
    try:
        imported("faiss", "The package faiss-cpu (pip install 'coterie[neighbours]') is missing.")
    except InputError as error:
        if exact is False:
            raise InputError(f"Approximate neighbours cannot be found. {error}") from error
        warn_caller(f"Neighbours of {n} points are searched for exactly, which is slow. {error}")
        return False
    return True


# Exact


def _by_products(rows: Tensor, asked: Tensor, k: int, *, alone: bool) -> tuple[Tensor, Tensor]:
    """Squared distances and rows of the k nearest, `alone` leaving out the row of the same index."""
    origin = rows.mean(dim=0)
    centred, n = rows - origin, len(rows)
    # Typical rounding error of a product of d terms; each lower bound is lowered by it times both norms.
    shrink = 1 - 2 * (math.sqrt(rows.shape[1]) + 4) * torch.finfo(torch.float32).eps
    norms = shrink * torch.linalg.vector_norm(centred, dim=1).square_()
    take = min(k + SPARE, n)
    step = max(1, BLOCK // min(n, COLUMNS))
    # Allocated once: small results between freed blocks would fragment the heap by gigabytes, and a block that is freed
    # goes back to the system, whose new pages cost more than the products.
    room = torch.empty(step * min(n, COLUMNS), device=rows.device)
    nearest_squared = torch.empty(len(asked), k, device=rows.device)
    nearest_index = torch.empty(len(asked), k, dtype=torch.long, device=rows.device)
    for begin in range(0, len(asked), step):
        part = asked[begin : begin + step]
        own = torch.arange(begin, begin + len(part), device=rows.device) if alone else None
        moved = part - origin
        bound, index = _candidates(moved, centred, norms, take, own, room)
        bound += shrink * torch.linalg.vector_norm(moved, dim=1, keepdim=True).square_()
        squared, index = _measured(rows, part, index, k, own)
        if take < n - alone:
            limit = bound.amax(dim=1).clamp_(min=0)  # no point outside the candidates is nearer than this
            unsure = squared[:, -1] > limit * (1 + SAME)
            for row in unsure.nonzero().flatten().tolist():
                itself = None if own is None else own[row : row + 1]
                squared[row], index[row] = _against_all(rows, part[row : row + 1], k, itself)
        nearest_squared[begin : begin + step], nearest_index[begin : begin + step] = squared, index
    return nearest_squared, nearest_index


def _candidates(
    part: Tensor, centred: Tensor, norms: Tensor, take: int, own: Tensor | None, room: Tensor
) -> tuple[Tensor, Tensor]:
    """The `take` points with the lowest bounds, less the part's own norm: bounds and rows, in no order."""
    best: tuple[Tensor, Tensor] | None = None
    for left in range(0, len(centred), COLUMNS):
        points, lowest = centred[left : left + COLUMNS], norms[left : left + COLUMNS]
        block = room[: len(part) * len(points)].view(len(part), len(points))
        torch.addmm(lowest, part, points.T, alpha=-2, out=block)
        if own is not None:
            here = ((own >= left) & (own < left + block.shape[1])).nonzero().flatten()
            block[here, own[here] - left] = torch.inf
        values, index = _smallest(block, min(take, block.shape[1]))
        index += left
        if best is not None:
            values, index = torch.cat([best[0], values], dim=1), torch.cat([best[1], index], dim=1)
            values, places = values.topk(min(take, values.shape[1]), dim=1, largest=False, sorted=False)
            index = index.gather(1, places)
        best = values, index
    assert best is not None
    return best


def _smallest(block: Tensor, take: int) -> tuple[Tensor, Tensor]:
    """The `take` smallest numbers of each row and their columns, in no order.

    They lie in the `take` groups of columns with the smallest minima, and only these are looked through.
    """
    groups = block.shape[1] // GROUP
    if groups <= take:
        return block.topk(take, dim=1, largest=False, sorted=False)
    least = block[:, : groups * GROUP].unflatten(1, (groups, GROUP)).amin(dim=2)
    chosen = least.topk(take, dim=1, largest=False, sorted=False).indices
    column = torch.arange(block.shape[1], device=block.device)
    columns = (chosen[:, :, None] * GROUP + column[:GROUP]).flatten(1)
    columns = torch.cat([columns, column[groups * GROUP :].expand(len(block), -1)], dim=1)
    values, places = block.gather(1, columns).topk(take, dim=1, largest=False, sorted=False)
    return values, columns.gather(1, places)


def _measured(rows: Tensor, part: Tensor, index: Tensor, k: int, own: Tensor | None) -> tuple[Tensor, Tensor]:
    """The k nearest of the candidates, by squared distances from differences; the lower row first where they tie."""
    index = index.sort(dim=1).values
    squared = torch.empty(index.shape, device=rows.device)
    step = max(1, BLOCK // (index.shape[1] * rows.shape[1]))
    for begin in range(0, len(part), step):
        chosen = index[begin : begin + step]
        squared[begin : begin + step] = (rows[chosen] - part[begin : begin + step, None]).square_().sum(dim=2)
    if own is not None:
        squared[index == own[:, None]] = torch.inf
    squared, places = squared.sort(dim=1, stable=True)
    return squared[:, :k].contiguous(), index.gather(1, places[:, :k])


def _against_all(rows: Tensor, query: Tensor, k: int, own: Tensor | None) -> tuple[Tensor, Tensor]:
    """The k nearest of one query among all points, from differences."""
    parts = rows.split(max(1, BLOCK // rows.shape[1]))
    squared = torch.cat([(part - query).square_().sum(dim=1) for part in parts])
    if own is not None:
        squared[own] = torch.inf
    near = (squared <= squared.kthvalue(k).values).nonzero().flatten()  # hardly more than k: a sort of all is slow
    values, places = squared[near].sort(stable=True)
    return values[:k], near[places[:k]]


# Approximate


def _by_lists(rows: Tensor, asked: Tensor, k: int, *, alone: bool) -> tuple[Tensor, Tensor]:
    """As `_by_products`, but only among the points of the inverted lists closest to each query."""
    found = candidates(rows, asked, min(k + SPARE, len(rows)))
    own = torch.arange(len(asked), device=rows.device) if alone else None
    short = (found < 0).any(dim=1)  # the lists held too few: these are asked exactly
    squared, nearest_rows = _measured(rows, asked, found.clamp_(min=0), k, own)
    for row in short.nonzero().flatten().tolist():
        itself = None if own is None else own[row : row + 1]
        squared[row], nearest_rows[row] = _against_all(rows, asked[row : row + 1], k, itself)
    return squared, nearest_rows
