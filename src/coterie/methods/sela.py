"""SeLa: the network learns its own labels, assigned so that all groups are of equal size.

Asano, Rupprecht and Vedaldi, "Self-Labelling via Simultaneous Clustering and Representation Learning", ICLR 2020. One
stage from random weights and random labels. Before each epoch one head's labels are made anew from its answers on all
items, by optimal transport to groups of equal size; all heads then learn their labels on distorted views. Published for
representation learning, with heads of 128 groups; here the first head has k groups and gives the answer.
Defaults are the authors' for CIFAR (docs/methods/sela.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn

from coterie.algorithms.sinkhorn import sinkhorn
from coterie.common.bounds import AboveZero, BatchSize, Copies, Epochs, Positive, PositiveRate, Rate, Times, Width
from coterie.contract import Card, Facts, OnlyIf, Pass, epochs_for, logged
from coterie.networks.heads import SteadyLinear
from coterie.networks.memory import ItemTable
from coterie.networks.net import Net, trainable
from coterie.types import Batch, EpochStart, Features, InputError, Losses

DROPS = (0.6, 0.8)  # shares of the training after which the rate is a tenth: epochs 240 and 320 of 400

CARD = Card(
    title="SeLa",
    paper="Asano, Rupprecht, Vedaldi: Self-Labelling via Simultaneous Clustering and Representation Learning",
    year=2020,
    family="self-labelling",
    url="https://arxiv.org/abs/1911.05371",
    views={"distorted": "perturbed"},
    answers=("cluster",),
    only_if=(OnlyIf("others", lambda others: others > 0, ("over",)),),
    presets={"cifar10": {}, "cifar20": {}},
    logs={
        "changed": ("changed labels", "share of the labels that were made anew; fewer as they settle"),
        "sinkhorn_steps": ("steps of the transport", "of the last head; many where answers are far from equal sizes"),
        "confidence": logged.CONFIDENCE,
    },
)


@dataclass(frozen=True)
class SeLa:
    epochs: Epochs = 400
    batch_size: BatchSize = 128
    others: Times = 9  # over-clustering heads beside the one that answers
    over: Width = 128  # groups of each
    relabelled: Copies = 1  # heads whose labels are made anew before an epoch, in turn
    sharpness: Positive = 10.0  # lambda: the larger, the closer labels stay to the answers, given equal sizes
    shares: Annotated[tuple[AboveZero, ...], Field(max_length=65_536)] = ()  # of the groups, where they are known
    learning_rate: PositiveRate = 0.03  # SGD, momentum 0.9; a tenth after 60 % and a hundredth after 80 % of the epochs
    weight_decay: Rate = 5e-4

    card: ClassVar[Card] = CARD

    def limits(self, facts: Facts) -> dict[str, tuple[int, int | None]]:
        """No more groups than items."""
        return {"over": (1, facts.n)}

    def check(self, facts: Facts) -> None:
        """Raise InputError for settings that cannot work on such data."""
        if self.shares and len(self.shares) != facts.k:
            raise InputError(f"sela.shares names {len(self.shares)} groups, but {facts.k} are asked for.")
        if self.others and self.over < 2:
            raise InputError(f"sela.over is {self.over}: it must be at least 2 (or others=0).")
        if self.others and self.over > facts.n:
            raise InputError(f"sela.over is {self.over}, but there are only {facts.n} items: take fewer groups.")

    def passes(self) -> tuple[Pass, ...]:
        return (Pass(keep_last=True),)

    def heads(self, net: Net, k: int) -> dict[str, nn.Module]:
        others = nn.ModuleList(SteadyLinear(net.width, self.over) for _ in range(self.others))
        return {
            "cluster": SteadyLinear(net.width, k),
            "others": others,
            "labels": ItemTable(1 + self.others, torch.int32),
        }

    def start(self, net: Net, features: Features, k: int, generator: torch.Generator) -> None:
        """Set every head's labels to a random balanced assignment."""
        n = len(features(half=True))
        groups = [k] + [self.over] * self.others
        labels = [(torch.arange(n) % count)[torch.randperm(n, generator=generator)] for count in groups]
        net.labels.fill(torch.stack(labels, 1))

    def optimiser(self, net: Net) -> torch.optim.Optimizer:
        trained = trainable(net.backbone, net.cluster, net.others)
        return torch.optim.SGD(trained, self.learning_rate, momentum=0.9, weight_decay=self.weight_decay, fused=True)

    def rate(self, progress: float) -> float:
        return 0.1 ** sum(progress >= share for share in DROPS)

    def begin_epoch(self, net: Net, epoch: EpochStart) -> None:
        """Make new labels for the heads whose turn it is, by their answers on clean views."""
        heads, features = heads_of(net), epoch.features(half=True)
        labels, changed = net.labels.rows.clone(), []
        first = epoch.number * self.relabelled
        for turn in range(first, first + min(self.relabelled, len(heads))):
            number = turn % len(heads)
            shares = torch.tensor(self.shares) if self.shares and number == 0 else None
            label, steps = balanced_labels(heads[number], features, self.sharpness, shares)
            changed.append((labels[:, number] != label).float().mean())
            labels[:, number] = label
            epoch.log(sinkhorn_steps=torch.tensor(float(steps)))
        net.labels.fill(labels)
        epoch.log(changed=torch.stack(changed).mean())

    def step(self, net: Net, batch: Batch) -> Iterator[Losses]:
        """The mean over heads of the cross-entropy with their labels, over the global batch."""
        features = net.backbone(batch.distorted)
        labels = batch.gather(net.labels.of(batch.index).long())
        logits = [batch.gather(head(features)) for head in heads_of(net)]
        losses = torch.stack([F.cross_entropy(z, labels[:, i]) for i, z in enumerate(logits)])
        batch.record_answers(logits[0].detach().softmax(1))
        yield {"labels": losses.mean()}

    def logits(self, net: Net, features: Float[Tensor, "n d"]) -> dict[str, Float[Tensor, "n k"]]:
        return {"cluster": net.cluster(features)}


def practical(facts: Facts) -> dict[str, Any]:
    """For a CPU or small data: few epochs, two smaller heads beside the first, all labels made anew each time."""
    return {
        **epochs_for(facts),
        "others": 2,
        "over": max(2, min(3 * facts.k, facts.n // 4)),
        "relabelled": 3,
    }


def heads_of(net: Net) -> list[nn.Module]:
    return [net.cluster, *net.others]


@torch.no_grad()
def balanced_labels(
    head: nn.Module, features: Float[Tensor, "n d"], sharpness: float, shares: Float[Tensor, " k"] | None
) -> tuple[Int[Tensor, " n"], int]:
    """Each item's group in the transport plan of the head's answers, and the steps that the plan took."""
    head.eval()  # in evaluation mode a row's answer does not depend on its place
    device = next(head.parameters()).device
    found = sinkhorn(head(features.to(device)), sharpness, shares)
    head.train()
    return found.plan.argmax(1).int(), found.steps
