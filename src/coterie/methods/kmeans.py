"""K-means: the baseline that every other method is measured by. Nothing is trained.

Lloyd, "Least Squares Quantization in PCM", IEEE Transactions on Information Theory 1982; spherical: Dhillon and
Modha, "Concept Decompositions for Large Sparse Text Data Using Clustering", Machine Learning 2001. It groups the items'
own values (pixels in [0, 1], embeddings), or with `--init` the features of another run's backbone. Starts are drawn by
greedy k-means++, and the best of several is kept (`algorithms/kmeans.py`). The confidences are ours: the posterior of a
spherical Gaussian mixture around the centres.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from coterie.algorithms.kmeans import assign, kmeans, kmeans_by_mini_batches
from coterie.algorithms.neighbours import Metric
from coterie.common.bounds import Count, Restarts
from coterie.contract import Card, Facts, OnlyIf
from coterie.networks.features import some_rows
from coterie.networks.heads import PrototypeHead
from coterie.networks.identity import grouped_values, own_backbone
from coterie.networks.net import Net
from coterie.types import Features, InputError

MEASURED = 100_000  # items from whose distances the groups' variance is computed
MANY = 200_000  # items; from here on the practical preset uses mini-batches

CARD = Card(
    title="K-means",
    paper="Lloyd: Least Squares Quantization in PCM",
    year=1982,
    family="centres",
    url="https://doi.org/10.1109/TIT.1982.1056489",
    backbone=own_backbone("K-means"),
    only_if=(OnlyIf("mini_batches", lambda yes: not yes, ("iterations",)),),
    of_own_values=("centre",),
)


@dataclass(frozen=True)
class KMeans:
    distance: Metric = "euclidean"  # cosine: spherical K-means
    centre: bool = False  # with cosine: directions from the mean of the items, not from 0
    restarts: Restarts = 10
    iterations: Count = 300  # of a restart, at most
    mini_batches: bool = False  # scikit-learn's MiniBatchKMeans, for very many items

    card: ClassVar[Card] = CARD

    def check(self, facts: Facts) -> None:
        """Raise InputError for settings that cannot work together."""
        if self.centre and self.distance != "cosine":
            raise InputError("kmeans.centre is for directions, and distances do not change by it: add distance=cosine.")

    def heads(self, net: Net, k: int) -> dict[str, nn.Module]:
        return {"groups": PrototypeHead(net.width, k, standardise=False)}

    def finish(self, net: Net, features: Features, k: int, generator: torch.Generator) -> None:
        """Set the centres of the best restart, and the variance around them."""
        rows, spherical = self.rows(net, features()), self.distance == "cosine"
        if self.mini_batches:
            centres = kmeans_by_mini_batches(rows, k, generator=generator, restarts=self.restarts)
            centres = functional.normalize(centres, dim=1) if spherical else centres
        else:
            found = kmeans(
                rows, k, generator=generator, restarts=self.restarts, iterations=self.iterations, spherical=spherical
            )
            centres = found.centres
        some = some_rows(len(rows), MEASURED)
        measured = rows if some is None else rows[some]
        net.groups.place(centres, measured, assign(measured, centres)[0])

    def rows(self, net: Net, features: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        return grouped_values(net, features, angles=self.distance == "cosine", centred=self.centre)

    def logits(self, net: Net, features: Float[Tensor, "n d"]) -> dict[str, Float[Tensor, "n k"]]:
        return {"kmeans": net.groups(self.rows(net, features))}


def practical(facts: Facts) -> dict[str, Any]:
    """Mini-batches for very many items."""
    return {"mini_batches": True} if facts.n > MANY else {}
