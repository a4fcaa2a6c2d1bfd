"""FINCH: link every point to its first neighbour; connected points are a group; repeat with the groups' means.

Sarfraz, Sharma and Stiefelhagen, "Efficient Parameter-free Clustering Using First Neighbor Relations", CVPR 2019.

Their adjacency links i and j when one is the other's first neighbour or both have the same one (Eq. 1). The last case
adds no connection, since both are linked to that neighbour, so the links i -> first neighbour are enough. That stays
so under the early-exit guard, which cuts long links: the one between i and j is no shorter than either of the two.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from coterie.algorithms.neighbours import SAME, Metric, comparable, nearest
from coterie.types import InputError

MOST_JUDGED = 2000  # points that the silhouette is measured on
ROWS = 16_384  # points that are copied at a time
MOST_FOLLOWERS = 1024  # points with the same first neighbour whose distances are measured at a time


def first_neighbour_partition(
    neighbour: Int[Tensor, " n"], distance: Float[Tensor, " n"] | None = None, longest: float = float("inf")
) -> Int[Tensor, " n"]:
    """Groups of points connected by links i -> neighbour[i]; links with a `distance` above `longest` are cut.

    Groups are numbered in the order of their first points.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    n = len(neighbour)
    kept = torch.ones(n, dtype=torch.bool) if distance is None else (distance <= longest).cpu()
    start, end = torch.arange(n)[kept].numpy(), neighbour.cpu()[kept].numpy()
    links = coo_array((torch.ones(len(start)).numpy(), (start, end)), shape=(n, n))
    found = connected_components(links, directed=False)[1]
    return by_first_appearance(torch.from_numpy(found).long()).to(neighbour.device)


def by_first_appearance(labels: Int[Tensor, " n"]) -> Int[Tensor, " n"]:
    """Renumber groups 0, 1, ... in the order in which they first appear; numbers without a point are left out."""
    _, dense = labels.unique(return_inverse=True)
    first = torch.full((int(dense.max()) + 1,), len(labels), device=labels.device)
    first.scatter_reduce_(0, dense, torch.arange(len(labels), device=labels.device), "amin")
    return first.argsort().argsort()[dense]


def group_means(points: Float[Tensor, "n d"], labels: Int[Tensor, " n"]) -> Float[Tensor, "k d"]:
    """The mean of each group's points; every number from 0 to the largest label must have one."""
    sizes = labels.bincount()
    order = labels.argsort(stable=True)  # sums in a fixed order, on a GPU as well
    # Whole groups of about ROWS points at a time, since all points in another order are a copy of them.
    groups = ((sizes.cumsum(0) - 1) // ROWS).unique_consecutive(return_counts=True)[1].tolist()
    parts = zip(order.split([int(part.sum()) for part in sizes.split(groups)]), sizes.split(groups), strict=True)
    return torch.cat([_means_of_runs(points, rows, lengths) for rows, lengths in parts])


def _means_of_runs(
    points: Float[Tensor, "n d"], rows: Int[Tensor, " m"], lengths: Int[Tensor, " k"]
) -> Float[Tensor, "k d"]:
    """The means of these points, of which the first `lengths[0]` are one group, and so on."""
    if len(rows) <= 2 * ROWS:
        return torch.segment_reduce(points[rows].float(), "mean", lengths=lengths, axis=0)
    # Sums of very many float32 are off by a percent.
    sums = torch.zeros(len(lengths), points.shape[1], dtype=torch.float64, device=points.device)
    group = torch.arange(len(lengths), device=points.device).repeat_interleave(lengths)
    for part, own in zip(rows.split(ROWS), group.split(ROWS), strict=True):
        present, counts = own.unique_consecutive(return_counts=True)
        sums[present] += torch.segment_reduce(points[part].double(), "sum", lengths=counts, axis=0)
    return (sums / lengths[:, None]).float()


def hierarchy(
    points: Float[Tensor, "n d"], metric: Metric = "cosine", *, early_exit: bool = True
) -> list[Int[Tensor, " n"]]:
    """FINCH's partitions, finest first, each a coarsening of the one before; numbered in the order of first points.

    Ends before the level that would hold a single group, or that would merge nothing; so the list is empty when the
    first links connect all points. With `early_exit`, the guard of the authors' code, links at later levels that are
    longer than the longest of the first level are cut: a group that is farther off may be an outlier.
    """
    levels: list[Tensor] = []
    means, labels, longest = points, torch.arange(len(points), device=points.device), float("inf")
    while len(means) > 1:
        distance, neighbour = (column[:, 0] for column in nearest(means, 1, metric=metric))
        merged = first_neighbour_partition(neighbour, distance, longest)
        if int(merged.max()) in (0, len(means) - 1):
            break
        if early_exit and not levels:
            # A link that is as long is kept, however both were rounded: among counts and other whole numbers many are.
            longest = longest_link(points, neighbour, metric) * (1 + SAME)
        labels = merged[labels]
        levels.append(labels)
        means = group_means(points, labels)
    return levels


def longest_link(points: Float[Tensor, "n d"], neighbour: Int[Tensor, " n"], metric: Metric) -> float:
    """The largest distance between two points that Eq. 1 links, which here includes those with the same neighbour."""
    rows = comparable(points, metric)
    pairs = zip(rows.split(ROWS), neighbour.split(ROWS), strict=True)
    longest = max(float((part - rows[near]).square_().sum(dim=1).max().sqrt()) for part, near in pairs)
    order, sizes = neighbour.argsort(stable=True), neighbour.bincount()
    for followers in order.split(sizes[sizes > 0].tolist()):
        for part in followers.split(MOST_FOLLOWERS) if len(followers) > 1 else ():
            apart = torch.cdist(rows[part], rows[followers], compute_mode="donot_use_mm_for_euclid_dist")
            longest = max(longest, float(apart.max()))
    return longest**2 / 2 if metric == "cosine" else longest


def closest_level(levels: list[Int[Tensor, " n"]], k: int) -> Int[Tensor, " n"]:
    """The partition whose number of groups is nearest to k, the coarser one of two equally near.

    Raises InputError where FINCH found none.
    """
    if not levels:
        raise InputError("FINCH found no partition: all points are connected by first neighbours.")
    return min(reversed(levels), key=lambda labels: abs(int(labels.max()) + 1 - k))


def separated_level(
    points: Float[Tensor, "n d"], levels: list[Int[Tensor, " n"]], metric: Metric, generator: torch.Generator
) -> tuple[int, list[float]]:
    """The index of the level with the best separated groups, and every level's mean silhouette (Rousseeuw 1987).

    Measured on at most 2,000 points, in which a group of a single point counts 0; the coarser of two equal levels wins.
    """
    from sklearn.metrics import silhouette_score

    some = torch.randperm(len(points), generator=generator)[:MOST_JUDGED].to(points.device)
    rows, apart = comparable(points[some], metric, zeros=True).double().cpu().numpy(), list[float]()
    for level in levels:
        labels = level[some].cpu().numpy()
        told = 2 <= len(set(labels.tolist())) < len(labels)
        apart.append(float(silhouette_score(rows, labels)) if told else 0.0)
    return max(range(len(levels)), key=lambda place: (apart[place], place)), apart


def exactly(
    points: Float[Tensor, "n d"], levels: list[Int[Tensor, " n"]], k: int, metric: Metric = "cosine"
) -> Int[Tensor, " n"]:
    """FINCH's required-K: the partition with k groups, or the coarsest with more, merged until k are left.

    Where no level has k groups the single points are merged. Raises InputError for k outside 1..n.
    """
    if not 1 <= k <= len(points):
        raise InputError(f"FINCH cannot make {k} groups of {len(points)} points.")
    enough = [labels for labels in levels if int(labels.max()) + 1 >= k]
    begin = enough[-1] if enough else torch.arange(len(points), device=points.device)
    return merge_to(points, begin, k, metric)


def merge_to(
    points: Float[Tensor, "n d"], labels: Int[Tensor, " n"], k: int, metric: Metric = "cosine"
) -> Int[Tensor, " n"]:
    """Merge the two groups with the closest means, again and again, until k are left (the paper's Algorithm 2).

    Each group remembers its nearest other one, so that a merge costs distances from one mean, and from those of groups
    whose nearest was merged, instead of all pairs.
    """
    count, device = int(labels.max()) + 1, points.device
    if count <= k:
        return labels
    sizes, means = labels.bincount().float(), group_means(points, labels)
    away, partner = (column[:, 0] for column in nearest(means, 1, metric=metric))
    rows = comparable(means, metric, zeros=True)
    alive, group = torch.ones(count, dtype=torch.bool, device=device), torch.arange(count, device=device)
    into = group.clone()

    def distances_from(one: int) -> Tensor:
        squared = (rows - rows[one]).square().sum(dim=1)
        distance = squared / 2 if metric == "cosine" else squared.sqrt()
        return distance.masked_fill(~alive | (group == one), torch.inf)

    for _ in range(count - k):
        one = int(away.argmin())
        kept, gone = sorted((one, int(partner[one])))
        means[kept] = torch.lerp(means[kept], means[gone], sizes[gone] / (sizes[kept] + sizes[gone]))
        sizes[kept] += sizes[gone]
        rows[kept] = comparable(means[kept : kept + 1], metric, zeros=True)[0]
        alive[gone], away[gone] = False, torch.inf
        into[into == gone] = kept
        moved = distances_from(kept)
        away[kept], partner[kept] = moved.min(dim=0)
        nearer = moved < away
        lost = alive & ~nearer & ((partner == kept) | (partner == gone)) & (group != kept)
        away[nearer], partner[nearer] = moved[nearer], kept
        for other in lost.nonzero().flatten().tolist():
            away[other], partner[other] = distances_from(other).min(dim=0)
    return by_first_appearance(into[labels])
