"""Is a finished result sound, as far as sizes and distances can tell? No labels, and nothing that steers a run.

They look for results that are wrong without a sign of it: one group that took nearly all items, small groups that stand
apart but were shared out among the others, and large ones that were divided while others were put together, as methods
do that draw groups to equal sizes.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from coterie.algorithms.consensus import matched_to
from coterie.algorithms.kmeans import KMeansResult, kmeans
from coterie.common.words import whole_percent
from coterie.training.seeds import generator_of
from coterie.views.normalise import spread_rows

LUMP = 0.8  # share of the items in one group from which the user is told
CROWDED = 2  # items of a mean group: with fewer most items are a group of their own
TINY = 0.05  # of an even share: a group far below
SAMPLE = 3000  # items that the search for overlooked groups looks at
RESTARTS = 6  # of its K-means
MOST_GROUPS = 64  # with more groups the search would take long and find little
FEWEST = 4  # different items in the sample that make a group
SMALL = 0.34  # of an even share: what is looked for; methods with a balance term find larger ones
APART = 4.5  # gap between two groups over the sum of their deviations along it; halves of one Gaussian have 1.3
ROUND = 0.15  # least silhouette: how much farther the next group is than the own one
FOUND = 0.5  # overlap (Jaccard) with a group of the result above which it is that group; two of a size in one have this
CLEAR = 2.5  # gap of each of K-means' groups to its nearest from which on they are taken for the groups of these data
CLEARLY_ROUND = 0.3  # and their silhouette; a table of few independent yes-or-no columns has less
AGREED = 0.05  # share of the items in other groups than K-means' up to which the two say the same

Known = dict[int, KMeansResult]
"""K-means' groups of the points by the number of centres, filled by one search and taken up by the next."""


def size_warning(sizes: Int[Tensor, " k"]) -> str | None:
    """Of one group with more than 80 % of the items, of groups far smaller than the others, or of too many groups."""
    n, k, largest = int(sizes.sum()), len(sizes), int(sizes.max())
    if n < CROWDED * k:
        return (
            f"{n:,} items are in {k:,} groups, fewer than {CROWDED} in a mean group: little says what belongs "
            "together, and the confidences mean little. Ask for fewer groups."
        )
    if largest > LUMP * n:
        return (
            f"One group holds {largest:,} of the {n:,} items ({whole_percent(largest / n)}): unless you expect that, "
            "the result says little, and its confidences less; try another method or number of groups."
        )
    tiny = sizes[(sizes > 0) & (sizes < TINY * n / k)]
    if len(tiny) == 0:
        return None
    what = (
        f"One group has only {int(tiny[0]):,}" if len(tiny) == 1 else f"{len(tiny)} groups have at most {tiny.max():,}"
    )
    return (
        f"{what} of the {n:,} items, where an even share is {n // k:,}: look at {'it' if len(tiny) == 1 else 'them'}."
    )


def sample_rows(n: int) -> Int[Tensor, " m"]:
    """Up to `SAMPLE` rows spread evenly over the items, always the same ones."""
    return spread_rows(n, SAMPLE)


def overlooked(
    points: Float[Tensor, "m d"], labels: Int[Tensor, " m"], k: int, seed: int = 0, known: Known | None = None
) -> Tensor | None:
    """Members (m,) of the largest small group that stands apart from all others and is no group of the result.

    K-means with k and with 2 k centres finds candidates: a group that stands apart has a centre of its own. How far it
    stands apart is measured on one half of its members along the direction that the other half gives, since in many
    dimensions any few points lie apart in the direction that they themselves give. `known`: see `Known`.
    """
    m = len(points)
    if k > MOST_GROUPS or m < 8 * k:
        return None
    for centres in (k, 2 * k):
        points, found = _searched(points, centres, seed, known)
        if (inside := _apart(points, found, labels, k)) is not None:
            return inside
    return None


def divided(
    points: Float[Tensor, "m d"], labels: Int[Tensor, " m"], k: int, seed: int = 0, known: Known | None = None
) -> Tensor | None:
    """Items (m,) that the result has in other groups than K-means, where every one of K-means' groups stands apart.

    None where they do not, as in most data, or where the two agree on all but 5 % of the items. `known`: see
    `Known`.
    """
    m = len(points)
    if k > MOST_GROUPS or m < 8 * k:
        return None
    points, found = _searched(points, k, seed, known)
    others = matched_to(found.labels, labels, k)[found.labels] != labels
    if float(others.float().mean()) <= AGREED:
        return None
    for group in range(k):
        inside = found.labels == group
        if int(inside.sum()) < FEWEST:
            return None
        silhouette, gap = _standing(points, found, group)
        if silhouette < CLEARLY_ROUND or gap < CLEAR:
            return None
    return others


def _searched(
    points: Float[Tensor, "m d"], centres: int, seed: int, known: Known | None
) -> tuple[Float[Tensor, "m d"], KMeansResult]:
    """The points at a total variance of one, and K-means' groups of them."""
    points = points.float() / points.float().var(0).sum().sqrt().clamp(min=1e-30)
    known = {} if known is None else known
    if centres not in known:
        generator = generator_of(seed, "overlooked", centres)
        known[centres] = kmeans(points, centres, generator=generator, restarts=RESTARTS)
    return points, known[centres]


def _apart(points: Float[Tensor, "m d"], found: KMeansResult, labels: Int[Tensor, " m"], k: int) -> Tensor | None:
    """The largest of K-means' groups that is small, stands apart, and is no group of the result."""
    m = len(points)
    sizes = found.labels.bincount(minlength=len(found.centres))
    for group in sizes.argsort(descending=True).tolist():
        inside = found.labels == group
        size = int(sizes[group])
        if not FEWEST <= size <= SMALL * m / k or _overlap(inside, labels, k) > FOUND:
            continue
        silhouette, gap = _standing(points, found, group)
        if silhouette >= ROUND and gap >= APART and len(points[inside].unique(dim=0)) >= FEWEST:
            return inside
    return None


def _standing(points: Float[Tensor, "m d"], found: KMeansResult, group: int) -> tuple[float, float]:
    """Mean silhouette (by centres) of one of K-means' groups, and its gap to the group with the nearest centre."""
    inside = found.labels == group
    distances = torch.cdist(points[inside], found.centres, compute_mode="donot_use_mm_for_euclid_dist")
    own = distances[:, group].clone()
    distances[:, group] = torch.inf
    nearest = distances.min(1).values
    silhouette = ((nearest - own) / torch.maximum(own, nearest).clamp(min=1e-12)).mean()
    beside = found.labels == int((found.centres - found.centres[group]).norm(dim=1).argsort()[1])
    return float(silhouette), _gap(points[inside], points[beside])


def _overlap(inside: Tensor, labels: Tensor, k: int) -> float:
    """The largest Jaccard index of a set of items with a group of the result."""
    shared = labels[inside].bincount(minlength=k)
    union = labels.bincount(minlength=k) + int(inside.sum()) - shared
    return float((shared / union.clamp(min=1)).max())


def _gap(inside: Float[Tensor, "a d"], beside: Float[Tensor, "b d"]) -> float:
    """Distance of two groups over the sum of their deviations, along the direction between them; the smaller of two.

    0 beside a single point, whose other half is empty.
    """
    if min(len(inside), len(beside)) < 2:
        return 0.0
    origin = inside.mean(0)  # products of rows far from 0 would lose their differences
    inside, beside = inside - origin, beside - origin
    gaps = []
    for part in (0, 1):
        direction = inside[part::2].mean(0) - beside[part::2].mean(0)
        a, b = inside[1 - part :: 2] @ direction, beside[1 - part :: 2] @ direction
        spread = a.std(correction=0) + b.std(correction=0)
        gaps.append(float((a.mean() - b.mean()) / spread.clamp(min=1e-12)))
    return min(gaps)
