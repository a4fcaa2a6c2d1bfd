"""JULE: agglomeration and representation learning alternate; each union is a step of a recurrent process.

Yang, Parikh and Batra, "Joint Unsupervised Learning of Deep Representations and Image Clusters", CVPR 2016. Groups
begin as chains of nearest neighbours in pixels. A net is trained on them by triplets for some epochs, then most of the
groups are united in its embedding (`algorithms/affinity.py`), and so on until k are left; then all items are grouped
anew in the learned embedding. Defaults are the authors' code. docs/methods/jule.md lists where we differ, above all:
batches are drawn to hold items of the same group, and affinities are symmetric and sparse.
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

from coterie.algorithms.affinity import neighbour_chains, neighbour_graph, united
from coterie.algorithms.nearest_mean import NearestMean, place_level
from coterie.common.bounds import (
    AboveZero,
    BatchSize,
    Copies,
    Count,
    Epochs,
    Positive,
    PositiveRate,
    Share,
    Weight,
    Width,
)
from coterie.contract import Card, Facts, Pass
from coterie.networks.heads import SteadyLinear
from coterie.networks.jule import NAME
from coterie.networks.memory import ItemTable
from coterie.networks.net import Net, trainable
from coterie.types import Batch, EpochStart, Features, InputError, ItemSpec, Losses

PIXELS = 32  # of a side; larger images are averaged down for the first graph
ROWS = 4096  # features that are embedded at once
FACES = {"unrolling": 0.2}


def backbone(spec: ItemSpec, device: str, as_published: bool) -> str:
    return NAME if spec.kind == "images" else "mlp"


CARD = Card(
    title="JULE",
    paper="Yang, Parikh, Batra: Joint Unsupervised Learning of Deep Representations and Image Clusters",
    year=2016,
    family="hierarchical",
    url="https://arxiv.org/abs/1604.03628",
    views={"clean": "clean"},
    scaling="unit",
    answers=("embed", "groups"),
    presets={
        "mnist": {},
        "usps": {},
        "fashion-mnist": {},
        "cifar10": {},
        "cifar20": {},
        "stl10": {"image_size": 96},
        "imagenet10": {"image_size": 96},
        "imagenet-dogs": {"image_size": 96},
        "tiny-imagenet": {"image_size": 64},
        "umist": FACES,
        "frgc": FACES,
        "cmu-pie": FACES,
        "ytf": FACES,
    },
    backbone=backbone,
    logs={
        "groups": ("groups", "that the net is trained on; they are united until k are left, which ends the stage"),
        "active": ("active triplets", "share with a loss; 0: all groups are a margin apart"),
    },
)


@dataclass(frozen=True)
class JULE:
    epochs: Epochs = 1000  # at most: the stage ends when k groups are left
    batch_size: BatchSize = 100
    period: Count = 20  # epochs between two agglomerations
    unrolling: AboveZero = 0.9  # η, share of the groups that one agglomeration unites; 0.2 for faces
    neighbours: Count = 20  # K_s, of each item in the graph
    context: Count = 5  # K_c, most affine groups whose values choose the next pair, while more than 100 are left
    together: Count = 5  # items of a group that are drawn into a batch together; 1: random batches, as the authors'
    negatives: Copies = 20  # items of other groups for each pair, no more than there are other groups in the batch
    pair_weight: Positive = 1.0  # γ, weight of the distance within a group
    margin: Weight = 0.2  # m, by which other groups must be farther away
    embedding: Width = 160
    learning_rate: PositiveRate = 0.01  # SGD, falls with the number of steps t as (1 + decay t)^-0.75
    decay: Weight = 1e-4  # after t steps the rate is multiplied by (1 + decay t)^-0.75
    momentum: Share = 0.9
    weight_decay: Weight = 5e-5

    card: ClassVar[Card] = CARD

    def limits(self, facts: Facts) -> dict[str, tuple[int, int | None]]:
        return {"neighbours": (1, max(1, facts.n - 1))}

    def check(self, facts: Facts) -> None:
        """Raise InputError for settings that cannot work on such data."""
        if self.neighbours >= facts.n:
            raise InputError(f"jule.neighbours is {self.neighbours}, but of {facts.n} items each has {facts.n - 1}.")

    def passes(self) -> tuple[Pass, ...]:
        return (Pass(sample=None if self.together == 1 else "assigned"),)

    def heads(self, net: Net, k: int) -> dict[str, nn.Module]:
        """The embedding (d -> embedding), the nearest means that answer, every item's group, the step count."""
        embed = SteadyLinear(net.width, self.embedding)
        nn.init.normal_(embed.weight, std=0.01)
        nn.init.zeros_(embed.bias)
        return {
            "embed": embed,
            "groups": NearestMean(self.embedding, k, "euclidean"),
            "assigned": GroupTable(self.together),
            "steps": StepCount(k),
        }

    def optimiser(self, net: Net) -> torch.optim.Optimizer:
        trained = trainable(net.backbone, net.embed)
        optimiser = torch.optim.SGD(trained, self.learning_rate, self.momentum, weight_decay=self.weight_decay)
        # The contract's `rate` gets the finished share of the training, which means little if a stage ends itself.
        optimiser.register_step_pre_hook(lambda one, args, settings: self._slow_down(net, one))
        return optimiser

    def _slow_down(self, net: Net, optimiser: torch.optim.Optimizer) -> None:
        for group in optimiser.param_groups:
            group["lr"] *= (1 + self.decay * int(net.steps.done)) ** -0.75

    def begin_epoch(self, net: Net, epoch: EpochStart) -> None:
        """Every `period` epochs: chains in pixels at first, then unions in the embedding."""
        if epoch.number == 0:
            _, other = neighbour_graph(F.normalize(epoch.features(by=Pixels())), self.neighbours)
            net.assigned.fill(neighbour_chains(other)[:, None])
        elif epoch.number % self.period == 0:
            k = int(net.steps.k)
            labels = self.next_level(embedded(net, epoch.features(half=True)), net.assigned.labels(), k)
            net.assigned.fill(labels[:, None])
            if int(labels.max()) + 1 <= k:
                epoch.end()
        epoch.log(groups=net.assigned.rows.max().float() + 1)

    def next_level(self, rows: Float[Tensor, "n d"], labels: Int[Tensor, " n"], k: int) -> Int[Tensor, " n"]:
        """The groups after one agglomeration, which unites the share η of them, but leaves at least k."""
        graph, _ = neighbour_graph(rows, self.neighbours)
        count = int(labels.max()) + 1
        left = max(k, count - math.ceil(self.unrolling * count))
        return united(graph, rows, labels, left, k, self.context) if count > k else labels

    def step(self, net: Net, batch: Batch) -> Iterator[Losses]:
        """The triplets of one batch, over all processes."""
        z = batch.gather(F.normalize(net.embed(net.backbone(batch.clean))))
        labels = batch.gather(net.assigned.of(batch.index)[:, 0])
        net.steps.done += 1
        each = triplets(z, labels, self.negatives, self.pair_weight, self.margin, batch.generator)
        batch.log(active=(each > 0).float().mean() if len(each) else torch.zeros((), device=z.device))
        # Without a pair there is nothing to learn, which is a loss of 0 all the same.
        yield {"triplet": each.mean() if len(each) else 0 * z.sum()}

    def finish(self, net: Net, features: Features, k: int, generator: torch.Generator) -> None:
        """Group all items anew in the embedding: chains, then unions until k are left. New items join the nearest."""
        rows = embedded(net, features())
        _, other = neighbour_graph(rows, self.neighbours)
        levels = [neighbour_chains(other)]
        while int(levels[-1].max()) + 1 > k:
            levels.append(self.next_level(rows, levels[-1], k))
        on_device = [level.to(rows.device) for level in levels]
        place_level(net.groups, rows, on_device[:-1], on_device[-1])

    def logits(self, net: Net, features: Float[Tensor, "n d"]) -> dict[str, Float[Tensor, "n k"]]:
        return {"agglomerated": net.groups(F.normalize(net.embed(features)))}


def practical(facts: Facts) -> dict[str, Any]:
    """Periods of 400 steps, of which four or five lead to k groups.

    Longer periods separate the first chains so far that few paths link them: on 10,000 images of Fashion-MNIST,
    with 1,500 steps, one group ended with most of the items.
    """
    batch = min(facts.n, 100)
    period = max(1, min(20, round(400 / (facts.n // batch))))
    return {"epochs": 10 * period, "batch_size": batch, "period": period, "neighbours": min(20, facts.n - 1)}


class GroupTable(ItemTable):
    """Every item's group, and the draw of batches with several items of a group."""

    def __init__(self, together: int) -> None:
        super().__init__(1, torch.int64)
        self.together = together

    def labels(self) -> Int[Tensor, " n"]:
        return self.rows[:, 0].cpu()

    def draw(self, count: int, generator: torch.Generator) -> Int[Tensor, " m"]:
        """`count` different items: groups are cut into pieces at random, and the pieces come in a random order."""
        labels = self.labels()
        if len(labels) < count:  # before the first epoch
            return torch.randperm(count, generator=generator)
        order = torch.randperm(len(labels), generator=generator)
        order = order[labels[order].argsort(stable=True)]
        sizes = labels.bincount()
        place = torch.arange(len(order)) - (sizes.cumsum(0) - sizes)[labels[order]]
        new = (place % self.together) == 0
        piece = new.long().cumsum(0) - 1
        rank = torch.randperm(int(piece[-1]) + 1, generator=generator)
        return order[rank[piece].argsort(stable=True)][:count]


class StepCount(nn.Module):
    """How many steps were taken, for the learning rate, and how many groups are wanted."""

    done: Tensor
    k: Tensor

    def __init__(self, k: int) -> None:
        super().__init__()
        self.register_buffer("done", torch.zeros((), dtype=torch.int64))
        self.register_buffer("k", torch.tensor(k))


class Pixels(nn.Module):
    """The values of an item in a row; images larger than 32 pixels are averaged down first."""

    def forward(self, items: Tensor) -> Float[Tensor, "n d"]:
        if items.ndim == 4 and max(items.shape[2:]) > PIXELS:
            height, width = (min(side, PIXELS) for side in items.shape[2:])
            items = F.adaptive_avg_pool2d(items, (height, width))
        return items.flatten(1)


@torch.no_grad()
def embedded(net: Net, features: Float[Tensor, "n d"]) -> Float[Tensor, "n e"]:
    """The embedding of all items, of length 1."""
    return torch.cat([F.normalize(net.embed(part)) for part in features.split(ROWS)])


def triplets(
    z: Float[Tensor, "b d"],
    labels: Int[Tensor, " b"],
    negatives: int,
    weight: float,
    margin: float,
    generator: torch.Generator,
) -> Float[Tensor, " t"]:
    """max(0, γ |x_i - x_j|² - |x_i - x_k|² + m) of every pair i < j of a group and each of its negatives k.

    k are different items of other groups, drawn for the pair, as many as there are other groups in the batch at most.
    Empty without a pair, or without another group.
    """
    other = labels[:, None] != labels
    i, j = torch.nonzero((~other).triu(1), as_tuple=True)
    count = min(negatives, len(labels.unique()) - 1)
    if not len(i) or count < 1:
        return z.new_zeros(0)
    chance = torch.rand(len(i), len(z), generator=generator).to(z.device).masked_fill(~other[i], -1.0)
    k = chance.topk(count, dim=1).indices
    apart = (2 - 2 * (z @ z.T)).clamp(min=0)
    return (weight * apart[i, j][:, None] - apart[i[:, None], k] + margin).clamp(min=0).flatten()
