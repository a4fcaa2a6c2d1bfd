"""DCGAN features + K-means: the features of a discriminator that learned to tell real images from generated ones.

Radford, Metz and Chintala, "Unsupervised Representation Learning with Deep Convolutional Generative Adversarial
Networks", ICLR 2016, as a row of PICA's Table 1. The paper classifies images other than those it trains on, by the maps
of all layers of the discriminator; here it is trained on the images to be clustered, and K-means groups their first 256
principal components. Both nets are in `networks/dcgan.py`.
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
from coterie.algorithms.principal import principal_directions
from coterie.common.bounds import BatchSize, BelowOne, Epochs, PositiveRate, Restarts
from coterie.contract import Card, Facts, Step, iterations_for
from coterie.networks.dcgan import (
    NOISE,
    discriminator_of,
    generator_for,
    judge_for,
    keeping_statistics,
    seen_by_judge,
)
from coterie.networks.heads import PrototypeHead
from coterie.networks.net import Net, trainable
from coterie.networks.pooled import PROJECTED
from coterie.types import Batch, Features
from coterie.views.normalise import normalise

SAMPLE = 10_000  # items that the principal components are computed from: 0.6 GB of features

CARD = Card(
    title="DCGAN + k-means",
    paper="Radford, Metz, Chintala: Unsupervised Representation Learning with Deep Convolutional GANs",
    year=2016,
    family="generative",
    url="https://arxiv.org/abs/1511.06434",
    views={"clean": "clean"},
    scaling="unit",
    accepts=("images",),
    answers=("groups",),
    backbone=lambda spec, device, as_published: (
        "dcgan-32" if device.startswith("cpu") and not as_published else "dcgan"
    ),
    of_the_last=("restarts",),
    logs={
        "real_believed": ("real images taken for real", "mean probability; near 1 while generated ones are told apart"),
        "made_believed": (
            "generated images taken for real",
            "mean probability; at 0 the generator learns nothing",
        ),
    },
)


@dataclass(frozen=True)
class DCGAN:
    epochs: Epochs = 100
    batch_size: BatchSize = 128
    learning_rate: PositiveRate = 2e-4  # Adam, of both nets
    beta1: BelowOne = 0.5
    restarts: Restarts = 20  # of the final K-means

    card: ClassVar[Card] = CARD

    def heads(self, net: Net, k: int) -> dict[str, nn.Module]:
        groups = PrototypeHead(net.width, k, standardise=False)
        return {"judge": judge_for(net), "generator": generator_for(net), "groups": groups}

    def optimiser(self, net: Net) -> dict[str, torch.optim.Optimizer]:
        sides = {"discriminator": trainable(net.backbone, net.judge), "generator": trainable(net.generator)}
        return {
            name: torch.optim.Adam(trained, self.learning_rate, betas=(self.beta1, 0.999), fused=True)
            for name, trained in sides.items()
        }

    def step(self, net: Net, batch: Batch) -> Iterator[Step]:
        """The discriminator's step on real and on generated images, each a batch of its own; then the generator's.

        The generator's loss is -log D(G(z)) of the same images, by the updated discriminator.
        """
        noise = batch.uniform(batch.clean.new_empty(len(batch.index), NOISE))
        made = normalise(net.generator(noise), net.mean, net.std, net.row_norm)
        real = batch.gather(self.logit(net, batch.clean))
        with keeping_statistics(net.backbone):  # features are of real images, so the statistics must be, too
            other = batch.gather(self.logit(net, made.detach()))
        batch.log(real_believed=real.detach().sigmoid().mean(), made_believed=other.detach().sigmoid().mean())
        yield Step({"real": F.softplus(-real).mean(), "made": F.softplus(other).mean()}, trains=("discriminator",))
        with keeping_statistics(net.backbone):
            judged = batch.gather(self.logit(net, made))
        yield Step({"generator": F.softplus(-judged).mean()}, trains=("generator",))

    def logit(self, net: Net, view: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
        """The discriminator's logit that each image is a real one."""
        return net.judge(seen_by_judge(net, view)).flatten()

    def finish(self, net: Net, features: Features, k: int, generator: torch.Generator) -> None:
        """Replace the random projection by principal components, and group them by K-means."""
        own = discriminator_of(net)
        if own is not None:
            own.place(*principal_directions(features(by=own.convolutions, most=SAMPLE), PROJECTED, generator))
        place_groups(net.groups, features(), generator, self.restarts)

    def logits(self, net: Net, features: Float[Tensor, "n d"]) -> dict[str, Float[Tensor, "n k"]]:
        return {"kmeans": net.groups(features)}


def practical(facts: Facts) -> dict[str, Any]:
    """For a CPU or small data: as many iterations as fit into minutes."""
    return iterations_for(facts, 600, 10_000)
