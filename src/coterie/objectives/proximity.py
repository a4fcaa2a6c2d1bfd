"""R-DC's two filters and its centroids: which points have evenly spaced neighbours, and which neighbours count.

Shaheen, Mrabah, Ksantini and Alqaddoumi, "Rethinking Deep Clustering Paradigms: Self-Supervision Is All You Need",
2025, Eq. (3)-(11). A comment marks each line where the text had to be interpreted; the method's page says where the
authors' code differs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from coterie.algorithms.neighbours import nearest

GapScale = Literal["absolute", "relative", "median"]
GapFrom = Literal["own", "running", "global", "zero"]
WhenNone = Literal["nearest", "own_code"]
Copies = Literal["core", "border", "left_out"]
TINY = 1e-12
QUANTILES_OF = 2**24  # numbers, from which on PyTorch has no quantiles


@dataclass(frozen=True)
class Rules:
    """How the two filters are read; the defaults follow the text, the others the authors' code or one of its variants.

    gap_from: what a neighbour's distance is compared with: the item's own nearest neighbour, the smallest distance that
    the core items before it in the source have (`running`, an absolute radius in effect, and a matter of order), the
    smallest of all items, or nothing. when_none: what the centroid is where no neighbour passes. core_sense: on which
    side of β1 a core item's ratio lies. copies: what an item is whose neighbours are all copies of it; `left_out` is
    neither core nor counted as border.
    """

    gap_from: GapFrom = "own"
    when_none: WhenNone = "nearest"
    core_sense: Literal["above", "below"] = "above"
    copies: Copies = "core"


TEXT = Rules()


@dataclass(frozen=True)
class Proximity:
    """The results of both filters for some points."""

    ratio: Float[Tensor, " n"]  # r_i, nearest over farthest neighbour distance
    core: Bool[Tensor, " n"]  # r_i > β1
    reliable: Bool[Tensor, "n m"]  # Δ_ij < β2
    centroid: Float[Tensor, "n d"]  # c_i, the mean of the reliable neighbours
    counted: Bool[Tensor, " n"]  # items that are core or border

    @property
    def core_share(self) -> float:
        """ρ (Eq. 15)."""
        return float(self.core.sum() / self.counted.sum().clamp(min=1))

    @property
    def accepted(self) -> float:
        """Share of the neighbours, the nearest included, that the second filter lets pass."""
        return float(self.reliable.float().mean())


def proximity(
    points: Float[Tensor, "n d"],
    distance: Float[Tensor, "q m"],
    neighbour: Int[Tensor, "q m"],
    core_ratio: float,
    gap: float,
    *,
    scale: float | Tensor = 1.0,
    rules: Rules = TEXT,
    own: Float[Tensor, "q d"] | None = None,
) -> Proximity:
    """Both filters and the centroids for q points, from the distances to their m neighbours, nearest first.

    `neighbour` holds rows of `points`, `scale` (one number, or one a point) divides the gaps (see `gap_scale`). `own`
    are the points' own codes, the fallback of `when_none="own_code"`; None: they are `points`, in order. The
    point itself is not a part of its centroid; its neighbours may be border points.
    """
    ratio = density_ratio(distance)
    core = core_points(distance, core_ratio, rules)
    counted = distance[:, -1] > 0 if rules.copies == "left_out" else torch.ones_like(core)
    apart = distance - gap_start(distance, core, rules.gap_from)
    reliable = apart / torch.as_tensor(scale, device=distance.device).reshape(-1, 1).clamp(min=TINY) < gap
    if rules.when_none == "nearest":
        reliable[:, 0] |= ~reliable.any(
            1
        )  # measured from the point's own nearest, which always passes, it changes nothing
    accepted = reliable.sum(1, keepdim=True)
    weight = reliable.to(points.dtype) / accepted.clamp(min=1)
    centroid = (points[neighbour] * weight[:, :, None]).sum(1)
    if rules.when_none == "own_code":
        centroid = torch.where(accepted > 0, centroid, points if own is None else own)
    return Proximity(ratio, core, reliable, centroid, counted)


def core_points(distance: Float[Tensor, "n m"], core_ratio: float, rules: Rules = TEXT) -> Bool[Tensor, " n"]:
    """Which points are core: those whose ratio r_i lies on the rules' side of β1 (Eq. 5)."""
    ratio = core_value(distance, rules)
    core = ratio > core_ratio if rules.core_sense == "above" else ratio < core_ratio
    return core if rules.copies == "core" else core & (distance[:, -1] > 0)


def core_value(distance: Float[Tensor, "n m"], rules: Rules) -> Float[Tensor, " n"]:
    """r_i as β1 is compared with it: a point among copies has the value that is core under the rules, 1 or 0."""
    ratio = density_ratio(distance)
    return ratio if rules.core_sense == "above" else ratio.where(distance[:, -1] > 0, 0.0)


def gap_start(distance: Float[Tensor, "n m"], core: Bool[Tensor, " n"], kind: GapFrom) -> Float[Tensor, "n 1"]:
    """The distance that each point's gaps are measured from in the second filter; `own`: Δ_ij = D_ij - D_i1 (Eq. 7, 8).

    `running`: s_i = min(D_N1, min over core points k <= i of D_k1), N the last point: the authors' code sets its
    minimum for each point in one loop, and a second loop goes on lowering the value that the last point left.
    """
    own = distance[:, :1]
    if kind == "own":
        return own
    if kind == "running":
        seen = torch.where(core[:, None], own, torch.inf)
        return seen.cummin(0).values.clamp(max=own[-1])
    return torch.zeros_like(own) if kind == "zero" else own.min().expand_as(own)


def density_ratio(distance: Float[Tensor, "n m"]) -> Float[Tensor, " n"]:
    """r_i = D_i1 / D_iM in [0, 1] (Eq. 4), 1 where all neighbours are copies of the point.

    For locally uniform density of dimension D, P(r > β) = (1 - β^D)^(M-1): the ratio reads the local dimension and the
    evenness of the spacing, not the density.
    """
    farthest = distance[:, -1]
    return torch.where(farthest > 0, distance[:, 0] / farthest.clamp(min=TINY), 1.0)


def gap_scale(distance: Float[Tensor, "n m"], kind: GapScale) -> Tensor:
    """The unit of the gaps: 1 (the paper as written), each point's D_i1, or the median D_i1 of all points.

    The median makes β2 free of the scale of the latents, which training shrinks.
    """
    if kind == "absolute":
        return torch.ones((), device=distance.device)
    return distance[:, 0] if kind == "relative" else distance[:, 0].median()


def choose_filters(
    distance: Float[Tensor, "n m"], core_share: float, accepted: float, kind: GapScale, rules: Rules = TEXT
) -> tuple[float, float]:
    """β1 and β2 without labels: those that make this share of the points core and accept this share of the neighbours.

    The published values were tuned for each data set, apparently against labels; these are quantiles of r and of the
    core points' gaps, as the rules measure them. A nearest neighbour that is always accepted counts.
    """
    ratio, below = core_value(distance, rules), core_share if rules.core_sense == "below" else 1 - core_share
    few = len(ratio) < QUANTILES_OF
    core_ratio = float(ratio.quantile(below) if few else ratio.sort().values[round(below * (len(ratio) - 1))])
    core = core_points(distance, core_ratio, rules)
    apart = distance - gap_start(distance, core, rules.gap_from)
    if rules.when_none == "nearest":
        apart[:, 0] = 0
    scale = gap_scale(distance, kind)
    scaled = apart / (scale[:, None] if scale.dim() else scale).clamp(min=TINY)
    ordered = scaled[core if bool(core.any()) else torch.ones_like(core)].flatten().sort().values
    return core_ratio, max(float(ordered[min(len(ordered) - 1, round(accepted * len(ordered)))]), TINY)


def neighbours_in_bank(
    bank: Float[Tensor, "n d"], fresh: Float[Tensor, "b d"], index: Int[Tensor, " b"], m: int
) -> tuple[Float[Tensor, "b m"], Int[Tensor, "b m"]]:
    """The m nearest rows of the bank to each fresh latent, nearest first, without the row of the same item."""
    distance, neighbour = nearest(bank, m + 1, queries=fresh)
    itself = neighbour == index.to(neighbour.device)[:, None]
    # Where the item's own row is not among them, the farthest goes.
    itself[:, -1] |= ~itself.any(1)
    keep = ~itself
    return distance[keep].view(-1, m), neighbour[keep].view(-1, m)
