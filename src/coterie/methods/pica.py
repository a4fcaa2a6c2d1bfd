"""PICA: maximises the confidence that an image and its distorted copies are in the same group.

Huang, Gong and Zhu, "Deep Semantic Clustering by Partition Confidence Maximisation", CVPR 2020. One stage from random
weights: no pre-training, no pseudo-labels, no K-means. Equation numbers are the paper's; where paper and code differ we
take the code (docs/methods/pica.md lists each case), but for these: a head stays as it is during the other's pass
(theirs drifts on with Adam's momentum), and the last epoch is reported.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from coterie.common.bounds import BatchSize, BelowOne, Copies, Epochs, Rate, Weight, Width
from coterie.contract import Card, Facts, OnlyIf, Pass, logged
from coterie.networks.heads import SteadyLinear
from coterie.networks.net import Net, trainable
from coterie.networks.sobel import behind_sobel
from coterie.objectives.partition import (
    imbalance,
    mean_off_diagonal,
    partition_loss,
    partition_preset,
    partition_uncertainty,
)
from coterie.types import Batch, Features, InputError, Losses

CERTAIN = 0.98  # the paper's Fig. 3 counts the images of at least this confidence

CARD = Card(
    title="PICA",
    paper="Huang, Gong, Zhu: Deep Semantic Clustering by Partition Confidence Maximisation",
    year=2020,
    family="partition",
    url="https://openaccess.thecvf.com/content_CVPR_2020/papers/"
    "Huang_Deep_Semantic_Clustering_by_Partition_Confidence_Maximisation_CVPR_2020_paper.pdf",
    views={"original": "original", "copy1": "perturbed", "copy2": "perturbed", "copy3": "perturbed"},
    looks_at="centre",
    accepts=("images",),
    answers=("primary",),
    balance="entropy_weight",
    only_if=(
        OnlyIf("over_clustering", lambda yes: yes, ("over",)),
        OnlyIf("perturb", lambda perturb: perturb != "off", ("copies",)),
    ),
    presets={
        "cifar10": {},
        "cifar20": {},
        "stl10": {"views.enlarge": 112 / 96, "image_size": 96},
        "imagenet10": {"views.enlarge": 112 / 96, "image_size": 96},
        "imagenet-dogs": {"views.enlarge": 112 / 96, "image_size": 96},
        "tiny-imagenet": {"over": 700, "views.enlarge": 72 / 64, "image_size": 64},
    },
    backbone=behind_sobel("pica-resnet34"),
    logs={
        "pui": ("partition uncertainty", "mean cosine of two groups; falls as they part"),
        "confidence": logged.CONFIDENCE,
        "certain": logged.CERTAIN,
        "over_pui": ("over-clustering: partition uncertainty", "falls as its groups part"),
        "over_confidence": ("over-clustering: mean confidence", "while training"),
        "over_certain": ("over-clustering: share from 98 %", "while training"),
        "over_groups_in_batch": ("over-clustering: groups in a batch", "that an item is of"),
    },
)


@dataclass(frozen=True)
class PICA:
    epochs: Epochs = 200  # each a pass for the over-clustering head and one for the primary head
    batch_size: BatchSize = 256  # groups are compared over a batch, so this is part of the method
    copies: Copies = 3  # R, distorted copies of each image
    over: Width = 70  # groups of the over-clustering head; 700 for 200 classes
    entropy_weight: Weight = 2.0  # lambda, keeps groups of equal size
    learning_rate: Rate = 1e-4  # Adam, constant, for everything
    beta1: BelowOne = 0.9
    beta2: BelowOne = 0.999
    over_clustering: bool = True
    perturb: Literal["on", "off", "second-draw"] = "on"  # off: the image itself; second-draw: the original view again
    symmetric: bool = False  # compare the copies' groups with the originals', too
    init: Literal["default", "gaussian", "xavier", "kaiming"] = "default"  # the paper's Table 5
    bn_gamma: Literal["ones", "uniform"] = "ones"  # uniform: batch normalisation as in the authors' PyTorch 1.0

    card: ClassVar[Card] = CARD

    def check(self, facts: Facts) -> None:
        """Raise InputError for settings that cannot work on such data."""
        if self.over < 2:
            raise InputError(f"pica.over is {self.over}: it must be at least 2 (or over_clustering=false).")
        if self.batch_size < facts.k:
            raise InputError(
                f"pica.batch_size is {self.batch_size}: with {facts.k} groups it must be at least {facts.k}."
            )
        for name, plain in (("init", "default"), ("bn_gamma", "ones")):
            if facts.loaded and getattr(self, name) != plain:
                raise InputError(
                    f"pica.{name} is {getattr(self, name)}, which draws anew what --pretrained or --weights "
                    "loads: leave one of them out."
                )

    def views(self) -> Mapping[str, str]:
        recipe = "perturbed" if self.perturb == "on" else "original"
        copies = 0 if self.perturb == "off" else self.copies
        return {"original": "original", **{f"copy{i + 1}": recipe for i in range(copies)}}

    def passes(self) -> tuple[Pass, ...]:
        """Over-clustering first, so that the running statistics end on the images that are to be grouped."""
        primary = Pass("primary", keep_last=True)
        return (Pass("over", extra=True, keep_last=True), primary) if self.over_clustering else (primary,)

    def heads(self, net: Net, k: int) -> dict[str, nn.Module]:
        over = {"over": SteadyLinear(net.width, self.over)} if self.over_clustering else {}
        return {**over, "primary": SteadyLinear(net.width, k)}

    def start(self, net: Net, features: Features, k: int, generator: torch.Generator) -> None:
        if self.init != "default":
            initialise(net, self.init, generator)
        if self.bn_gamma == "uniform":
            for module in normalisations(net):
                module.weight.data.copy_(torch.rand(module.weight.shape, generator=generator))

    def optimiser(self, net: Net) -> torch.optim.Optimizer:
        # One Adam for all: in a pass the other head has no gradient, and Adam skips it.
        trained = trainable(net)
        return torch.optim.Adam(trained, self.learning_rate, betas=(self.beta1, self.beta2), fused=True)

    def step(self, net: Net, batch: Batch) -> Iterator[Losses]:
        """Compare the groups of the originals with those of the copies, over the global batch."""
        head = net.get_submodule(batch.pass_name)
        # Two passes through the backbone: originals and copies are normalised by statistics of their own.
        x = batch.gather(head(net.backbone(batch.original))).softmax(1)
        y = x if self.perturb == "off" else self._copies(net, head, batch)
        # The originals' answers once for each copy, block after block.
        uncertainty = partition_uncertainty(x.repeat(len(y) // len(x), 1), y)
        certainty = partition_loss(uncertainty)
        if self.symmetric:
            certainty = (certainty + partition_loss(uncertainty.T)) / 2
        self._record(batch, x.detach(), uncertainty.detach())
        prefix = "over_" if batch.pass_name == "over" else ""
        yield {f"{prefix}partition": certainty, f"{prefix}balance": self.entropy_weight * imbalance(x)}  # Eq. 12

    def _copies(self, net: Net, head: nn.Module, batch: Batch) -> Float[Tensor, "rn k"]:
        """Probabilities of all copies: first those of the whole batch's first copies, then of its second ones, ..."""
        views = [batch.views[name] for name in self.views() if name != "original"]
        logits = head(net.backbone(torch.cat(views)))
        # Gathered with an image's copies side by side, for the global batch is in order of its images.
        side_by_side = batch.gather(torch.stack(logits.chunk(len(views)), 1))
        return side_by_side.transpose(0, 1).flatten(0, 1).softmax(1)

    def _record(self, batch: Batch, x: Float[Tensor, "n k"], uncertainty: Float[Tensor, "k k"]) -> None:
        confidence, label = x.max(1)
        numbers = {
            "pui": mean_off_diagonal(uncertainty),
            "confidence": confidence.mean(),
            "certain": (confidence >= CERTAIN).float().mean(),
        }
        if batch.pass_name == "over":
            groups = torch.tensor(float(len(label.unique())))
            batch.log(**{f"over_{name}": value for name, value in numbers.items()}, over_groups_in_batch=groups)
            return
        batch.log(**numbers)
        batch.count(label, x.shape[1])
        batch.count_confidences(confidence)

    def logits(self, net: Net, features: Float[Tensor, "n d"]) -> dict[str, Float[Tensor, "n k"]]:
        return {"primary": net.primary(features)}


def practical(facts: Facts) -> dict[str, Any]:
    """For a CPU or small data: fewer copies and epochs at a higher rate, smaller batches for fewer images."""
    return partition_preset(facts)


# Table 5: how weights begin


@torch.no_grad()
def initialise(net: nn.Module, scheme: str, generator: torch.Generator) -> None:
    """Draw all convolution and linear weights anew; biases 0, batch normalisation 1 and 0."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            # Drawn on the CPU, so that a seed gives the same weights on every device.
            module.weight.copy_(drawn(module.weight.shape, scheme, generator))
            if module.bias is not None:
                module.bias.zero_()
    for norm in normalisations(net):
        norm.weight.fill_(1.0)
        norm.bias.zero_()


def drawn(shape: torch.Size, scheme: str, generator: torch.Generator) -> Tensor:
    """gaussian: deviation 0.01. xavier: Glorot's. kaiming: √(2 / fan out) for convolutions, 0.01 for linear layers.

    The last is a scheme that the authors' code defines and does not use; the paper does not explain the names.
    """
    fresh = torch.empty(shape)
    if scheme == "xavier":
        return nn.init.xavier_normal_(fresh, generator=generator)
    if scheme == "kaiming" and len(shape) == 4:
        return nn.init.kaiming_normal_(fresh, mode="fan_out", nonlinearity="relu", generator=generator)
    return nn.init.normal_(fresh, std=0.01, generator=generator)


def normalisations(net: nn.Module) -> Iterator[Any]:
    """The layers that keep running statistics: nn.BatchNorm, or what shares it among processes."""
    return (module for module in net.modules() if hasattr(module, "running_mean"))
