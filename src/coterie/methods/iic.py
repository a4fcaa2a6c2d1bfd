"""IIC: maximises the mutual information between the groups of an image and of its changed copy.

Ji, Henriques and Vedaldi, "Invariant Information Clustering for Unsupervised Image Classification and Segmentation",
ICCV 2019. One stage from random weights: the mutual information of the groups of both views, which is largest when they
are the same, sure, and of equal size. Defaults are the authors' CIFAR-10 configuration; docs/methods/iic.md lists where
we differ, above all: the last epoch is reported, and the sub-head that answers is chosen by its loss.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from coterie.common.bounds import BatchSize, Copies, Epochs, PositiveRate, Weight, Width
from coterie.contract import Card, Facts, OnlyIf, Pass, View, logged
from coterie.networks.heads import SteadyLinear
from coterie.networks.net import Net, trainable
from coterie.networks.sobel import behind_sobel
from coterie.objectives.partition import partition_preset
from coterie.types import Batch, EpochStart, Family, InputError, Losses
from coterie.views.colour import colour_jitter
from coterie.views.draw import Draw
from coterie.views.recipes import GLYPH, Recipe
from coterie.views.settings import ViewSettings
from coterie.views.warps import enlarge_and_crop

JITTER = (0.4, 0.4, 0.4, 0.125)  # brightness, contrast, saturation, hue of the changed copies
SMALLEST = 2.0**-52  # of an entry of the joint distribution, the authors' float64 epsilon
CIFAR = {"views.enlarge": 32 / 20}  # crops of 20 of 32 pixels

CARD = Card(
    title="IIC",
    paper="Ji, Henriques, Vedaldi: Invariant Information Clustering for Unsupervised Image Classification and "
    "Segmentation",
    year=2019,
    family="partition",
    url="https://arxiv.org/abs/1807.06653",
    views={"plain": "original", "copy1": "perturbed", "copy2": "perturbed", "copy3": "perturbed"},
    looks_at="centre",
    accepts=("images",),
    answers=("primary",),
    balance="entropy_weight",
    only_if=(OnlyIf("over_clustering", lambda yes: yes, ("over", "over_passes", "over_first")),),
    presets={
        "cifar10": CIFAR,
        "cifar20": {
            **CIFAR,
            "batch_size": 200,
            "copies": 5,
            "over": 140,
            "primary_passes": 1,
            "over_first": False,
        },
        "stl10": {
            "views.enlarge": 96 / 64,
            "image_size": 96,
            "batch_size": 140,
            "copies": 5,
            "primary_passes": 1,
        },
    },
    backbone=behind_sobel("iic-resnet34"),
    logs={
        "information": ("mutual information", "of both views' groups, in nats; rises to ln k"),
        "confidence": logged.CONFIDENCE,
        "over_information": ("over-clustering: mutual information", "in nats; rises to ln of its groups"),
        "over_confidence": ("over-clustering: mean confidence", "while training"),
    },
)


@dataclass(frozen=True)
class IIC:
    epochs: Epochs = 2000  # rounds: the passes of both heads
    batch_size: BatchSize = 220  # different images, over which the joint distribution is estimated
    copies: Copies = 3  # changed copies of each image
    over: Width = 70  # groups of the over-clustering head; 140 for 20 classes
    over_clustering: bool = True
    over_passes: Copies = 1  # passes of a round for the over-clustering head
    primary_passes: Copies = 2  # passes of a round for the primary head
    over_first: bool = True  # the over-clustering head comes first in a round
    sub_heads: Copies = 5  # linear layers of each head, trained side by side; the one of lowest loss answers
    entropy_weight: Weight = 1.0  # lambda, weight of the groups' entropies; above 1 for more equal sizes
    learning_rate: PositiveRate = 1e-4  # Adam, constant

    card: ClassVar[Card] = CARD

    def check(self, facts: Facts) -> None:
        """Raise InputError for settings that cannot work on such data."""
        if self.over_clustering and self.over < 2:
            raise InputError(f"iic.over is {self.over}: it must be at least 2 (or over_clustering=false).")
        if self.batch_size < facts.k:
            raise InputError(
                f"iic.batch_size is {self.batch_size}: with {facts.k} groups it must be at least {facts.k}."
            )

    def views(self) -> dict[str, View]:
        """A crop as it is, and others that are mirrored and jittered; glyphs are shifted and turned instead."""
        recipes: dict[Family, Recipe] = {"photo": changed, "glyph": GLYPH["perturbed"]}
        copy = View(recipes, settings={"perturbed_jitter": JITTER})
        return {"plain": View("original"), **{f"copy{i + 1}": copy for i in range(self.copies)}}

    def passes(self) -> tuple[Pass, ...]:
        """The over-clustering head also learns from the source's extra items: STL-10's unlabelled images."""
        over = [Pass(f"over{i + 1}", extra=True, keep_last=True) for i in range(self.over_passes)]
        primary = [Pass(f"primary{i + 1}", keep_last=True) for i in range(self.primary_passes)]
        if not self.over_clustering:
            return tuple(primary)
        return (*over, *primary) if self.over_first else (*primary, *over)

    def heads(self, net: Net, k: int) -> dict[str, nn.Module]:
        over = {"over": SubHeads(net.width, self.over, self.sub_heads)} if self.over_clustering else {}
        return {**over, "primary": SubHeads(net.width, k, self.sub_heads)}

    def optimiser(self, net: Net) -> torch.optim.Optimizer:
        return torch.optim.Adam(trainable(net), self.learning_rate, fused=True)

    def begin_epoch(self, net: Net, epoch: EpochStart) -> None:
        """Reset the losses by which the answering sub-head is chosen, so that they are those of the last round."""
        net.primary.losses.zero_()

    def step(self, net: Net, batch: Batch) -> Iterator[Losses]:
        """The mean loss of the sub-heads of the current pass, over the global batch."""
        name = batch.pass_name.rstrip("0123456789")
        head: Any = net.get_submodule(name)
        # Two passes through the backbone: images and copies are normalised by statistics of their own.
        x = batch.gather(head(net.backbone(batch.plain))).softmax(2)
        copies = [view for key, view in batch.views.items() if key != "plain"]
        # An image counts once with each copy, which is the same as once with the mean of their answers.
        y = batch.gather(torch.stack(head(net.backbone(torch.cat(copies))).softmax(2).chunk(len(copies))).mean(0))
        joints = [joint(x[:, i], y[:, i]) for i in range(x.shape[1])]
        losses = torch.stack([dependence(p, self.entropy_weight) for p in joints])
        head.losses += losses.detach()
        self._record(batch, name, x.detach(), head, joints)
        yield {"information" if name == "primary" else "over_information": losses.mean()}

    def _record(self, batch: Batch, name: str, x: Float[Tensor, "n s k"], head: Any, joints: list[Tensor]) -> None:
        """Mean information and confidence of all sub-heads, groups of the best one so far."""
        everyone = x.amax(2).mean()  # that of the best alone would jump between nearly equal heads
        confidence, label = x[:, head.best()].max(1)
        information = -torch.stack([dependence(p.detach(), 1.0) for p in joints]).mean()
        prefix = "over_" if name == "over" else ""
        batch.log(**{f"{prefix}information": information, f"{prefix}confidence": everyone})
        if name == "primary":
            batch.count(label, x.shape[2])
            batch.count_confidences(confidence)

    def logits(self, net: Net, features: Float[Tensor, "n d"]) -> dict[str, Float[Tensor, "n k"]]:
        return {"primary": net.primary.heads[net.primary.best()](features)}


def practical(facts: Facts) -> dict[str, Any]:
    """For a CPU or small data: PICA's practical preset, and one pass for each head."""
    return {**partition_preset(facts), "primary_passes": 1}


def joint(x: Float[Tensor, "n k"], y: Float[Tensor, "n k"]) -> Float[Tensor, "k k"]:
    """The joint distribution of the groups of an item and its copy: symmetric, sums to 1."""
    p = x.T @ y
    p = p + p.T
    return p / p.sum()


def dependence(p: Float[Tensor, "k k"], weight: float) -> Float[Tensor, ""]:
    """Minus the mutual information of such a joint distribution, with the marginals' logarithms weighed by `weight`.

    With weight 1 from -ln k (one-hot, equal, the same groups in both views) to 0 (independent). [[.5, 0], [0, .5]] is
    -ln 2. Entries below float64's epsilon are raised to it, so that an empty group has a finite logarithm.
    """
    rows, columns = (p.sum(dim, keepdim=True).clamp(min=SMALLEST).log() for dim in (1, 0))
    p = p.clamp(min=SMALLEST)
    return -(p * (p.log() - weight * (rows + columns))).sum()


class SubHeads(nn.Module):
    """Linear layers side by side, weights N(0, 0.01²) at first, and the sum of the losses of each."""

    losses: Tensor

    def __init__(self, width: int, k: int, count: int) -> None:
        super().__init__()
        self.heads = nn.ModuleList(SteadyLinear(width, k) for _ in range(count))
        for head in self.heads.children():
            nn.init.normal_(head.get_parameter("weight"), std=0.01)
            nn.init.zeros_(head.get_parameter("bias"))
        self.register_buffer("losses", torch.zeros(count))

    def forward(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "n s k"]:
        return torch.stack([head(features) for head in self.heads], 1)

    def best(self) -> int:
        """The layer of lowest loss, the first of equals."""
        return int(self.losses.argmin())


def changed(images: Tensor, draw: Draw, settings: ViewSettings) -> Tensor:
    """A crop of the same size as the plain view's, mirrored by chance, its colours changed."""
    view = enlarge_and_crop(images, draw, settings.enlarge)
    mirrored = draw.chance(settings.flip)[:, None, None, None]
    return colour_jitter(torch.where(mirrored, view.flip(3), view), draw, *settings.perturbed_jitter)
