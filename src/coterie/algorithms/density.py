"""DBSCAN for an unknown number of groups: connected dense regions are the groups, the rest is noise.

Ester, Kriegel, Sander and Xu, "A Density-Based Algorithm for Discovering Clusters", KDD 1996, by scikit-learn. R-DC
(Shaheen et al. 2025) uses it for an unknown K and gives neither setting. The radius comes from the knee of the
sorted distances to the `min_samples`-th point, as the DBSCAN paper proposes for its plot of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from coterie.algorithms.finch import by_first_appearance, hierarchy
from coterie.algorithms.nearest_mean import MOST_MEANS, NearestMean, neighbour_agreement
from coterie.algorithms.neighbours import nearest


@dataclass(frozen=True)
class Density:
    """Groups of dense points, and the radius within which a point's neighbours were counted."""

    labels: Int[Tensor, " n"]  # groups in the order of their first points; -1: noise
    radius: float

    @property
    def groups(self) -> int:
        return int(self.labels.max()) + 1

    @property
    def noise(self) -> float:
        """The share of the points in no group."""
        return float((self.labels < 0).double().mean())


def knee(distances: Float[Tensor, " n"]) -> float:
    """The sorted curve's point that lies farthest below the straight line between its two ends."""
    curve = distances.double().sort().values
    line = torch.lerp(curve[0], curve[-1], torch.linspace(0, 1, len(curve), dtype=torch.float64, device=curve.device))
    return float(curve[(line - curve).argmax()])


def dbscan(points: Float[Tensor, "n d"], min_samples: int = 5) -> Density:
    """Group points that have `min_samples` points, themselves among them, within the radius of the knee.

    Border points go to the group that scikit-learn reaches first.
    """
    from sklearn.cluster import DBSCAN

    distance, _ = nearest(points, min_samples - 1)
    radius = knee(distance[:, -1]) * (1 + 1e-6) + 1e-12  # the knee's own point is within it, however it is rounded
    found = DBSCAN(eps=radius, min_samples=min_samples, algorithm="ball_tree").fit_predict(points.cpu())
    labels = torch.from_numpy(found).long().to(points.device)
    dense = labels >= 0
    if bool(dense.any()):
        labels[dense] = by_first_appearance(labels[dense])
    return Density(labels, radius)


def place_density(head: NearestMean, points: Float[Tensor, "n d"], found: Density) -> None:
    """Let `head` answer with these groups, each by the means of its finest FINCH parts; noise goes to the nearest.

    A group of DBSCAN need not be round, so one mean would not represent it.
    """
    dense = found.labels >= 0
    points, labels = points[dense], found.labels[dense]
    parts = next((level for level in hierarchy(points, head.metric) if int(level.max()) < MOST_MEANS), labels)
    _, fine = (parts * found.groups + labels).unique(return_inverse=True)
    head.place(points, fine, labels, neighbour_agreement(points, labels, head.metric))


class DensityFound(nn.Module):
    """What DBSCAN found, for the user: its radius, the share of noise, and that of the largest group among the rest."""

    radius: Tensor
    noise: Tensor
    largest: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("radius", "noise", "largest"):
            self.register_buffer(name, torch.ones(()))

    def remember(self, density: Density) -> None:
        dense = density.labels[density.labels >= 0]
        self.radius.fill_(density.radius)
        self.noise.fill_(density.noise)
        self.largest.fill_(float(dense.bincount().max()) / len(density.labels) if len(dense) else 0.0)
