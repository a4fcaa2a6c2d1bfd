"""Deep FINCH: the levels of FINCH's hierarchy of the codes are pseudo-labels, on which the encoder is trained.

The R-DC paper (Shaheen et al. 2025) describes it as pre-training by reconstruction, then a hierarchical clustering loss
on the code, after Sarfraz, Sharma and Stiefelhagen, "Efficient Parameter-free Clustering Using First Neighbor
Relations", CVPR 2019. Nothing more is printed, so all constants are ours. Phase 1 is `ae`; FINCH of the final code
gives the groups.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from coterie.algorithms.finch import exactly, hierarchy
from coterie.algorithms.nearest_mean import NearestMean, place_hierarchy
from coterie.algorithms.neighbours import Metric
from coterie.common.bounds import BatchSize, Count, Epochs, Memory, Rate
from coterie.contract import Card, Facts, iterations_for
from coterie.networks.memory import ItemTable
from coterie.networks.net import Net, trainable
from coterie.types import Batch, EpochStart, Features, InputError, Losses

CARD = Card(
    title="Deep FINCH",
    paper="Sarfraz, Sharma, Stiefelhagen: Efficient Parameter-free Clustering Using First Neighbor Relations",
    year=2019,
    family="auto-encoder",
    url="https://arxiv.org/abs/1902.11266",
    views={"shifted": "shifted"},
    starts_from="ae",
    starts_on=("images", "embeddings"),
    scaling="unit",
    answers=("groups",),
    backbone=lambda spec, device, as_published: "ae",
    logs={
        "levels": ("levels", "of the hierarchy that are learned"),
        "finest": ("finest level", "groups"),
    },
)


@dataclass(frozen=True)
class DeepFINCH:
    epochs: Epochs = 60
    batch_size: BatchSize = 256
    relabel_every: Count = 20  # epochs until a new hierarchy
    most_groups: Memory = 4096  # in all learned levels together; the finest levels are left out first
    learning_rate: Rate = 1e-3  # Adam
    distance: Metric = "cosine"  # of the codes
    early_exit: bool = True  # as FINCH's

    card: ClassVar[Card] = CARD

    def limits(self, facts: Facts) -> dict[str, tuple[int, int | None]]:
        return {"most_groups": (facts.k, None)}

    def check(self, facts: Facts) -> None:
        """Raise InputError for settings that cannot work on such data."""
        if self.most_groups < facts.k:
            raise InputError(
                f"deepfinch.most_groups is {self.most_groups}: it must be at least the number of groups, {facts.k}."
            )

    def heads(self, net: Net, k: int) -> dict[str, nn.Module]:
        return {
            "levels": nn.Linear(net.width, self.most_groups),
            "labels": ItemTable(1),  # one column for each level: the item's row of `levels`
            "spans": ItemTable(2),  # the rows of `levels` that each level has: first, and first of the next
            "groups": NearestMean(net.width, k, self.distance),
        }

    def optimiser(self, net: Net) -> torch.optim.Optimizer:
        trained = trainable(net.backbone, net.levels)
        return torch.optim.Adam(trained, self.learning_rate, fused=True)

    def step(self, net: Net, batch: Batch) -> Iterator[Losses]:
        """Cross-entropy with each level's groups, the mean over items and levels; labels are those of clean views."""
        logits = net.levels(net.backbone(batch.shifted))
        label = net.labels.of(batch.index).long()
        spans = net.spans.rows.long().tolist()
        losses = [
            F.cross_entropy(logits[:, first:end], label[:, level] - first, reduction="none")
            for level, (first, end) in enumerate(spans)
        ]
        yield {"levels": batch.gather(torch.stack(losses).mean(0)).mean()}

    def begin_epoch(self, net: Net, epoch: EpochStart) -> None:
        """Every `relabel_every` epochs, make a new hierarchy of all codes and reset the classifiers.

        Adam's running moments are kept, since the new gradients have the same size.
        """
        if epoch.number % self.relabel_every:
            return
        z = epoch.features()
        levels = learned_levels(z, net.groups.k, self.most_groups, self.distance, early_exit=self.early_exit)
        sizes = torch.tensor([int(level.max()) + 1 for level in levels])
        first = sizes.cumsum(0) - sizes
        net.spans.fill(torch.stack([first, first + sizes], 1))
        net.labels.fill(torch.stack([level.cpu() + begin for level, begin in zip(levels, first, strict=True)], 1))
        bound = net.levels.in_features**-0.5
        with torch.no_grad():
            for weights in (net.levels.weight, net.levels.bias):
                weights.copy_((2 * torch.rand(weights.shape, generator=epoch.generator) - 1) * bound)
        epoch.log(levels=torch.tensor(float(len(levels))), finest=sizes.max().float())

    def finish(self, net: Net, features: Features, k: int, generator: torch.Generator) -> None:
        """FINCH with the required number of groups on the final codes."""
        z = features()
        place_hierarchy(net.groups, z, hierarchy(z, self.distance, early_exit=self.early_exit))

    def logits(self, net: Net, features: Float[Tensor, "n d"]) -> dict[str, Float[Tensor, "n k"]]:
        return {"finch": net.groups(features)}


def learned_levels(
    z: Float[Tensor, "n d"], k: int, most: int, metric: Metric, *, early_exit: bool
) -> list[Int[Tensor, " n"]]:
    """The levels with at least k groups, coarsest first, as long as they have at most `most` groups together.

    If the coarsest of them alone has more, or no level has k, FINCH's required-K partition is the only one.
    """
    found = hierarchy(z, metric, early_exit=early_exit)
    chosen: list[Tensor] = []
    left = most
    for level in reversed(found):
        size = int(level.max()) + 1
        if size >= k and size <= left:
            chosen.append(level)
            left -= size
        elif size > left:
            break
    return chosen or [exactly(z, found, k, metric)]


def practical(facts: Facts) -> dict[str, Any]:
    """For a CPU or small data: 4,000 iterations at most, a new hierarchy after each third of them."""
    size = iterations_for(facts, 600, 4_000)
    return {**size, "relabel_every": -(-size["epochs"] // 3)}
