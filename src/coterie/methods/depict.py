"""DEPICT: a softmax on a denoising auto-encoder's code learns from damaged images its answers on whole ones.

Ghasedi Dizaji, Herandi, Deng, Cai and Huang, "Deep Clustering via Joint Convolutional Autoencoder Embedding and
Relative Entropy Minimization", ICCV 2017; equation numbers are theirs. One stage in three parts: the auto-encoder
alone, K-means' labels, then targets that are renewed with every epoch and balance the groups. docs/methods/depict.md
lists where paper, code and we differ.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from coterie.algorithms.kmeans import kmeans
from coterie.common.bounds import BatchSize, BelowOne, Epochs, PositiveRate, Rate, Restarts, Weight
from coterie.contract import Card, Facts, iterations_for, logged
from coterie.networks.autoencoder import explained
from coterie.networks.depict import Decoder, encoder_of
from coterie.networks.heads import SteadyLinear
from coterie.networks.memory import ItemTable
from coterie.networks.net import Net, trainable
from coterie.objectives.assignment import target_distribution
from coterie.types import Batch, EpochStart, InputError, Losses

CARD = Card(
    title="DEPICT",
    paper="Ghasedi Dizaji, Herandi, Deng, Cai, Huang: Deep Clustering via Joint Convolutional Autoencoder Embedding "
    "and Relative Entropy Minimization",
    year=2017,
    family="auto-encoder",
    url="https://arxiv.org/abs/1704.06327",
    views={"clean": "clean"},
    scaling="unit",
    accepts=("images",),
    answers=("groups",),
    presets={"mnist": {}, "usps": {}},
    code={"target": "squared"},
    backbone=lambda spec, device, as_published: "depict",
    logs={
        "explained": logged.EXPLAINED,
        "moved": ("change of the targets", "mean square, since the epoch before; near 0 it ends the stage"),
        "confidence": logged.CONFIDENCE,
    },
)


@dataclass(frozen=True)
class DEPICT:
    epochs: Epochs = 800
    batch_size: BatchSize = 100
    pretraining: BelowOne = 0.5  # share of the epochs in which the auto-encoder learns alone
    labelling: BelowOne = 0.05  # share of all epochs, after those, in which K-means' labels are learned
    noise: BelowOne = 0.1  # share of input and of the first map that is dropped
    layer_weight: Weight = 0.1  # of both maps' reconstructions; the input's is 1
    cluster_weight: Weight = 1.0  # of the clustering loss
    target: Literal["balanced", "squared"] = "balanced"  # squared: the authors' code, DEC's target
    tolerance: Rate = 1e-7  # stop when the targets' mean square change is smaller
    learning_rate: PositiveRate = 1e-4  # Adam
    restarts: Restarts = 40  # of the K-means that gives the first groups

    card: ClassVar[Card] = CARD

    def check(self, facts: Facts) -> None:
        """Raise InputError for parts that leave no epoch to the targets."""
        if self.pretraining + self.labelling >= 1:
            raise InputError(
                f"depict.pretraining ({self.pretraining}) and depict.labelling ({self.labelling}) are shares of the "
                "epochs, and must leave some: their sum must be below 1."
            )

    def heads(self, net: Net, k: int) -> dict[str, nn.Module]:
        encoder_of(net)
        groups = SteadyLinear(net.width, k)
        nn.init.zeros_(groups.bias)
        return {"decoder": Decoder(net.spec, net.width), "groups": groups, "targets": ItemTable(k)}

    def optimiser(self, net: Net) -> torch.optim.Optimizer:
        return torch.optim.Adam(trainable(net.backbone, net.decoder, net.groups), self.learning_rate, fused=True)

    def begin_epoch(self, net: Net, epoch: EpochStart) -> None:
        """Renew the targets: none, K-means' labels, or those of the clean predictions of all items (Eq. 9)."""
        alone = int(self.pretraining * self.epochs)
        if epoch.number < alone:
            return
        codes = epoch.features()
        if epoch.number == alone:
            self.place(net, codes, epoch.generator)
        if epoch.number < alone + int(self.labelling * self.epochs):
            return
        with torch.no_grad():
            before, renewed = net.targets.rows, self.targets(net.groups(codes.to(net.mean.device)).softmax(1))
        moved = (renewed - before).square().mean()
        net.targets.fill(renewed)
        epoch.log(moved=moved)
        if float(moved) < self.tolerance:
            epoch.end()

    @torch.no_grad()
    def place(self, net: Net, codes: Float[Tensor, "n d"], generator: torch.Generator) -> None:
        """Set the groups by K-means: its labels as targets, its centres, scaled to length 1, as weights."""
        k = net.groups.out_features
        found = kmeans(codes, k, generator=generator, restarts=self.restarts)
        net.groups.weight.copy_(functional.normalize(found.centres, dim=1))
        net.groups.bias.zero_()
        net.targets.fill(functional.one_hot(found.labels, k))

    def targets(self, p: Float[Tensor, "n k"]) -> Float[Tensor, "n k"]:
        """Eq. 9: predictions divided by the root of their groups' sizes. An empty group stays empty."""
        if self.target == "squared":
            return target_distribution(p)
        return functional.normalize(p / p.sum(0).clamp(min=torch.finfo(p.dtype).tiny).sqrt(), p=1, dim=1)

    def step(self, net: Net, batch: Batch) -> Iterator[Losses]:
        """Reconstructions from the noisy pass of the clean pass' layers, and the cross-entropy with the targets.

        Each layer's squared error is the mean over its values. As in the authors' code the clean layers learn, too.
        """
        encoder, half = encoder_of(net), net.backbone.enabled
        with torch.autocast(batch.clean.device.type, dtype=torch.bfloat16, enabled=half):
            *clean, code = encoder.layers(batch.clean)
            noisy = encoder.layers(batch.clean, lambda x: self.dropped(x, batch))[-1]
            rebuilt = net.decoder(noisy)
        errors = [(r.float() - h.float()).square().flatten(1).mean(1) for r, h in zip(rebuilt, clean, strict=True)]
        batch.log(explained=explained(batch.gather(errors[0]), batch.gather(clean[0].flatten(1))))
        losses = {
            "reconstruction": batch.gather(errors[0]).mean(),
            "layers": self.layer_weight * batch.gather(errors[1] + errors[2]).mean(),
        }
        if len(net.targets.rows):  # not while the auto-encoder learns alone
            wanted = net.targets.of(batch.index)
            crossed = -(wanted * net.groups(noisy).log_softmax(1)).sum(1)
            losses["clusters"] = self.cluster_weight * batch.gather(crossed).mean()
            batch.record_answers(batch.gather(net.groups(code.detach()).detach().softmax(1)))
        yield losses

    def dropped(self, x: Tensor, batch: Batch) -> Tensor:
        """Dropout: some values become 0, the others are scaled up to keep the mean; drawn for the global batch."""
        if not self.noise:
            return x
        return x * (batch.uniform(x) < 1 - 2 * self.noise) / (1 - self.noise)

    def logits(self, net: Net, features: Float[Tensor, "n d"]) -> dict[str, Float[Tensor, "n k"]]:
        return {"softmax": net.groups(features)}


def practical(facts: Facts) -> dict[str, Any]:
    """For a CPU or small data: fewer iterations at ten times the rate, and the target of the authors' code.

    With the paper's target the predictions become less sure the longer it trains.
    """
    return {**iterations_for(facts, 2_000, 8_000), "learning_rate": 1e-3, "target": "squared"}
