"""PSSC: items are expressed as sums of one another, and groups from the coefficients supervise the auto-encoder.

Lv, Kang, Lu and Xu, "Pseudo-supervised Deep Subspace Clustering", IEEE Transactions on Image Processing 2021. After
`ae`, an n×n matrix of coefficients between encoder and decoder is trained with them, on all its items in one batch:
at most 5,000, drawn at random; all others join the nearest of them in the code. The coefficients' graph weighs the
reconstruction and is itself pulled to the pseudo-labels of a classifier. docs/methods/pssc.md lists where we differ,
above all: pairs with different pseudo-labels are separated, which the authors' code leaves out by mistake.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from coterie.algorithms.nearest_mean import NearestMean, neighbour_agreement
from coterie.algorithms.subspace import spectral_groups, subspace_affinity
from coterie.common.bounds import BatchSize, Count, Epochs, PartShare, Positive, Rate, Share, Weight
from coterie.contract import Card, Facts, OnlyIf, Pass, logged
from coterie.networks.autoencoder import decoder_for, flat
from coterie.networks.features import some_rows
from coterie.networks.heads import SteadyLinear
from coterie.networks.memory import ItemTable
from coterie.networks.net import Net, trainable
from coterie.types import Batch, Features, InputError, Losses

SMALLEST_LINK = 0.001  # least link wanted for a pair of one pseudo-label
BEGINNING = 1e-5  # first value of all coefficients
MOST = 20_000  # items in the matrix: its values, gradients, Adam's moments and results take 16 GB
TABLES = 10  # tables of the matrix's size that a step holds at once

CARD = Card(
    title="PSSC",
    paper="Lv, Kang, Lu, Xu: Pseudo-supervised Deep Subspace Clustering",
    year=2021,
    family="subspace",
    url="https://github.com/sckangz/SelfsupervisedSC",
    views={"clean": "clean"},
    starts_from="ae",
    starts_on=("images", "embeddings"),
    inherits=("decoder",),
    scaling="unit",
    answers=("groups",),
    only_if=(OnlyIf("label_weight", lambda weight: weight > 0, ("sure_above",)),),
    presets={"mnist": {}, "fashion-mnist": {}},
    backbone=lambda spec, device, as_published: "ae",
    logs={
        "sure": ("sure share", "items whose pseudo-label is taught"),
        "confidence": logged.CONFIDENCE,
        "within": ("coefficients within pseudo-groups", "share of their absolute sum; 1/k where they know nothing"),
    },
)


@dataclass(frozen=True)
class PSSC:
    epochs: Epochs = 20  # steps, each on all items of the matrix
    batch_size: BatchSize = 5000  # items that are expressed by one another; the others join the nearest of them
    reconstruction_weight: Weight = 1.0
    neighbour_weight: Weight = 1.0  # of the reconstruction of an item's relatives
    expression_weight: Weight = 1.0  # w₁
    label_weight: Weight = 1.0  # w₂
    graph_weight: Weight = 0.01  # w₃, of the pseudo-graph's and the balance's terms, whose sum grows with n²
    sure_above: Share = 0.8  # probability from which a pseudo-label is learned
    learning_rate: Rate = 1e-4  # Adam
    kept: PartShare = 0.12  # share of a column's absolute sum that its largest coefficients keep
    dimension: Count = 4  # of a subspace
    power: Positive = 5.0  # exponent of the cosines in the affinity

    card: ClassVar[Card] = CARD

    def limits(self, facts: Facts) -> dict[str, tuple[int, int | None]]:
        return {"batch_size": (2, facts.n)}

    def check(self, facts: Facts) -> None:
        """Raise InputError for a matrix that is too large for memory, or has too few items."""
        if self.batch_size > MOST:
            raise InputError(
                f"pssc.batch_size is {self.batch_size:,}: the matrix of so many items takes "
                f"{4 * TABLES * self.batch_size**2 / 1e9:,.0f} GB in training; take at most {MOST:,}, whose nearest "
                "neighbours all others become."
            )
        if self.batch_size < facts.k:
            raise InputError(
                f"pssc.batch_size is {self.batch_size}: it is the number of items that are grouped, and must be at "
                f"least that of the {facts.k} groups."
            )

    def passes(self) -> tuple[Pass, ...]:
        return (Pass(sample="chosen", steps=1),)

    def heads(self, net: Net, k: int) -> dict[str, nn.Module]:
        """The decoder, the classifier (d -> k), the matrix of coefficients, its items, the means that answer."""
        classify = SteadyLinear(net.width, k)
        nn.init.normal_(classify.weight)
        nn.init.zeros_(classify.bias)
        return {
            "decoder": decoder_for(net),
            "classify": classify,
            "expression": Expression(self.batch_size),
            "chosen": Chosen(),
            "groups": NearestMean(net.width, k, "euclidean"),
        }

    def start(self, net: Net, features: Features, k: int, generator: torch.Generator) -> None:
        """Choose the items of the matrix, which begins with equal coefficients."""
        n = len(features())
        rows = some_rows(n, self.batch_size)
        net.chosen.fill((torch.arange(n) if rows is None else rows)[:, None])
        nn.init.constant_(net.expression.coefficients, BEGINNING)

    def optimiser(self, net: Net) -> torch.optim.Optimizer:
        trained = trainable(net.backbone, net.decoder, net.classify, net.expression)
        return torch.optim.Adam(trained, self.learning_rate)

    def step(self, net: Net, batch: Batch) -> Iterator[Losses]:
        """All terms over all items of the matrix, as sums, as in the paper; that of the labels is a mean."""
        z, x = batch.gather(net.backbone(batch.clean)), batch.gather(flat(batch.clean))
        coefficients = net.expression.square(len(z))
        expressed = coefficients @ z
        decoded = batch.gather(net.decoder(batch.mine(expressed)))
        graph = links(coefficients)
        logits = net.classify(z)
        p = logits.softmax(1)
        confidence, label = p.detach().max(1)
        self._record(batch, coefficients.detach(), confidence, label, p.shape[1])
        yield {
            "reconstruction": self.reconstruction_weight * (x - decoded).square().sum(),
            "neighbours": self.neighbour_weight * weighted_reconstruction(x, decoded, normalised(graph)),
            "expression": self.expression_weight * 0.5 * (z - expressed).square().sum(),
            "label": self.label_weight * label_loss(logits, self.sure_above),
            "graph": self.graph_weight * graph_loss(graph, label),
            "balance": self.graph_weight * p.sum(0).square().sum(),
        }

    def _record(
        self,
        batch: Batch,
        coefficients: Float[Tensor, "n n"],
        confidence: Float[Tensor, " n"],
        label: Int[Tensor, " n"],
        k: int,
    ) -> None:
        size = coefficients.abs()
        within = (size * (label[:, None] == label)).sum() / size.sum().clamp(min=1e-30)
        batch.log(
            sure=(confidence > self.sure_above).float().mean(),
            confidence=confidence.mean(),
            within=within,
        )
        batch.count_confidences(confidence)

    def finish(self, net: Net, features: Features, k: int, generator: torch.Generator) -> None:
        """Spectral clustering by the coefficients; every item then joins its nearest item of the matrix in the code."""
        rows = features()[net.chosen.rows[:, 0].to(net.mean.device)]
        with torch.no_grad():
            coefficients = net.expression.square(len(rows))
            affinity = subspace_affinity(coefficients, k, self.kept, self.dimension, self.power)
        labels = spectral_groups(affinity, k, generator)
        each = torch.arange(len(rows), device=rows.device)
        net.groups.place(rows, each, labels, neighbour_agreement(rows, labels, "euclidean"))

    def logits(self, net: Net, features: Float[Tensor, "n d"]) -> dict[str, Float[Tensor, "n k"]]:
        return {"subspaces": net.groups(features)}


def practical(facts: Facts) -> dict[str, Any]:
    """For a CPU or small data: fewer items in the matrix, and more steps on it."""
    most = 2_000 if facts.device.startswith("cpu") else 5_000
    return {"epochs": 100, "batch_size": min(facts.n, most)}


class Expression(nn.Module):
    """Each row holds the coefficients that express an item as a sum of the others; none for itself."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.coefficients = nn.Parameter(torch.zeros(n, n))

    def square(self, n: int) -> Float[Tensor, "n n"]:
        """The coefficients of the first n items by each other, with zeros on the diagonal."""
        whole = self.coefficients[:n, :n]
        return whole - torch.diag(whole.diagonal())


class Chosen(ItemTable):
    """The rows of the matrix's items: a `sample` of a pass that always gives these."""

    def __init__(self) -> None:
        super().__init__(1, torch.int64)

    def draw(self, count: int, generator: torch.Generator) -> Int[Tensor, " m"]:
        rows = self.rows[:, 0].cpu()
        return rows[:count] if len(rows) >= count else torch.arange(count)  # before the start there are none


# Losses


def links(coefficients: Float[Tensor, "n n"]) -> Float[Tensor, "n n"]:
    """S = (|Θ| + |Θ|ᵀ) / 2 + I."""
    size = coefficients.abs()
    return (size + size.T) / 2 + torch.eye(len(size), device=size.device, dtype=size.dtype)


def normalised(graph: Float[Tensor, "n n"]) -> Float[Tensor, "n n"]:
    """D^-½ S D^-½, D the rows' sums."""
    root = graph.sum(1).rsqrt()
    return root[:, None] * graph * root


def weighted_reconstruction(
    x: Float[Tensor, "n d"], decoded: Float[Tensor, "n d"], graph: Float[Tensor, "n n"]
) -> Float[Tensor, ""]:
    """|X - X̂|² + 2 tr(Xᵀ (I - S) X̂): items should be like their relatives' reconstructions.

    It equals Σ s_ij |x_i - x̂_j|² where rows and columns of S sum to 1.
    """
    trace = (x * decoded).sum() - (x * (graph @ decoded)).sum()
    return (x - decoded).square().sum() + 2 * trace


def label_loss(logits: Float[Tensor, "n k"], sure_above: float) -> Float[Tensor, ""]:
    """Cross-entropy of the answers with their own group, the mean over the sure ones; 0 if there are none."""
    confidence, label = logits.detach().softmax(1).max(1)
    sure = confidence > sure_above
    each = F.cross_entropy(logits, label, reduction="none")
    return (each * sure).sum() / sure.sum().clamp(min=1)


def graph_loss(graph: Float[Tensor, "n n"], label: Int[Tensor, " n"]) -> Float[Tensor, ""]:
    """Sum of the links between pseudo-groups, and of the amounts by which links within one are below 0.001."""
    same = label[:, None] == label
    return torch.where(same, (SMALLEST_LINK - graph).clamp(min=0), graph).sum()
