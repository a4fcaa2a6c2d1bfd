"""K-means on the tensor's own device: greedy k-means++ seeding, Lloyd's iterations, the best of several restarts.

Textbook K-means (squared Euclidean distances throughout), because CDC calls it once per batch with up to as many
clusters as points. Seeding dominates there (k small steps), so it runs for all restarts at once and, while a table
of all pairs fits, only reads rows of that table. Lloyd's steps are a few large products each and gain nothing from
being stacked, so restarts take turns.

Points are centred first and distances are products, |x|² - 2 x·c + |c|²: fast, but their error is relative to |x|²,
so what must be exact (a chosen point's distance to itself, the inertia) does not come from a difference of products.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from coterie.algorithms.lloyd_bounds import Means, Nearest
from coterie.algorithms.neighbours import NotFinite, scale_of
from coterie.networks.heads import PrototypeHead
from coterie.networks.unit import unit_rows
from coterie.types import InputError

ITERATIONS, TOLERANCE = 300, 1e-4  # scikit-learn's
CHUNK = 8192  # rows whose distances to all centres are held at once
PAIRS = 4096  # up to this many points, a table of all pairs (64 MB here) may replace products with centres
MINI_BATCH = 4096
TINY = 2.0**30  # points that are below 1 / TINY are scaled up
NARROW = 1e-4  # mean square of the distance to the mean direction: float32 holds squares of rows of length 1 to 1e-7
SEEDING_ROWS = 16384  # seeding looks at a random subset of this many points, or 32 per cluster where that is more


@dataclass(frozen=True)
class KMeansResult:
    """The restart with the smallest inertia."""

    centres: Float[Tensor, "k d"]
    labels: Int[Tensor, " n"]  # the nearest centre of each point
    inertia: float  # sum of squared distances to the nearest centres
    iterations: int  # Lloyd steps of the restart that was kept


def kmeans(
    x: Float[Tensor, "n d"],
    k: int,
    *,
    generator: torch.Generator,
    restarts: int = 1,
    iterations: int = ITERATIONS,
    tolerance: float = TOLERANCE,
    reseed_empty: bool = True,
    spherical: bool = False,
) -> KMeansResult:
    """Cluster the rows of `x` in float32, without gradient, and return the restart with the lowest inertia.

    With `spherical` only directions count: each row is scaled to length 1, and so are the centres at every
    step (Dhillon and Modha, 2001); where all directions are nearly the same they are compared by what is left of them
    when their mean is taken off. The inertia is then 2 Σ (1 - cos) over the points and their centres.

    A restart stops when its labels repeat, or when its centres' squared shifts add up to at most `tolerance` times
    the mean variance of a feature (scikit-learn's rule). A cluster that loses all its points takes over the point
    farthest from its own centre, or, without `reseed_empty`, keeps its centre. Where `x` has fewer distinct rows
    than `k`, some clusters stay empty and their centres are copies of others.

    Memory beyond `x`: one centred copy, a few numbers per row, and blocks that do not grow with n. Random numbers
    come from `generator` on its own device, so a CPU generator gives the same draws on every device.

    Raises InputError (a ValueError) for k outside 1..n and restarts < 1, and its kind NotFinite for values that are
    not finite or whose squares overflow float32.
    """
    n = len(x)
    if not 1 <= k <= n:
        raise InputError(f"K-means cannot make {k} clusters of {n} points; choose k between 1 and {n}.")
    if restarts < 1:
        raise InputError(f"K-means needs at least one restart, not {restarts}.")
    # A surrounding autocast would compute the products in half precision. In inference mode the many small steps of a
    # batch take a fifth less time than without gradient alone.
    with torch.inference_mode(), torch.autocast(x.device.type, enabled=False):
        x = x.float()
        points = unit_rows(x) if spherical else x
        mean = points.mean(dim=0)
        if spherical and float(points.var(dim=0, correction=0).sum()) > NARROW:
            mean = torch.zeros_like(mean)
        else:
            points = points - mean
        _check_range(points, x)
        if (scale := 1.0 if spherical else _raising(points)) > 1:
            points = points * scale
        pairs = points @ points.T if not spherical and _table_pays(n, k, x.shape[1]) else None
        starts = seed(points, k, generator=generator, restarts=restarts, pairs=pairs)
        rules: dict[str, Any] = {"iterations": iterations, "tolerance": tolerance, "reseed_empty": reseed_empty}
        origin = mean if spherical else None
        found = (lloyd(points, start, **rules, origin=origin, pairs=pairs) for start in starts)
        best = min(found, key=lambda result: result.inertia)
    # New tensors, which may take part in what has a gradient.
    centres, labels = best.centres / scale + mean, best.labels.clone()
    return replace(best, centres=centres, labels=labels, inertia=best.inertia / scale**2)


def kmeans_by_mini_batches(
    x: Float[Tensor, "n d"], k: int, *, generator: torch.Generator, restarts: int
) -> Float[Tensor, "k d"]:
    """Centres by scikit-learn's MiniBatchKMeans (Sculley, 2010), which looks at 4,096 points at a time."""
    from sklearn.cluster import MiniBatchKMeans

    seed = int(torch.randint(2**31, (), generator=generator))
    mean = x.float().mean(dim=0)  # which scikit-learn's KMeans takes off, and this one does not
    rows = (x.float() - mean).cpu().numpy()
    found = MiniBatchKMeans(k, batch_size=MINI_BATCH, n_init=restarts, random_state=seed).fit(rows)
    return (torch.from_numpy(found.cluster_centers_).to(mean) + mean).to(x)


def place_groups(
    head: PrototypeHead, features: Float[Tensor, "n d"], generator: torch.Generator, restarts: int
) -> None:
    """Set the head's centres and variance by K-means on these features, as the head prepares them."""
    found = kmeans(head.rows(features), len(head.centres), generator=generator, restarts=restarts)
    head.place(found.centres, features, found.labels)


def assign(
    x: Float[Tensor, "n d"], centres: Float[Tensor, "k d"], chunk: int = CHUNK
) -> tuple[Int[Tensor, " n"], Float[Tensor, " n"]]:
    """Return each point's nearest centre and its squared distance to it, `chunk` points at a time."""
    with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
        origin = centres.float().mean(dim=0)  # centring keeps digits that the products would lose
        scale = _raising(x.float(), centres.float())
        centred = (centres.float() - origin) * scale
        labels = torch.cat([_nearest((part.float() - origin) * scale, centred) for part in x.split(chunk)])
        return labels, _squared_distances(x.float(), centres.float(), labels)


def seed(
    x: Float[Tensor, "n d"],
    k: int,
    *,
    generator: torch.Generator,
    restarts: int = 1,
    pairs: Float[Tensor, "n n"] | None = None,
) -> Int[Tensor, "restarts k"]:
    """Choose k rows of (centred) `x` per restart by greedy k-means++ (Arthur and Vassilvitskii, 2007).

    Each step draws 2 + floor(ln k) candidates with probability proportional to the squared distance to the nearest
    row chosen so far and keeps the one that lowers the sum of these distances most. Of very many points only a
    random subset is looked at, the same in all restarts. `pairs` is `x @ x.T`, where the caller has it.
    """
    n, device = len(x), x.device
    subset = max(SEEDING_ROWS, 32 * k)
    if n > subset:
        kept = torch.randperm(n, generator=generator, device=generator.device)[:subset].to(device)
        return kept[seed(x[kept], k, generator=generator, restarts=restarts)]

    candidates = 2 + int(math.log(k))
    first, draws = [], []
    for _ in range(restarts):  # in turn, so that more restarts only add to what fewer would have tried
        first.append(torch.randint(n, (1,), generator=generator, device=generator.device))
        draws.append(torch.rand(k, 1, candidates, generator=generator, device=generator.device))
    chosen = [torch.cat(first).to(device)]
    uniform = torch.cat(draws, dim=1).to(device)

    norms, turned = _squared_norms(x), x.T
    table = None if pairs is None else _distances_from_products(pairs, norms, norms, torch.arange(n, device=device))

    def distances(rows: Tensor) -> Tensor:
        """Squared distances (len(rows), n) of these rows to all points."""
        if table is not None:
            return table.index_select(0, rows)
        return _distances_from_products(x.index_select(0, rows) @ turned, norms.index_select(0, rows), norms, rows)

    nearest = distances(chosen[0])  # (restarts, n): squared distance to the nearest chosen row
    offset = candidates * torch.arange(restarts, device=device)
    for shares in uniform[1:]:  # index_select and narrow are x[rows] and x[:, a:b] in a third of the time
        cumulative = nearest.cumsum(dim=1)
        # right=True never lands on a weight of zero, unless all are zero: then the end, clamped, is as good as any.
        drawn = torch.searchsorted(cumulative, shares * cumulative.narrow(1, n - 1, 1), right=True)
        drawn = drawn.clamp_(max=n - 1).view(-1)
        trial = distances(drawn)
        by_restart = trial.view(restarts, candidates, n)
        torch.minimum(by_restart, nearest.unsqueeze(1), out=by_restart)
        best = by_restart.sum(dim=2).argmin(dim=1) + offset
        nearest = trial.index_select(0, best)
        chosen.append(drawn.index_select(0, best))
    return torch.stack(chosen, dim=1)


def lloyd(
    x: Float[Tensor, "n d"],
    start: Int[Tensor, " k"],
    *,
    iterations: int = ITERATIONS,
    tolerance: float = TOLERANCE,
    reseed_empty: bool = True,
    origin: Float[Tensor, " d"] | None = None,
    pairs: Float[Tensor, "n n"] | None = None,
) -> KMeansResult:
    """Run Lloyd's iterations over (centred) `x` from its rows `start` as centres; see `kmeans` for the rules.

    With `origin`, x are rows of length 1 less it, centres are of length 1 as seen from it, and no `pairs` are taken.

    With `pairs`, `x @ x.T`, a centre's products with all points are the mean of its members' rows of `pairs`: n² sums
    for a step instead of nkd products.
    """
    return _iterate(
        x,
        x[start],
        iterations=iterations,
        tolerance=tolerance,
        reseed_empty=reseed_empty,
        origin=origin,
        pairs=pairs,
        products=None if pairs is None else pairs[start],
    )


def refine(x: Float[Tensor, "n d"], centres: Float[Tensor, "k d"]) -> KMeansResult:
    """K-means from given centres: Lloyd's iterations alone, under the rules of `kmeans`."""
    with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
        x = x.float()
        mean = x.mean(dim=0)
        points = x - mean
        _check_range(points, x)
        start = centres.float() - mean
        scale = _raising(points, start)
        result = _iterate(points * scale, start * scale, iterations=ITERATIONS, tolerance=TOLERANCE)
        return replace(result, centres=result.centres / scale + mean, inertia=result.inertia / scale**2)


def _iterate(
    x: Tensor,
    centres: Tensor,
    *,
    iterations: int,
    tolerance: float,
    reseed_empty: bool = True,
    origin: Tensor | None = None,
    pairs: Tensor | None = None,
    products: Tensor | None = None,
) -> KMeansResult:
    """Lloyd's iterations from these centres (k, d), and `products` (k, n) = `centres @ x.T` of them with `pairs`."""
    # The mean variance of a feature: directions may differ little, and all others are centred.
    variance = x.var(dim=0, correction=0).mean() if origin is not None else _squared_norms(x).mean() / x.shape[1]
    enough = tolerance * variance
    # Beyond that every step would read all points from memory, twice.
    many = len(x) > SEEDING_ROWS and len(centres) > 1 and x.device.type == "cpu" and pairs is None
    nearest, means = (Nearest(x), Means(x, len(centres))) if many else (None, None)
    labels = _nearest(x, centres, products) if nearest is None else nearest(centres)
    taken = 0
    for _ in range(iterations):
        taken += 1
        counts = torch.bincount(labels, minlength=len(centres))
        if reseed_empty and not counts.all():
            labels = _fill_empty(x, centres, labels, counts)
            counts = torch.bincount(labels, minlength=len(centres))
        before = centres
        centres = _cluster_means(x, labels, centres, counts) if means is None else means(labels, centres)
        if origin is not None:
            centres = functional.normalize(centres + origin, dim=1) - origin
        if pairs is not None and products is not None:
            products = _cluster_means(pairs, labels, products, counts)
        previous = labels
        labels = _nearest(x, centres, products) if nearest is None else nearest(centres, labels)
        if torch.equal(labels, previous) or (centres - before).square().sum() <= enough:
            break
    inertia = _squared_distances(x, centres, labels).double().sum()
    return KMeansResult(centres, labels, float(inertia), taken)


def _table_pays(n: int, k: int, d: int) -> bool:
    """Whether `x @ x.T` is worth its cost: n²d to make and n² to read at each step, in place of nkd for each step.

    The two factors are measured on two processor cores: about 30 steps' worth of products in a run, and a number read
    from memory costs as much as 12 multiplications.
    """
    return n <= min(PAIRS, 30 * k, k * d // 12)


def _raising(*rows: Tensor) -> float:
    """The power of two that brings tiny rows to a size whose squares float32 holds; 1 for others."""
    scale = min(scale_of(each) for each in rows)
    return scale if scale > TINY else 1.0


def _check_range(points: Tensor, x: Tensor) -> None:
    """Raise NotFinite, with the row of `x`, where a sum of all squared distances of `points` would not be finite."""
    if not torch.isfinite(4 * len(points) * _squared_norms(points).max()):
        # Centring spreads one bad value over all rows, so the row is looked for in the original.
        bad = int((~torch.isfinite(16 * len(x) * _squared_norms(x))).int().argmax())
        raise NotFinite(
            f"K-means cannot use row {bad}: it holds a NaN, infinite or too large value; remove or mend it."
        )


def _squared_norms(x: Tensor) -> Tensor:
    return torch.linalg.vector_norm(x, dim=1).square_()  # without the copy of x that x.square() would make


def _distances_from_products(products: Tensor, row_norms: Tensor, norms: Tensor, rows: Tensor) -> Tensor:
    """Turn the products of some `rows` with all points into squared distances, 0 from each row to itself."""
    distances = torch.add(norms, products, alpha=-2).add_(row_norms[:, None]).clamp_(min=0)
    return distances.scatter_(1, rows[:, None], 0.0)


def _nearest(x: Tensor, centres: Tensor, products: Tensor | None = None) -> Tensor:
    """Return the nearest centre of each row; `products` (k, n) = `centres @ x.T` saves the multiplication."""
    half = _squared_norms(centres).div_(2)
    if products is not None:
        return (half[:, None] - products).min(dim=0).indices
    if len(x) <= CHUNK:
        return torch.addmm(half, x, centres.T, alpha=-1).min(dim=1).indices
    parts = [torch.addmm(half, part, centres.T, alpha=-1).min(dim=1).indices for part in x.split(CHUNK)]
    return torch.cat(parts)


def _squared_distances(x: Tensor, centres: Tensor, labels: Tensor) -> Tensor:
    """Return each row's squared distance to the centre of its label, from differences: exact where it is small."""
    pairs = zip(x.split(CHUNK), labels.split(CHUNK), strict=True)
    return torch.cat([(part - centres[own]).square().sum(dim=1) for part, own in pairs])


def _cluster_means(x: Tensor, labels: Tensor, centres: Tensor, counts: Tensor) -> Tensor:
    """Return the mean row of each cluster, which have `counts` rows; an empty one keeps its row of `centres`."""
    k, counts = len(centres), counts[:, None]
    sums = centres * (counts == 0)
    if x.device.type == "cpu":
        sums.index_add_(0, labels, x)
    else:  # there index_add_ sums in no fixed order, which would make runs differ
        for part, own in zip(x.split(CHUNK), labels.split(CHUNK), strict=True):
            sums += functional.one_hot(own, k).to(x.dtype).T @ part
    return sums.div_(counts.clamp(min=1))


def _fill_empty(x: Tensor, centres: Tensor, labels: Tensor, counts: Tensor) -> Tensor:
    """Give each empty cluster one point: those farthest from their centres whose clusters have others left."""
    empty = (counts == 0).nonzero().flatten()
    distances = _squared_distances(x, centres, labels).masked_fill(counts[labels] == 1, 0.0)
    farthest = distances.topk(len(empty))
    # Copies of a point that differ only by rounding would be passed round for ever.
    resolved = 1e-6 * _squared_norms(x).mean()
    moved = farthest.indices[farthest.values > resolved]
    labels = labels.clone()
    labels[moved] = empty[: len(moved)]
    return labels
