"""DAE + k-means: an auto-encoder reconstructs whole items from damaged ones; K-means on its codes.

Vincent, Larochelle, Lajoie, Bengio and Manzagol, "Stacked Denoising Autoencoders", JMLR 2010, a row of PICA's Table 1,
for which no settings were ever published. It is `ae` plus the damage, trained end to end instead of layer by layer.
Only training inputs are damaged; codes are those of whole items.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from coterie.algorithms.kmeans import place_groups
from coterie.common.bounds import BatchSize, Epochs, PositiveRate, Restarts, Strength, Weight
from coterie.contract import Card, Facts, iterations_for, logged
from coterie.networks.autoencoder import decoder_for, explained, flat
from coterie.networks.heads import PrototypeHead
from coterie.networks.net import Net, trainable
from coterie.types import Batch, Features, InputError, Losses

CARD = Card(
    title="DAE + k-means",
    paper="Vincent, Larochelle, Lajoie, Bengio, Manzagol: Stacked Denoising Autoencoders",
    year=2010,
    family="auto-encoder",
    url="https://jmlr.org/papers/v11/vincent10a.html",
    views={"shifted": "shifted"},
    scaling="unit",
    gives=("decoder",),
    backbone=lambda spec, device, as_published: "ae",
    of_the_last=("restarts",),
    logs={"explained": logged.EXPLAINED},
)


@dataclass(frozen=True)
class DAE:
    epochs: Epochs = 476  # as ae
    batch_size: BatchSize = 256
    learning_rate: PositiveRate = 1e-4  # Adam
    # masking: values become the lowest; gaussian: noise is added; salt-and-pepper: the lowest or the highest
    damage: Literal["masking", "gaussian", "salt-and-pepper"] = "masking"
    level: Strength = 0.25  # the chance that a value is damaged; with gaussian the deviation, on the scale of 0 to 1
    emphasis: Weight = 1.0  # α: how much a damaged value counts in the loss, where an intact one counts 1
    restarts: Restarts = 20  # of the final K-means

    card: ClassVar[Card] = CARD

    def check(self, facts: Facts) -> None:
        """Raise InputError for a chance above 1."""
        if self.damage != "gaussian" and self.level > 1:
            raise InputError(f"dae.level is {self.level}: with dae.damage={self.damage} it is a chance, at most 1.")

    def heads(self, net: Net, k: int) -> dict[str, nn.Module]:
        return {"decoder": decoder_for(net), "groups": PrototypeHead(net.width, k, standardise=False)}

    def optimiser(self, net: Net) -> torch.optim.Optimizer:
        return torch.optim.Adam(trainable(net.backbone, net.decoder), self.learning_rate, fused=True)

    def step(self, net: Net, batch: Batch) -> Iterator[Losses]:
        """The mean squared error between the whole item and the reconstruction from the damaged one."""
        whole = flat(batch.shifted)
        damaged, hit = self.damaged(net, batch)
        squares = (net.decoder(net.backbone(damaged)) - whole).square()
        batch.log(explained=explained(batch.gather(squares.mean(1)), batch.gather(whole)))
        weighed = torch.where(hit.flatten(1), self.emphasis * squares, squares) if self.emphasis != 1 else squares
        yield {"reconstruction": batch.gather(weighed.mean(1)).mean()}

    def damaged(self, net: Net, batch: Batch) -> tuple[Tensor, Tensor]:
        """The batch's items with some values damaged, and a mask of those; both of the view's shape.

        Pixels are damaged on their original scale, so that masked ones are black, whatever the net's normalisation.
        Features of embeddings are damaged on the net's scale: masked ones get their lowest value.
        """
        view, low, unit = batch.shifted, torch.zeros(()), torch.ones(())
        if net.spec.kind == "images":
            low, unit = (-net.mean / net.std).view(-1, 1, 1), (1 / net.std).view(-1, 1, 1)
        if self.damage == "gaussian":
            return view + self.level * unit * batch.normal(view), torch.ones_like(view, dtype=torch.bool)
        drawn = (batch.uniform(view) + 1) / 2  # 0 to 1
        hit, put = drawn < self.level, low
        if self.damage == "salt-and-pepper":
            put = torch.where(drawn < self.level / 2, low, low + unit)
        return torch.where(hit, put, view), hit

    def finish(self, net: Net, features: Features, k: int, generator: torch.Generator) -> None:
        """K-means on the codes of whole items."""
        place_groups(net.groups, features(), generator, self.restarts)

    def logits(self, net: Net, features: Float[Tensor, "n d"]) -> dict[str, Float[Tensor, "n k"]]:
        return {"kmeans": net.groups(features)}


def practical(facts: Facts) -> dict[str, Any]:
    """As `ae`: 10,000 iterations at ten times the rate, fewer for fewer items."""
    return {**iterations_for(facts, 1_500, 10_000), "learning_rate": 1e-3}
