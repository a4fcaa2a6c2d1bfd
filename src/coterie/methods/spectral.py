"""Self-tuning spectral clustering: groups that hang together by near neighbours, whatever their form. Not trained.

Zelnik-Manor and Perona, "Self-Tuning Spectral Clustering", NIPS 2004. It groups the items' own values (pixels,
embeddings), or with `--init` the features of another run's backbone, by K-means on the rows of the leading eigenvectors
of a neighbour graph (`algorithms/spectral.py`). Differs from the paper: the graph has near neighbours only; the number
of groups is given, and the paper's rotation, which chooses it, is left out; new items are placed by Nyström's formula,
and so are the others where there are more than `landmarks`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from coterie.algorithms.kmeans import place_groups
from coterie.algorithms.neighbours import Metric
from coterie.algorithms.spectral import SpectralCoordinates
from coterie.bounds import Count, Memory, Restarts
from coterie.contract import Card, Facts
from coterie.networks.heads import PrototypeHead
from coterie.networks.identity import grouped_values, own_backbone
from coterie.networks.net import Net
from coterie.types import Features, InputError

CARD = Card(
    title="Spectral clustering",
    paper="Zelnik-Manor, Perona: Self-Tuning Spectral Clustering",
    year=2004,
    family="spectral",
    url="https://papers.nips.cc/paper/2619-self-tuning-spectral-clustering",
    backbone=own_backbone("Spectral clustering"),
)


@dataclass(frozen=True)
class Spectral:
    neighbours: Count = 50  # of each item in the graph
    scale: Count = 7  # s: an item's own scale is the distance to its s-th neighbour
    landmarks: Memory = 20_000  # items that the graph is of; the others are placed by them
    distance: Metric = "euclidean"  # cosine: of the items' own values, each scaled to length 1
    restarts: Restarts = 20  # of the K-means on the eigenvectors

    card: ClassVar[Card] = CARD

    def limits(self, facts: Facts) -> dict[str, tuple[int, int | None]]:
        """No more neighbours than there are others, and a scale among them."""
        most = min(facts.n, self.landmarks) - 1
        return {"neighbours": (1, most), "scale": (1, min(self.neighbours, most))}

    def check(self, facts: Facts) -> None:
        """Raise InputError for settings that cannot work on such data."""
        items, neighbours = min(facts.n, self.landmarks), self.neighbours
        if neighbours >= items:
            raise InputError(f"spectral.neighbours is {neighbours}, but of {items} items each has {items - 1} others.")
        if self.scale > neighbours:
            raise InputError(
                f"spectral.scale is {self.scale}: it must be one of the {neighbours} neighbours of spectral.neighbours."
            )
        if facts.k >= facts.n:
            raise InputError(f"Spectral clustering needs more items than groups; the source has {facts.n}.")
        if facts.k >= items:
            raise InputError(f"spectral.landmarks is {self.landmarks}: it must be more than the {facts.k} groups.")

    def heads(self, net: Net, k: int) -> dict[str, nn.Module]:
        """The landmarks with their coordinates, and K-means on those."""
        return {
            "spectral": SpectralCoordinates(net.width, k, self.neighbours, self.scale),
            "groups": PrototypeHead(k, k, standardise=False),
        }

    def finish(self, net: Net, features: Features, k: int, generator: torch.Generator) -> None:
        """Coordinates of all landmarks as new items have them, so that predicting these gives the same groups."""
        rows = self.rows(net, features(most=self.landmarks))
        net.spectral.place(rows, generator)
        place_groups(net.groups, torch.cat([net.spectral(part) for part in rows.split(4096)]), generator, self.restarts)

    def rows(self, net: Net, features: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        return grouped_values(net, features, angles=self.distance == "cosine")

    def logits(self, net: Net, features: Float[Tensor, "n d"]) -> dict[str, Float[Tensor, "n k"]]:
        return {"spectral": net.groups(net.spectral(self.rows(net, features)))}


def practical(facts: Facts) -> dict[str, Any]:
    """Fewer neighbours where groups are small."""
    neighbours = min(50, max(3, facts.n // 10))
    return {"neighbours": neighbours, "scale": min(7, neighbours // 2 + 1)}
