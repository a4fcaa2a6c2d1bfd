"""DDC-UCO: groups far apart by the Cauchy-Schwarz divergence, in the last hidden layer and in the maps before it.

Trosten, Løkse, Jenssen and Kampffmeyer, "Leveraging Tensor Kernels to Reduce Objective Function Mismatch in Deep
Clustering", Pattern Recognition 2024 (arXiv 2020); the divergence-based clustering that it builds on is Kampffmeyer and
others, "Deep Divergence-Based Approach to Clustering", Neural Networks 2019. One stage from random weights, on plain
items. Groups are compared by a kernel of the hidden layer; the unsupervised companion objectives do the same by tensor
kernels of the backbone's maps. docs/methods/ddc_uco.md lists where we differ, above all: one run, of which the last
epoch is reported.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from coterie.common.bounds import BatchSize, Epochs, Positive, PositiveRate, Weight, Width
from coterie.contract import Card, Facts, OnlyIf, logged
from coterie.networks.blocks import NAME, block_maps
from coterie.networks.heads import SteadyLinear
from coterie.networks.net import Net, trainable
from coterie.types import Batch, InputError, ItemSpec, Losses

SMALLEST = 1e-9  # of a sum over a kernel, and of σ
RIDGE = 1e-6  # added to the eigenvalues of a map's Gram matrix, the authors' 1e-6 in TensorFlow
MAP_SIDE = 64  # pixels of a side; larger maps are averaged down, since pairs of maps take memory with its square


def backbone(spec: ItemSpec, device: str, as_published: bool) -> str:
    return NAME if spec.kind == "images" else "mlp"


CARD = Card(
    title="DDC-UCO",
    paper="Trosten, Løkse, Jenssen, Kampffmeyer: Leveraging Tensor Kernels to Reduce Objective Function Mismatch in "
    "Deep Clustering",
    year=2024,
    family="divergence",
    url="https://arxiv.org/abs/2001.07026",
    views={"clean": "clean"},
    scaling="unit",
    answers=("hidden", "cluster"),
    only_if=(OnlyIf("companion_weight", lambda weight: weight > 0, ("companion_growth",)),),
    presets={"mnist": {}, "usps": {"image_size": 32}, "fashion-mnist": {}, "coil-100": {"image_size": 64}},
    backbone=backbone,
    logs={"confidence": logged.CONFIDENCE},
)


@dataclass(frozen=True)
class DDCUCO:
    epochs: Epochs = 200
    batch_size: BatchSize = 120  # items whose kernels are compared; the authors' is far above the number of groups
    hidden: Width = 100  # width of the layer whose kernel compares the groups
    bandwidth: Positive = 0.15  # σ of a kernel, as a multiple of the median squared distance
    companion_weight: Weight = 0.01  # of each map's divergence; 0: DDC without companions
    companion_growth: Literal["constant", "linear", "exponential"] = "constant"  # of that weight from map to map
    clip: Positive = 10.0  # longest gradient of all parameters together
    learning_rate: PositiveRate = 1e-4  # Adam; 1e-3 for DDC without companions

    card: ClassVar[Card] = CARD

    def check(self, facts: Facts) -> None:
        """Raise InputError for a batch that cannot hold all groups."""
        if self.batch_size < facts.k:
            raise InputError(
                f"ddc_uco.batch_size is {self.batch_size}: groups are compared within a batch, and with {facts.k} of "
                f"them it must be at least {facts.k}, better ten times that."
            )

    def heads(self, net: Net, k: int) -> dict[str, nn.Module]:
        """The hidden layer and the answer on it, with He's initialisation."""
        layers = SteadyLinear(net.width, self.hidden), SteadyLinear(self.hidden, k)
        for layer in layers:
            nn.init.kaiming_normal_(layer.weight)
            nn.init.zeros_(layer.bias)
        hidden = nn.Sequential(layers[0], nn.ReLU(inplace=True), nn.BatchNorm1d(self.hidden))
        return {"hidden": hidden, "cluster": layers[1]}

    def optimiser(self, net: Net) -> torch.optim.Optimizer:
        optimiser = torch.optim.Adam(trainable(net), self.learning_rate, fused=True)
        optimiser.register_step_pre_hook(lambda one, args, settings: self._shorten(net))
        return optimiser

    def _shorten(self, net: Net) -> None:
        nn.utils.clip_grad_norm_(trainable(net), self.clip)

    def step(self, net: Net, batch: Batch) -> Iterator[Losses]:
        """The five terms over the global batch; where a backbone gives no maps, its features replace them."""
        with block_maps(net) as kept:
            features = net.backbone(batch.clean)
        hidden = net.hidden(features)
        p = batch.gather(net.cluster(hidden)).softmax(1)
        near = kernel(squared_distances(batch.gather(hidden)), self.bandwidth)
        losses = {
            "divergence": cauchy_schwarz(p, near),
            "overlap": overlap(p),
            "corners": cauchy_schwarz(to_corners(p), near),
        }
        if self.companion_weight:
            shown = [batch.gather(shrunk(one)) for one in kept] or [batch.gather(features)]
            for i, (one, weight) in enumerate(zip(shown, self.weights(len(shown)), strict=True)):
                apart = projection_distances(one) if one.ndim > 2 else squared_distances(one)
                losses[f"companion{i + 1}"] = weight * cauchy_schwarz(p, kernel(apart, self.bandwidth))
        batch.record_answers(p)
        yield losses

    def weights(self, count: int) -> list[float]:
        """The companions' weights for this many maps, first to last; the last always has `companion_weight`."""
        growth = {
            "constant": [1.0] * count,
            "linear": [(i + 1) / count for i in range(count)],
            "exponential": [10.0 ** (i + 1 - count) for i in range(count)],
        }
        return [self.companion_weight * factor for factor in growth[self.companion_growth]]

    def logits(self, net: Net, features: Float[Tensor, "n d"]) -> dict[str, Float[Tensor, "n k"]]:
        return {"cluster": net.cluster(net.hidden(features))}


def practical(facts: Facts) -> dict[str, Any]:
    """For a CPU or small data: 700 steps (4,000 on a card) at ten times the rate; the losses no longer fall by then."""
    batch = min(facts.n, max(120, 4 * facts.k))
    steps = 700 if facts.device.startswith("cpu") else 4_000
    return {
        "epochs": max(1, min(200, round(steps / max(1, facts.n // batch)))),
        "batch_size": batch,
        "learning_rate": 1e-3,
    }


# Losses


def cauchy_schwarz(a: Float[Tensor, "n k"], near: Float[Tensor, "n n"]) -> Float[Tensor, ""]:
    """The mean over pairs of groups of α·Kα' / √(αKα · α'Kα'): 0 for groups that no kernel links, 1 for equal ones."""
    sums = a.T @ near @ a
    own = sums.diagonal()
    ratio = sums.clamp(min=SMALLEST) / (own[:, None] * own).clamp(min=SMALLEST**2).sqrt()
    k = len(sums)
    return 2 / (k * (k - 1)) * ratio.triu(1).sum()


def overlap(p: Float[Tensor, "n k"]) -> Float[Tensor, ""]:
    """The mean over pairs of items of the products of their answers: 1/k at best, where groups are sure and equal."""
    n = len(p)
    return 2 / (n * (n - 1)) * (p @ p.T).triu(1).sum()


def to_corners(p: Float[Tensor, "n k"]) -> Float[Tensor, "n k"]:
    """exp(-|p - e|²) for every corner e of the simplex: 1 for a sure answer and its own group."""
    return (2 * p - p.square().sum(1, keepdim=True) - 1).exp()


def kernel(squared: Float[Tensor, "n n"], bandwidth: float) -> Float[Tensor, "n n"]:
    """exp(-D / 2σ), σ a multiple of the median of D, without gradient through it."""
    squared = squared.clamp(min=0)
    sigma = (bandwidth * squared.detach().median()).clamp(min=SMALLEST)
    return (-squared / (2 * sigma)).exp()


def squared_distances(x: Float[Tensor, "n d"]) -> Float[Tensor, "n n"]:
    """|x_i|² - 2 x_i·x_j + |x_j|², which rounding may bring a little below 0."""
    x = x - x.detach().mean(0)  # products of rows far from 0 would lose their differences
    norms = x.square().sum(1)
    return norms[:, None] - 2 * x @ x.T + norms


def projection_distances(maps: Float[Tensor, "n c h w"]) -> Float[Tensor, "n n"]:
    """Over the three modes of the maps, the sum of the projection distances between the row spaces of items.

    Each is 2 (m - |V Vᵀ|²) of orthonormal bases V (m rows): 0 for the same space, 2 m for orthogonal ones.
    """
    return torch.stack([2 * (rows.shape[1] - shared(basis_of(rows))) for rows in modes_of(maps)]).clamp(min=0).sum(0)


def modes_of(maps: Float[Tensor, "n c h w"]) -> Iterator[Float[Tensor, "n m e"]]:
    """Each map as three matrices: with a row for each channel, for each row of pixels, and for each column.

    A matrix with more rows than columns is transposed, or its rows would span the same space for all items.
    """
    for mode in (1, 2, 3):
        rows = maps.transpose(1, mode).flatten(2)
        yield rows if rows.shape[1] <= rows.shape[2] else rows.mT


def basis_of(rows: Float[Tensor, "n m e"]) -> Float[Tensor, "n m e"]:
    """An orthonormal basis of each row space, as L⁻¹ X of the Cholesky factor X Xᵀ + εI = L Lᵀ.

    It spans the space of the authors' basis by eigenvectors, since Xᵀ(X Xᵀ + εI)⁻¹X is the same, but its gradient
    exists for equal eigenvalues, too. In float64, since maps after ReLU have rows of zeros and ε is relatively small.
    """
    exact = rows.double()
    gram = exact @ exact.mT + RIDGE * torch.eye(rows.shape[1], dtype=exact.dtype, device=rows.device)
    # Unchecked: numbers that are not finite stay so, and the loss then raises an error with a clear sentence.
    factor = torch.linalg.cholesky_ex(gram).L
    return torch.linalg.solve_triangular(factor, exact, upper=False).to(rows)


def shared(basis: Float[Tensor, "n m e"]) -> Float[Tensor, "n n"]:
    """|V Vᵀ|² of all pairs of bases, by products of bases or of projectors, whichever is less work."""
    n, m, e = basis.shape
    if e <= m * m:
        projectors = (basis.mT @ basis).flatten(1)
        return projectors @ projectors.T
    every = basis.flatten(0, 1)
    return (every @ every.T).square().view(n, m, n, m).sum((1, 3))


def shrunk(maps: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c y x"]:
    """Maps of at most 64 pixels a side."""
    h, w = maps.shape[2:]
    return maps if max(h, w) <= MAP_SIDE else F.adaptive_avg_pool2d(maps, (min(h, MAP_SIDE), min(w, MAP_SIDE)))
