"""DEC: soft assignments are trained towards their own sharpened version; the first deep clustering by self-training.

Xie, Girshick and Farhadi, "Unsupervised Deep Embedding for Clustering Analysis", ICML 2016; equation numbers are
theirs. Encoder and centres are trained, the decoder is dropped after phase 1 (`ae`). With augmentation, as in the R-DC
comparison, q comes from the shifted image and the target from the clean one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from coterie.algorithms.kmeans import kmeans
from coterie.common.bounds import BatchSize, Count, Epochs, Positive, Rate, Restarts, Share
from coterie.contract import Card, Facts, iterations_for, logged
from coterie.networks.heads import Centres
from coterie.networks.memory import ItemTable
from coterie.networks.net import Net, trainable
from coterie.objectives.assignment import divergence, reassign, soft_assign_t, target_of
from coterie.types import Batch, Features, Losses

OFTEN = {"refresh_every": 30}

CARD = Card(
    title="DEC",
    paper="Xie, Girshick, Farhadi: Unsupervised Deep Embedding for Clustering Analysis",
    year=2016,
    family="auto-encoder",
    url="https://proceedings.mlr.press/v48/xieb16.html",
    views={"shifted": "shifted"},
    starts_from="ae",
    starts_on=("images", "embeddings"),
    scaling="unit",
    answers=("clusters",),
    presets={"mnist": {}, "fashion-mnist": {}, "usps": OFTEN, "stl10": OFTEN, "reuters-10k": OFTEN},
    backbone=lambda spec, device, as_published: "ae",
    renamed={"freedom": "degrees_of_freedom"},
    logs={
        "changed": logged.CHANGED,
    },
)


@dataclass(frozen=True)
class DEC:
    epochs: Epochs = 73  # at most; 20,000 iterations of MNIST's or Fashion-MNIST's 70,000 images
    batch_size: BatchSize = 256
    learning_rate: Rate = 0.01  # SGD
    momentum: Share = 0.9
    refresh_every: Count = 140  # batches between two refreshes of the target over all items
    tolerance: Share = 0.001  # stop when a refresh changes fewer labels than this share
    degrees_of_freedom: Positive = 1.0  # ν, of the Student distribution
    restarts: Restarts = 20  # of the K-means that gives the first centres

    card: ClassVar[Card] = CARD

    def heads(self, net: Net, k: int) -> dict[str, nn.Module]:
        return {"clusters": Centres(net.width, k), "assigned": ItemTable(k)}

    def start(self, net: Net, features: Features, k: int, generator: torch.Generator) -> None:
        """Set the centres by K-means."""
        net.clusters.place(kmeans(features(), k, generator=generator, restarts=self.restarts).centres)

    def optimiser(self, net: Net) -> torch.optim.Optimizer:
        trained = trainable(net.backbone, net.clusters)
        return torch.optim.SGD(trained, self.learning_rate, self.momentum, fused=True)

    def step(self, net: Net, batch: Batch) -> Iterator[Losses]:
        """KL(P | Q), the mean over the batch (Eq. 2)."""
        if batch.number % self.refresh_every == 0:
            reassign(net, batch, self.tolerance, self.degrees_of_freedom)
        q = soft_assign_t(net.backbone(batch.shifted), net.clusters.centres, self.degrees_of_freedom)
        batch.count(batch.gather(q.detach()).argmax(1), q.shape[1])
        yield {"divergence": batch.gather(divergence(target_of(net.assigned, batch.index), q)).mean()}

    def predict(self, net: Net, features: Float[Tensor, "n d"]) -> dict[str, Float[Tensor, "n k"]]:
        return {"soft": soft_assign_t(features, net.clusters.centres, self.degrees_of_freedom)}


def practical(facts: Facts) -> dict[str, Any]:
    """For a CPU or small data: 4,000 iterations at most, and a new target for every pass over the items."""
    size = iterations_for(facts, 600, 4_000)
    return {**size, "refresh_every": min(280, facts.n // size["batch_size"])}
