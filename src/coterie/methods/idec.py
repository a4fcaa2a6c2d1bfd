"""IDEC: DEC with the decoder kept, so that sharpening the groups does not distort the latent space.

Guo, Gao, Liu and Yin, "Improved Deep Embedded Clustering with Local Structure Preservation", IJCAI 2017; equation
numbers are theirs. With augmentation, as in the R-DC comparison, the input is the shifted image, and both targets, P
and the image to be reconstructed, come from the clean one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from coterie.algorithms.kmeans import kmeans
from coterie.common.bounds import BatchSize, Count, Epochs, Rate, Restarts, Share, Weight
from coterie.contract import Card, Facts, iterations_for, logged
from coterie.networks.autoencoder import decoder_for, flat
from coterie.networks.heads import Centres
from coterie.networks.memory import ItemTable
from coterie.networks.net import Net, trainable
from coterie.objectives.assignment import divergence, reassign, soft_assign_t, target_of
from coterie.types import Batch, Features, InputError, Losses

CARD = Card(
    title="IDEC",
    paper="Guo, Gao, Liu, Yin: Improved Deep Embedded Clustering with Local Structure Preservation",
    year=2017,
    family="auto-encoder",
    url="https://doi.org/10.24963/ijcai.2017/243",
    views={"clean": "clean", "shifted": "shifted"},
    starts_from="ae",
    starts_on=("images", "embeddings"),
    inherits=("decoder",),
    scaling="unit",
    answers=("clusters", "decoder"),
    presets={
        "mnist": {},
        "fashion-mnist": {},
        "usps": {"learning_rate": 0.1, "momentum": 0.99, "refresh_every": 30},
        "reuters-10k": {"learning_rate": 0.1, "momentum": 0.99, "refresh_every": 3},
    },
    backbone=lambda spec, device, as_published: "ae",
    logs={
        "changed": logged.CHANGED,
    },
)


@dataclass(frozen=True)
class IDEC:
    epochs: Epochs = 73  # at most; 20,000 iterations of MNIST's or Fashion-MNIST's 70,000 images
    batch_size: BatchSize = 256
    gamma: Weight = 0.1  # γ, weight of the divergence
    reconstruction_weight: Weight = 1.0
    learning_rate: Rate = 1e-3
    momentum: Share | None = None  # of SGD; None: Adam
    refresh_every: Count = 140  # batches between two refreshes of the target over all items
    tolerance: Share = 0.001  # stop when a refresh changes fewer labels than this share
    restarts: Restarts = 20  # of the K-means that gives the first centres

    card: ClassVar[Card] = CARD

    def check(self, facts: Facts) -> None:
        """Raise InputError for settings that cannot work on such data."""
        if self.gamma == self.reconstruction_weight == 0:
            raise InputError("idec.gamma and idec.reconstruction_weight are both 0: nothing would be trained.")

    def heads(self, net: Net, k: int) -> dict[str, nn.Module]:
        return {"decoder": decoder_for(net), "clusters": Centres(net.width, k), "assigned": ItemTable(k)}

    def start(self, net: Net, features: Features, k: int, generator: torch.Generator) -> None:
        """Set the centres by K-means."""
        net.clusters.place(kmeans(features(), k, generator=generator, restarts=self.restarts).centres)

    def optimiser(self, net: Net) -> torch.optim.Optimizer:
        trained = trainable(net.backbone, net.decoder, net.clusters)
        if self.momentum is None:
            return torch.optim.Adam(trained, self.learning_rate, fused=True)
        return torch.optim.SGD(trained, self.learning_rate, self.momentum, fused=True)

    def step(self, net: Net, batch: Batch) -> Iterator[Losses]:
        """L = L_r + γ KL(P | Q), means over the batch and over an item's values (Eq. 7)."""
        if batch.number % self.refresh_every == 0:
            reassign(net, batch, self.tolerance)
        z = net.backbone(batch.shifted)
        q = soft_assign_t(z, net.clusters.centres)
        batch.count(batch.gather(q.detach()).argmax(1), q.shape[1])
        error = (net.decoder(z) - flat(batch.clean)).square().mean(1)
        yield {
            "reconstruction": self.reconstruction_weight * batch.gather(error).mean(),
            "divergence": self.gamma * batch.gather(divergence(target_of(net.assigned, batch.index), q)).mean(),
        }

    def predict(self, net: Net, features: Float[Tensor, "n d"]) -> dict[str, Float[Tensor, "n k"]]:
        return {"soft": soft_assign_t(features, net.clusters.centres)}


def practical(facts: Facts) -> dict[str, Any]:
    """For a CPU or small data: 4,000 iterations at most, and a new target for every pass over the items."""
    size = iterations_for(facts, 600, 4_000)
    return {**size, "refresh_every": min(280, facts.n // size["batch_size"])}
