"""CC: the two views of an item attract, and so do the two views of a group, the column of its probabilities.

Li, Hu, Liu, Peng, Zhou and Peng, "Contrastive Clustering", AAAI 2021. Defaults are the authors': one stage from random
weights. CDC's row of CC starts from MoCo-v2 (`--pretrain moco`) at a rate of 5e-5. Differs from the authors' code:
images are normalised and keep their size (`image_size` in the published rows is theirs), crops are resized bicubically,
and the log of a group's share is held at 1e-8.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from coterie.common.bounds import BatchSize, Epochs, Positive, PositiveRate, Rate, Share, Strength, Width
from coterie.contract import Card, Facts, Pass, View, epochs_for, logged
from coterie.networks.heads import mlp_head, projector
from coterie.networks.net import Net, trainable
from coterie.objectives.contrastive import column_contrast, embedding_std, nt_xent
from coterie.objectives.partition import imbalance
from coterie.types import Batch, Losses
from coterie.views.simclr import simclr_view

INSTANCE = "instance"  # the pass that trains the instance head alone
LARGE = {"jitter": 1.0, "image_size": 224}

CARD = Card(
    title="Contrastive Clustering",
    paper="Li, Hu, Liu, Peng, Zhou, Peng: Contrastive Clustering",
    year=2021,
    family="contrastive",
    url="https://arxiv.org/abs/2009.09687",
    views={"one": "contrastive", "two": "contrastive"},  # `CC.views` replaces them
    answers=("cluster",),
    balance="balance_weight",
    of_photographs=("jitter", "blur"),
    presets={
        "cifar10": {"image_size": 224},
        "cifar20": {"image_size": 224},
        "stl10": {**LARGE, "unlabelled": True},
        "imagenet10": {**LARGE, "blur": 0.5},
        "imagenet-dogs": {**LARGE, "blur": 0.5},
        "tiny-imagenet": {"image_size": 224},
    },
    logs={
        "confidence": logged.CONFIDENCE,
        "agreement": ("views that agree", "share of items that both views put into the same group"),
        "embedding_std": logged.EMBEDDING_STD,
    },
)


@dataclass(frozen=True)
class CC:
    epochs: Epochs = 1000
    batch_size: BatchSize = 256  # the other items are the negatives, and groups are compared over a batch
    learning_rate: PositiveRate = 3e-4  # Adam, constant; CDC's, after MoCo-v2: 5e-5
    weight_decay: Rate = 0.0
    temperature: Positive = 0.5  # of the items' contrast
    group_temperature: Positive = 1.0  # of the groups'
    balance_weight: Rate = 1.0  # of the term for groups of equal size
    hidden: Width = 512  # width of both heads; the authors': the backbone's
    projector_out: Width = 128
    jitter: Strength = 0.5  # of the colours of photographs; 1 on STL-10 and ImageNet
    blur: Share = 0.0  # chance; 0.5 on ImageNet
    unlabelled: bool = False  # each epoch first goes through all items and the unlabelled ones, for the items' contrast

    card: ClassVar[Card] = CARD

    def limits(self, facts: Facts) -> dict[str, tuple[int, int | None]]:
        """A batch that can hold an item of each group."""
        return {"batch_size": (facts.k, None)}

    def views(self) -> dict[str, View]:
        view = simclr_view(self.jitter, self.blur)
        return {"one": view, "two": view}

    def passes(self) -> tuple[Pass, ...]:
        return (Pass(INSTANCE, extra=True), Pass()) if self.unlabelled else (Pass(),)

    def heads(self, net: Net, k: int) -> dict[str, nn.Module]:
        return {
            "project": projector(net.width, self.hidden, self.projector_out),
            "cluster": mlp_head(net.width, self.hidden, k, batch_norm=False),
        }

    def optimiser(self, net: Net) -> torch.optim.Optimizer:
        trained = trainable(net.backbone, net.project, net.cluster)
        return torch.optim.Adam(trained, self.learning_rate, weight_decay=self.weight_decay, fused=True)

    def step(self, net: Net, batch: Batch) -> Iterator[Losses]:
        """Contrast of items plus contrast of groups plus both views' imbalance, over the global batch."""
        features = [net.backbone(view) for view in (batch.one, batch.two)]
        one, two = (batch.gather(net.project(own)) for own in features)
        losses = {"instance": nt_xent(one, two, self.temperature)}
        batch.log(embedding_std=embedding_std(one.detach()))
        if batch.pass_name != INSTANCE:
            p, q = (batch.gather(net.cluster(own).softmax(1)) for own in features)
            losses["group"] = column_contrast(p, q, self.group_temperature)
            losses["balance"] = self.balance_weight * (imbalance(p) + imbalance(q))
            label = batch.record_answers(p)
            batch.log(agreement=(label == q.argmax(1)).float().mean())
        yield losses

    def logits(self, net: Net, features: Float[Tensor, "n d"]) -> dict[str, Float[Tensor, "n k"]]:
        return {"softmax": net.cluster(features)}


def practical(facts: Facts) -> dict[str, Any]:
    """For a CPU or small data: few epochs at a higher rate, more of them for fewer items."""
    size = epochs_for(facts)
    distorted = {"jitter": 1.0, "blur": 0.5} if facts.side > 64 else {}
    return {**size, "batch_size": max(size["batch_size"], facts.k), "learning_rate": 1e-3, **distorted}
