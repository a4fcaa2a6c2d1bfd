"""Agglomerative clustering: items are united pair by pair, by mutual neighbours or by Ward's criterion. Not trained.

Gowda and Krishna, "Agglomerative Clustering Using the Concept of Mutual Nearest Neighbourhood", Pattern Recognition
1978, which later papers' tables cite as AC; and Ward, "Hierarchical Grouping to Optimize an Objective Function", JASA
1963, by scikit-learn, a different and much better algorithm. It groups the items' own values (pixels,
embeddings), or with `--init` the features of another run's backbone. New items, and those beyond `landmarks`, join
their nearest landmark's group; this step and its confidence (`algorithms/nearest_mean.py`) are ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from coterie.algorithms.agglomeration import by_mutual_neighbours
from coterie.algorithms.nearest_mean import NearestMean, neighbour_agreement
from coterie.common.bounds import Count, Memory
from coterie.contract import Card, Facts, OnlyIf
from coterie.networks.identity import grouped_values, own_backbone
from coterie.networks.net import Net
from coterie.types import Features, InputError

CARD = Card(
    title="Agglomerative clustering",
    paper="Gowda, Krishna: Agglomerative Clustering Using the Concept of Mutual Nearest Neighbourhood",
    year=1978,
    family="hierarchical",
    url="https://doi.org/10.1016/0031-3203(78)90018-3",
    backbone=own_backbone("Agglomerative clustering"),
    only_if=(OnlyIf("linkage", lambda linkage: linkage == "mutual", ("width",)),),
)


@dataclass(frozen=True)
class Agglomerative:
    linkage: Literal["mutual", "ward"] = "mutual"  # ward: the practical preset takes it
    width: Count = 10  # neighbours of each item among which mutual ones are looked for
    landmarks: Memory = 10_000  # items that are agglomerated; the others join the nearest of them

    card: ClassVar[Card] = CARD

    def check(self, facts: Facts) -> None:
        """Raise InputError for fewer landmarks than groups."""
        if facts.k > self.landmarks:
            raise InputError(f"agglomerative.landmarks is {self.landmarks}: it must be {facts.k} or more, one a group.")

    def heads(self, net: Net, k: int) -> dict[str, nn.Module]:
        return {"groups": NearestMean(net.width, k, "euclidean")}

    def finish(self, net: Net, features: Features, k: int, generator: torch.Generator) -> None:
        """Unite the landmarks; each keeps its place, so that an item joins the nearest of them."""
        rows = self.rows(net, features(most=self.landmarks))
        labels = by_ward(rows, k) if self.linkage == "ward" else by_mutual_neighbours(rows, k, self.width)
        each = torch.arange(len(rows), device=rows.device)
        net.groups.place(rows, each, labels, neighbour_agreement(rows, labels, "euclidean"))

    def rows(self, net: Net, features: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        return grouped_values(net, features, angles=False)

    def logits(self, net: Net, features: Float[Tensor, "n d"]) -> dict[str, Float[Tensor, "n k"]]:
        return {"agglomerative": net.groups(self.rows(net, features))}


def by_ward(rows: Float[Tensor, "n d"], k: int) -> Int[Tensor, " n"]:
    """Unite the two groups whose union raises the sum of squared distances to the means least, until k are left."""
    from sklearn.cluster import AgglomerativeClustering

    found = AgglomerativeClustering(k, linkage="ward").fit(rows.cpu().numpy())
    return torch.from_numpy(found.labels_).long().to(rows.device)


def practical(facts: Facts) -> dict[str, Any]:
    """Ward's criterion, since mutual neighbours chain most of the items into one group."""
    return {"linkage": "ward"}
