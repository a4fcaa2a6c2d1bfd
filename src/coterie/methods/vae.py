"""VAE + k-means: a variational auto-encoder with a plain normal prior; K-means on the posterior means.

Kingma and Welling, "Auto-Encoding Variational Bayes", ICLR 2014, a row of PICA's Table 1, for which no settings were
ever published. The encoder's code is the posterior's mean, a further head gives the logarithm of its variance; one draw
is decoded. Images are decoded as Bernoulli means (their pixels lie in [0, 1]), embeddings by squared error.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from coterie.algorithms.kmeans import place_groups
from coterie.bounds import BatchSize, Epochs, PositiveRate, Restarts, Share, Weight
from coterie.contract import Card, Facts, iterations_for
from coterie.networks.autoencoder import decoder_for, hidden_and_code, hidden_width
from coterie.networks.heads import PrototypeHead
from coterie.networks.net import Net, trainable
from coterie.objectives.reconstruction import reconstruction_cost, standard_divergence
from coterie.types import Batch, Features, Losses

LARGEST = 10.0  # of |log σ²|: beyond, one draw can overflow
IN_USE = 0.1  # nats that the posterior of a dimension differs from the prior by, on average, where it says anything

CARD = Card(
    title="VAE + k-means",
    paper="Kingma, Welling: Auto-Encoding Variational Bayes",
    year=2014,
    family="auto-encoder",
    url="https://arxiv.org/abs/1312.6114",
    views={"shifted": "shifted"},
    scaling="unit",
    answers=("groups",),
    gives=("decoder",),
    backbone=lambda spec, device, as_published: "ae",
    logs={"used": ("dimensions in use", "of the code; 0 is a collapse of the posterior onto the prior")},
)


@dataclass(frozen=True)
class VAE:
    epochs: Epochs = 100
    batch_size: BatchSize = 256
    learning_rate: PositiveRate = 1e-3  # Adam
    divergence_weight: Weight = 1.0  # of the KL from the prior; 1: the evidence lower bound
    warm_up: Share = 0.1  # of the training, over which that weight rises from 0
    restarts: Restarts = 20  # of the final K-means

    card: ClassVar[Card] = CARD

    def heads(self, net: Net, k: int) -> dict[str, nn.Module]:
        return {
            "decoder": decoder_for(net),
            "log_variance": nn.Linear(hidden_width(net), net.width),
            "groups": PrototypeHead(net.width, k, standardise=False),
        }

    def optimiser(self, net: Net) -> torch.optim.Optimizer:
        trained = trainable(net.backbone, net.decoder, net.log_variance)
        return torch.optim.Adam(trained, self.learning_rate, fused=True)

    def step(self, net: Net, batch: Batch) -> Iterator[Losses]:
        """The negative evidence lower bound with one draw; sums over values and dimensions, means over the batch."""
        hidden, mean = hidden_and_code(net, batch.shifted)
        log_variance = net.log_variance(hidden).clamp(-LARGEST, LARGEST)
        z = mean + (0.5 * log_variance).exp() * batch.normal(mean)
        cost = batch.gather(reconstruction_cost(net, batch.shifted, net.decoder(z))).mean()
        apart = batch.gather(standard_divergence(mean, log_variance))
        by_dimension = -0.5 * (1 + log_variance - mean.square() - log_variance.exp()).detach()
        batch.log(used=(batch.gather(by_dimension).mean(0) > IN_USE).float().sum())
        yield {"reconstruction": cost, "divergence": self.weight_at(batch.progress) * apart.mean()}

    def weight_at(self, progress: float) -> float:
        return self.divergence_weight * (min(1.0, progress / self.warm_up) if self.warm_up > 0 else 1.0)

    def finish(self, net: Net, features: Features, k: int, generator: torch.Generator) -> None:
        """K-means on the posterior means as they are: in a dimension that is not in use they stay near 0."""
        place_groups(net.groups, features(), generator, self.restarts)

    def logits(self, net: Net, features: Float[Tensor, "n d"]) -> dict[str, Float[Tensor, "n k"]]:
        return {"kmeans": net.groups(features)}


def practical(facts: Facts) -> dict[str, Any]:
    """For a CPU or small data: 10,000 iterations, fewer for fewer items."""
    return iterations_for(facts, 1_500, 10_000)
