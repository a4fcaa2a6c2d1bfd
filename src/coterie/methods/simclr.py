"""SimCLR: each view must be matched to the other view of its item, among all views of the batch.

Chen, Kornblith, Norouzi and Hinton, "A Simple Framework for Contrastive Learning of Visual Representations", ICML 2020.
Defaults are the authors' for CIFAR-10 (their published command), but for the projector, which has the paper's two
layers and not three. The groups of this method alone are K-means on its features.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from coterie.algorithms.kmeans import place_groups
from coterie.algorithms.lars import lars
from coterie.algorithms.schedules import warm_up_cosine
from coterie.common.bounds import BatchSize, BelowOne, Epochs, Positive, PositiveRate, Rate, Share, Strength, Width
from coterie.contract import Card, Facts, OnlyIf, Pass, View, epochs_for, logged
from coterie.networks.heads import PrototypeHead, projector
from coterie.networks.net import Net, trainable
from coterie.objectives.contrastive import embedding_std, nt_xent
from coterie.types import Batch, Features, Losses
from coterie.views.simclr import simclr_view

LARGE = {"jitter": 1.0, "blur": 0.5}  # the paper's distortions on ImageNet

CARD = Card(
    title="SimCLR",
    paper="Chen, Kornblith, Norouzi, Hinton: A Simple Framework for Contrastive Learning of Visual Representations",
    year=2020,
    family="contrastive",
    url="https://arxiv.org/abs/2002.05709",
    answers=("groups",),
    only_if=(OnlyIf("solver", lambda solver: solver == "lars", ("trust",)),),
    of_photographs=("jitter", "blur"),
    presets={
        "cifar10": {},
        "cifar20": {},
        "stl10": {**LARGE, "image_size": 96},
        "imagenet10": {**LARGE, "image_size": 224},
        "imagenet-dogs": {**LARGE, "image_size": 224},
        "tiny-imagenet": {"image_size": 64},
    },
    logs={"embedding_std": logged.EMBEDDING_STD},
)


@dataclass(frozen=True)
class SimCLR:
    epochs: Epochs = 1000
    batch_size: BatchSize = 512  # the other items of a batch are the negatives, so this is part of the method
    solver: Literal["lars", "sgd"] = "lars"  # sgd: with momentum 0.9
    learning_rate: PositiveRate = 1.0  # for 256 items a step, scaled in proportion to the batch
    weight_decay: Rate = 1e-4  # with lars on weights alone: biases and norms have none
    trust: PositiveRate = 0.001  # η of lars: a layer's step, before momentum, is rate · η · its weights' norm
    warm_up: BelowOne = 0.01  # share of the training with a rising learning rate: 10 of 1000 epochs
    temperature: Positive = 0.5
    projector_hidden: Width = 512
    projector_out: Width = 128
    jitter: Strength = 0.5  # of the colours of photographs; 1 on ImageNet
    blur: Share = 0.0  # chance; 0.5 on ImageNet

    card: ClassVar[Card] = CARD

    def views(self) -> dict[str, View]:
        view = simclr_view(self.jitter, self.blur)
        return {"one": view, "two": view}

    def passes(self) -> tuple[Pass, ...]:
        """With the source's extra items, too: STL-10's unlabelled images."""
        return (Pass(extra=True),)

    def heads(self, net: Net, k: int) -> dict[str, nn.Module]:
        return {
            "project": projector(net.width, self.projector_hidden, self.projector_out, batch_norm=True),
            "groups": PrototypeHead(net.width, k),
        }

    def optimiser(self, net: Net) -> torch.optim.Optimizer:
        trained, rate = trainable(net.backbone, net.project), self.learning_rate * self.batch_size / 256
        if self.solver == "lars":
            return lars(trained, rate, self.weight_decay, self.trust)
        return torch.optim.SGD(trained, rate, momentum=0.9, weight_decay=self.weight_decay, fused=True)

    def rate(self, progress: float) -> float:
        """Linear warm-up from 0, then a cosine to 0 at the last step."""
        return warm_up_cosine(progress, self.warm_up, 0.0)

    def step(self, net: Net, batch: Batch) -> Iterator[Losses]:
        """NT-Xent (Eq. 1) over the global batch."""
        one, two = (batch.gather(net.project(net.backbone(view))) for view in (batch.one, batch.two))
        # Near 0 when all items get the same embedding; 1 when they fill the sphere.
        batch.log(embedding_std=embedding_std(one.detach()))
        yield {"contrast": nt_xent(one, two, self.temperature)}

    def finish(self, net: Net, features: Features, k: int, generator: torch.Generator) -> None:
        """K-means on row-standardised features."""
        place_groups(net.groups, features(), generator, restarts=10)

    def logits(self, net: Net, features: Float[Tensor, "n d"]) -> dict[str, Float[Tensor, "n k"]]:
        return {"kmeans": net.groups(features)}


def practical(facts: Facts) -> dict[str, Any]:
    """For a CPU or small data: few epochs, more for fewer items, by SGD.

    The learning rate is the one of 0.12 and 0.5 with the lower loss on digits (no labels).
    """
    return {
        **epochs_for(facts),
        "solver": "sgd",
        "learning_rate": 0.5,
        "weight_decay": 5e-4,
        "warm_up": 0.05,
        **(LARGE if facts.side > 64 else {}),
    }
