"""SCAN-3: the net learns the labels of sure items on their distorted copies.

Van Gansbeke, Vandenhende, Georgoulis, Proesmans and Van Gool, "SCAN: Learning to Classify Images without Labels", ECCV
2020: its self-labelling step, which starts from backbone and head of `scan`. Defaults are the authors' CIFAR
configuration. Differs from their code: a batch without a sure item takes no step (theirs raises).

`labels="start"` is ours, for `--finetune`: the targets stay those of the start.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from coterie.common.bounds import BatchSize, Epochs, PositiveRate, Rate, Share, Width
from coterie.contract import Card, Facts, OnlyIf, View, iterations_for
from coterie.contract.logged import CONFIDENCE, SELECTED
from coterie.networks.heads import SteadyLinear, mlp_head
from coterie.networks.memory import ItemTable
from coterie.networks.net import Net, hold_statistics, trainable
from coterie.objectives.pseudo_labels import balanced_cross_entropy, surest
from coterie.types import Batch, Features, Losses

IMAGENET = {
    "epochs": 25,
    "batch_size": 512,
    "balance": False,
    "solver": "sgd",
    # 0.03 times a thousandth: their moving average (0.999) is written over the net after every step.
    "learning_rate": 3e-5,
    "weight_decay": 0.0,
    "views.cutout": 75,
    "image_size": 224,
}

CARD = Card(
    title="SCAN-3",
    paper="Van Gansbeke, Vandenhende, Georgoulis, Proesmans, Van Gool: "
    "SCAN: Learning to Classify Images without Labels",
    year=2020,
    family="pseudo-label",
    url="https://arxiv.org/abs/2005.12320",
    # The authors' crop of the strong view keeps images of the net's own size whole.
    views={"clean": "clean", "strong": View("strong", {"crop_scale": (1.0, 1.0)})},
    starts_from="scan",
    starts_on=("images", "embeddings"),
    inherits=("cluster",),
    answers=("cluster",),
    only_if=(
        OnlyIf("head", lambda head: head == "mlp", ("hidden",)),
        OnlyIf("labels", lambda labels: labels == "step", ("clean_trains",)),
    ),
    presets={
        "cifar10": {},
        "cifar20": {},
        "stl10": {"epochs": 100, "views.cutout": 32, "image_size": 96},
        "imagenet50": IMAGENET,
        "imagenet100": IMAGENET,
        "imagenet200": IMAGENET,
    },
    logs={
        "selected": SELECTED,
        "confidence": CONFIDENCE,
        "agreement": ("distorted copies that agree", "share that is put into the group of its undistorted item"),
    },
)


@dataclass(frozen=True)
class SCAN3:
    epochs: Epochs = 200
    batch_size: BatchSize = 1000
    threshold: Share = 0.99  # confidence above which an item is learned from
    at_least: Share = 0.0  # share of each group (in a batch), its surest, that is learned from whatever the threshold
    # What is learned: the labels that the net gives in each step, or the probabilities that it gave at the start, which
    # cannot drift.
    labels: Literal["step", "start"] = "step"
    balance: bool = True  # groups have equal weight, however many of their items are learned from
    clean_trains: bool = True  # the undistorted images feed the running statistics, too
    keep_statistics: bool = False  # batch normalisation keeps its statistics: for a pretrained net (--finetune)
    head: Literal["linear", "mlp"] = "linear"  # as in scan
    hidden: Width = 512  # as in scan
    solver: Literal["adam", "sgd"] = "adam"  # sgd: with momentum 0.9
    learning_rate: PositiveRate = 1e-4  # constant
    weight_decay: Rate = 1e-4

    card: ClassVar[Card] = CARD

    def heads(self, net: Net, k: int) -> dict[str, nn.Module]:
        """The head that was chosen in `scan`."""
        head = mlp_head(net.width, self.hidden, k) if self.head == "mlp" else SteadyLinear(net.width, k)
        return {"cluster": head} | ({"taught": ItemTable(k)} if self.labels == "start" else {})

    def start(self, net: Net, features: Features, k: int, generator: torch.Generator) -> None:
        """Keep what the net says of every item where that is what is learned; zeros of items that do not teach."""
        if self.labels == "start":
            with torch.no_grad():
                p = net.cluster(features()).softmax(1)
            confidence, label = p.max(1)
            net.taught.fill(p.where(sure(confidence, label, self.threshold, self.at_least)[:, None], 0.0))

    def optimiser(self, net: Net) -> torch.optim.Optimizer:
        trained = trainable(net.backbone, net.cluster)
        if self.solver == "sgd":
            return torch.optim.SGD(
                trained, self.learning_rate, momentum=0.9, weight_decay=self.weight_decay, fused=True
            )
        return torch.optim.Adam(trained, self.learning_rate, weight_decay=self.weight_decay, fused=True)

    def step(self, net: Net, batch: Batch) -> Iterator[Losses]:
        """Cross-entropy of the strong views with labels or targets, of the items of the global batch that teach."""
        if self.labels == "step":
            confidence, label = batch.gather(self.said(net, batch.clean)).max(1)
            keep, used, target = sure(confidence, label, self.threshold, self.at_least), label, label
        self._set((net.backbone, net.cluster), training=True)
        strong = batch.gather(net.cluster(net.backbone(batch.strong)))  # of all: they shape the batch statistics
        if self.labels == "start":
            target = batch.gather(net.taught.of(batch.index).to(strong))
            keep, label = target.sum(1) > 0, target.argmax(1)
            confidence, used = strong.detach().softmax(1).max(1)
        k = strong.shape[1]
        agreement = (strong.argmax(1) == label).float().mean()
        batch.log(selected=keep.float().mean(), confidence=confidence.mean(), agreement=agreement)
        batch.count(used, k)
        batch.count_confidences(confidence)
        if keep.any():
            taught = strong[keep], target[keep]
            loss = balanced_cross_entropy(*taught, label[keep]) if self.balance else F.cross_entropy(*taught)
            yield {"self_label": loss}

    @torch.no_grad()
    def said(self, net: Net, view: Tensor) -> Float[Tensor, "b k"]:
        """Probabilities on the undistorted items, in training mode as in the authors' code, or in evaluation mode."""
        parts = (net.backbone, net.cluster)
        self._set(parts, training=self.clean_trains)
        return net.cluster(net.backbone(view)).softmax(1)

    def _set(self, parts: tuple[nn.Module, ...], *, training: bool) -> None:
        for part in parts:
            part.train(training)
            if self.keep_statistics:
                hold_statistics(part)

    def logits(self, net: Net, features: Float[Tensor, "n d"]) -> dict[str, Float[Tensor, "n k"]]:
        return {"softmax": net.cluster(features)}


def practical(facts: Facts) -> dict[str, Any]:
    """For a CPU or small data: 300 to 3,000 steps of at most 256 items; each group's surest tenth always teaches.

    After few steps few of SCAN-2's confidences are above 0.99, and a group without a sure item is lost to the others.
    """
    steps = iterations_for(facts, 300, 3_000)
    return {**steps, "at_least": 0.1, "learning_rate": 5e-4}


def sure(
    confidence: Float[Tensor, " n"], label: Int[Tensor, " n"], threshold: float, at_least: float
) -> Bool[Tensor, " n"]:
    """The items above the threshold, and of each group its surest where those are fewer than the share `at_least`."""
    return (confidence > threshold) | surest(confidence, label, at_least)
