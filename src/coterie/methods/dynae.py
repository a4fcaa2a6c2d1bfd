"""DynAE: sure items learn to decode to their group's centre image, all others to themselves.

Mrabah, Khan, Ksantini and Lachiri, "Deep Clustering with a Dynamic Autoencoder: From Reconstruction towards Centroids
Construction", Neural Networks 2020, https://arxiv.org/abs/1901.07752. Phase 1 is `acai`. The thresholds fall whenever
no more items become sure, until all are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from coterie.algorithms.kmeans import assign, kmeans
from coterie.common.bounds import BatchSize, Count, Epochs, Positive, Rate, Restarts, Share, Weight
from coterie.contract import Card, Facts, iterations_for
from coterie.networks.autoencoder import decoder_for, flat
from coterie.networks.heads import Centres
from coterie.networks.net import Net, in_evaluation, trainable
from coterie.objectives.assignment import soft_assign_all, soft_assign_t
from coterie.types import Batch, Features, Losses

SHRINK = 0.3  # factor on the step by which the thresholds are lowered, each time
ENOUGH = 0.01  # share of conflicted items at which the training ends

CARD = Card(
    title="DynAE",
    paper="Mrabah, Khan, Ksantini, Lachiri: Deep Clustering with a Dynamic Autoencoder",
    year=2020,
    family="auto-encoder",
    url="https://arxiv.org/abs/1901.07752",
    views={"clean": "clean", "shifted": "shifted"},
    starts_from="acai",
    starts_on=("images", "embeddings"),
    inherits=("decoder",),
    scaling="unit",
    answers=("clusters", "decoder"),
    presets={
        "mnist": {"image_weight": 100.0},
        "fashion-mnist": {},
        "rdc-code": {"sure_above": 0.0, "ahead_by": 0.3, "lower_once": True},  # as the code of R-DC's authors has it
    },
    backbone=lambda spec, device, as_published: "ae",
    logs={
        "conflicted": ("conflicted share", "items that are not sure yet; few end the stage"),
    },
)


@dataclass(frozen=True)
class DynAE:
    epochs: Epochs = 366  # at most; 100,000 iterations of Fashion-MNIST's 70,000 images
    batch_size: BatchSize = 256
    kappa: Positive = 3.0  # β1 = κ/K, the probability above which an item may be sure, and β2 = β1/2 ahead of the next
    sure_above: Share | None = None  # β1 at the start; None: κ/K
    ahead_by: Share | None = None  # β2 at the start; None: half of β1
    lower_once: bool = False  # new centres and lower thresholds only once
    image_weight: Weight = 1.0  # γ, of the loss in image space; the authors' notebook for MNIST has 100
    learning_rate: Rate = 1e-3  # SGD
    momentum: Share = 0.9
    refresh_every: Count = 140  # batches between two counts of the conflicted items
    restarts: Restarts = 10  # of K-means

    card: ClassVar[Card] = CARD

    def heads(self, net: Net, k: int) -> dict[str, nn.Module]:
        return {
            "decoder": decoder_for(net),
            "clusters": Centres(net.width, k).requires_grad_(False),
            "thresholds": Thresholds(self.kappa, k, self.sure_above, self.ahead_by),
        }

    def start(self, net: Net, features: Features, k: int, generator: torch.Generator) -> None:
        self.place(net, features(), generator)

    def place(self, net: Net, z: Float[Tensor, "n d"], generator: torch.Generator) -> None:
        """K-means centres, each replaced by the nearest item's code, so that it decodes to an image of the data."""
        centres = kmeans(z, len(net.clusters.centres), generator=generator, restarts=self.restarts).centres
        net.clusters.place(z[assign(centres, z)[0]])

    def optimiser(self, net: Net) -> torch.optim.Optimizer:
        trained = trainable(net.backbone, net.decoder)
        return torch.optim.SGD(trained, self.learning_rate, self.momentum, fused=True)

    def step(self, net: Net, batch: Batch) -> Iterator[Losses]:
        """Sure items aim at their centre and its image, conflicted ones at their own code and clean image."""
        if batch.number % self.refresh_every == 0:
            self.refresh(net, batch)
        with torch.no_grad(), in_evaluation(net.backbone, net.decoder):
            own = net.backbone.as_trained(batch.clean)
            q = soft_assign_t(own, net.clusters.centres)
            sure, label = net.thresholds.sure(q)[:, None], q.argmax(1)
            code = torch.where(sure, net.clusters.centres[label], own)
            image = torch.where(sure, net.decoder(net.clusters.centres)[label], flat(batch.clean))
            batch.count(batch.gather(label), q.shape[1])
        z = net.backbone(batch.shifted)
        yield {
            "latent": batch.gather((z - code).square().mean(1)).mean(),
            "image": self.image_weight * batch.gather((net.decoder(z) - image).square().mean(1)).mean(),
        }

    def refresh(self, net: Net, batch: Batch) -> None:
        """Count the conflicted items; if they did not become fewer, renew the centres and lower the thresholds."""
        z = batch.all_features()
        conflicted = float((~net.thresholds.sure(soft_assign_all(z, net.clusters.centres))).float().mean())
        batch.log(conflicted=torch.tensor(conflicted))
        if conflicted < ENOUGH:
            batch.end()
        elif batch.number and conflicted >= float(net.thresholds.conflicted) and self.may_lower(net):
            self.place(net, z, batch.generator)
            net.thresholds.lower()
        net.thresholds.conflicted.fill_(conflicted)

    def may_lower(self, net: Net) -> bool:
        return not (self.lower_once and bool(net.thresholds.lowered))

    def predict(self, net: Net, features: Float[Tensor, "n d"]) -> dict[str, Float[Tensor, "n k"]]:
        return {"soft": soft_assign_t(features, net.clusters.centres)}


def practical(facts: Facts) -> dict[str, Any]:
    """For a CPU or small data: 4,000 iterations at most, and a count for every pass over the items.

    With two groups κ = 3 would ask for a probability above 1, so κ is at most three quarters of the groups.
    """
    size = iterations_for(facts, 600, 4_000)
    steps = facts.n // size["batch_size"]
    return {**size, "refresh_every": min(140, steps), "kappa": min(3.0, 0.75 * facts.k)}


class Thresholds(nn.Module):
    """β1 and β2, the κ that they are lowered by, and the share of conflicted items at the last count."""

    beta: Tensor
    kappa: Tensor
    conflicted: Tensor
    lowered: Tensor

    def __init__(self, kappa: float, k: int, above: float | None = None, ahead: float | None = None) -> None:
        super().__init__()
        self.k = k
        above = kappa / k if above is None else above
        self.register_buffer("beta", torch.tensor([above, above / 2 if ahead is None else ahead]))
        self.register_buffer("kappa", torch.tensor(kappa))
        self.register_buffer("conflicted", torch.ones(()))
        self.register_buffer("lowered", torch.zeros((), dtype=torch.bool))

    def sure(self, q: Float[Tensor, "n k"]) -> Bool[Tensor, " n"]:
        """Unconflicted: the largest probability is above β1, and ahead of the second by more than β2."""
        first, second = q.topk(2, dim=1).values.unbind(1)
        return (first > self.beta[0]) & (first - second > self.beta[1])

    def lower(self) -> None:
        """Both fall by δ/K, with δ = 0.3κ the first two times and 0.3 of the one before from then on.

        Written as the authors' κ ← δ ← 0.3κ after the first step at the old κ. The steps sum to less than β1, but β2
        ends below 0: every item becomes sure in the end, which is what ends the training.
        """
        step = SHRINK * self.kappa
        self.beta.sub_(step / self.k)
        if bool(self.lowered):
            self.kappa.copy_(step)
        self.lowered.fill_(True)
