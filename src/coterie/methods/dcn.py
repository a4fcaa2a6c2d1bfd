"""DCN: an auto-encoder whose code is pulled to K-means centres, in turns with moving the centres to the code.

Yang, Fu, Sidiropoulos and Hong, "Towards K-means-friendly Spaces: Simultaneous Deep Learning and Clustering", ICML
2017. Each batch: a gradient step with centres and assignments fixed, then the centres follow the batch's new codes;
each is the running mean of all codes ever assigned to it. No gradient reaches a centre.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import one_hot

from coterie.algorithms.kmeans import assign, place_groups, refine
from coterie.common.bounds import BatchSize, Count, Epochs, Rate, Restarts, Share, Weight
from coterie.contract import Card, Facts, iterations_for
from coterie.networks.autoencoder import decoder_for, flat
from coterie.networks.heads import PrototypeHead
from coterie.networks.net import Net, trainable
from coterie.types import Batch, EpochStart, Features, Losses

CARD = Card(
    title="DCN",
    paper="Yang, Fu, Sidiropoulos, Hong: Towards K-means-friendly Spaces: Simultaneous Deep Learning and Clustering",
    year=2017,
    family="auto-encoder",
    url="https://proceedings.mlr.press/v70/yang17b.html",
    views={"clean": "clean", "shifted": "shifted"},
    starts_from="ae",
    starts_on=("images", "embeddings"),
    inherits=("decoder",),
    scaling="unit",
    answers=("groups", "decoder"),
    backbone=lambda spec, device, as_published: "ae",
)


@dataclass(frozen=True)
class DCN:
    epochs: Epochs = 50
    batch_size: BatchSize = 256
    reconstruction_weight: Weight = 1.0  # w_r, of the squared error summed over an item's values
    cluster_weight: Weight = 1.0  # w_c, of the squared distance of the code to its centre
    learning_rate: Rate = 2.6e-3  # the authors' 1e-4 for inputs 5.1 times ours: 5.1² of it
    momentum: Share | None = 0.9  # of SGD; None: Adam
    first_count: Count = 100  # items that each centre counts before the first one is assigned
    refit_every: Count = 10  # epochs between two K-means over all items, which start from the present centres
    restarts: Restarts = 10  # of the K-means that gives the first centres

    card: ClassVar[Card] = CARD

    def heads(self, net: Net, k: int) -> dict[str, nn.Module]:
        groups = PrototypeHead(net.width, k, standardise=False)
        return {"decoder": decoder_for(net), "groups": groups, "count": Counts(k, self.first_count)}

    def start(self, net: Net, features: Features, k: int, generator: torch.Generator) -> None:
        place_groups(net.groups, features(), generator, self.restarts)

    def optimiser(self, net: Net) -> torch.optim.Optimizer:
        trained = trainable(net.backbone, net.decoder)
        if self.momentum is None:
            return torch.optim.Adam(trained, self.learning_rate, fused=True)
        return torch.optim.SGD(trained, self.learning_rate, self.momentum, fused=True)

    @torch.no_grad()
    def begin_epoch(self, net: Net, epoch: EpochStart) -> None:
        """Every `refit_every` epochs, set the centres by K-means."""
        if epoch.number and epoch.number % self.refit_every == 0:
            net.groups.centres.copy_(refine(epoch.features(), net.groups.centres).centres)

    def step(self, net: Net, batch: Batch) -> Iterator[Losses]:
        """w_r |x - x̂|² + w_c |z - μ_s|², sums over values, means over the batch; then the centres follow.

        The assignment s is by the item's present code; the authors keep the one of its last visit.
        """
        z = net.backbone(batch.shifted)
        own = assign(z.detach(), net.groups.centres)[0]
        error = (net.decoder(z) - flat(batch.clean)).square().sum(1)
        distance = (z - net.groups.centres[own]).square().sum(1)
        batch.count(batch.gather(own), len(net.groups.centres))
        yield {
            "reconstruction": self.reconstruction_weight * batch.gather(error).mean(),
            "distance": self.cluster_weight * batch.gather(distance).mean(),
        }
        with torch.no_grad():
            z = batch.gather(net.backbone(batch.shifted))
            move_centres(net.groups.centres, net.count.given, z, assign(z, net.groups.centres)[0])

    def finish(self, net: Net, features: Features, k: int, generator: torch.Generator) -> None:
        """Place the answer: the nearest centre, with confidences by the spread around the centres."""
        z = features()
        net.groups.place(net.groups.centres.clone(), z, assign(z, net.groups.centres)[0])

    def logits(self, net: Net, features: Float[Tensor, "n d"]) -> dict[str, Float[Tensor, "n k"]]:
        return {"nearest": net.groups(features)}


def practical(facts: Facts) -> dict[str, Any]:
    """For a CPU or small data: Adam, which needs no rate for each scale of the data, and 4,000 iterations at most.

    At ten times this rate all codes drift away together, until all have the same nearest centre.
    """
    return {**iterations_for(facts, 600, 4_000), "learning_rate": 1e-4, "momentum": None}


class Counts(nn.Module):
    """How many items were assigned to each centre, (k,)."""

    given: Tensor

    def __init__(self, k: int, first: int) -> None:
        super().__init__()
        self.register_buffer("given", torch.full((k,), float(first)))


@torch.no_grad()
def move_centres(
    centres: Float[Tensor, "k d"], given: Float[Tensor, " k"], z: Float[Tensor, "b d"], own: Int[Tensor, " b"]
) -> None:
    """Move centres and counts, in place, as if item after item came: c ← c + 1, μ ← (1 - 1/c) μ + z/c.

    c·μ is then the sum of all assigned codes, whatever the order, so a batch is one step: (c·μ + Σz) / (c + m).
    """
    member = one_hot(own, len(centres)).to(z.dtype)
    sums = centres * given[:, None] + member.T @ z
    given += member.sum(0)
    centres.copy_(sums / given[:, None])
