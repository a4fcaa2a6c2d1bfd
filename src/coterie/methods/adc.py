"""ADC: a walk from a centre to an image and back to a centre should end in the group where it began.

Haeusser, Plapp, Golkov, Aljalbout and Cremers, "Associative Deep Clustering: Training a Classification Network with No
Labels", GCPR 2018. One stage from random weights: centres of the groups are learned beside the network by such walks,
and so is an embedding in which distorted copies of an image lead to it and back. A linear layer learns each centre's
group, and gives the answer. Their exact command was never released; docs/methods/adc.md lists our choices.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from coterie.algorithms.schedules import parts_done
from coterie.common.bounds import BatchSize, BelowOne, Copies, Count, Epochs, PositiveRate, Rate, Weight, Width
from coterie.contract import Card, Facts, OnlyIf, View, epochs_for, logged
from coterie.networks.heads import SteadyLinear
from coterie.networks.net import Net, trainable
from coterie.types import Batch, InputError, Losses

SMALLEST = 1e-8  # added to a probability inside a logarithm
DROP = 0.33  # factor of the learning rate, each time that it falls
FOR = 100  # images in a batch for which the weights of the sums are published
DISTORTED = View(
    "perturbed",
    settings={"perturbed_crop": (0.64, 1.0), "perturbed_jitter": (0.5, 0.7, 0.3, 0.2), "greyscale": 0.0},
)

CARD = Card(
    title="ADC",
    paper="Haeusser, Plapp, Golkov, Aljalbout, Cremers: "
    "Associative Deep Clustering: Training a Classification Network with No Labels",
    year=2018,
    family="association",
    url="https://vision.cs.tum.edu/_media/spezial/bib/haeusser18associative.pdf",
    views={"clean": "clean", "copy1": DISTORTED},
    accepts=("images",),
    answers=("embed", "groups"),
    only_if=(OnlyIf(("walk_weight", "visit_weight"), lambda walk, visit: walk > 0 or visit > 0, ("ramp",)),),
    presets={"cifar10": {}, "cifar20": {}, "stl10": {"image_size": 64}},
    logs={
        "returned": (
            "walks that return",
            "chance that a walk from a centre ends in its group; 1/k at first, then to 1",
        ),
        "copies_returned": (
            "copies' walks that return",
            "chance that a walk from a copy ends at one of the same image",
        ),
        "length": ("length of embeddings", "drawn to 1"),
        "confidence": logged.CONFIDENCE,
    },
)


@dataclass(frozen=True)
class ADC:
    epochs: Epochs = 50
    batch_size: BatchSize = 100  # images that walks go through, so this is part of the method
    copies: Copies = 3  # distorted copies of each image
    embedding: Width = 128
    centres: Copies = 4  # of each group
    dropout: BelowOne = 0.2  # of features, before the embedding
    walk_weight: Weight = 1.0  # from centres to images and back
    visit_weight: Weight = 0.5  # of the loss by which walks from the centres visit all images equally often
    copy_walk_weight: Weight = 1.0  # from distorted copies to images and back
    copy_visit_weight: Weight = 1.0  # of walks from copies
    logit_weight: Weight = 0.5  # of the answering layer's loss on the centres
    sparsity_weight: Weight = 2e-4  # of the sum of absolute values, for 100 images
    length_weight: Weight = 2e-4  # of the sum of (length - 1)², for 100 images
    logit_decay: Rate = 1e-4  # weight decay of the answering layer
    ramp: BelowOne = 0.1  # share of the training in which the walks from centres grow to their full weight
    learning_rate: PositiveRate = 2e-4  # Adam
    beta1: BelowOne = 0.8
    beta2: BelowOne = 0.9
    warm_up: BelowOne = 0.03  # share of the training with a rising rate: 1,000 of 30,000 steps
    drops: Count = 6  # parts of the training, each with 0.33 times the rate of the one before: 5,000 steps each

    card: ClassVar[Card] = CARD

    def check(self, facts: Facts) -> None:
        """Raise InputError for settings that cannot work on such data."""
        if self.batch_size < facts.k:
            raise InputError(
                f"adc.batch_size is {self.batch_size}: with {facts.k} groups it must be at least {facts.k}."
            )

    def views(self) -> dict[str, View]:
        return {"clean": View("clean"), **{f"copy{i + 1}": DISTORTED for i in range(self.copies)}}

    def heads(self, net: Net, k: int) -> dict[str, nn.Module]:
        return {
            "embed": SteadyLinear(net.width, self.embedding),
            "centres": SpreadCentres(k, self.centres, self.embedding),
            "groups": SteadyLinear(self.embedding, k),
        }

    def optimiser(self, net: Net) -> torch.optim.Optimizer:
        others = trainable(net.backbone, net.embed, net.centres)
        groups = [
            {"params": [*others, net.groups.bias], "weight_decay": 0.0},
            {"params": [net.groups.weight], "weight_decay": self.logit_decay},
        ]
        return torch.optim.Adam(groups, self.learning_rate, betas=(self.beta1, self.beta2), fused=True)

    def rate(self, progress: float) -> float:
        """A sigmoid over the warm-up; then a third of the rate in each further part of the training."""
        rising = 1 / (1 + math.exp(-10 * (progress / self.warm_up - 0.5))) if progress < self.warm_up else 1.0
        return rising * DROP ** min(self.drops - 1, parts_done(progress, self.drops))

    def step(self, net: Net, batch: Batch) -> Iterator[Losses]:
        """Both associations, over the global batch, and the terms that keep embeddings sparse and of length 1."""
        images = batch.gather(self.embedded(net, batch, batch.clean))
        copies = [self.embedded(net, batch, batch.views[name]) for name in self.views() if name != "clean"]
        copied = batch.gather(torch.stack(copies, 1)).flatten(0, 1)
        group, centres = net.centres.groups, net.centres.rows
        source = torch.arange(len(images), device=images.device).repeat_interleave(self.copies)
        from_centres, from_copies = Walk(centres, images, group), Walk(copied, images, source)
        rows = torch.cat([images, copied])
        grown = min(1.0, batch.progress / self.ramp) if self.ramp else 1.0
        self._record(net, batch, images.detach(), from_centres, from_copies)
        yield {
            "walk": grown * self.walk_weight * from_centres.loss(),
            "visit": grown * self.visit_weight * from_centres.visits(),
            "copy_walk": self.copy_walk_weight * from_copies.loss(),
            "copy_visit": self.copy_visit_weight * from_copies.visits(),
            "logit": self.logit_weight * F.cross_entropy(net.groups(centres), group),
            "sparsity": self.sparsity_weight * (rows.abs().sum() * FOR / len(images) + centres.abs().sum()),
            "length": self.length_weight * (off_sphere(rows) * FOR / len(images) + off_sphere(centres)),
        }

    def embedded(self, net: Net, batch: Batch, view: Tensor) -> Float[Tensor, "b d"]:
        """Embeddings, with dropout drawn for the global batch."""
        features = net.backbone(view)
        if self.dropout:
            kept = batch.uniform(features) < 1 - 2 * self.dropout
            features = features * kept / (1 - self.dropout)
        return net.embed(features)

    def _record(
        self, net: Net, batch: Batch, images: Float[Tensor, "n d"], from_centres: Walk, from_copies: Walk
    ) -> None:
        with torch.no_grad():
            confidence, label = net.groups(images).softmax(1).max(1)
            batch.log(
                returned=from_centres.returned(),
                copies_returned=from_copies.returned(),
                length=images.norm(dim=1).mean(),
                confidence=confidence.mean(),
            )
        batch.count(label, net.groups.out_features)
        batch.count_confidences(confidence)

    def logits(self, net: Net, features: Float[Tensor, "n d"]) -> dict[str, Float[Tensor, "n k"]]:
        return {"groups": net.groups(net.embed(features))}


def practical(facts: Facts) -> dict[str, Any]:
    """For a CPU or small data: one copy, fewer steps at a higher rate."""
    size = epochs_for(facts)
    return {
        "epochs": size["epochs"],
        "batch_size": min(facts.n, max(100, 4 * facts.k, min(256, facts.n // 12))),
        "copies": 1,
        "drops": 3,
        "learning_rate": 1e-3,
    }


class Walk:
    """Walks from rows `a` (n, d) of known groups to rows `b` (m, d) and back, by the softmax of inner products."""

    def __init__(self, a: Float[Tensor, "n d"], b: Float[Tensor, "m d"], groups: Int[Tensor, " n"]) -> None:
        match = a @ b.T
        self.there = match.softmax(1)
        self.back_again = self.there @ match.T.softmax(1)
        self.same = groups[:, None] == groups

    def loss(self) -> Float[Tensor, ""]:
        """Cross-entropy of the walks' ends with the uniform distribution over the rows of the starting group."""
        target = self.same / self.same.sum(1, keepdim=True)
        return -(target * (self.back_again + SMALLEST).log()).sum(1).mean()

    def visits(self) -> Float[Tensor, ""]:
        """Cross-entropy of the visits to the rows of `b` with the uniform distribution."""
        return -(self.there.mean(0) + SMALLEST).log().mean()

    def returned(self) -> Float[Tensor, ""]:
        """The probability that a walk ends in the group where it began."""
        return (self.back_again * self.same).sum(1).mean()


class SpreadCentres(nn.Module):
    """Several centres for each group: the group's N(0, 0.3²) plus U(-0.01, 0.01) for each of its centres."""

    groups: Tensor

    def __init__(self, k: int, each: int, width: int) -> None:
        super().__init__()
        middle = 0.3 * torch.randn(k, width)
        self.rows = nn.Parameter(middle.repeat_interleave(each, 0) + torch.empty(k * each, width).uniform_(-0.01, 0.01))
        self.register_buffer("groups", torch.arange(k).repeat_interleave(each), persistent=False)


def off_sphere(rows: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """The sum of (length - 1)²."""
    return (rows.norm(dim=1) - 1).square().sum()
