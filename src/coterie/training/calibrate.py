"""Post-hoc calibration: CDC's calibration head on frozen features, taught by what any clustering says. No labels.

Jia, Cheng, Liu and Hou, "Towards Calibrated Deep Clustering Network", ICLR 2025, Eq. (1) to (3): the items of a
mini-cluster share one target, the mean of what the clustering says about them, so that the head is less sure where
neighbours are put into different groups. In the paper the head is trained beside the clustering; here the clustering
is finished and its probabilities are constants, so it may come from anywhere. It is a stage like any other to the
engine, with the features as its items.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from coterie.bounds import BatchSize, Count, Epochs, Rate, Restarts, Weight, Width
from coterie.methods.contract import Card, Facts
from coterie.networks.heads import mlp_head
from coterie.networks.net import Net
from coterie.objectives.information import negative_mean_entropy, soft_cross_entropy
from coterie.objectives.regions import cell_means, practical_cells
from coterie.objectives.regularisers import (
    FOCAL_WARM_UP,
    focal_loss,
    l1_penalised_cross_entropy,
    mix_rows,
    mixed_cross_entropy,
    smoothed_cross_entropy,
)
from coterie.types import Batch, Features, InputError, ItemSpec, Losses

AHEAD = 1e-3  # in logits, of an item's group before another that is as likely: enough for float32 to tell

CARD = Card(
    title="Post-hoc calibration",
    paper="Jia, Cheng, Liu, Hou: Towards Calibrated Deep Clustering Network",
    year=2025,
    family="calibration",
    url="https://openreview.net/forum?id=JvH4jDDcG3",
    views={"clean": "clean"},
    accepts=("embeddings",),
)


@dataclass(frozen=True)
class Calibration:
    """Settings of the calibration head; `practical_calibration` fits them to the data."""

    loss: Literal["region", "smoothing", "focal", "l1", "mixup"] = "region"  # all but `region`: for comparison
    epochs: Epochs = 10
    batch_size: BatchSize = 1000  # mini-clusters are formed within a batch
    sub_batch: BatchSize = 250  # items of one optimiser step
    cells: Count = 100  # K, mini-clusters in a batch; fewer of them give lower confidences (Theorem 1)
    cell_norm: Literal["l1", "l2", "none"] = "l1"  # of the features that mini-clusters are formed on
    restarts: Restarts = 1  # of the K-means in every batch
    hidden: Width = 512  # H, width of the head
    entropy_weight: Weight = 0.0  # w_en of Eq. 3; CDC's 1 pulls groups of unequal sizes towards equal ones
    head_rate: Rate = 3e-3  # Adam, falling to 0 along a cosine; as far in 300 steps as 1e-3 in 1,500

    def check(self, facts: Facts) -> None:
        """Raise InputError for settings that cannot work on so many items."""
        if not 2 <= self.batch_size <= facts.n:
            raise InputError(
                f"Setting calibrate.batch_size is {self.batch_size}: it must lie between 2 and the number of items, "
                f"{facts.n}."
            )
        if not 1 <= self.cells <= self.batch_size:
            raise InputError(
                f"Setting calibrate.cells is {self.cells}: it must lie between 1 and the batch size, {self.batch_size}."
            )


def practical_calibration(facts: Facts) -> dict[str, Any]:
    """CDC's practical rule: about four mini-clusters a group; 300 steps, up to 3,000 where 10 epochs take more."""
    k = max(2, facts.k)  # 0 while the method is still to find it
    batch = min(1000, facts.n, max(facts.n // 4, 20 * k))
    parts = 4 if batch >= 400 else 2 if batch >= 64 else 1
    steps = facts.n // batch * parts
    return {
        "epochs": min(100, max(-(-300 // steps), min(10, 3000 // steps), 1)),
        "batch_size": batch,
        "sub_batch": -(-batch // parts),
        "cells": practical_cells(batch, k),
        # Features of images are ReLU means, whose length says little; embeddings keep the distances they came with.
        "cell_norm": "l1" if facts.kind == "images" else "none",
        "hidden": min(512, max(16, k, facts.n // 4)),
    }


@dataclass(frozen=True)
class PostHoc:
    """What the engine trains: the settings, and what the clustering says about every item."""

    settings: Calibration
    said: Float[Tensor, "n k"]

    card: ClassVar[Card] = CARD

    @property
    def epochs(self) -> int:
        return self.settings.epochs

    @property
    def batch_size(self) -> int:
        return self.settings.batch_size

    @property
    def part_size(self) -> int:
        return self.settings.sub_batch

    def check(self, facts: Facts) -> None:
        self.settings.check(facts)

    def heads(self, net: Net, k: int) -> dict[str, nn.Module]:
        return {"post_hoc": calibration_head(net.width, self.settings.hidden, k)}

    def start(self, net: Net, features: Features, k: int, generator: torch.Generator) -> None:
        """A random head learns fixed targets as well as a prepared one, once it knows where the features lie."""
        standardise, first, norm, *_ = net.post_hoc
        z = features()
        standardise.place(z)
        with torch.no_grad():
            hidden = first(standardise(z))
        norm.running_mean.copy_(hidden.mean(0))
        norm.running_var.copy_(hidden.var(0))

    def optimiser(self, net: Net) -> torch.optim.Optimizer:
        return torch.optim.Adam(net.post_hoc.parameters(), lr=self.settings.head_rate, fused=True)

    def rate(self, progress: float) -> float:
        return 0.5 * (1 + math.cos(math.pi * progress))

    def step(self, net: Net, batch: Batch) -> Iterator[Losses]:
        """Fix the targets of the whole batch, then yield each sub-batch's losses (Eq. 3)."""
        settings, x = self.settings, batch.clean
        said = self.said[batch.index.cpu()].to(x.device)
        label = other = said.argmax(1)
        share = 1.0
        if settings.loss == "region":
            everyone = batch.gather(x), batch.gather(said)
            target = cell_means(*everyone, settings.cells, batch.generator, settings.cell_norm, settings.restarts)
            batch.log(target_confidence=target.max(1).values.mean())
            target = batch.mine(target)
        elif settings.loss == "mixup":
            mixed, partner, share = mix_rows(batch.gather(x), batch.generator)
            x, other = batch.mine(mixed), batch.mine(batch.gather(label)[partner])
        for part in batch.parts():
            logits = batch.gather(net.post_hoc(x[part]))
            if settings.loss == "region":
                loss = soft_cross_entropy(logits, batch.gather(target[part]))  # Eq. 1
            elif settings.loss == "mixup":
                loss = mixed_cross_entropy(logits, batch.gather(label[part]), batch.gather(other[part]), share)
            else:
                loss = self.hard_loss(logits, batch.gather(label[part]), batch.progress)
            losses = {"calibrate": loss}
            if settings.entropy_weight > 0:
                losses["entropy"] = settings.entropy_weight * negative_mean_entropy(logits)  # Eq. 2
            yield losses

    def hard_loss(self, logits: Float[Tensor, "b k"], label: Int[Tensor, " b"], progress: float) -> Float[Tensor, ""]:
        """The comparisons that take an item's group for its label."""
        if self.settings.loss == "smoothing":
            return smoothed_cross_entropy(logits, label)
        if self.settings.loss == "l1":
            return l1_penalised_cross_entropy(logits, label)
        return focal_loss(logits, label, 0.0 if progress < FOCAL_WARM_UP else 2.0)

    def finish(self, net: Net, features: Features, k: int, generator: torch.Generator) -> None:
        """Nothing to add."""

    def predict(self, net: Net, features: Float[Tensor, "n d"]) -> dict[str, Float[Tensor, "n k"]]:
        return {"cal": net.post_hoc(features).softmax(1)}


class Standardise(nn.Module):
    """Features to mean 0 and deviation 1; those of some backbones lie far from 0 and close together."""

    mean: Tensor
    std: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("std", torch.ones(width))

    @torch.no_grad()
    def place(self, features: Float[Tensor, "n d"]) -> None:
        """Take the moments of these features; one that all but stands still is not blown up."""
        std = features.std(0)
        self.mean.copy_(features.mean(0))
        self.std.copy_(std.clamp(min=max(1e-3 * float(std.square().mean().sqrt()), 1e-12)))

    def forward(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        return (features - self.mean) / self.std


def calibration_head(width: int, hidden: int, k: int) -> nn.Sequential:
    """CDC's head behind a standardisation: CDC's own learns with its backbone, this one takes what it gets."""
    return nn.Sequential(Standardise(width), *mlp_head(width, hidden, k))


def keep_groups(logits: Float[Tensor, "n k"], label: Int[Tensor, " n"]) -> Float[Tensor, "n k"]:
    """A calibration head's logits, changed where their largest is not that of the item's group.

    Calibration says how far a group can be believed, not where an item belongs: where the head prefers another group
    both get the same probability, and the item's own is called first. So the answer stays the clustering's, with a
    confidence of at most about a half. (Softmax of (0, 2) with label 0: 0.12, 0.88 becomes 0.5, 0.5.)
    """
    other = logits.argmax(1, keepdim=True)
    own = label[:, None]
    both = torch.cat([logits.gather(1, own), logits.gather(1, other)], dim=1)
    half = both.logsumexp(1, keepdim=True) - math.log(2)
    shared = logits.scatter(1, other, half - AHEAD).scatter(1, own, half + AHEAD)
    return torch.where(own == other, logits, shared)


class GivenFeatures(nn.Identity):
    """The backbone of a net whose items are features already."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.num_features = width


def calibration_net(method: PostHoc, mean: Float[Tensor, " d"], std: Float[Tensor, " d"], seed: int) -> Net:
    """A net with a fresh calibration head on features that it normalises by `mean` and `std`."""
    width = len(mean)
    net = Net(GivenFeatures(width), ItemSpec("embeddings", dim=width), mean, std, half=False)
    torch.manual_seed(seed)
    net.add(method.heads(net, method.said.shape[1]))
    return net
