"""AE + k-means: reconstruct, then K-means on the code. Phase 1 of the auto-encoder family.

The baseline of Xie, Girshick and Farhadi, "Unsupervised Deep Embedding for Clustering Analysis", ICML 2016, in the form
of the R-DC comparison (Shaheen et al. 2025): plain reconstruction end to end, no layer-wise pre-training, the shifted
and turned image as input and target, Adam. `idec`, `dcn`, `vade` and `pssc` start from its encoder and decoder, `dec`
and `deepfinch` from its encoder.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from coterie.algorithms.kmeans import place_groups
from coterie.common.bounds import BatchSize, Epochs, Rate, Restarts
from coterie.contract import Card, Facts, iterations_for, logged
from coterie.networks.autoencoder import decoder_for, explained, flat
from coterie.networks.heads import PrototypeHead
from coterie.networks.net import Net, trainable
from coterie.types import Batch, Features, Losses

CARD = Card(
    title="AE + k-means",
    paper="Xie, Girshick, Farhadi: Unsupervised Deep Embedding for Clustering Analysis (its baseline)",
    year=2016,
    family="auto-encoder",
    url="https://proceedings.mlr.press/v48/xieb16.html",
    views={"shifted": "shifted"},
    gives=("decoder",),
    scaling="unit",
    backbone=lambda spec, device, as_published: "ae",
    of_the_last=("restarts",),
    logs={
        "explained": logged.EXPLAINED,
    },
)


@dataclass(frozen=True)
class AE:
    epochs: Epochs = 476  # 130,000 iterations of Fashion-MNIST's 70,000 images
    batch_size: BatchSize = 256
    learning_rate: Rate = 1e-4  # Adam
    restarts: Restarts = 20  # of the final K-means

    card: ClassVar[Card] = CARD

    def heads(self, net: Net, k: int) -> dict[str, nn.Module]:
        return {"decoder": decoder_for(net), "groups": PrototypeHead(net.width, k, standardise=False)}

    def optimiser(self, net: Net) -> torch.optim.Optimizer:
        trained = trainable(net.backbone, net.decoder)
        return torch.optim.Adam(trained, self.learning_rate, fused=True)

    def step(self, net: Net, batch: Batch) -> Iterator[Losses]:
        """The mean squared error over all values of the batch; the shifted image is its own target."""
        wanted = flat(batch.shifted)
        error = (net.decoder(net.backbone(batch.shifted)) - wanted).square().mean(1)
        # 0 while every reconstruction is the mean image, as on the plateau at the start; 1 for perfect ones.
        batch.log(explained=explained(batch.gather(error), batch.gather(wanted)))
        yield {"reconstruction": batch.gather(error).mean()}

    def finish(self, net: Net, features: Features, k: int, generator: torch.Generator) -> None:
        """K-means on the raw code; the confidences are the posterior of a spherical mixture around its centres."""
        place_groups(net.groups, features(), generator, self.restarts)

    def logits(self, net: Net, features: Float[Tensor, "n d"]) -> dict[str, Float[Tensor, "n k"]]:
        return {"kmeans": net.groups(features)}


def practical(facts: Facts) -> dict[str, Any]:
    """For a CPU or small data: 10,000 iterations at ten times the rate, fewer for fewer items."""
    return {**iterations_for(facts, 1_500, 10_000), "learning_rate": 1e-3}
