"""Von Mises-Fisher mixture: soft groups of directions. Nothing is trained.

Banerjee, Dhillon, Ghosh and Sra, "Clustering on the Unit Hypersphere using von Mises-Fisher Distributions", JMLR 2005:
its soft mixture, here with one concentration for all groups and groups of equal weight; spherical K-means is its limit
and its start. It groups the directions of the items' own values (embeddings, pixels), or with `--init` those of
the features of another run's backbone. In many dimensions the mixture's posterior is 0 or 1 for nearly every item,
so the confidences of the answer count only the effective dimensions (ours; `tempered`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from coterie.algorithms.kmeans import kmeans
from coterie.common.bounds import Count, Restarts
from coterie.contract import Card, Facts
from coterie.networks.features import some_rows
from coterie.networks.heads import steady_product, variance_per_dimension
from coterie.networks.identity import grouped_values, own_backbone
from coterie.networks.net import Net
from coterie.types import Features, RunFailed
from coterie.views.normalise import SMALL_DIM

MEASURED = 100_000  # items from whose distances the effective dimension is computed
CHUNK = 8192  # items whose shares are held at once
NARROW = 5e-7  # mean square of the distance to the mean direction
SAME = 1e-6  # 1 - cosine of a mean direction before and after a step, and relative change of the concentration

CARD = Card(
    title="vMF mixture",
    paper="Banerjee, Dhillon, Ghosh, Sra: Clustering on the Unit Hypersphere using von Mises-Fisher Distributions",
    year=2005,
    family="centres",
    url="https://www.jmlr.org/papers/v6/banerjee05a.html",
    backbone=own_backbone("The vMF mixture"),
    of_own_values=("centre",),
)


@dataclass(frozen=True)
class VMF:
    restarts: Restarts = 10  # of the spherical K-means that it starts from
    iterations: Count = 100  # of a restart, and of the mixture, at most
    centre: bool = False  # directions from the mean of the items, not from 0
    tempered: bool = True  # confidences by the effective dimensions; false: the mixture's own posterior

    card: ClassVar[Card] = CARD

    def heads(self, net: Net, k: int) -> dict[str, nn.Module]:
        return {"groups": Directions(net.width, k)}

    def finish(self, net: Net, features: Features, k: int, generator: torch.Generator) -> None:
        """Spherical K-means, the mixture from there, and the concentration for the confidences."""
        rows = self.rows(net, features())
        check_apart(rows)
        start = kmeans(rows, k, generator=generator, restarts=self.restarts, iterations=self.iterations, spherical=True)
        directions, r, kappa = mixture(rows, start.centres, self.iterations)
        if self.tempered:
            kappa = concentration(effective_dimension(rows, directions), r)
        net.groups.place(directions, kappa)

    def rows(self, net: Net, features: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        return grouped_values(net, features, angles=True, centred=self.centre)

    def logits(self, net: Net, features: Float[Tensor, "n d"]) -> dict[str, Float[Tensor, "n k"]]:
        return {"vmf": net.groups(self.rows(net, features))}


def check_apart(rows: Float[Tensor, "n d"]) -> None:
    """Raise RunFailed for directions that differ by less than the products of float32 show: groups would be lost."""
    if float(rows.var(dim=0, correction=0).sum()) < NARROW:
        raise RunFailed(
            "All items lie in nearly the same direction, less than a thousandth apart: a vMF mixture cannot tell them.",
            "Set vmf.centre to true, which sees them from their mean, or take --method kmeans.",
        )


def practical(facts: Facts) -> dict[str, Any]:
    """Directions from the mean for short vectors of unlike measurements, whose origin has no meaning."""
    return {"centre": True} if facts.kind == "embeddings" and facts.dim < SMALL_DIM else {}


class Directions(nn.Module):
    """The posterior of a mixture of equal weights, as logits: κ μₖ·z of rows z of length 1."""

    directions: Tensor
    concentration: Tensor

    def __init__(self, width: int, k: int) -> None:
        super().__init__()
        self.register_buffer("directions", torch.zeros(k, width))
        self.register_buffer("concentration", torch.ones(()))

    @torch.no_grad()
    def place(self, directions: Float[Tensor, "k d"], concentration: float) -> None:
        self.directions.copy_(directions)
        self.concentration.fill_(concentration)

    def forward(self, rows: Float[Tensor, "n d"]) -> Float[Tensor, "n k"]:
        return self.concentration * steady_product(rows, self.directions)


def concentration(dimension: float, r: float) -> float:
    """κ for a mean resultant length r of 0 to 1: r (d - r²) / (1 - r²), the paper's Eq. 4.4.

    384 dimensions and .6 give 359.66, 10 and .9 give 43.53. Items all alike (r = 1) count as r = 1 - 1e-6.
    """
    r = min(r, 1 - 1e-6)
    return r * max(dimension - r**2, 0.0) / (1 - r**2)


@torch.no_grad()
def mixture(
    rows: Float[Tensor, "n d"], directions: Float[Tensor, "k d"], iterations: int
) -> tuple[Float[Tensor, "k d"], float, float]:
    """Mean directions, mean resultant length r and κ after so many steps of EM at most, for rows of length 1.

    Begins with the κ of the nearest directions. Ends where a step changes neither directions nor κ by more than 1e-6.
    """
    r = float(torch.cat([(part @ directions.T).amax(1) for part in rows.split(CHUNK)]).mean())
    kappa = concentration(rows.shape[1], r)
    for _ in range(iterations):
        before, kappa_before = directions, kappa
        directions, r = step(rows, directions, kappa)
        kappa = concentration(rows.shape[1], r)
        moved = 1 - float((before * directions).sum(1).min())
        if moved <= SAME and abs(kappa - kappa_before) <= SAME * kappa_before:
            break
    return directions, r, kappa


def step(
    rows: Float[Tensor, "n d"], directions: Float[Tensor, "k d"], kappa: float
) -> tuple[Float[Tensor, "k d"], float]:
    """One step of EM: μₖ = Σᵢ rᵢₖ zᵢ scaled to length 1, rᵢₖ = softmaxₖ(κ μₖ·zᵢ), and r = Σₖ|Σᵢ rᵢₖ zᵢ| / n.

    A group without any share of an item keeps its direction.
    """
    sums = torch.zeros_like(directions)
    for part in rows.split(CHUNK):
        sums += (kappa * part @ directions.T).softmax(1).T @ part
    lengths = sums.norm(dim=1, keepdim=True)
    return torch.where(lengths > 0, functional.normalize(sums, dim=1), directions), float(lengths.sum()) / len(rows)


def effective_dimension(rows: Float[Tensor, "n d"], directions: Float[Tensor, "k d"]) -> float:
    """The effective number of dimensions in which items vary around their groups' directions: (Σλ)² / Σλ²."""
    some = some_rows(len(rows), MEASURED)
    rows = rows if some is None else rows[some]
    rest = rows - directions[torch.cat([(part @ directions.T).argmax(1) for part in rows.split(CHUNK)])]
    variance = float(variance_per_dimension(rest))
    return float(rest.square().sum(1).mean()) / variance if variance > 0 else 1.0
