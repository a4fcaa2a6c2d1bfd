"""FINCH: groups of items linked to their first neighbours, merged to the number asked for. Nothing is trained.

Sarfraz, Sharma and Stiefelhagen, "Efficient Parameter-free Clustering Using First Neighbor Relations", CVPR 2019. The
algorithm is in `algorithms/finch.py`. It groups the items' own values (pixels, embeddings), or with `--init` the
features of another run's backbone. The paper's FINCH neither assigns new items nor gives confidences; both are ours
(`algorithms/nearest_mean.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from coterie.algorithms.finch import hierarchy, separated_level
from coterie.algorithms.nearest_mean import NearestMean, place_hierarchy, place_level
from coterie.algorithms.neighbours import Metric
from coterie.contract import Card, Facts
from coterie.networks.identity import own_backbone, own_values
from coterie.networks.memory import ItemTable
from coterie.networks.net import Net
from coterie.types import Features, InputError

CARD = Card(
    title="FINCH",
    paper="Sarfraz, Sharma, Stiefelhagen: Efficient Parameter-free Clustering Using First Neighbor Relations",
    year=2019,
    family="hierarchical",
    url="https://arxiv.org/abs/1902.11266",
    answers=("groups",),
    without_k={"final": "level"},
    backbone=own_backbone("FINCH"),
)


@dataclass(frozen=True)
class FINCH:
    distance: Metric = "cosine"  # between the items' own values; Euclidean: between normalised ones
    final: Literal["required", "level"] = "required"  # level, for an unknown K: one of the hierarchy's own partitions
    early_exit: bool = True  # cut links longer than any between first neighbours of single items

    card: ClassVar[Card] = CARD

    def check(self, facts: Facts) -> None:
        """Raise InputError for a `final` that does not go with the number of groups."""
        if facts.k and self.final == "level":
            raise InputError("finch.final is level, which finds the number of groups itself: say -k auto.")
        if not facts.k and self.final == "required":
            raise InputError(
                "finch.final is required, which needs the number of groups: say -k 10, or finch.final=level."
            )

    def heads(self, net: Net, k: int) -> dict[str, nn.Module]:
        return {"groups": NearestMean(net.width, k, self.distance), "levels": ItemTable(2)}

    def finish(self, net: Net, features: Features, k: int, generator: torch.Generator) -> None:
        """Find the required number of groups; without one, the level with the best separated groups."""
        rows = self.rows(net, features())
        levels = hierarchy(rows, self.distance, early_exit=self.early_exit)
        if self.final == "required":
            place_hierarchy(net.groups, rows, levels)
        elif levels:
            taken, apart = separated_level(rows, levels, self.distance, generator)
            net.levels.fill(torch.tensor([[float(level.max()) + 1, s] for level, s in zip(levels, apart, strict=True)]))
            place_level(net.groups, rows, levels, levels[taken])

    def found(self, net: Net) -> tuple[int, str]:
        """The number of groups of the level that was taken, and what other levels there are."""
        if not len(net.levels.rows):
            return 0, "FINCH found no partition: all items are connected by first neighbours."
        counts, apart = net.levels.rows.T.tolist()
        k = net.groups.k
        listed = ", ".join(f"{count:.0f} ({s:.2f})" for count, s in zip(counts, apart, strict=True))
        return k, (
            f"FINCH's hierarchy has levels of {listed} groups, with their mean silhouettes; the one of {k} was taken, "
            "whose groups are best apart. -k asks for another number."
        )

    def rows(self, net: Net, features: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """The rows to group: angles depend on the origin, so for them the normalisation of the items is undone."""
        return own_values(net, features) if self.distance == "cosine" else features

    def logits(self, net: Net, features: Float[Tensor, "n d"]) -> dict[str, Float[Tensor, "n k"]]:
        return {"finch": net.groups(self.rows(net, features))}


def practical(facts: Facts) -> dict[str, Any]:
    """Short vectors of unlike measurements take the Euclidean distance, since angles between them mean little."""
    return {"distance": "euclidean"} if facts.kind == "embeddings" and facts.dim < 64 else {}
