"""VaDE: a variational auto-encoder whose prior is a Gaussian mixture; its components are the groups.

Jiang, Zheng, Tan, Tang and Zhou, "Variational Deep Embedding: An Unsupervised and Generative Approach to Clustering",
IJCAI 2017; equation numbers are theirs. The encoder's code is the mean μ̃, a further head gives log σ̃². Images are
decoded as Bernoulli means (their pixels lie in [0, 1]), embeddings by squared error.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from coterie.algorithms.kmeans import kmeans
from coterie.algorithms.schedules import parts_done
from coterie.common.bounds import AboveZero, BatchSize, Count, Epochs, Rate, Restarts, Share, Weight
from coterie.contract import Card, Facts, iterations_for
from coterie.networks.autoencoder import decoder_for, flat, hidden_and_code, hidden_width
from coterie.networks.net import Net, trainable
from coterie.objectives.mixture import component_divergence, log_joint, prior_divergence
from coterie.types import Batch, Features, Losses

LOGIT_SLOPE = 6.0  # a pixel that phase 1 decodes as 0 begins as sigmoid(-3) = 0.05, one that is 1 as 0.95

CARD = Card(
    title="VaDE",
    paper="Jiang, Zheng, Tan, Tang, Zhou: Variational Deep Embedding",
    year=2017,
    family="auto-encoder",
    url="https://arxiv.org/abs/1611.05148",
    views={"shifted": "shifted"},
    starts_from="ae",
    starts_on=("images", "embeddings"),
    inherits=("decoder",),
    scaling="unit",
    answers=("mixture",),
    presets={"mnist": {}, "reuters-10k": {"epochs": 15, "decay": 0.5, "decay_every": 5}},
    backbone=lambda spec, device, as_published: "ae",
)


@dataclass(frozen=True)
class VaDE:
    epochs: Epochs = 3000
    batch_size: BatchSize = 100
    reconstruction_weight: Weight = 1.0  # a, of the reconstruction summed over an item's values; 5 for HAR
    learning_rate: Rate = 2e-3  # Adam, ε = 1e-4, of network and mixture
    decay: AboveZero = 0.9  # factor on the rate ...
    decay_every: Count = 10  # ... every so many epochs
    lowest: Share = 0.1  # share of the rate below which it does not fall
    restarts: Restarts = 20  # of the K-means that starts the mixture's fit

    card: ClassVar[Card] = CARD

    def heads(self, net: Net, k: int) -> dict[str, nn.Module]:
        return {
            "decoder": decoder_for(net),
            "log_variance": nn.Linear(hidden_width(net), net.width),
            "mixture": Mixture(net.width, k),
        }

    @torch.no_grad()
    def start(self, net: Net, features: Features, k: int, generator: torch.Generator) -> None:
        """Fit a diagonal mixture with equal weights to the codes, and turn the decoder's outputs into logits.

        An item's variance begins as its group's, whatever the scale of the codes: if it were far larger, draws would
        not depend on the group, and the mixture would collapse.
        """
        z = features()
        net.mixture.fit(z, kmeans(z, k, generator=generator, restarts=self.restarts).labels)
        net.log_variance.bias.copy_(net.mixture.log_variances.mean(0))
        if net.spec.kind == "images":
            last = [m for m in net.decoder.modules() if hasattr(m, "bias")][-1]
            last.weight.mul_(LOGIT_SLOPE)
            last.bias.sub_(0.5).mul_(LOGIT_SLOPE)

    def optimiser(self, net: Net) -> torch.optim.Optimizer:
        trained = trainable(net.backbone, net.decoder, net.log_variance, net.mixture)
        return torch.optim.Adam(trained, self.learning_rate, eps=1e-4, fused=True)

    def rate(self, progress: float) -> float:
        return max(self.decay ** (parts_done(progress, self.epochs) // self.decay_every), self.lowest)

    def step(self, net: Net, batch: Batch) -> Iterator[Losses]:
        """The negative evidence lower bound (Eq. 8) with one draw of z; sums over values, means over the batch."""
        hidden, mean = hidden_and_code(net, batch.shifted)
        log_variance = net.log_variance(hidden)
        z = mean + (0.5 * log_variance).exp() * batch.normal(mean)
        mixture = net.mixture
        log_posterior = mixture(z).log_softmax(1)  # γ (Eq. 16)
        apart = component_divergence(mean, log_variance, mixture.means, mixture.log_variances)
        within, choice = prior_divergence(log_posterior, mixture.weights, apart)
        error = self.reconstruction_error(net, batch.shifted, net.decoder(z))
        batch.count(batch.gather(log_posterior.detach()).argmax(1), len(mixture.weights))
        yield {
            "reconstruction": self.reconstruction_weight * batch.gather(error).mean(),
            "components": batch.gather(within).mean(),
            "choice": batch.gather(choice).mean(),
        }

    def reconstruction_error(self, net: Net, view: Tensor, decoded: Float[Tensor, "b x"]) -> Float[Tensor, " b"]:
        """The reconstruction loss of each item: cross-entropy for pixels, squared error for embeddings."""
        if net.spec.kind != "images":
            return (decoded - flat(view)).square().sum(1)
        pixels = flat(view * net.std.view(-1, 1, 1) + net.mean.view(-1, 1, 1)).clamp(0, 1)
        return F.binary_cross_entropy_with_logits(decoded, pixels, reduction="none").sum(1)

    def logits(self, net: Net, features: Float[Tensor, "n d"]) -> dict[str, Float[Tensor, "n k"]]:
        return {"mixture": net.mixture(features)}


def practical(facts: Facts) -> dict[str, Any]:
    """For a CPU or small data: 4,000 iterations of larger batches at half the rate, which falls to its lowest."""
    size = iterations_for(facts, 600, 4_000)
    return {**size, "learning_rate": 1e-3, "decay_every": max(1, size["epochs"] // 22)}


class Mixture(nn.Module):
    """The prior of the code: logits of π, means m, logarithms of variances λ. Called, it gives log π_k N(z; m, λ)."""

    def __init__(self, width: int, k: int) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.zeros(k))
        self.means = nn.Parameter(torch.zeros(k, width))
        self.log_variances = nn.Parameter(torch.zeros(k, width))

    def forward(self, z: Float[Tensor, "n d"]) -> Float[Tensor, "n k"]:
        return log_joint(z, self.weights, self.means, self.log_variances)

    @torch.no_grad()
    def fit(self, z: Float[Tensor, "n d"], labels: Tensor) -> None:
        """Means and variances by expectation maximisation from K-means' groups; the weights stay equal."""
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.mixture import GaussianMixture

        x = z.double().cpu().numpy()
        start = torch.stack([z[labels == k].mean(0) for k in range(len(self.weights))]).nan_to_num()
        fitted = GaussianMixture(len(start), covariance_type="diag", means_init=start.cpu().numpy(), random_state=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a start need not have converged
            fitted.fit(x)
        self.means.copy_(torch.from_numpy(fitted.means_))
        self.log_variances.copy_(torch.from_numpy(fitted.covariances_).log())
