"""VAE + k-means: a variational auto-encoder with a plain normal prior; K-means on the posterior means.

Kingma and Welling, "Auto-Encoding Variational Bayes", ICLR 2014, a row of PICA's Table 1, for which no settings were
ever published. The encoder's code is the posterior's mean, a further head gives the logarithm of its variance; one draw
is decoded as the mean of a normal distribution of fixed variance. Items are standardised.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from coterie.algorithms.kmeans import place_groups
from coterie.common.bounds import BatchSize, Epochs, Positive, PositiveRate, Restarts, Share, Weight
from coterie.contract import Card, Facts, OnlyIf, iterations_for
from coterie.networks.autoencoder import decoder_for, flat, hidden_and_code, hidden_width
from coterie.networks.heads import PrototypeHead
from coterie.networks.net import Net, trainable
from coterie.types import Batch, Features, Losses

LARGEST = 10.0  # of |log σ²|: beyond, one draw can overflow
IN_USE = 0.1  # mean KL of a dimension from the prior, in nats, above which it counts as in use

CARD = Card(
    title="VAE + k-means",
    paper="Kingma, Welling: Auto-Encoding Variational Bayes",
    year=2014,
    family="auto-encoder",
    url="https://arxiv.org/abs/1312.6114",
    views={"shifted": "shifted"},
    answers=("groups",),
    backbone=lambda spec, device, as_published: "ae",
    only_if=(OnlyIf("divergence_weight", lambda weight: weight > 0, ("warm_up",)),),
    of_the_last=("restarts",),
    logs={"used": ("dimensions in use", "of the code; 0 is a collapse of the posterior onto the prior")},
)


@dataclass(frozen=True)
class VAE:
    epochs: Epochs = 100
    batch_size: BatchSize = 256
    learning_rate: PositiveRate = 1e-3  # Adam
    variance: Positive = 0.1  # s², of the decoder, where the items' own is 1
    divergence_weight: Weight = 1.0  # of the KL from the prior; 1: the evidence lower bound
    warm_up: Share = 0.1  # share of the training in which that weight rises from 0
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
        error = (net.decoder(z) - flat(batch.shifted)).square().sum(1)
        apart = batch.gather(divergence(mean, log_variance))
        batch.log(used=(apart.detach().mean(0) > IN_USE).float().sum())
        yield {
            "reconstruction": batch.gather(error).mean() / (2 * self.variance),
            "divergence": self.weight_at(batch.progress) * apart.sum(1).mean(),
        }

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


def divergence(mean: Float[Tensor, "b d"], log_variance: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
    """KL of N(mean, exp(log_variance)) from N(0, 1), of each item and dimension (the paper's appendix B)."""
    return -0.5 * (1 + log_variance - mean.square() - log_variance.exp())
