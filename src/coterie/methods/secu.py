"""SeCu: centres learn from their own members alone, and a constraint keeps groups from being empty.

Qian, "Stable Cluster Discrimination for Deep Clustering", ICCV 2023. One stage from random weights; labels are
made for each batch. The set of k centres answers; larger sets are trained beside it. Defaults are the authors' for
CIFAR-10. CDC's row SeCu-Size has the size constraint; CDC does not say what its row SeCu is, here it is the other
constraint. Differs from the authors' code: the entropy's strength is per item, so that it fits any number of items.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

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
from coterie.contract import Card, Facts, OnlyIf, Pass, View, epochs_for, logged
from coterie.networks.heads import mlp_head, steady_product
from coterie.networks.memory import ItemTable
from coterie.networks.net import Net, trainable
from coterie.objectives.contrastive import embedding_std
from coterie.types import Batch, EpochStart, Features, Losses
from coterie.views.byol import byol_view

NONE = -1  # label of an item that was in no batch yet
LONGER = {"epochs": 801, "still": 1 / 801, "warm_up": 11 / 801, "centre_rate": 0.8, "crop": 0.2}

CARD = Card(
    title="SeCu",
    paper="Qian: Stable Cluster Discrimination for Deep Clustering",
    year=2023,
    family="self-labelling",
    url="https://arxiv.org/abs/2311.14310",
    views={"one": "contrastive", "two": "contrastive"},  # `SeCu.views` replaces them
    answers=("project", "sets"),
    only_if=(
        OnlyIf("constraint", lambda constraint: constraint == "size", ("least_size", "dual_rate")),
        OnlyIf("constraint", lambda constraint: constraint == "entropy", ("evenness",)),
    ),
    of_photographs=("crop", "blur", "solarise"),
    presets={
        "cifar10": {},
        "cifar20": LONGER,
        "stl10": {**LONGER, "centre_temperature": 1.0, "image_size": 96},
    },
    logs={
        "confidence": logged.CONFIDENCE,
        "agreement": ("views that agree", "share of items whose views have the same nearest centre"),
        "changed": (
            "changed labels",
            "share of labels that differ from those of the epoch before; fewer as they settle",
        ),
        "moved": ("labels by constraint", "share of items that were not given their nearest centre"),
        "embedding_std": logged.EMBEDDING_STD,
    },
)


@dataclass(frozen=True)
class SeCu:
    epochs: Epochs = 401
    batch_size: BatchSize = 128
    constraint: Literal["size", "entropy"] = "size"  # against empty groups: a least size, or a bonus for evenness
    sets: Copies = 10  # of centres: k, 2k, 3k and so on; the first is the answer
    learning_rate: PositiveRate = 0.2  # SGD, of the net: first 0, then rising, then along a cosine
    centre_rate: PositiveRate = 1.2  # of the centres, constant
    weight_decay: Rate = 1e-4  # of everything, the centres too
    still: BelowOne = 1 / 401  # share of the training, its first epoch, in which the centres alone learn
    warm_up: BelowOne = 11 / 401  # share at whose end the net's learning rate has risen
    temperature: Positive = 0.05  # of the embeddings' loss
    centre_temperature: Positive = 0.05  # of the centres'
    hard_share: Share = 0.2  # β: share of the label in a target; the rest is the other view's answer
    least_size: Share = 0.9  # γ: least size of a group, as a share of an equal part; 0: no constraint
    dual_rate: Rate = 0.1  # how fast the prices of groups follow their sizes
    evenness: Rate = 0.12  # α over the number of items: 6000 of 50,000; 0: no constraint
    hidden: Width = 512  # of the projector; the authors': the backbone's width
    projector_out: Width = 128
    output_norm: bool = False  # batch normalisation of the embeddings, without which short trainings collapse
    crop: AboveZero = 0.3  # least share of a photograph's area in a view
    blur: tuple[Share, Share] = (1.0, 0.1)  # chance in the first and the second view; photographs only
    solarise: tuple[Share, Share] = (0.0, 0.2)  # likewise: to invert the bright half of all levels

    card: ClassVar[Card] = CARD

    def views(self) -> dict[str, View]:
        chances = zip(("one", "two"), self.blur, self.solarise, strict=True)
        return {name: byol_view(blur, solarise, crop_scale=(self.crop, 1.0)) for name, blur, solarise in chances}

    def passes(self) -> tuple[Pass, ...]:
        return (Pass(keep_last=True),)

    def heads(self, net: Net, k: int) -> dict[str, nn.Module]:
        """The projector (d -> projector_out), and the centres with their constraint's state."""
        project = mlp_head(net.width, self.hidden, self.projector_out)
        if self.output_norm:
            project.append(nn.BatchNorm1d(self.projector_out).requires_grad_(False))
        return {
            "project": project,
            "sets": CentreSets(self.projector_out, k, self.sets),
            "labels": ItemTable(self.sets, torch.int32),
        }

    def optimiser(self, net: Net) -> torch.optim.Optimizer:
        groups = [
            {"name": "net", "params": trainable(net.backbone, net.project), "lr": self.learning_rate},
            {"name": "centres", "params": trainable(net.sets), "lr": self.centre_rate},
        ]
        return torch.optim.SGD(groups, momentum=0.9, weight_decay=self.weight_decay, fused=True)

    def rate(self, progress: float) -> dict[str, float]:
        return {"net": late_cosine(progress, self.still, self.warm_up), "centres": 1.0}

    def start(self, net: Net, features: Features, k: int, generator: torch.Generator) -> None:
        net.labels.fill(torch.full((len(features()), self.sets), NONE))

    def begin_epoch(self, net: Net, epoch: EpochStart) -> None:
        """Copy the centres: the embeddings of an epoch learn from those at its start."""
        net.sets.freeze()

    def step(self, net: Net, batch: Batch) -> Iterator[Losses]:
        """New labels for the batch; the embeddings' and the centres' losses, means over all sets and both views."""
        x = torch.stack([batch.gather(F.normalize(net.project(net.backbone(v)))) for v in (batch.one, batch.two)])
        index = batch.gather(batch.index.to(x.device))
        before = net.labels.of(index).long()
        own = (x.detach() @ net.sets.directions().T).split(net.sets.sizes, dim=2)
        frozen = (x @ net.sets.frozen.T).split(net.sets.sizes, dim=2)
        distance = [-cosine.detach().mean(0) for cosine in own]
        labels = [self.assign(net.sets, j, d, before[:, j], len(net.labels.rows)) for j, d in enumerate(distance)]
        net.labels.rows[index] = torch.stack(labels, dim=1).to(net.labels.rows)
        self.record(batch, x.detach(), own[0].detach(), labels[0], before[:, 0])
        known = [torch.where(old == NONE, label, old) for old, label in zip(before.T, labels, strict=True)]
        of_views = [
            view_loss(one, other, label, self.hard_share, self.temperature)
            for pair, label in zip(frozen, known, strict=True)
            for one, other in (pair, pair.flip(0))
        ]
        of_centres = [
            centre_loss(view, label, self.centre_temperature)
            for pair, label in zip(own, labels, strict=True)
            for view in pair
        ]
        yield {"embedding": torch.stack(of_views).mean(), "centre": torch.stack(of_centres).mean()}

    @torch.no_grad()
    def assign(
        self, sets: CentreSets, number: int, distance: Float[Tensor, "b c"], old: Int[Tensor, " b"], n: int
    ) -> Int[Tensor, " b"]:
        """The batch's labels in one set of centres under the constraint, whose state is updated."""
        here = sets.places[number]
        if self.constraint == "size":
            prices = sets.prices[here]
            label = (distance - prices).argmin(1)
            share = label.bincount(minlength=len(prices)) / len(label)
            prices += self.dual_rate * (self.least_size / len(prices) - share)
            if self.least_size < 1:
                prices.clamp_(min=0)
        else:
            counts = sets.counts[here]
            label = (distance + self.evenness * n * move_costs(counts, old)).argmin(1)
            counts += label.bincount(minlength=len(counts))
            counts -= old[old != NONE].bincount(minlength=len(counts))
        return label

    def record(
        self,
        batch: Batch,
        x: Float[Tensor, "v b d"],
        cosines: Float[Tensor, "v b k"],
        label: Int[Tensor, " b"],
        old: Int[Tensor, " b"],
    ) -> None:
        """Log the first set's answers on the batch; groups are counted as in prediction, without prices."""
        nearest = cosines.mean(0).argmax(1)
        confidence = (cosines[0] / self.temperature).softmax(1).amax(1)
        views = cosines.argmax(2)
        batch.log(
            confidence=confidence.mean(),
            agreement=(views[0] == views[1]).float().mean(),
            changed=(label != old).float().mean(),
            moved=(label != nearest).float().mean(),
            embedding_std=embedding_std(x[0]),
        )
        batch.count(nearest, cosines.shape[2])
        batch.count_confidences(confidence)

    def logits(self, net: Net, features: Float[Tensor, "n d"]) -> dict[str, Float[Tensor, "n k"]]:
        directions = net.sets.directions()[net.sets.places[0]]
        return {"softmax": steady_product(F.normalize(net.project(features)), directions) / self.temperature}


class CentreSets(nn.Module):
    """Sets of k, 2k, 3k and so on centres, one below the other, and the constraint's state for each.

    The size constraint subtracts prices from the groups' distances; the entropy constraint keeps counts of the groups'
    items.
    """

    frozen: Tensor
    prices: Tensor
    counts: Tensor

    def __init__(self, width: int, k: int, sets: int) -> None:
        super().__init__()
        self.sizes = [k * (number + 1) for number in range(sets)]
        ends = list(itertools.accumulate(self.sizes))
        self.places = [slice(end - size, end) for end, size in zip(ends, self.sizes, strict=True)]
        self.centres = nn.Parameter(F.normalize(torch.randn(ends[-1], width)))
        self.register_buffer("frozen", self.centres.detach().clone())
        self.register_buffer("prices", torch.zeros(ends[-1]))
        self.register_buffer("counts", torch.zeros(ends[-1], dtype=torch.int64))

    def directions(self) -> Float[Tensor, "c d"]:
        return F.normalize(self.centres)

    @torch.no_grad()
    def freeze(self) -> None:
        """Keep the centres as they are now, for a loss that is not to move them."""
        self.frozen.copy_(self.directions())


def move_costs(counts: Int[Tensor, " c"], old: Int[Tensor, " b"]) -> Float[Tensor, "b c"]:
    """The increase of the sum over groups of share times log share when an item moves from its group to each.

    An item that has no group yet is added to those that have one. Shares are of the items that have a group.
    """
    total, counts = counts.sum(), counts.double()
    own = counts[old.clamp(min=0)]  # not used for items without a group
    leave = disorder((own - 1) / total) - disorder(own / total)
    join, first = (disorder((counts + 1) / size) - disorder(counts / size) for size in (total, total + 1))
    moved = torch.where(F.one_hot(old.clamp(min=0), len(counts)).bool(), 0.0, leave[:, None] + join)
    return torch.where((old == NONE)[:, None], first * (total > 0), moved).float()


def disorder(share: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
    """share · log share, 0 where nothing is left."""
    return torch.special.xlogy(share, share)


def centre_loss(cosines: Float[Tensor, "b c"], label: Int[Tensor, " b"], temperature: float) -> Float[Tensor, ""]:
    """Cross-entropy with the labels, in which an item moves the centre of its own group alone."""
    own = F.one_hot(label, cosines.shape[1]).bool()
    return F.cross_entropy(torch.where(own, cosines, cosines.detach()) / temperature, label)


def view_loss(
    one: Float[Tensor, "b c"], other: Float[Tensor, "b c"], label: Int[Tensor, " b"], hard: float, temperature: float
) -> Float[Tensor, ""]:
    """Cross-entropy of one view's groups with `hard` parts of the label and the rest the other view's answer."""
    said = (other.detach() / temperature).softmax(1)
    wanted = hard * F.one_hot(label, one.shape[1]) + (1 - hard) * said
    return -(wanted * (one / temperature).log_softmax(1)).sum(1).mean()


def late_cosine(progress: float, still: float, warm_up: float) -> float:
    """0 over the share `still`, linear to 1 at the share `warm_up`, then a cosine to 0 at the last step."""
    if progress < still:
        return 0.0
    if progress < warm_up:
        return (progress - still) / (warm_up - still)
    return 0.5 * (1 + math.cos(math.pi * (progress - warm_up) / (1 - warm_up)))


def practical(facts: Facts) -> dict[str, Any]:
    """For a CPU or small data: few epochs, more of them for fewer items, at a lower rate, and normalised embeddings.

    In few steps prices must follow faster and the net more slowly, or sizes swing and groups merge. Of fifteen tries on
    digits these rates and this constraint kept all groups in use and of even size (no labels). No blur up to 64 pixels,
    as in all practical views.
    """
    size = epochs_for(facts)
    return {
        **size,
        "batch_size": max(16, min(128, facts.n // 4)),
        "still": 1 / size["epochs"],
        "warm_up": 0.1,
        "output_norm": True,
        "learning_rate": 0.01,
        "least_size": 0.8,
        "dual_rate": 0.3,
        **({"blur": (0.0, 0.0)} if 0 < facts.side <= 64 else {}),
    }
