"""Assigning new items to the groups of a FINCH hierarchy, with a confidence; neither is in the paper.

An item belongs to the group of the nearest mean of a fine level of the hierarchy, and the confidence falls with the
lead of that mean over those of other groups, scaled so that on average it is the share of the ten nearest neighbours
that are in an item's own group.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from coterie.algorithms.finch import exactly, group_means
from coterie.algorithms.neighbours import Metric, comparable, nearest
from coterie.networks.heads import squared_distances
from coterie.networks.memory import ItemTable
from coterie.views.normalise import spread_rows

MOST_MEANS = 16_384  # means that a model keeps: 51 MB for 28-pixel grey images
NEIGHBOURS = 10  # whose groups give an item's confidence
JUDGED = 2000  # items that the confidence is scaled on


class NearestMean(nn.Module):
    """logit_k = -d²/(2 s²), d the distance to the nearest mean of group k; each group has one mean or several.

    With k = 0 there are as many groups as `place` is given.
    """

    scale: Tensor

    def __init__(self, width: int, k: int, metric: Metric) -> None:
        super().__init__()
        self.asked, self.metric = k, metric
        self.means = ItemTable(width + (metric == "cosine"))  # one dimension more, for rows of zeros
        self.group = ItemTable(1)
        self.register_buffer("scale", torch.ones(()))  # 2 s²

    @property
    def k(self) -> int:
        if self.asked or not len(self.group.rows):
            return self.asked
        return int(self.group.rows.max()) + 1

    @torch.no_grad()
    def place(
        self, rows: Float[Tensor, "n d"], fine: Int[Tensor, " n"], labels: Int[Tensor, " n"], confidence: float
    ) -> None:
        """Keep the means of the groups `fine`, each a part of one of `labels`; `rows` get this mean confidence."""
        self.means.fill(comparable(group_means(rows, fine), self.metric, zeros=True))
        group = torch.zeros(int(fine.max()) + 1, 1, device=rows.device)
        group[fine, 0] = labels.float()
        self.group.fill(group)
        some = spread_rows(len(rows), JUDGED)
        self.scale.copy_(scale_for(self.squared_distances(rows[some]), confidence))

    def squared_distances(self, rows: Float[Tensor, "n d"]) -> Float[Tensor, "n k"]:
        """Squared distances to the nearest mean of every group."""
        squared = squared_distances(comparable(rows, self.metric, zeros=True), self.means.rows)
        group = self.group.rows.long().T.expand_as(squared)
        return squared.new_full((len(rows), self.k), torch.inf).scatter_reduce(1, group, squared, "amin")

    def forward(self, rows: Float[Tensor, "n d"]) -> Float[Tensor, "n k"]:
        return -self.squared_distances(rows) / self.scale


def place_hierarchy(head: NearestMean, rows: Float[Tensor, "n d"], levels: list[Int[Tensor, " n"]]) -> None:
    """Let `head` answer with FINCH's required-K partition, by the means of the finest level that is small enough."""
    place_level(head, rows, levels, exactly(rows, levels, head.k, head.metric))


def place_level(
    head: NearestMean, rows: Float[Tensor, "n d"], levels: list[Int[Tensor, " n"]], labels: Int[Tensor, " n"]
) -> None:
    """Let `head` answer with a partition that merges groups of these levels."""
    k = int(labels.max()) + 1
    fine = next((level for level in [*levels, labels] if k <= int(level.max()) + 1 <= MOST_MEANS), labels)
    head.place(rows, fine, labels, neighbour_agreement(rows, labels, head.metric))


def scale_for(squared: Float[Tensor, "n k"], confidence: float) -> Float[Tensor, ""]:
    """The scale at which softmax(-squared / scale) has this mean top-1 probability, by bisection of its logarithm.

    At most 16 times the mean lead of the nearest over the others: a flatter softmax could no longer tell them apart.
    A group without a mean, which is infinitely far from all rows, gets a probability of 0.
    """
    lead = (squared - squared.amin(1, keepdim=True)).double()
    middle = lead[lead.isfinite()].mean().clamp(min=1e-12)
    low, high = -30.0, 4.0
    for _ in range(60):
        log_scale = (low + high) / 2
        sure = float((1 / (-lead / (middle * 2.0**log_scale)).exp().sum(1)).mean())
        low, high = (log_scale, high) if sure > confidence else (low, log_scale)
    return (middle * 2.0**low).float()


def neighbour_agreement(points: Float[Tensor, "n d"], labels: Int[Tensor, " n"], metric: Metric) -> float:
    """The share of nearest neighbours that are in an item's own group, never quite 0 or 1 (Laplace's rule).

    Ten neighbours, or half the size of an average group if that is less, so that all of them can be in one group.
    """
    n = len(points)
    k = max(1, min(NEIGHBOURS, n // (2 * (int(labels.max()) + 1))))
    some = spread_rows(n, JUDGED).to(points.device)
    found = nearest(points, k + 1, points[some], metric)[1]
    others = found != some[:, None]
    same = ((labels[found] == labels[some][:, None]) & others).sum()
    return (float(same) + 1) / (float(others.sum()) + 2)
