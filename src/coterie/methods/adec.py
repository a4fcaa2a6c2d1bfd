"""ADEC: DEC on the encoder, reconstruction on the decoder alone, and a discriminator that keeps the codes decodable.

Mrabah, Bouguessa and Ksantini, "Adversarial Deep Embedded Clustering: On a Better Trade-off Between Feature Randomness
and Feature Drift", IEEE TKDE 2020, https://arxiv.org/abs/1909.11832. The authors' code is not available; weights of 1
and the non-saturating form of the encoder's loss are ours. Phase 1 is `acai`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from coterie.algorithms.kmeans import kmeans
from coterie.common.bounds import BatchSize, Count, Epochs, Rate, Restarts, Share, Weight
from coterie.contract import Card, Facts, Step, iterations_for, logged
from coterie.networks.autoencoder import critic_for, decoder_for, flat
from coterie.networks.heads import Centres
from coterie.networks.memory import ItemTable
from coterie.networks.net import Net, trainable
from coterie.objectives.assignment import divergence, reassign, soft_assign_t, target_of
from coterie.types import Batch, Features, InputError, Losses

CARD = Card(
    title="ADEC",
    paper="Mrabah, Bouguessa, Ksantini: Adversarial Deep Embedded Clustering",
    year=2020,
    family="auto-encoder",
    url="https://arxiv.org/abs/1909.11832",
    views={"clean": "clean", "shifted": "shifted"},
    starts_from="acai",
    starts_on=("images", "embeddings"),
    inherits=("decoder",),
    scaling="unit",
    answers=("clusters", "decoder"),
    backbone=lambda spec, device, as_published: "ae",
    logs={
        "changed": logged.CHANGED,
    },
)


@dataclass(frozen=True)
class ADEC:
    epochs: Epochs = 73  # at most; 20,000 iterations of Fashion-MNIST's 70,000 images
    batch_size: BatchSize = 256
    discriminator_epochs: Epochs = 1  # at the start, in which only the discriminator learns
    encode_every: Count = 1  # batches between two steps of encoder and centres; the decoder learns in every batch
    adversarial_weight: Weight = 1.0  # of the discriminator's term in the encoder's loss
    learning_rate: Rate = 1e-3  # SGD
    momentum: Share = 0.9
    refresh_every: Count = 140  # batches between two refreshes of the target over all items
    tolerance: Share = 0.001  # stop when a refresh changes fewer labels than this share
    restarts: Restarts = 20  # of the K-means that gives the first centres

    card: ClassVar[Card] = CARD

    def limits(self, facts: Facts) -> dict[str, tuple[int, int | None]]:
        """An epoch at least for the encoder."""
        return {"discriminator_epochs": (0, max(0, self.epochs - 1))}

    def check(self, facts: Facts) -> None:
        """Raise InputError where the encoder would never learn."""
        if self.epochs and self.discriminator_epochs >= self.epochs:
            raise InputError(
                f"adec.discriminator_epochs is {self.discriminator_epochs} of adec.epochs {self.epochs}: the encoder "
                "would not be trained, so it must be smaller."
            )
        steps = (self.epochs - self.discriminator_epochs) * (facts.n // min(self.batch_size, facts.n))
        if self.epochs and 1 < self.encode_every >= steps:
            raise InputError(
                f"adec.encode_every is {self.encode_every}, and there are {steps:,} batches after the discriminator's "
                "own: the encoder would be trained once, so it must be smaller."
            )

    def heads(self, net: Net, k: int) -> dict[str, nn.Module]:
        return {
            "decoder": decoder_for(net),
            "discriminator": critic_for(net),
            "clusters": Centres(net.width, k),
            "assigned": ItemTable(k),
        }

    def start(self, net: Net, features: Features, k: int, generator: torch.Generator) -> None:
        """Set the centres by K-means."""
        net.clusters.place(kmeans(features(), k, generator=generator, restarts=self.restarts).centres)

    def optimiser(self, net: Net) -> dict[str, torch.optim.Optimizer]:
        sides = {
            "encoder": trainable(net.backbone, net.clusters),
            "decoder": trainable(net.decoder),
            "discriminator": trainable(net.discriminator),
        }
        rate, momentum = self.learning_rate, self.momentum
        return {name: torch.optim.SGD(trained, rate, momentum, fused=True) for name, trained in sides.items()}

    def step(self, net: Net, batch: Batch) -> Iterator[Step]:
        """In turn: encoder and centres, then the decoder, then the discriminator."""
        first = self.discriminator_epochs * batch.per_epoch
        real, number = flat(batch.clean), batch.number - first
        if number >= 0:
            if number % self.refresh_every == 0:
                reassign(net, batch, self.tolerance)
            if number % self.encode_every == 0:
                yield Step(self.encoder_losses(net, batch), trains=("encoder",))
            with torch.no_grad():
                z = net.backbone(batch.shifted)
            reconstructed = net.decoder(z)
            error = batch.gather((reconstructed - real).square().mean(1))
            yield Step({"reconstruction": error.mean()}, trains=("decoder",))
        with torch.no_grad():
            fake = net.decoder(net.backbone(batch.shifted))
        opinion = F.softplus(-net.discriminator(real)) + F.softplus(net.discriminator(fake))
        yield Step({"discriminator": batch.gather(opinion).mean()}, trains=("discriminator",))

    def encoder_losses(self, net: Net, batch: Batch) -> Losses:
        """KL(P | Q), and -log D of the reconstruction; decoder and discriminator are held fixed."""
        z = net.backbone(batch.shifted)
        q = soft_assign_t(z, net.clusters.centres)
        batch.count(batch.gather(q.detach()).argmax(1), q.shape[1])
        opinion = F.softplus(-net.discriminator(net.decoder(z)))
        return {
            "divergence": batch.gather(divergence(target_of(net.assigned, batch.index), q)).mean(),
            "adversarial": self.adversarial_weight * batch.gather(opinion).mean(),
        }

    def predict(self, net: Net, features: Float[Tensor, "n d"]) -> dict[str, Float[Tensor, "n k"]]:
        return {"soft": soft_assign_t(features, net.clusters.centres)}


def practical(facts: Facts) -> dict[str, Any]:
    """For a CPU or small data: 4,000 iterations at most, and a target for every pass over the items."""
    size = iterations_for(facts, 600, 4_000)
    steps = facts.n // size["batch_size"]
    return {**size, "epochs": 1 + size["epochs"], "refresh_every": min(280, steps)}
