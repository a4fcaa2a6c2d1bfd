"""DMICC: every item is its own class; features are made independent, and two views informative about each other.

Li, Zhang and Su, "Dual Mutual Information Constraints for Discriminative Clustering", AAAI 2023. A bank holds a row of
every item; the groups are K-means on it. Defaults are the authors' for STL-10. Their code does not run as released, its
view term has the wrong sign, and its features are no probabilities: `view_term` says which form is
taken. Differs from it: the bank begins with rows of length 1, and an item's group is the nearest to the net's own
output for it, so that new items are placed the same way.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from coterie.algorithms.kmeans import place_groups
from coterie.common.bounds import (
    BatchSize,
    Epochs,
    Positive,
    PositiveRate,
    Rate,
    Restarts,
    Share,
    Strength,
    Weight,
    Width,
)
from coterie.contract import Card, Facts, OnlyIf, View, epochs_for, logged
from coterie.networks.heads import PrototypeHead, SteadyLinear
from coterie.networks.memory import ItemTable
from coterie.networks.net import Net, trainable
from coterie.objectives.contrastive import embedding_std
from coterie.types import Batch, Features, Losses
from coterie.views.simclr import simclr_view

LEAST = sys.float_info.epsilon  # below which the authors' code takes no logarithm
DROPS = (0.1, 0.19, 0.27, 0.41, 0.47, 0.55, 0.67, 0.75, 0.85, 0.91)  # epochs 500, 950, 1350, ... of 5000

CARD = Card(
    title="DMICC",
    paper="Li, Zhang, Su: Dual Mutual Information Constraints for Discriminative Clustering",
    year=2023,
    family="contrastive",
    url="https://github.com/Li-Hyn/DMICC",
    views={"one": "contrastive", "two": "contrastive"},  # `DMICC.views` replaces them
    answers=("project", "groups"),
    only_if=(
        OnlyIf("feature_weight", lambda weight: weight > 0, ("feature_balance",)),
        OnlyIf("view_weight", lambda weight: weight > 0, ("view_balance", "view_term")),
    ),
    of_photographs=("jitter",),
    of_the_last=("restarts",),
    presets={"stl10": {"image_size": 96}},
    logs={
        "embedding_std": logged.EMBEDDING_STD,
        "own_rank": (
            "rank of the own row",
            "share of the bank nearer to an item than its own row; it should fall to 0",
        ),
        "cut_off": ("cosines cut off", "share of pairs of features with a negative cosine, which teach nothing"),
    },
)


@dataclass(frozen=True)
class DMICC:
    epochs: Epochs = 5000
    batch_size: BatchSize = 128
    learning_rate: PositiveRate = 0.05  # SGD, momentum 0.9; halved ten times
    weight_decay: Rate = 5e-4
    temperature: Positive = 1.0  # of the items' classes
    momentum: Share = 0.5  # of an item's row in the bank when it is updated
    feature_weight: Weight = 1e-5  # of the term that makes features independent
    feature_balance: Rate = 11.0  # of the logarithms of its sums
    view_weight: Weight = 1e-6  # of the term for the information of one view about the other
    view_balance: Rate = 10.0  # of the logarithms of its marginals: larger for more even use of features
    # softmax: on softmaxed features; signed: on the features as they are; released: signed with the code's wrong sign
    view_term: Literal["softmax", "signed", "released"] = "softmax"
    projector_out: Width = 128
    jitter: Strength = 0.5  # of the colours of photographs
    restarts: Restarts = 20  # of the final K-means

    card: ClassVar[Card] = CARD

    def views(self) -> dict[str, View]:
        view = simclr_view(self.jitter, 0.0)
        return {"one": view, "two": view}

    def heads(self, net: Net, k: int) -> dict[str, nn.Module]:
        return {
            "project": SteadyLinear(net.width, self.projector_out),
            "bank": ItemTable(self.projector_out),
            "groups": PrototypeHead(self.projector_out, k, standardise=False),
        }

    def optimiser(self, net: Net) -> torch.optim.Optimizer:
        trained = trainable(net.backbone, net.project)
        return torch.optim.SGD(trained, self.learning_rate, momentum=0.9, weight_decay=self.weight_decay, fused=True)

    def rate(self, progress: float) -> float:
        return 0.5 ** sum(progress >= drop for drop in DROPS)

    def start(self, net: Net, features: Features, k: int, generator: torch.Generator) -> None:
        """Fill the bank with random directions, one for every item."""
        rows = torch.randn(len(features()), self.projector_out, generator=generator)
        net.bank.fill(F.normalize(rows))

    def step(self, net: Net, batch: Batch) -> Iterator[Losses]:
        """Cross-entropy of the first view with all rows of the bank, and the two terms of dependence."""
        one, two = (batch.gather(F.normalize(net.project(net.backbone(view)))) for view in (batch.one, batch.two))
        index = batch.gather(batch.index.to(one.device))
        logits = one @ net.bank.rows.T / self.temperature
        losses = {"instance": F.cross_entropy(logits, index)}
        cosines = feature_cosines(one)
        if self.feature_weight:
            term = dependence(cosines, self.feature_balance) / cosines.numel()
            losses["feature"] = self.feature_weight * term
        if self.view_weight:
            losses["view"] = self.view_weight * self.view_loss(one, two)
        with torch.no_grad():
            own = logits.gather(1, index[:, None])
            batch.log(
                embedding_std=embedding_std(one),
                own_rank=(logits > own).float().mean(),
                cut_off=(cosines < 0).float().mean(),
            )
        yield losses
        net.bank.rows[index] = F.normalize(net.bank.rows[index].lerp(one.detach(), 1 - self.momentum))

    def view_loss(self, one: Float[Tensor, "b d"], two: Float[Tensor, "b d"]) -> Float[Tensor, ""]:
        """Minus the mutual information of two views' features, with weighted marginals."""
        if self.view_term == "softmax":
            one, two = ((rows / self.temperature).softmax(1) for rows in (one, two))
        sign = -1 if self.view_term == "released" else 1
        return -dependence(joint(one, two), sign * self.view_balance)

    def finish(self, net: Net, features: Features, k: int, generator: torch.Generator) -> None:
        """K-means on the bank."""
        place_groups(net.groups, net.bank.rows, generator, self.restarts)

    def logits(self, net: Net, features: Float[Tensor, "n d"]) -> dict[str, Float[Tensor, "n k"]]:
        return {"kmeans": net.groups(F.normalize(net.project(features)))}


def feature_cosines(rows: Float[Tensor, "b d"]) -> Float[Tensor, "d d"]:
    """The cosine of any two features over the batch."""
    columns = F.normalize(rows, dim=0)
    return columns.T @ columns


def joint(one: Float[Tensor, "b d"], two: Float[Tensor, "b d"]) -> Float[Tensor, "d d"]:
    """The joint table of two views' features: symmetric, with sum 1; probabilities where no feature is negative."""
    found = one.T @ two
    return (found + found.T) / 2 / found.sum()


def dependence(table: Float[Tensor, "d d"], balance: float) -> Float[Tensor, ""]:
    """Sum over t of t (log t - balance · log row sum - balance · log column sum).

    With balance 1 the mutual information of a table of probabilities. Entries below 2e-16 are raised to it.
    """
    log = table.clamp(min=LEAST).log()
    rows, columns = (table.sum(dim).clamp(min=LEAST).log() for dim in (1, 0))
    return (table.clamp(min=LEAST) * (log - balance * (rows[:, None] + columns))).sum()


def practical(facts: Facts) -> dict[str, Any]:
    """For a CPU or small data: few epochs, more of them for fewer items, and a temperature for which these suffice."""
    return {**epochs_for(facts), "temperature": 0.1}
