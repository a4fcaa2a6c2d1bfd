"""BYOL: the online network predicts a slow copy's projection of another view; there are no negatives.

Grill, Strub, Altché and others, "Bootstrap Your Own Latent: A New Approach to Self-Supervised Learning", NeurIPS 2020.
Defaults are those of CDC's pre-training code, which its row of BYOL comes from: LARS with a clipped ratio, base rate
0.5, decay 1e-4, warm-up over 50 of 1000 epochs. The groups of this method alone are K-means on its features.
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
from coterie.algorithms.lars import lars
from coterie.algorithms.schedules import rising_cosine, warm_up_cosine
from coterie.common.bounds import BatchSize, BelowOne, Epochs, PositiveRate, Rate, Share, Width
from coterie.contract import Card, Facts, Pass, View, epochs_for, logged
from coterie.contract.published import CDC_SETS
from coterie.networks.heads import PrototypeHead, projector
from coterie.networks.net import Net, trainable
from coterie.networks.teacher import Teacher
from coterie.objectives.contrastive import embedding_std
from coterie.types import Batch, Features, Losses
from coterie.views.byol import byol_view

NO_BLUR = {"blur": (0.0, 0.0)}

CARD = Card(
    title="BYOL",
    paper="Grill, Strub, Altché et al.: Bootstrap Your Own Latent: A New Approach to Self-Supervised Learning",
    year=2020,
    family="self-distillation",
    url="https://arxiv.org/abs/2006.07733",
    gives=("project", "predict", "teacher"),
    answers=("groups",),
    of_photographs=("blur", "solarise"),
    presets={**CDC_SETS, "cifar10": NO_BLUR, "cifar20": NO_BLUR},
    logs={
        "embedding_std": logged.EMBEDDING_STD,
        "agreement": ("agreement", "mean cosine of a prediction and its target; 1 with a small spread is a collapse"),
        "teacher_momentum": ("momentum of the teacher", "share of it that a step keeps"),
    },
)


@dataclass(frozen=True)
class BYOL:
    epochs: Epochs = 1000
    batch_size: BatchSize = 256
    learning_rate: PositiveRate = 0.5  # LARS; for 256 items a step, scaled in proportion to the batch
    weight_decay: Rate = 1e-4  # on weights alone: biases and norms have neither decay nor LARS' ratio
    trust: PositiveRate = 0.02  # η: a step of a layer, before momentum, is at most this share of its weights' norm
    warm_up: BelowOne = 0.05  # share of the training with a rising learning rate: 50 of 1000 epochs
    momentum: Share = 0.996  # of the teacher at the start
    momentum_end: Share = 1.0  # and at the end, along a cosine
    projector_hidden: Width = 4096
    projector_out: Width = 256
    predictor_hidden: Width = 4096
    blur: tuple[Share, Share] = (1.0, 0.1)  # chance in the first and the second view; photographs only
    solarise: tuple[Share, Share] = (0.0, 0.2)  # likewise the chance to invert the bright half of all levels

    card: ClassVar[Card] = CARD

    def views(self) -> dict[str, View]:
        """Two crops of a photograph that differ in blur and solarisation; of glyphs and vectors two alike."""
        chances = zip(self.blur, self.solarise, strict=True)
        return {name: byol_view(*pair) for name, pair in zip(("one", "two"), chances, strict=True)}

    def passes(self) -> tuple[Pass, ...]:
        """With the source's extra items, too: STL-10's unlabelled images, as in CDC's pre-training."""
        return (Pass(extra=True),)

    def heads(self, net: Net, k: int) -> dict[str, nn.Module]:
        """Projector and predictor, the teacher of net and projector (not of the predictor), the K-means answer."""
        project = projector(net.width, self.projector_hidden, self.projector_out, batch_norm=True)
        return {
            "project": project,
            "predict": projector(self.projector_out, self.predictor_hidden, self.projector_out, batch_norm=True),
            "teacher": Teacher(backbone=net.backbone, project=project),
            "groups": PrototypeHead(net.width, k),
        }

    def optimiser(self, net: Net) -> torch.optim.Optimizer:
        """LARS with the ratio of apex' LARC: a tensor's gradient times min(η‖w‖ / (‖g‖ + λ‖w‖) / rate, 1)."""
        trained = trainable(net.backbone, net.project, net.predict)
        rate = self.learning_rate * self.batch_size / 256
        return lars(trained, rate, self.weight_decay, self.trust, clip=True)

    def rate(self, progress: float) -> float:
        """Linear warm-up from 3e-5, since LARS' clip divides by the rate, then a cosine to 0 at the last step."""
        return warm_up_cosine(progress, self.warm_up, 3e-5 / self.learning_rate)

    def step(self, net: Net, batch: Batch) -> Iterator[Losses]:
        """The sum of both directions: each view's prediction against the teacher's projection of the other."""
        views = (batch.one, batch.two)
        with torch.no_grad():
            targets = [net.teacher.project(net.teacher.backbone(view)) for view in views]
        projected = [net.project(net.backbone(view)) for view in views]
        cosines = [
            F.cosine_similarity(net.predict(own), other)
            for own, other in zip(projected, reversed(targets), strict=True)
        ]
        momentum = rising_cosine(batch.progress, self.momentum, self.momentum_end)
        agreement = batch.gather((cosines[0] + cosines[1]) / 2)
        batch.log(
            embedding_std=embedding_std(batch.gather(projected[0].detach())),
            agreement=agreement.detach().mean(),
            teacher_momentum=torch.tensor(momentum),
        )
        yield {"prediction": (4 - 4 * agreement).mean()}  # 2 - 2 cos in each direction
        net.teacher.follow(net, momentum)

    def finish(self, net: Net, features: Features, k: int, generator: torch.Generator) -> None:
        """K-means on row-standardised features of the online backbone."""
        place_groups(net.groups, features(), generator, restarts=10)

    def logits(self, net: Net, features: Float[Tensor, "n d"]) -> dict[str, Float[Tensor, "n k"]]:
        return {"kmeans": net.groups(features)}


def practical(facts: Facts) -> dict[str, Any]:
    """For a CPU or small data: slim heads, few epochs, more for fewer items, a faster teacher.

    No blur up to 64 pixels, as in all practical views.
    """
    small = 0 < facts.side <= 64
    return {
        **epochs_for(facts),
        "momentum": 0.99,
        "projector_hidden": 512,
        "projector_out": 128,
        "predictor_hidden": 512,
        **(NO_BLUR if small else {}),
    }
