"""DeCNN + k-means: images as sums of few learned filters, their maps again as such sums; K-means on the codes.

Zeiler, Krishnan, Taylor and Fergus, "Deconvolutional Networks", CVPR 2010, as a row of PICA's Table 1, for which no
settings were ever published. Two layers of convolutional sparse coding (`networks/deconvolution.py`): maps are found by
minimising a cost, not computed by a net. Filters are trained by Adam on reconstructing batches instead of gradient
descent on all images, and both layers at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from coterie.algorithms.kmeans import place_groups
from coterie.algorithms.principal import principal_directions
from coterie.common.bounds import BatchSize, Copies, Epochs, Positive, PositiveRate, Restarts
from coterie.contract import Card, Facts
from coterie.networks.deconvolution import SparseLayer, coder_of
from coterie.networks.heads import PrototypeHead
from coterie.networks.net import Net
from coterie.networks.pooled import PROJECTED
from coterie.types import Batch, Features, Losses

SAMPLE = 10_000  # items that the principal components are computed from

CARD = Card(
    title="DeCNN + k-means",
    paper="Zeiler, Krishnan, Taylor, Fergus: Deconvolutional Networks",
    year=2010,
    family="factors",
    url="https://doi.org/10.1109/CVPR.2010.5539957",
    views={"clean": "clean"},
    scaling="unit",
    accepts=("images",),
    answers=("groups",),
    backbone=lambda spec, device, as_published: "decnn-4" if device.startswith("cpu") and not as_published else "decnn",
    of_the_last=("restarts",),
    logs={
        "first_explained": ("first layer: explained variance", "share of the images' that their maps rebuild"),
        "second_explained": ("second layer: explained variance", "share of the first layer's maps, which are sparse"),
        "first_active": ("first layer: values in use", "share of its maps that is not 0"),
        "second_active": ("second layer: values in use", "share of its maps that is not 0; at 0 it sees nothing"),
    },
)


@dataclass(frozen=True)
class DeCNN:
    epochs: Epochs = 10
    batch_size: BatchSize = 64
    fidelity: Positive = 1.0  # λ: weight of the squared error against the sum of the maps' absolute values
    iterations: Copies = 50  # of FISTA when maps are computed
    learning_rate: PositiveRate = 1e-2  # Adam, of the filters
    restarts: Restarts = 20  # of the final K-means

    card: ClassVar[Card] = CARD

    def heads(self, net: Net, k: int) -> dict[str, nn.Module]:
        coder_of(net)
        return {"groups": PrototypeHead(net.width, k, standardise=False)}

    def start(self, net: Net, features: Features, k: int, generator: torch.Generator) -> None:
        """Store `fidelity` and `iterations` in the net, since its codes depend on them."""
        coder_of(net).set(self.fidelity, self.iterations)

    def optimiser(self, net: Net) -> torch.optim.Optimizer:
        coder = coder_of(net)
        return torch.optim.Adam([coder.first.filters, coder.second.filters], self.learning_rate, fused=True)

    def step(self, net: Net, batch: Batch) -> Iterator[Losses]:
        """Each layer's cost at its best maps, for the gradient of its filters only. Then filters are shortened."""
        coder = coder_of(net)
        images = coder.even(batch.clean)
        with torch.no_grad():
            first = coder.codes(coder.first, images)
            second = coder.codes(coder.second, first)
        yield {
            **self.costs(batch, "first", coder.first, images, first),
            **self.costs(batch, "second", coder.second, first, second),
        }
        coder.first.shorten()
        coder.second.shorten()

    def costs(self, batch: Batch, name: str, layer: SparseLayer, given: Tensor, codes: Tensor) -> Losses:
        """A layer's reconstruction error and the size of its codes, and the numbers that are logged of them."""
        error, size = (batch.gather(term) for term in layer.cost(given, codes, self.fidelity))
        # The second layer, too, is measured around 0: its maps are as often negative as positive.
        power = self.fidelity / 2 * batch.gather(given.square().sum((1, 2, 3))).mean()
        active = batch.gather((codes != 0).float().mean((1, 2, 3))).mean()
        batch.log(**{f"{name}_explained": 1 - error.detach().mean() / power.clamp(min=1e-6), f"{name}_active": active})
        return {f"{name}_error": error.mean(), f"{name}_size": size.mean()}

    def finish(self, net: Net, features: Features, k: int, generator: torch.Generator) -> None:
        """Replace the random projection by principal components, and group them by K-means.

        Features are not standardised: most are 0 nearly always, and would count as much as the others.
        """
        trunk: Any = net.backbone.trunk
        pooled = features(by=coder_of(net), most=SAMPLE)
        trunk.place(*principal_directions(pooled, PROJECTED, generator, standardise=False))
        place_groups(net.groups, features(), generator, self.restarts)

    def logits(self, net: Net, features: Float[Tensor, "n d"]) -> dict[str, Float[Tensor, "n k"]]:
        return {"kmeans": net.groups(features)}


def practical(facts: Facts) -> dict[str, Any]:
    """For a CPU or small data: 200 steps or one pass, and fewer iterations for the maps."""
    batch = max(2, min(64, facts.n // 4))
    return {"epochs": max(1, min(10, round(200 / (facts.n // batch)))), "batch_size": batch, "iterations": 20}
