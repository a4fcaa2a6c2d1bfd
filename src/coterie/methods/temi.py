"""TEMI: many heads on frozen features, each taught by its moving average on a neighbour of the item.

Adaloglou, Michels, Kalisch and Kollmann, "Exploring the Limits of Deep Image Clustering using Pretrained Models", BMVC
2023. The features are embeddings as they are, or those of another run's backbone (`--init`), which is not trained; for
pictures, the pixels by default. Defaults are those of the authors' README, preset `text` the
paper's table 10. Differs from the authors' code: the last epoch is reported (theirs keeps the checkpoint of the best
accuracy), and neighbours are exact and never the item itself, however many items there are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from coterie.algorithms.neighbours import nearest
from coterie.common.bounds import (
    AboveZero,
    BatchSize,
    BelowOne,
    Copies,
    Epochs,
    Positive,
    PositiveRate,
    Rate,
    Share,
    Width,
)
from coterie.contract import Card, Facts, Pass, Reading, View, iterations_for
from coterie.contract.logged import CONFIDENCE
from coterie.networks.heads import steady_product
from coterie.networks.identity import grouped_values, own_backbone
from coterie.networks.memory import ItemTable
from coterie.networks.net import Net, trainable
from coterie.networks.teacher import Teacher
from coterie.types import Batch, Features, InputError, Losses

CARD = Card(
    title="TEMI",
    paper="Adaloglou, Michels, Kalisch, Kollmann: "
    "Exploring the Limits of Deep Image Clustering using Pretrained Models",
    year=2023,
    family="neighbours",
    url="https://arxiv.org/abs/2303.17896",
    views={"own": "clean", "neighbour": View("clean", of="neighbour")},
    answers=("cluster",),
    of_one_group=("neighbours",),
    backbone=own_backbone("TEMI"),
    trains_backbone=False,
    presets={"cifar10": {}, "cifar20": {}, "cifar100": {}, "stl10": {}, "imagenet": {}},
    text=Reading(
        {"heads_tried": 50, "epochs": 200, "batch_size": 512, "warm_up": 0.1},
        {
            "cifar20": {"beta": 0.55},
            "stl10": {"epochs": 800, "warm_up": 0.025},
            "imagenet": {"neighbours": 25, "batch_size": 1024},
        },
    ),
    logs={
        "confidence": CONFIDENCE,
        "agreement": ("pairs that agree", "share of neighbours that are put into the item's group"),
        "head_spread": ("spread of the heads' losses", "how much it matters which of them answers"),
    },
)


@dataclass(frozen=True)
class TEMI:
    epochs: Epochs = 100
    batch_size: BatchSize = 1024
    heads_tried: Copies = 16  # heads trained side by side; the teacher of the one with the lowest loss answers
    neighbours: Width = 50  # of each item, one of which is drawn anew each time
    beta: AboveZero = 0.6  # at .5 and below, uniform answers are no worse than sure and equal groups
    temperature: Positive = 0.1  # of students and teachers
    momentum: BelowOne = 0.996  # of the teachers
    prior_momentum: BelowOne = 0.9  # of the moving average of the groups' sizes
    hidden: Width = 512
    out: Width = 256  # width before the last layer
    learning_rate: PositiveRate = 1e-4  # at a batch of 256 items, in proportion to the batch
    warm_up: Share = 0.2  # share of the training in which the rate rises; then it is constant
    weight_decay: Rate = 1e-4  # on weights, not on biases

    card: ClassVar[Card] = CARD

    def limits(self, facts: Facts) -> dict[str, tuple[int, int | None]]:
        """No more neighbours than other items."""
        return {"neighbours": (1, facts.n - 1)}

    def check(self, facts: Facts) -> None:
        """Raise InputError for settings that cannot work on such data."""
        if self.neighbours >= facts.n:
            raise InputError(
                f"temi.neighbours is {self.neighbours}: of {facts.n} items each has at most {facts.n - 1} neighbours."
            )

    def passes(self) -> tuple[Pass, ...]:
        return (Pass(partners={"neighbour": "neighbours"}),)

    def heads(self, net: Net, k: int) -> dict[str, nn.Module]:
        """The students, their teachers, sizes and losses of each, the items' neighbours, and the head that answers."""
        sizes = (net.width, self.hidden, self.out, k)
        students = HeadBank(self.heads_tried, *sizes)
        return {
            "students": students,
            "teacher": Teacher(students=students),
            "balance": Balance(self.heads_tried, k),
            "neighbours": ItemTable(self.neighbours, torch.int32),
            "cluster": HeadBank(1, *sizes),
        }

    def start(self, net: Net, features: Features, k: int, generator: torch.Generator) -> None:
        """Each item's neighbours by the cosine of the features."""
        rows = grouped_values(net, features(), angles=True)
        net.neighbours.fill(nearest(rows, self.neighbours, metric="cosine")[1])

    def optimiser(self, net: Net) -> torch.optim.Optimizer:
        rate = self.learning_rate * self.batch_size / 256
        matrices = [p for p in trainable(net.students) if p.ndim == 3]
        others = [p for p in trainable(net.students) if p.ndim != 3]
        groups: list[dict[str, Any]] = [{"params": matrices}, {"params": others, "weight_decay": 0.0}]
        return torch.optim.AdamW(groups, rate, weight_decay=self.weight_decay, fused=True)

    def rate(self, progress: float) -> float:
        """Linear warm-up from 0, then constant."""
        return min(1.0, progress / self.warm_up) if self.warm_up > 0 else 1.0

    def step(self, net: Net, batch: Batch) -> Iterator[Losses]:
        """The mean over heads of both directions: an item's student with its neighbour's teacher, and the reverse."""
        views = torch.cat([frozen(net, batch.own), frozen(net, batch.neighbour)])
        # In the first epoch the last layer keeps its random weights, unless there is no other one.
        logits = net.students(views, last=self.epochs == 1 or batch.number >= batch.per_epoch) / self.temperature
        own, other = (batch.gather(part) for part in logits.log_softmax(2).chunk(2))
        with torch.no_grad():
            logits = net.teacher.students(views) / self.temperature
            taught, taught_other = (batch.gather(part) for part in logits.log_softmax(2).chunk(2))
            prior = net.balance.follow(taught, taught_other, self.prior_momentum)
            weight = likeness(taught, taught_other)
        losses = 0.5 * (
            (weight * apart(own, taught_other, prior, self.beta)).mean(0)
            + (weight * apart(other, taught, prior, self.beta)).mean(0)
        )
        net.balance.count(losses.detach(), new=batch.number % batch.per_epoch == 0)
        self.record(net, batch, taught, taught_other)
        yield {"information": losses.mean()}
        net.teacher.follow(net, self.momentum)

    def record(self, net: Net, batch: Batch, own: Float[Tensor, "b h k"], other: Float[Tensor, "b h k"]) -> None:
        """Groups and confidences of the teacher that is the best of this epoch so far."""
        best = net.balance.best()
        label = batch.record_answers(own[:, best].exp())
        agreement = (label == other[:, best].argmax(1)).float().mean()
        batch.log(agreement=agreement, head_spread=net.balance.spread())

    def finish(self, net: Net, features: Features, k: int, generator: torch.Generator) -> None:
        """The teacher whose student had the lowest mean loss in the last epoch answers."""
        best = int(net.balance.best())
        for one, many in zip(net.cluster.parameters(), net.teacher.students.parameters(), strict=True):
            one.copy_(many[best : best + 1])

    def logits(self, net: Net, features: Float[Tensor, "n d"]) -> dict[str, Float[Tensor, "n k"]]:
        return {"softmax": net.cluster.one(features) / self.temperature}


def practical(facts: Facts) -> dict[str, Any]:
    """For two cores: narrower heads, 400 to 2,400 steps at a higher rate, neighbour lists no longer than a small group.

    A teacher averages over a sixteenth of the steps. With the README's .996 the loss on digits (no labels) hardly fell
    in so few steps.
    """
    size = iterations_for(facts, 400, 2400)
    steps = size["epochs"] * (facts.n // size["batch_size"])
    return {
        **size,
        "neighbours": max(1, min(50, facts.n // (4 * max(1, facts.k)))),
        "momentum": round(min(0.996, max(0.8, 1 - 16 / steps)), 4),
        "hidden": 128,
        "out": 64,
        "learning_rate": 1e-3,
    }


def frozen(net: Net, view: Tensor) -> Float[Tensor, "b d"]:
    """Features of the backbone as it is, in evaluation mode and without gradient."""
    net.backbone.eval()
    with torch.no_grad():
        return net.backbone(view)


def apart(
    student: Float[Tensor, "b h k"], teacher: Float[Tensor, "b h k"], prior: Float[Tensor, "h k"], beta: float
) -> Float[Tensor, "b h"]:
    """-ln Σₖ (s t)^β / π, of logarithms of s and t: the less one answer tells about the other, the larger.

    (.8, .2), (.7, .3), π = (.5, .5) and β = .6 give -.5778. For any β: equal groups and sure answers that agree give
    -ln k, answers that are all 1/k give -(2 - 2β) ln k.
    """
    return -(beta * (student + teacher) - prior.log()).logsumexp(2)


def likeness(own: Float[Tensor, "b h k"], other: Float[Tensor, "b h k"]) -> Float[Tensor, "b 1"]:
    """Mean over heads of Σₖ t t', the teachers' probability that two items are in one group; takes logarithms."""
    return (own + other).exp().sum(2).mean(1, keepdim=True)


class HeadBank(nn.Module):
    """Heads side by side, in one product for all: linear - GELU - linear - to length 1 - cosines, times a gain, with k
    directions. Features (n, d) -> (n, heads, k).

    Weights are truncated normal of deviation .02, biases 0, gains 1, directions as a linear layer of torch's has them.
    """

    def __init__(self, heads: int, width: int, hidden: int, out: int, k: int) -> None:
        super().__init__()
        self.first = nn.Parameter(nn.init.trunc_normal_(torch.empty(heads, hidden, width), std=0.02))
        self.first_bias = nn.Parameter(torch.zeros(heads, hidden))
        self.second = nn.Parameter(nn.init.trunc_normal_(torch.empty(heads, hidden, out), std=0.02))
        self.second_bias = nn.Parameter(torch.zeros(heads, out))
        self.directions = nn.Parameter(nn.init.uniform_(torch.empty(heads, k, out), -(out**-0.5), out**-0.5))
        self.gain = nn.Parameter(torch.ones(heads, k))

    def forward(self, features: Float[Tensor, "n d"], *, last: bool = True) -> Float[Tensor, "n h k"]:
        """Without `last`, directions and gains get no gradient."""
        heads, hidden = self.first_bias.shape
        activations = F.gelu(F.linear(features, self.first.flatten(0, 1), self.first_bias.flatten()))
        rows = activations.view(-1, heads, hidden).transpose(0, 1)
        rows = F.normalize(torch.baddbmm(self.second_bias[:, None], rows, self.second), dim=2)
        targets = F.normalize(self.directions, dim=2) * self.gain[:, :, None]
        return torch.bmm(rows, (targets if last else targets.detach()).transpose(1, 2)).transpose(0, 1)

    def one(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "n k"]:
        """The answer of a single head, independent of an item's place in the batch."""
        activations = F.gelu(steady_product(features, self.first[0]) + self.first_bias[0])
        rows = F.normalize(steady_product(activations, self.second[0].T) + self.second_bias[0], dim=1)
        return steady_product(rows, F.normalize(self.directions[0], dim=1) * self.gain[0, :, None])


class Balance(nn.Module):
    """For each head: the moving average of the groups' sizes by its teacher, and its mean loss in this epoch."""

    prior: Tensor
    losses: Tensor
    batches: Tensor

    def __init__(self, heads: int, k: int) -> None:
        super().__init__()
        self.register_buffer("prior", torch.full((heads, k), 1 / k))
        self.register_buffer("losses", torch.zeros(heads))
        self.register_buffer("batches", torch.zeros(()))

    @torch.no_grad()
    def follow(self, own: Tensor, other: Tensor, keep: float) -> Float[Tensor, "h k"]:
        """π <- keep · π + (1 - keep) · mean over the batch and both members of its pairs; takes logarithms."""
        self.prior.lerp_(0.5 * (own.exp().mean(0) + other.exp().mean(0)), 1 - keep)
        return self.prior.clone()

    @torch.no_grad()
    def count(self, losses: Float[Tensor, " h"], *, new: bool) -> None:
        """Add a batch's losses; `new`: it is the first of its epoch."""
        if new:
            self.losses.zero_()
            self.batches.zero_()
        self.losses += losses
        self.batches += 1

    def best(self) -> Tensor:
        return self.losses.argmin()

    def spread(self) -> Tensor:
        """Highest less lowest mean loss."""
        return (self.losses.max() - self.losses.min()) / self.batches.clamp(min=1)
