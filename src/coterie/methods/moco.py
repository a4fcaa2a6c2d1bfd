"""MoCo-v2, the pre-training stage of CDC: two crops of an image attract, a queue of other images repels.

He, Fan, Wu, Xie and Girshick, "Momentum Contrast for Unsupervised Visual Representation Learning", CVPR 2020; Chen,
Fan, Girshick and He, "Improved Baselines with Momentum Contrastive Learning", arXiv 2003.04297. Defaults are those of
CDC's pre-training code: the symmetric form with one queue for each crop, a projector without batch normalisation (the
CDC paper says with) and no shuffled batch normalisation. The groups of this method alone are K-means on its features.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from coterie.algorithms.kmeans import place_groups
from coterie.algorithms.schedules import rising_cosine, warm_up_cosine
from coterie.common.bounds import BatchSize, BelowOne, Epochs, Memory, Positive, PositiveRate, Rate, Share, Width
from coterie.contract import Card, Facts, Pass, epochs_for, logged
from coterie.contract.published import CDC_SETS
from coterie.networks.heads import PrototypeHead, projector
from coterie.networks.net import Net, trainable
from coterie.networks.queue import Queue
from coterie.networks.teacher import Teacher
from coterie.objectives.contrastive import embedding_std, info_nce
from coterie.types import Batch, Features, InputError, Losses

CARD = Card(
    title="MoCo-v2",
    paper="Chen, Fan, Girshick, He: Improved Baselines with Momentum Contrastive Learning",
    year=2020,
    family="contrastive",
    url="https://arxiv.org/abs/2003.04297",
    views={"one": "contrastive", "two": "contrastive"},
    answers=("groups",),
    presets=CDC_SETS,
    logs={
        "embedding_std": logged.EMBEDDING_STD,
    },
)


@dataclass(frozen=True)
class MoCo:
    epochs: Epochs = 1000
    batch_size: BatchSize = 256
    learning_rate: PositiveRate = 0.5  # SGD; for 256 items a step, scaled in proportion to the batch
    weight_decay: Rate = 1e-4  # on all parameters, biases and norms included
    warm_up: BelowOne = 0.05  # share of the training with a rising learning rate: 50 of 1000 epochs
    temperature: Positive = 0.2
    queue: Memory = 32768  # keys remembered for each of the two crops
    momentum: Share = 0.99  # of the key encoder at the start
    momentum_end: Share = 0.999  # and at the end, along a cosine; the paper keeps 0.99
    projector_hidden: Width = 4096
    projector_out: Width = 256
    projector_norm: bool = False

    card: ClassVar[Card] = CARD

    def limits(self, facts: Facts) -> dict[str, tuple[int, int | None]]:
        """A queue that holds a batch, and no item twice if a batch holds all items."""
        return {"queue": (self.batch_size, facts.n if self.batch_size == facts.n else None)}

    def check(self, facts: Facts) -> None:
        """Raise InputError for settings that cannot work on such data."""
        if self.queue < self.batch_size:
            raise InputError(f"moco.queue is {self.queue}: it must hold at least one batch of {self.batch_size} keys.")

    def passes(self) -> tuple[Pass, ...]:
        """With the source's extra items, too: STL-10's unlabelled images, as in the CDC paper (appendix B.1)."""
        return (Pass(extra=True),)

    def heads(self, net: Net, k: int) -> dict[str, nn.Module]:
        """The projector, the teacher of net and projector, a queue of keys for each crop, and the K-means answer."""
        project = projector(net.width, self.projector_hidden, self.projector_out, batch_norm=self.projector_norm)
        return {
            "project": project,
            "teacher": Teacher(backbone=net.backbone, project=project),
            "first": Queue(self.queue, self.projector_out),
            "second": Queue(self.queue, self.projector_out),
            "groups": PrototypeHead(net.width, k),
        }

    def optimiser(self, net: Net) -> torch.optim.Optimizer:
        trained = trainable(net.backbone, net.project)
        rate = self.learning_rate * self.batch_size / 256
        return torch.optim.SGD(trained, rate, momentum=0.9, weight_decay=self.weight_decay, fused=True)

    def rate(self, progress: float) -> float:
        """Linear warm-up from 3e-5, then a cosine to 0 at the last step."""
        return warm_up_cosine(progress, self.warm_up, 3e-5 / self.learning_rate)

    def key_momentum(self, progress: float) -> float:
        """Share of the key encoder that a step keeps: from `momentum` to `momentum_end` along a cosine."""
        return rising_cosine(progress, self.momentum, self.momentum_end)

    def step(self, net: Net, batch: Batch) -> Iterator[Losses]:
        """The mean of both directions: crop one against the keys of crop two, and the other way round."""
        with torch.no_grad():
            keys = [F.normalize(net.teacher.project(net.teacher.backbone(view))) for view in (batch.one, batch.two)]
        queries = [F.normalize(net.project(net.backbone(view))) for view in (batch.one, batch.two)]
        loss = 0.5 * (
            info_nce(queries[0], keys[1], net.second.rows, self.temperature)
            + info_nce(queries[1], keys[0], net.first.rows, self.temperature)
        )
        # Near 0 when all items get the same embedding; 1 when they fill the sphere.
        batch.log(embedding_std=embedding_std(batch.gather(queries[0].detach())))
        yield {"contrast": batch.gather(loss[None]).mean()}  # all processes hold equally many items
        net.first.push(batch.gather(keys[0]))
        net.second.push(batch.gather(keys[1]))
        net.teacher.follow(net, self.key_momentum(batch.progress))

    def finish(self, net: Net, features: Features, k: int, generator: torch.Generator) -> None:
        """K-means on row-standardised features, the paper's "MoCo + K-means" row."""
        place_groups(net.groups, features(), generator, restarts=10)

    def logits(self, net: Net, features: Float[Tensor, "n d"]) -> dict[str, Float[Tensor, "n k"]]:
        return {"kmeans": net.groups(features)}


def practical(facts: Facts) -> dict[str, Any]:
    """For a CPU or small data: a queue that holds no item twice, a slim projector, few epochs, more for fewer items.

    The learning rate is the one of 0.03, 0.12, 0.3 and 0.5 with the lowest contrastive loss on digits (no labels).
    """
    size = epochs_for(facts)
    batch = size["batch_size"]
    return {
        **size,
        "queue": max(batch, min(8192, facts.n // 2) // batch * batch),
        "projector_hidden": 512,
        "projector_out": 128,
        "learning_rate": 0.12,
        "weight_decay": 5e-4,
    }
