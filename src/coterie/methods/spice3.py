"""SPICE-3: items whose neighbours are all in their group count as labelled, and a net is trained from them.

Niu, Shan and Wang, "SPICE: Semantic Pseudo-labeling for Image Clustering", IEEE TIP 2022: its step SPICE-Semi, which
starts from backbone and head of `spice` and trains by FixMatch (Sohn et al., NeurIPS 2020). Defaults are the authors'
CIFAR-10 configuration; `--backbone wrn-28-2` is their net. Differs from the authors' code: one net for all stages, and
the strong views of labelled items pass through it too, without a loss.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from coterie.algorithms.neighbours import neighbour_lists
from coterie.common.bounds import BatchSize, BelowOne, Count, Epochs, PositiveRate, Rate, Share, Weight, Width
from coterie.contract import Card, Facts, OnlyIf, Pass, View, iterations_for
from coterie.contract.logged import CONFIDENCE
from coterie.networks.heads import SteadyLinear, mlp_head
from coterie.networks.memory import ItemTable
from coterie.networks.net import Net, trainable
from coterie.networks.redraw import redraw
from coterie.networks.teacher import Teacher
from coterie.objectives.pseudo_labels import consistency_loss, reliable
from coterie.types import Batch, Features, InputError, Losses, RunFailed
from coterie.views import fixmatch

NONE = -1  # the label of an item that has none

CARD = Card(
    title="SPICE-3",
    paper="Niu, Shan, Wang: SPICE: Semantic Pseudo-labeling for Image Clustering",
    year=2022,
    family="pseudo-label",
    url="https://arxiv.org/abs/2103.09382",
    views={"weak": View(fixmatch.WEAK), "strong": View(fixmatch.STRONG)},
    starts_from="spice",
    starts_on=("images", "embeddings"),
    inherits=("cluster",),
    answers=("classify",),
    only_if=(OnlyIf("unlabelled_weight", lambda weight: weight > 0, ("threshold",)),),
    of_one_group=("neighbours",),
    presets={
        "cifar10": {},
        "cifar20": {},
        "stl10": {"consistency": 0.9, "image_size": 96},
        "imagenet10": {"consistency": 0.9, "image_size": 224},
        "imagenet-dogs": {"consistency": 0.9, "image_size": 224},
        "tiny-imagenet": {"consistency": 0.9, "image_size": 64},
    },
    logs={
        "reliable": ("reliable share", "items that are taken for labelled, equally many of each group"),
        "groups_taught": ("groups taught", "groups that have a labelled item"),
        "trusted": ("trusted share", "unlabelled items whose weak view is sure enough to teach their strong one"),
        "confidence": CONFIDENCE,
        "agreement": ("distorted copies that agree", "share that is put into the group of the weak view"),
    },
)


@dataclass(frozen=True)
class SPICE3:
    epochs: Epochs = 1024  # of `steps` batches each
    steps: Count = 1024
    batch_size: BatchSize = 512  # labelled and unlabelled items, drawn with replacement
    labelled: Count = 64  # labelled ones among them
    neighbours: Width = 100  # of each item, itself included, whose groups are compared
    consistency: Share = 0.99  # rho: an item is reliable if this share of them is in its group; 0.9 beyond CIFAR
    confidence: Share = 0.99  # least confidence of a reliable item
    at_least: Share = 0.0  # share of each group, its most consistent items, that are always reliable
    threshold: Share = 0.95  # confidence from which an item's strong view learns the label of its weak one
    unlabelled_weight: Weight = 1.0  # of the loss on unlabelled items
    begins: Literal["scratch", "inherited"] = "scratch"  # the backbone: random weights, or those of spice
    hidden: Width = 512  # as in spice
    average: BelowOne = 0.999  # of the weights that answer; running statistics are averaged the same way
    learning_rate: PositiveRate = 0.03  # SGD, Nesterov's momentum 0.9; falls along 7/16 of a cosine's half turn
    weight_decay: Rate = 5e-4  # not on normalisations

    card: ClassVar[Card] = CARD

    def limits(self, facts: Facts) -> dict[str, tuple[int, int | None]]:
        """No more neighbours than items, and a batch with both kinds of items."""
        size = min(self.batch_size, facts.n)
        return {"neighbours": (2, facts.n), "labelled": (1, size - 1)}

    def check(self, facts: Facts) -> None:
        """Raise InputError for settings that cannot work on such data."""
        if not 2 <= self.neighbours <= facts.n:
            raise InputError(
                f"spice3.neighbours is {self.neighbours}: of {facts.n} items it must be from 2 to {facts.n}, the item "
                "itself included."
            )
        if self.labelled >= self.batch_size:
            raise InputError(
                f"spice3.labelled is {self.labelled} of spice3.batch_size {self.batch_size}: it must be smaller."
            )

    def passes(self) -> tuple[Pass, ...]:
        return (Pass(sample="mixture", steps=self.steps),)

    def heads(self, net: Net, k: int) -> dict[str, nn.Module]:
        """The head of `spice`, which labels; the answering one; the average of net and head; the draw of batches."""
        for module in net.backbone.modules():
            if hasattr(module, "running_mean"):
                setattr(module, "momentum", 1 - self.average)  # noqa: B010
        classify = SteadyLinear(net.width, k)
        return {
            "cluster": mlp_head(net.width, self.hidden, k, batch_norm=False),
            "classify": classify,
            "teacher": Teacher(backbone=net.backbone, classify=classify),
            "mixture": Mixture(self.batch_size, self.labelled),
        }

    @torch.no_grad()
    def start(self, net: Net, features: Features, k: int, generator: torch.Generator) -> None:
        """Choose the labelled items by the net of `spice`, and initialise the net that learns from them."""
        z = features()
        p = net.cluster.eval()(z).softmax(1)
        keep = reliable(p, neighbour_lists(z, self.neighbours - 1), self.consistency, self.confidence, self.at_least)
        label = p.argmax(1).cpu()
        net.mixture.labels.fill(balanced(label, keep.cpu(), k, generator, whole=self.at_least == 0)[:, None])
        if self.begins == "scratch":
            redraw(net.backbone.trunk, generator)
        net.teacher.follow(net, 0.0)

    def optimiser(self, net: Net) -> torch.optim.Optimizer:
        """SGD with Nesterov's momentum; biases and batch normalisation do not decay."""
        backbone = trainable(net.backbone)
        groups: list[dict[str, Any]] = [
            {"params": [p for p in backbone if p.ndim > 1] + trainable(net.classify)},
            {"params": [p for p in backbone if p.ndim <= 1], "weight_decay": 0.0},
        ]
        return torch.optim.SGD(
            groups, self.learning_rate, momentum=0.9, weight_decay=self.weight_decay, nesterov=True, fused=True
        )

    def rate(self, progress: float) -> float:
        return math.cos(7 / 16 * math.pi * progress)

    def step(self, net: Net, batch: Batch) -> Iterator[Losses]:
        """Cross-entropy on labelled items, and on the others' strong views with the labels of their sure weak views."""
        count = self.labelled
        label = net.mixture.labels.of(batch.gather(batch.index.to(net.mean.device)))[:count, 0]
        both = net.classify(net.backbone(torch.cat([batch.weak, batch.strong])))
        weak, strong = (batch.gather(part) for part in both.chunk(2))
        trusted, taught = consistency_loss(weak[count:], strong[count:], self.threshold)
        self.record(net, batch, weak[count:].detach(), strong[count:].detach(), taught)
        yield {"labelled": F.cross_entropy(weak[:count], label), "unlabelled": self.unlabelled_weight * trusted}
        net.teacher.follow(net, self.average)
        if batch.number + 1 == self.epochs * batch.per_epoch:
            net.teacher.take_over(net, statistics=False)

    def record(
        self,
        net: Net,
        batch: Batch,
        weak: Float[Tensor, "b k"],
        strong: Float[Tensor, "b k"],
        taught: Bool[Tensor, " b"],
    ) -> None:
        """Log how many items are learned from, how many groups they have, and the confidence of the others."""
        known = net.mixture.labels.rows[:, 0]
        groups = known[known != NONE].unique()
        confidence, group = weak.softmax(1).max(1)
        batch.log(
            reliable=(known != NONE).float().mean(),
            groups_taught=torch.tensor(float(len(groups))),
            trusted=taught.float().mean(),
            confidence=confidence.mean(),
            agreement=(group == strong.argmax(1)).float().mean(),
        )
        batch.count(group, weak.shape[1])
        batch.count_confidences(confidence)

    def logits(self, net: Net, features: Float[Tensor, "n d"]) -> dict[str, Float[Tensor, "n k"]]:
        return {"softmax": net.classify(features)}


def practical(facts: Facts) -> dict[str, Any]:
    """For a CPU or small data: 300 to 3,000 steps from the backbone of `spice`, neighbours within a group.

    A net with random weights would still be worse than its teacher after so few. The surest tenth of every group is
    always labelled, and the average spans a sixteenth of the steps.
    """
    size = iterations_for(facts, 300, 3_000)
    steps = max(1, facts.n // size["batch_size"])
    return {
        **size,
        "steps": steps,
        "labelled": max(1, size["batch_size"] // 8),
        "neighbours": max(2, min(100, facts.n // (4 * max(1, facts.k)))),
        "consistency": 0.9,
        "at_least": 0.1,
        "begins": "inherited",
        "hidden": 128,
        "average": round(min(0.999, max(0.8, 1 - 16 / (steps * size["epochs"]))), 4),
    }


class Mixture(nn.Module):
    """The draw of batches: first `labelled` items with a label, then any items, all with replacement."""

    def __init__(self, size: int, labelled: int) -> None:
        super().__init__()
        self.size, self.labelled = size, labelled
        self.labels = ItemTable(1, torch.int64)

    def draw(self, count: int, generator: torch.Generator) -> Int[Tensor, " m"]:
        """The rows of `count` places, batch after batch."""
        known = (self.labels.rows[:, 0].cpu() != NONE).nonzero().flatten()
        some = known[torch.randint(len(known), (count,), generator=generator)]
        any_item = torch.randint(len(self.labels.rows), (count,), generator=generator)
        return torch.where(torch.arange(count) % self.size < self.labelled, some, any_item)


def balanced(
    label: Int[Tensor, " n"], keep: Bool[Tensor, " n"], k: int, generator: torch.Generator, *, whole: bool
) -> Int[Tensor, " n"]:
    """The labels of equally many of the kept items of each group, drawn at random; NONE for all others.

    Raises RunFailed for a group without a kept item; without `whole`, groups that have no item at all are left out.
    """
    rows = [(keep & (label == group)).nonzero().flatten() for group in range(k)]
    empty = [group for group, own in enumerate(rows) if len(own) == 0 and (whole or bool((label == group).any()))]
    if empty:
        raise RunFailed(
            f"SPICE-3 finds no reliable item in group {', '.join(map(str, empty[:5]))} of SPICE-2, so nothing would "
            "teach it.",
            "Lower --set spice3.consistency or --set spice3.confidence, raise --set spice3.at_least, train the stage "
            "before it, spice, longer, or ask for fewer groups.",
        )
    smallest = min(len(own) for own in rows if len(own))
    given = torch.full_like(label, NONE)
    for group, own in enumerate(rows):
        given[own[torch.randperm(len(own), generator=generator)[:smallest]]] = group
    return given
