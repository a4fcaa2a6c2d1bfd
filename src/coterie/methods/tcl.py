"""TCL: CC with a weak and a strong view, then a boosting stage in which sure answers become labels for both heads.

Li, Yang, Peng, Li, Huang and Peng, "Twin Contrastive Learning for Online Clustering", IJCV 2022. Defaults are those of
the authors' code for CIFAR-10. Differs from it: labels are collected in one pass before the boosting begins, where
theirs takes an epoch; class weights and the mean of the boosted loss are of the global batch (theirs: the mean
of each process); the optimiser keeps its state, where theirs is reset.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from coterie.common.bounds import AboveZero, BatchSize, Epochs, Positive, PositiveRate, Rate, Share, Width
from coterie.contract import Card, Facts, OnlyIf, View, epochs_for, logged
from coterie.networks.heads import SteadyLinear
from coterie.networks.memory import ItemTable
from coterie.networks.net import Net, trainable
from coterie.objectives.contrastive import column_contrast, embedding_std, nt_xent
from coterie.objectives.partition import imbalance
from coterie.objectives.pseudo_labels import class_weights, surest
from coterie.types import Batch, EpochStart, Features, InputError, Losses

NONE = -1  # the label of an item that has none
LARGE = {"image_size": 224, "views.cutout": 75}

CARD = Card(
    title="TCL",
    paper="Li, Yang, Peng, Li, Huang, Peng: Twin Contrastive Learning for Online Clustering",
    year=2022,
    family="contrastive",
    url="https://arxiv.org/abs/2210.11680",
    views={"weak": "contrastive", "strong": "strong", "clean": "clean"},  # `TCL.views` replaces them
    answers=("shared", "cluster"),
    balance="balance_weight",
    only_if=(OnlyIf("boost_epochs", lambda epochs: epochs > 0, ("threshold", "at_least", "share")),),
    of_photographs=("blur",),
    presets={"cifar10": LARGE, "cifar20": LARGE, "imagenet10": {**LARGE, "blur": 0.5}},
    logs={
        "labelled": ("labelled share", "items that are sure enough to teach in the boosting"),
        "confidence": logged.CONFIDENCE,
        "agreement": ("views that agree", "share of items that the strong view puts where the other one does"),
        "embedding_std": logged.EMBEDDING_STD,
    },
)


@dataclass(frozen=True)
class TCL:
    epochs: Epochs = 1200  # including those of the boosting
    boost_epochs: Epochs = 200  # the last epochs, with boosting; 0: none
    batch_size: BatchSize = 1024  # 256 on each of their four cards, with losses over all of them
    learning_rate: PositiveRate = 1e-4  # Adam, constant
    weight_decay: Rate = 1e-4
    temperature: Positive = 0.5  # of the items' contrast
    group_temperature: Positive = 1.0  # of the groups'
    balance_weight: Rate = 1.0  # of the term for groups of equal size, before the boosting
    threshold: Share = 0.99  # alpha, confidence below which an item has no label
    at_least: Share = 0.0  # share of each group in a batch, its surest, that keeps its labels whatever the threshold
    share: AboveZero = 0.5  # gamma, share of an equal group in a batch: this many of a group's surest may get its label
    hidden: Width = 512
    projector_out: Width = 128
    blur: Share = 1.0  # chance in the weak view, at 224 pixels; 0.5 on ImageNet

    card: ClassVar[Card] = CARD

    def limits(self, facts: Facts) -> dict[str, tuple[int, int | None]]:
        """A batch that can hold an item of each group, and an epoch before the boosting."""
        return {"batch_size": (facts.k, None), "boost_epochs": (0, max(0, self.epochs - 1))}

    def check(self, facts: Facts) -> None:
        """Raise InputError for settings that cannot work."""
        if self.boost_epochs and self.boost_epochs >= self.epochs:
            raise InputError(
                f"tcl.boost_epochs is {self.boost_epochs} of tcl.epochs {self.epochs}: what it boosts must be trained "
                "first, so it must be smaller."
            )

    def views(self) -> dict[str, View]:
        """Weak: SimCLR's distortions, milder in crop and saturation. Strong: operations and a hole, no crop."""
        weak = {"crop_scale": (0.2, 1.0), "jitter": (0.4, 0.4, 0.2, 0.1), "blur": self.blur}
        return {
            "weak": View("contrastive", weak),
            "strong": View("strong", {"crop_scale": (1.0, 1.0)}),
            "clean": View("clean"),
        }

    def heads(self, net: Net, k: int) -> dict[str, nn.Module]:
        """A layer on the backbone that both heads share (the trailing layer of the authors' ResNet), heads, labels."""
        cluster = normed_head(self.hidden, k)
        for part in cluster:
            if isinstance(part, nn.Linear):
                nn.init.trunc_normal_(part.weight, std=0.02)
        return {
            "shared": SteadyLinear(net.width, self.hidden),
            "project": normed_head(self.hidden, self.projector_out),
            "cluster": cluster,
            "labels": ItemTable(1, torch.int64),
        }

    def start(self, net: Net, features: Features, k: int, generator: torch.Generator) -> None:
        net.labels.fill(torch.full((len(features()), 1), NONE))

    def optimiser(self, net: Net) -> torch.optim.Optimizer:
        trained = trainable(net.backbone, net.shared, net.project, net.cluster)
        return torch.optim.Adam(trained, self.learning_rate, weight_decay=self.weight_decay, fused=True)

    def begin_epoch(self, net: Net, epoch: EpochStart) -> None:
        """Before the boosting: a first round of labels, batch by batch in a random order, without training."""
        if not self.boost_epochs or epoch.number != self.epochs - self.boost_epochs:
            return
        p = answer(net, epoch.features())
        for rows in torch.randperm(len(p), generator=epoch.generator).split(self.batch_size):
            self.remember(net, rows, p[rows])

    def remember(self, net: Net, index: Int[Tensor, " b"], p: Float[Tensor, "b k"]) -> Int[Tensor, " b"]:
        """Renew and return the labels of these items by the net's answers."""
        rows = index.to(net.labels.rows.device)
        label = renewed(net.labels.rows[rows, 0], p, self.share, self.threshold, self.at_least)
        net.labels.rows[rows, 0] = label
        return label

    def step(self, net: Net, batch: Batch) -> Iterator[Losses]:
        """CC's three terms; in the boosting, items of one label are no negatives, and strong views learn the labels."""
        boosting = self.boost_epochs > 0 and batch.number >= (self.epochs - self.boost_epochs) * batch.per_epoch
        clean = batch.gather(self.said(net, batch.clean)) if boosting else None
        weak, strong = (net.shared(net.backbone(view)) for view in (batch.weak, batch.strong))
        items = [batch.gather(net.project(own)) for own in (weak, strong)]
        batch.log(embedding_std=embedding_std(items[0].detach()))
        logits = batch.gather(net.cluster(strong))
        if clean is not None:
            label = self.remember(net, batch.gather(batch.index), clean)
            self.record(batch, clean, logits)
            yield self.boosted(batch, items, logits, label)
            return
        p, q = batch.gather(net.cluster(weak)).softmax(1), logits.softmax(1)
        self.record(batch, p.detach(), logits)
        yield {
            "instance": nt_xent(items[0], items[1], self.temperature),
            "group": column_contrast(p, q, self.group_temperature),
            "balance": self.balance_weight * (imbalance(p) + imbalance(q)),
        }

    def boosted(
        self, batch: Batch, items: list[Tensor], logits: Float[Tensor, "b k"], label: Int[Tensor, " b"]
    ) -> Losses:
        """The losses of the boosting for embeddings of both views, the strong one's logits, and labels."""
        known = label != NONE
        batch.log(labelled=known.float().mean())
        instance = nt_xent(items[0], items[1], self.temperature, of_one_label(label))
        if not known.any():
            return {"instance": instance}
        weights = class_weights(label[known], logits.shape[1])
        return {"instance": instance, "label": F.cross_entropy(logits[known], label[known], weights)}

    @torch.no_grad()
    def said(self, net: Net, view: Tensor) -> Float[Tensor, "b k"]:
        """Probabilities in evaluation mode."""
        net.backbone.eval()
        p = answer(net, net.backbone(view))
        net.backbone.train()
        return p

    def record(self, batch: Batch, p: Float[Tensor, "b k"], strong: Float[Tensor, "b k"]) -> None:
        label = batch.record_answers(p)
        batch.log(agreement=(label == strong.argmax(1)).float().mean())

    def logits(self, net: Net, features: Float[Tensor, "n d"]) -> dict[str, Float[Tensor, "n k"]]:
        return {"softmax": net.cluster(net.shared(features))}


def practical(facts: Facts) -> dict[str, Any]:
    """For a CPU or small data: few epochs at a higher rate, a sixth of them for the boosting; no blur up to 64 pixels.

    After so few epochs the confidences are lower, so items get a label from 0.95 on, and the surest fifth of each group
    in any case: a group whose items have no labels is lost to the others.
    """
    size = epochs_for(facts)
    return {
        **size,
        "batch_size": max(size["batch_size"], facts.k),
        "boost_epochs": size["epochs"] // 6,
        "learning_rate": 1e-3,
        "threshold": 0.95,
        "at_least": 0.2,
        "blur": 0.5 if facts.side > 64 else 0.0,
    }


def normed_head(width: int, out: int) -> nn.Sequential:
    """BatchNorm - ReLU - Linear, twice."""
    return nn.Sequential(
        nn.BatchNorm1d(width),
        nn.ReLU(),
        SteadyLinear(width, width),
        nn.BatchNorm1d(width),
        nn.ReLU(inplace=True),
        SteadyLinear(width, out),
    )


@torch.no_grad()
def answer(net: Net, features: Float[Tensor, "n d"]) -> Float[Tensor, "n k"]:
    """The cluster head's answer on the backbone's features."""
    training = net.cluster.training
    net.cluster.eval()
    p: Tensor = net.cluster(net.shared(features)).softmax(1)
    net.cluster.train(training)
    return p


def renewed(
    old: Int[Tensor, " b"], p: Float[Tensor, "b k"], share: float, threshold: float, at_least: float = 0.0
) -> Int[Tensor, " b"]:
    """The labels of a batch after the net's answer p: the surest of each group get theirs, the unsure lose it.

    The ⌈share · b / k⌉ surest items of a group are candidates for its label; an item that has a label keeps it; then
    every item below the threshold loses its label (Eq. 11; the authors' `generate_pseudo_labels`). Ours: of each group
    the share `at_least` that is surest loses none.
    """
    (b, k), (confidence, group) = p.shape, p.max(1)
    sure = torch.where(F.one_hot(group, k).bool(), confidence[:, None], -1.0)
    best, rows = sure.topk(min(b, math.ceil(b / k * share)), dim=0)
    candidate = torch.full_like(old, NONE)
    chosen = rows[best >= 0]
    candidate[chosen] = group[chosen]
    label = torch.where(old == NONE, candidate, old)
    return label.masked_fill((confidence < threshold) & ~surest(confidence, group, at_least), NONE)


def of_one_label(label: Int[Tensor, " b"]) -> Bool[Tensor, "b b"]:
    """Which pairs of items have the same label, where both have one."""
    return (label[:, None] == label) & (label != NONE)
