"""Self-tuning spectral clustering: groups connected by near neighbours, whatever their shape. Not trained.

Zelnik-Manor and Perona, "Self-Tuning Spectral Clustering", NIPS 2004. It groups the items' own values (pixels,
embeddings), or with `--init` the features of another run's backbone, by K-means on the rows of the leading eigenvectors
of a neighbour graph (`algorithms/spectral.py`). Differs from the paper: the graph has near neighbours only; the number
of groups is given, and the paper's rotation, which chooses it, is left out; new items are placed by Nyström's formula,
and so are the others where there are more than `landmarks`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from coterie.algorithms.kmeans import kmeans, place_groups
from coterie.algorithms.neighbours import Metric
from coterie.algorithms.spectral import SpectralCoordinates, eigenvectors, few_copies
from coterie.algorithms.votes import NeighbourVotes
from coterie.common.bounds import Copies, Count, Memory, Restarts
from coterie.contract import Card, Facts, OnlyIf
from coterie.networks.components import Components
from coterie.networks.heads import PrototypeHead
from coterie.networks.identity import grouped_values, own_backbone
from coterie.networks.net import Net
from coterie.types import Features, InputError

COMPONENTS = 128  # principal components of embeddings
SPREAD = (0.8, 2.0)  # numbers of eigenvectors of the first and the last member, as multiples of k
CLEAR = 1.5  # (1 - λ of the first eigenvector after k) / (1 - λ of the k-th) from which on k groups stand apart

CARD = Card(
    title="Spectral clustering",
    paper="Zelnik-Manor, Perona: Self-Tuning Spectral Clustering",
    year=2004,
    family="spectral",
    url="https://papers.nips.cc/paper/2619-self-tuning-spectral-clustering",
    backbone=own_backbone("Spectral clustering"),
    only_if=(OnlyIf("members", lambda members: members > 1, ("voters",)),),
    of_one_group=("neighbours",),
    drawn="landmarks",
)


@dataclass(frozen=True)
class Spectral:
    neighbours: Count = 50  # of each item in the graph
    scale: Count = 7  # s: an item's own scale is the distance to its s-th neighbour
    landmarks: Memory = 20_000  # items in the graph; the others are placed by them
    distance: Metric = "euclidean"  # cosine: of the items' own values, each scaled to length 1
    components: Memory | None = None  # number of half-whitened principal components in place of the values
    restarts: Restarts = 20  # of the K-means on the eigenvectors
    # partitions by different numbers of eigenvectors, unless k groups stand apart, combined by a vote of neighbours
    members: Copies = 1
    voters: Count | None = None  # near landmarks that vote; None: a tenth of a mean group of them

    card: ClassVar[Card] = CARD

    def calibrated(self) -> bool:
        return self.members > 1  # the votes divide where members disagree

    def has_logits(self) -> bool:
        """Votes are shares of neighbours: their logarithms sum to nothing that an item could stand out by."""
        return self.members == 1

    def limits(self, facts: Facts) -> dict[str, tuple[int, int | None]]:
        """No more neighbours than other items, and `scale` no larger than the neighbours."""
        most = min(facts.n, self.landmarks) - 1
        return {"neighbours": (1, most), "scale": (1, min(self.neighbours, most))}

    def check(self, facts: Facts) -> None:
        """Raise InputError for settings that cannot work on such data."""
        items, neighbours = min(facts.n, self.landmarks), self.neighbours
        if facts.k >= facts.n:
            raise InputError(f"Spectral clustering needs more items than groups; the source has {facts.n}.")
        if facts.k >= items:
            raise InputError(f"spectral.landmarks is {self.landmarks}: it must be more than the {facts.k} groups.")
        if neighbours >= items:
            raise InputError(f"spectral.neighbours is {neighbours}, but of {items} items each has {items - 1} others.")
        if self.scale > neighbours:
            raise InputError(
                f"spectral.scale is {self.scale}: it must be one of the {neighbours} neighbours of spectral.neighbours."
            )

    def heads(self, net: Net, k: int) -> dict[str, nn.Module]:
        """The landmarks with their coordinates, and K-means on those."""
        heads: dict[str, nn.Module] = {}
        width = net.width
        if self.components is not None:
            width = min(width, self.components)
            heads["components"] = Components(net.width, self.components)
        if self.members > 1:
            return {**heads, "votes": NeighbourVotes(width, k, self.voters)}
        return {
            **heads,
            "spectral": SpectralCoordinates(width, k, self.neighbours, self.scale),
            "groups": PrototypeHead(k, k, standardise=False),
        }

    def finish(self, net: Net, features: Features, k: int, generator: torch.Generator) -> None:
        """Coordinates of all landmarks, computed as for new items, so that predicting them gives the same groups."""
        some = features(most=self.landmarks)
        if self.components is not None:
            net.components.place(self.values(net, some))
        rows = self.rows(net, some)
        rows = rows[few_copies(rows, self.scale, least=k + 1)]
        if self.members > 1:
            net.votes.place(rows, self.partitions(rows, k, generator), k)
            return
        net.spectral.place(rows, generator)
        place_groups(net.groups, torch.cat([net.spectral(part) for part in rows.split(4096)]), generator, self.restarts)

    def partitions(self, rows: Float[Tensor, "n d"], k: int, generator: torch.Generator) -> list[Int[Tensor, " n"]]:
        """K-means on the leading eigenvectors, a different number for each member, each row scaled to length 1.

        Where the eigenvalues say that k groups stand apart, all members take k: one more divides the largest group, one
        less puts two together.
        """
        counts = [min(max(2, round(k * factor)), len(rows)) for factor in np.linspace(*SPREAD, self.members)]
        most = min(max(*counts, k + 1), len(rows))
        *_, values, vectors = eigenvectors(rows, self.neighbours, self.scale, most, generator)
        if most > k and 1 - values[k] >= CLEAR * max(1 - values[k - 1], 0):
            counts = [k] * self.members
        found = []
        for count in counts:
            points = functional.normalize(torch.from_numpy(vectors[:, :count]).to(rows), dim=1)
            found.append(kmeans(points, k, generator=generator, restarts=self.restarts).labels)
        return found

    def rows(self, net: Net, features: Float[Tensor, "n d"]) -> Float[Tensor, "n m"]:
        """The rows between which distances are taken."""
        values = self.values(net, features)
        return values if self.components is None else net.components(values)

    def values(self, net: Net, features: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        return grouped_values(net, features, angles=self.distance == "cosine")

    def logits(self, net: Net, features: Float[Tensor, "n d"]) -> dict[str, Float[Tensor, "n k"]]:
        rows = self.rows(net, features)
        return {"votes": net.votes(rows)} if self.members > 1 else {"spectral": net.groups(net.spectral(rows))}


def practical(facts: Facts) -> dict[str, Any]:
    """Fewer neighbours where groups are small; long embeddings are reduced, and members vote."""
    long = facts.kind == "embeddings" and facts.dim > COMPONENTS
    neighbours = min(25 if long else 50, max(3, facts.n // 10))
    settings = {"neighbours": neighbours, "scale": min(7, neighbours // 2 + 1)}
    if long:
        settings |= {"components": COMPONENTS, "members": 5}
    return settings
