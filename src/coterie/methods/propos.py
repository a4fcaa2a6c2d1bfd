"""ProPos: BYOL with a little noise before the predictor, and a loss that separates the prototypes of K-means groups.

Huang, Chen, Zhang and Shan, "Learning Representation for Clustering via Prototype Scattering and Positive Sampling",
IEEE TPAMI 2022. Before each epoch spherical K-means on the teacher's projections groups all items anew; the last groups
are the answer. Defaults are the authors' CIFAR-10 configuration. Differs from the authors' code: the teacher
network gives the answer, also for new items; the teacher follows after the optimiser's step (theirs
before it, on CIFAR-10 after the losses: one step later); groups absent from a batch are left out of the softmax (theirs
have a logit of -10).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from coterie.algorithms.schedules import rising_cosine, unhurried_cosine
from coterie.algorithms.spherical_groups import SphericalGroups, answer_by_teacher, teacher_rows
from coterie.common.bounds import (
    BatchSize,
    BelowOne,
    Epochs,
    Positive,
    PositiveRate,
    Rate,
    Restarts,
    Share,
    Weight,
    Width,
)
from coterie.contract import Card, Facts, OnlyIf, Pass, View, epochs_for, logged
from coterie.networks.heads import PrototypeHead, begin_small, projector
from coterie.networks.net import Net, trainable
from coterie.networks.teacher import Teacher
from coterie.objectives.contrastive import embedding_std
from coterie.types import Batch, EpochStart, Features, Losses

JOINED = {"batch_size": 256, "momentum_end": 1.0, "joined": True, "balanced": True}

CARD = Card(
    title="ProPos",
    paper="Huang, Chen, Zhang, Shan: Learning Representation for Clustering via Prototype Scattering "
    "and Positive Sampling",
    year=2022,
    family="self-distillation",
    url="https://arxiv.org/abs/2111.11821",
    gives=("project", "predict", "teacher"),
    answers=("project", "answer"),
    only_if=(OnlyIf("scatter_weight", lambda weight: weight > 0, ("temperature",)),),
    of_photographs=("blur",),
    presets={
        "cifar10": {},
        "cifar20": JOINED,
        "imagenet-dogs": {**JOINED, "blur": 0.5, "image_size": 224},
    },
    logs={
        "embedding_std": logged.EMBEDDING_STD,
        "agreement": ("agreement", "mean cosine of a prediction and its target; 1 with a small spread is a collapse"),
        "prototypes_apart": ("prototypes apart", "mean cosine of two groups' prototypes in a batch; it should fall"),
    },
)


@dataclass(frozen=True)
class ProPos:
    epochs: Epochs = 1000
    batch_size: BatchSize = 512  # prototypes are computed per batch, which should hold several items of each group
    learning_rate: PositiveRate = 0.05  # SGD; for 256 items a step, scaled in proportion to the batch
    predictor_rate: PositiveRate = 10.0  # times the learning rate, for the predictor
    weight_decay: Rate = 5e-4  # on all parameters, biases and norms included
    warm_up: BelowOne = 0.05  # share of the epochs with a rising rate, without scattering and noise: 50 of 1000
    scatter_weight: Weight = 0.1  # of the scattering loss
    temperature: Positive = 0.5  # of the scattering
    noise: Rate = 0.001  # deviation of the noise that is added to a projection before the predictor
    momentum: Share = 0.996  # of the teacher at the start
    momentum_end: Share = 0.996  # and at the end, along a cosine
    joined: bool = False  # both views in one forward pass, with common batch statistics
    balanced: bool = False  # an epoch draws items with replacement, each group as likely as any other
    restarts: Restarts = 10  # of K-means
    projector_hidden: Width = 4096
    projector_out: Width = 256
    predictor_hidden: Width = 4096
    blur: Share = 0.0  # chance, of photographs

    card: ClassVar[Card] = CARD

    def views(self) -> dict[str, View]:
        return {name: View("contrastive", settings={"blur": self.blur}) for name in ("one", "two")}

    def passes(self) -> tuple[Pass, ...]:
        return (Pass(sample="groups" if self.balanced else None),)

    def heads(self, net: Net, k: int) -> dict[str, nn.Module]:
        """Projector, predictor, the teacher of net and projector, the epoch's groups, and the head that answers."""
        project = projector(net.width, self.projector_hidden, self.projector_out, batch_norm=True)
        predict = projector(self.projector_out, self.predictor_hidden, self.projector_out, batch_norm=True)
        begin_small(predict)
        return {
            "project": project,
            "predict": predict,
            "teacher": Teacher(backbone=net.backbone, project=project),
            "groups": SphericalGroups(self.projector_out, k),
            "answer": PrototypeHead(self.projector_out, k, standardise=False),
        }

    def optimiser(self, net: Net) -> torch.optim.Optimizer:
        rate = self.learning_rate * self.batch_size / 256
        groups = [
            {"params": trainable(net.backbone, net.project), "lr": rate},
            {"params": trainable(net.predict), "lr": self.predictor_rate * rate},
        ]
        return torch.optim.SGD(groups, rate, momentum=0.9, weight_decay=self.weight_decay, fused=True)

    def rate(self, progress: float) -> float:
        return unhurried_cosine(progress, self.warm_up)

    def warms_up(self, epoch: int) -> bool:
        """Whether this epoch, counted from 0, is BYOL alone."""
        return epoch < round(self.warm_up * self.epochs)

    def begin_epoch(self, net: Net, epoch: EpochStart) -> None:
        """The E-step: spherical K-means on the teacher's projections of all items."""
        if self.balanced or not self.warms_up(epoch.number):
            rows = teacher_rows(net, epoch.features)
            net.groups.renew(rows, epoch.generator, self.restarts)

    def step(self, net: Net, batch: Batch) -> Iterator[Losses]:
        """Alignment (Eq. 6) and, after the warm-up, 0.1 times the scattering (Eq. 8), each over both directions."""
        views = [batch.one, batch.two]
        with torch.no_grad():
            targets = self.through(views, net.teacher.backbone, net.teacher.project)
        projected = self.through(views, net.backbone, net.project)
        warms_up = self.warms_up(batch.number // batch.per_epoch)
        noisy = projected if warms_up or not self.noise else [q + self.noise * batch.normal(q) for q in projected]
        predicted = self.through(noisy, net.predict)
        pairs = list(zip(predicted, reversed(targets), strict=True))
        agreement = batch.gather(torch.stack([F.cosine_similarity(*pair) for pair in pairs]).mean(0))
        momentum = rising_cosine(batch.progress, self.momentum, self.momentum_end)
        batch.log(embedding_std=embedding_std(batch.gather(projected[0].detach())), agreement=agreement.detach().mean())
        losses = {"alignment": (2 - 2 * agreement).mean()}
        if not warms_up:
            losses["scattering"] = self.scatter_weight * self.scatter(net, batch, projected, targets)
        yield losses
        net.teacher.follow(net, momentum)

    def through(self, inputs: list[Tensor], *parts: nn.Module) -> list[Tensor]:
        """The output of the parts, one after the other, for both views: one by one, or in one batch."""
        together = [torch.cat(inputs)] if self.joined else inputs
        for part in parts:
            together = [part(rows) for rows in together]
        return list(together[0].chunk(2)) if self.joined else together

    def scatter(self, net: Net, batch: Batch, projected: list[Tensor], targets: list[Tensor]) -> Float[Tensor, ""]:
        """The scattering of the global batch's prototypes, the mean of both directions."""
        labels = batch.gather(net.groups.of(batch.index))
        batch.count(labels, len(net.groups.centres))
        own = [prototypes(F.normalize(batch.gather(q)), labels) for q in projected]
        others = [prototypes(F.normalize(batch.gather(target)), labels) for target in targets]
        apart = own[0].detach() @ own[0].detach().T
        if len(apart) > 1:
            batch.log(prototypes_apart=(apart.sum() - len(apart)) / (len(apart) * (len(apart) - 1)))
        pairs = zip(own, reversed(others), strict=True)
        return torch.stack([scattering(*pair, self.temperature) for pair in pairs]).mean()

    def finish(self, net: Net, features: Features, k: int, generator: torch.Generator) -> None:
        """The teacher takes the net's place; spherical K-means on its projections is the answer."""
        answer_by_teacher(net, features, generator, self.restarts)

    def logits(self, net: Net, features: Float[Tensor, "n d"]) -> dict[str, Float[Tensor, "n k"]]:
        return {"kmeans": net.answer(F.normalize(net.project(features)))}


def prototypes(rows: Float[Tensor, "n d"], labels: Int[Tensor, " n"]) -> Float[Tensor, "c d"]:
    """The directions of the sums of each group's rows, for the groups present, in order (Eq. 7)."""
    present = labels.bincount().nonzero()[:, 0]
    return F.normalize((labels == present[:, None]).to(rows) @ rows)


def scattering(own: Float[Tensor, "c d"], others: Float[Tensor, "c d"], temperature: float) -> Float[Tensor, ""]:
    """Pull each prototype to the same group's in the other view, and push it from the other groups' in its own view.

    -log exp(m·m'/t) / (exp(m·m'/t) + sum over other groups exp(m·m_j/t)), the mean over groups (Eq. 8).
    """
    positive = (own * others).sum(1) / temperature
    logits = own @ own.T / temperature
    logits = torch.where(torch.eye(len(own), dtype=torch.bool, device=own.device), positive[:, None], logits)
    return (logits.logsumexp(1) - positive).mean()


def practical(facts: Facts) -> dict[str, Any]:
    """For a CPU or small data: slim heads, few epochs, more for fewer items, a faster teacher."""
    return {
        **epochs_for(facts),
        "momentum": 0.99,
        "momentum_end": 1.0,
        "projector_hidden": 512,
        "projector_out": 128,
        "predictor_hidden": 512,
    }
