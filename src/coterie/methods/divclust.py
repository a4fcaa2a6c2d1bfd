"""DivClust: several clusterings by CC at once, kept from being too similar, and combined into one.

Maniadis Metaxas, Tzimiropoulos and Patras, "DivClust: Controlling Diversity in Deep Clustering", CVPR 2023, on CC.
Defaults are the authors' configuration for CIFAR-10, but for `target`, whose published values are 1, 0.95, 0.9, 0.8 and
0.7. Their consensus (SCCBG) is a MATLAB program of other authors; here groups are matched and vote. The differences
listed on CC's page hold here, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from coterie.algorithms.consensus import vote_orders
from coterie.common.bounds import (
    AboveZero,
    BatchSize,
    Copies,
    Count,
    Epochs,
    Memory,
    PartShare,
    Positive,
    PositiveRate,
    Rate,
    Share,
    Strength,
    Width,
)
from coterie.contract import Card, Facts, OnlyIf, View, epochs_for, logged
from coterie.networks.heads import mlp_head, projector
from coterie.networks.net import Net, trainable
from coterie.objectives.contrastive import column_contrast, embedding_std, nt_xent
from coterie.objectives.partition import imbalance
from coterie.types import Batch, EpochStart, Features, Losses
from coterie.views.simclr import simclr_view

LARGE = {"jitter": 1.0, "blur": 0.5, "image_size": 224}

CARD = Card(
    title="DivClust",
    paper="Maniadis Metaxas, Tzimiropoulos, Patras: DivClust: Controlling Diversity in Deep Clustering",
    year=2023,
    family="contrastive",
    url="https://arxiv.org/abs/2304.01042",
    views={"one": "contrastive", "two": "contrastive"},  # `DivClust.views` replaces them
    answers=("clusterings", "matched"),
    balance="balance_weight",
    only_if=(
        OnlyIf("target", lambda target: target < 1, ("interval", "pace", "bank")),
        OnlyIf("clusterings", lambda count: count > 1, ("target", "interval", "pace", "bank")),
    ),
    of_photographs=("jitter", "blur"),
    of_the_last=("answer",),
    presets={
        "cifar10": {"image_size": 224},
        "cifar20": {"image_size": 224},
        "imagenet10": LARGE,
        "imagenet-dogs": LARGE,
    },
    logs={
        "nmi": ("NMI of two clusterings", "mean over pairs; it should come down to the target"),
        "bound": ("bound of their similarity", "1: none; falls while they are too much alike"),
        "confidence": logged.CONFIDENCE,
        "agreement": ("views that agree", "share of items that both views put into the same group"),
        "embedding_std": logged.EMBEDDING_STD,
    },
)


@dataclass(frozen=True)
class DivClust:
    epochs: Epochs = 1000
    batch_size: BatchSize = 256
    clusterings: Copies = 20  # trained side by side
    target: AboveZero = 0.9  # largest mean NMI of two clusterings that is allowed; 1: no limit
    interval: Count = 20  # steps between two measurements of the NMI
    pace: PartShare = 0.99  # factor on the bound when clusterings are too similar; else 2 minus this
    bank: Memory = 10_000  # latest answers of each clustering, on which the NMI is measured
    answer: Literal["consensus", "single"] = "consensus"  # the vote of all, or the clustering of lowest loss
    learning_rate: PositiveRate = 3e-4  # Adam, constant
    weight_decay: Rate = 0.0
    temperature: Positive = 0.5  # of the items' contrast
    group_temperature: Positive = 1.0  # of the groups'
    balance_weight: Rate = 1.0  # of the term for groups of equal size
    hidden: Width = 512  # width of all heads
    projector_out: Width = 128
    jitter: Strength = 0.5  # of the colours of photographs; 1 on ImageNet
    blur: Share = 0.0  # chance; 0.5 on ImageNet

    card: ClassVar[Card] = CARD

    def limits(self, facts: Facts) -> dict[str, tuple[int, int | None]]:
        """A batch that can hold an item of each group."""
        return {"batch_size": (facts.k, None)}

    def views(self) -> dict[str, View]:
        view = simclr_view(self.jitter, self.blur)
        return {"one": view, "two": view}

    def heads(self, net: Net, k: int) -> dict[str, nn.Module]:
        heads = [mlp_head(net.width, self.hidden, k, batch_norm=False) for _ in range(self.clusterings)]
        return {
            "project": projector(net.width, self.hidden, self.projector_out),
            "clusterings": nn.ModuleList(heads),
            "diversity": Diversity(self.clusterings, k, self.bank),
            "matched": MatchedGroups(self.clusterings, k),
        }

    def optimiser(self, net: Net) -> torch.optim.Optimizer:
        trained = trainable(net.backbone, net.project, net.clusterings)
        return torch.optim.Adam(trained, self.learning_rate, weight_decay=self.weight_decay, fused=True)

    def begin_epoch(self, net: Net, epoch: EpochStart) -> None:
        net.diversity.losses.zero_()

    def step(self, net: Net, batch: Batch) -> Iterator[Losses]:
        """CC's contrast of items, the mean of its other terms over all clusterings, and the diversity loss."""
        features = [net.backbone(view) for view in (batch.one, batch.two)]
        one, two = (batch.gather(net.project(own)) for own in features)
        p, q = (batch.gather(answers(net, own)).transpose(0, 1) for own in features)
        group = torch.vmap(column_contrast, in_dims=(0, 0, None))(p, q, self.group_temperature)
        balance = self.balance_weight * torch.stack([imbalance(a) + imbalance(b) for a, b in zip(p, q, strict=True)])
        self.record(net, batch, p.detach(), q.detach(), (group + balance).detach())
        batch.log(embedding_std=embedding_std(one.detach()))
        losses = {
            "instance": nt_xent(one, two, self.temperature),
            "group": group.mean(),
            "balance": balance.mean(),
        }
        if self.clusterings > 1 and self.target < 1:
            net.diversity.push(torch.cat([p, q], dim=1).argmax(2).T)
            if batch.number % self.interval == 0:
                net.diversity.adapt(self.target, self.pace)
            batch.log(nmi=net.diversity.nmi.clone(), bound=net.diversity.bound.clone())
            losses["diversity"] = likeness_above(torch.cat([p, q], dim=1), net.diversity.bound)
        yield losses

    def record(self, net: Net, batch: Batch, p: Tensor, q: Tensor, losses: Float[Tensor, " q"]) -> None:
        """Groups and confidences of the clustering whose loss is lowest so far in this epoch."""
        net.diversity.losses += losses
        best = net.diversity.losses.argmin()
        label = batch.record_answers(p[best])
        batch.log(agreement=(label == q[best].argmax(1)).float().mean())

    def finish(self, net: Net, features: Features, k: int, generator: torch.Generator) -> None:
        """Match the groups of all clusterings by their vote, numbered as in the one of lowest loss."""
        rows = features()
        found = torch.stack([head(rows).argmax(1) for head in net.clusterings.eval()], dim=1)
        net.matched.best.copy_(net.diversity.losses.argmin())
        net.matched.orders.copy_(vote_orders(found, k, int(net.matched.best)))

    def predict(self, net: Net, features: Float[Tensor, "n d"]) -> dict[str, Float[Tensor, "n k"]]:
        """The mean of all clusterings' probabilities, matched, and those of the one of lowest loss."""
        p = answers(net, features)
        matched = p.gather(2, net.matched.orders.expand_as(p))
        said = {"consensus": matched.mean(1), "single": matched[:, int(net.matched.best)]}
        return {self.answer: said.pop(self.answer), **said}


def practical(facts: Facts) -> dict[str, Any]:
    """For a CPU or small data: half the clusterings, slim heads, few epochs, a higher rate, more frequent NMI."""
    size = epochs_for(facts)
    return {
        **size,
        "batch_size": max(size["batch_size"], facts.k),
        "clusterings": 10,
        "hidden": 128,
        "interval": 5,
        "learning_rate": 1e-3,
        **({"jitter": 1.0, "blur": 0.5} if facts.side > 64 else {}),
    }


def answers(net: Net, features: Float[Tensor, "n d"]) -> Float[Tensor, "n q k"]:
    """The probabilities of all clusterings."""
    return torch.stack([head(features) for head in net.clusterings], dim=1).softmax(2)


def likeness(p: Float[Tensor, "q n k"]) -> Float[Tensor, "q q"]:
    """s(a, b): the cosine of each group of clustering a with the group of b that is most like it, mean over a's groups.

    1 for the same groups in any order, 1/k for balanced independent clusterings (Eq. 2 to 4).
    """
    count, _, k = p.shape
    columns = F.normalize(p.float(), dim=1, eps=1e-12).transpose(0, 1).flatten(1)
    return (columns.T @ columns).view(count, k, count, k).amax(3).mean(1)


def likeness_above(p: Float[Tensor, "q n k"], bound: Float[Tensor, ""]) -> Float[Tensor, ""]:
    """The sum over pairs of their likeness above the bound, divided by q; 0 while the bound is 1 (Eq. 5)."""
    found = likeness(p)
    apart = ~torch.eye(len(found), dtype=torch.bool, device=p.device)
    above = (found - bound)[apart].relu().sum() / len(p)
    return torch.where(bound < 1, above, 0.0)


class MatchedGroups(nn.Module):
    """The group of each of q clusterings that matches each group of the answer, and the best clustering."""

    orders: Tensor
    best: Tensor

    def __init__(self, clusterings: int, k: int) -> None:
        super().__init__()
        self.register_buffer("orders", torch.arange(k).repeat(clusterings, 1))
        self.register_buffer("best", torch.zeros((), dtype=torch.int64))


class Diversity(nn.Module):
    """The training state of q clusterings: their latest answers, the bound of their likeness, losses."""

    labels: Tensor
    seen: Tensor
    bound: Tensor
    nmi: Tensor
    losses: Tensor

    def __init__(self, clusterings: int, k: int, length: int) -> None:
        super().__init__()
        self.k = k
        self.register_buffer("labels", torch.zeros(length, clusterings, dtype=torch.int32))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))
        self.register_buffer("bound", torch.ones(()))
        self.register_buffer("nmi", torch.zeros(()))
        self.register_buffer("losses", torch.zeros(clusterings))  # of this epoch so far

    def push(self, labels: Int[Tensor, "b q"]) -> None:
        """Write these answers over the oldest."""
        latest = labels[-len(self.labels) :].to(self.labels)
        where = (self.seen + torch.arange(len(latest), device=latest.device)) % len(self.labels)
        self.labels[where] = latest
        self.seen += len(latest)

    def adapt(self, target: float, pace: float) -> None:
        """Lower the bound if the clusterings are more alike than `target`, else raise it, within 0 and 1."""
        self.nmi.copy_(mean_nmi(self.labels[: int(self.seen.clamp(max=len(self.labels)))], self.k))
        self.bound.mul_(torch.where(self.nmi > target, pace, 2 - pace)).clamp_(0, 1)


def mean_nmi(labels: Int[Tensor, "n q"], k: int) -> Float[Tensor, ""]:
    """Mean NMI (over the mean of both entropies) of any two of q labellings; 1 for two of one group each."""
    n, count = labels.shape
    member = F.one_hot(labels.long(), k).float().flatten(1)
    joint = (member.T @ member).view(count, k, count, k).transpose(1, 2).double() / n
    share = member.mean(0).double().view(count, k)
    entropy = torch.special.entr(share).sum(1)
    information = entropy[:, None] + entropy[None, :] - torch.special.entr(joint).sum((2, 3))
    mean = (entropy[:, None] + entropy[None, :]) / 2
    found = torch.where(mean > 1e-12, information / mean.clamp(min=1e-12), 1.0)
    return ((found.sum() - found.diagonal().sum()) / (count * (count - 1))).float()
