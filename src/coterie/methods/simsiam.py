"""SimSiam: each view's prediction is pulled to the other's projection, which gets no gradient; there are no negatives.

Chen and He, "Exploring Simple Siamese Representation Learning", CVPR 2021. Defaults are those of CDC's pre-training
code, which its row of SimSiam comes from: a wide predictor where the paper's is a bottleneck (2048-512-2048), base rate
0.5, decay 1e-5, warm-up over 50 of 1000 epochs. The groups of this method alone are K-means on its features.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from coterie.algorithms.kmeans import place_groups
from coterie.algorithms.schedules import warm_up_cosine
from coterie.common.bounds import BatchSize, BelowOne, Epochs, PositiveRate, Rate, Width
from coterie.contract import Card, Facts, Pass, epochs_for, logged
from coterie.contract.published import CDC_SETS
from coterie.networks.heads import PrototypeHead
from coterie.networks.net import Net, trainable
from coterie.objectives.contrastive import embedding_std
from coterie.types import Batch, Features, Losses

CARD = Card(
    title="SimSiam",
    paper="Chen, He: Exploring Simple Siamese Representation Learning",
    year=2021,
    family="self-distillation",
    url="https://arxiv.org/abs/2011.10566",
    views={"one": "contrastive", "two": "contrastive"},
    answers=("groups",),
    logs={"embedding_std": logged.EMBEDDING_STD},
    presets=CDC_SETS,
)


@dataclass(frozen=True)
class SimSiam:
    epochs: Epochs = 1000
    batch_size: BatchSize = 256
    learning_rate: PositiveRate = 0.5  # SGD; for 256 items a step, scaled in proportion to the batch
    weight_decay: Rate = 1e-5  # on all parameters; CDC's text says 1e-4
    warm_up: BelowOne = 0.05  # share of the training with a rising learning rate: 50 of 1000 epochs
    projector_layers: Literal[2, 3] = 3
    projector_hidden: Width = 4096
    projector_out: Width = 256
    predictor_hidden: Width = 4096

    card: ClassVar[Card] = CARD

    def passes(self) -> tuple[Pass, ...]:
        """With the source's extra items, too: STL-10's unlabelled images, as in CDC's pre-training."""
        return (Pass(extra=True),)

    def heads(self, net: Net, k: int) -> dict[str, nn.Module]:
        """Projector and predictor, and the K-means answer on the backbone's features."""
        widths = [net.width, *[self.projector_hidden] * (self.projector_layers - 1), self.projector_out]
        return {
            "project": normed_layers(widths),
            "predict": nn.Sequential(
                *hidden_layer(self.projector_out, self.predictor_hidden),
                nn.Linear(self.predictor_hidden, self.projector_out),  # its output is not normalised
            ),
            "groups": PrototypeHead(net.width, k),
        }

    def optimiser(self, net: Net) -> torch.optim.Optimizer:
        groups = [
            {"name": "encoder", "params": trainable(net.backbone, net.project)},
            {"name": "predictor", "params": trainable(net.predict)},
        ]
        rate = self.learning_rate * self.batch_size / 256
        return torch.optim.SGD(groups, rate, momentum=0.9, weight_decay=self.weight_decay, fused=True)

    def rate(self, progress: float) -> Mapping[str, float]:
        """A constant rate for the predictor, which must follow the other parts; warm-up and a cosine for these."""
        return {"encoder": warm_up_cosine(progress, self.warm_up, 3e-5 / self.learning_rate), "predictor": 1.0}

    def step(self, net: Net, batch: Batch) -> Iterator[Losses]:
        """The mean of both directions of D(p, z) = -cos(p, z), z without gradient (Eq. 2 and Algorithm 1)."""
        # One view at a time, since each is normalised by its own statistics.
        projected = [net.project(net.backbone(view)) for view in (batch.one, batch.two)]
        cosines = [
            F.cosine_similarity(net.predict(own), other.detach())
            for own, other in zip(projected, reversed(projected), strict=True)
        ]
        batch.log(embedding_std=embedding_std(batch.gather(projected[0].detach())))
        yield {"similarity": -batch.gather((cosines[0] + cosines[1]) / 2).mean()}

    def finish(self, net: Net, features: Features, k: int, generator: torch.Generator) -> None:
        """K-means on row-standardised features."""
        place_groups(net.groups, features(), generator, restarts=10)

    def logits(self, net: Net, features: Float[Tensor, "n d"]) -> dict[str, Float[Tensor, "n k"]]:
        return {"kmeans": net.groups(features)}


def hidden_layer(width: int, out: int) -> list[nn.Module]:
    return [nn.Linear(width, out, bias=False), nn.BatchNorm1d(out), nn.ReLU(inplace=True)]


def normed_layers(widths: list[int]) -> nn.Sequential:
    """Layers of these widths with batch normalisation after each, the last of them without scale and shift."""
    *hidden, last = pairwise(widths)
    norm = nn.BatchNorm1d(last[1])
    norm.requires_grad_(False)  # fixed at 1 and 0: a norm without them would not be shared among processes
    layers = [layer for width, out in hidden for layer in hidden_layer(width, out)]
    return nn.Sequential(*layers, nn.Linear(*last, bias=False), norm)  # a bias would be normalised away


def practical(facts: Facts) -> dict[str, Any]:
    """For a CPU or small data: slim heads with the paper's bottleneck in the predictor, few epochs."""
    return {**epochs_for(facts), "projector_hidden": 512, "projector_out": 128, "predictor_hidden": 64}
