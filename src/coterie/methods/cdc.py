"""CDC: one head clusters, a second says how sure it is, and its surest images teach the first.

Jia, Cheng, Liu and Hou, "Towards Calibrated Deep Clustering Network", ICLR 2025,
https://openreview.net/forum?id=JvH4jDDcG3. Equation numbers are the paper's; defaults are the authors' CIFAR-10
configuration. Where paper and code differ we take the code (docs/methods/cdc.md lists each case), but for these:
K-means is the textbook one (squared distances, empty clusters re-seeded), a sub-batch without a selected image adds no
clustering loss (theirs is NaN), and the last epoch is reported (theirs is the one that the labels like best).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from coterie.methods.contract import Card, Facts, Features
from coterie.networks.heads import begin_as_groups, mlp_head, standardise_rows
from coterie.networks.net import Net
from coterie.objectives.information import negative_mean_entropy, soft_cross_entropy
from coterie.objectives.kmeans import kmeans
from coterie.types import Batch, InputError, Losses

CARD = Card(
    title="CDC",
    paper="Jia, Cheng, Liu, Hou: Towards Calibrated Deep Clustering Network",
    year=2025,
    family="pseudo-label",
    url="https://openreview.net/forum?id=JvH4jDDcG3",
    views={"clean": "clean", "weak": "weak", "strong": "strong"},
    starts_from="moco",
    presets={
        "cifar10": {},
        "cifar20": {"cells": 40, "backbone_rate": 1e-5},
        "stl10": {"cells": 150, "views.cutout": 32},
        "imagenet10": {"batch_size": 500, "sub_batch": 125, "cells": 150, "views.cutout": 32},
        "imagenet-dogs": {"batch_size": 500, "sub_batch": 125, "cells": 40, "views.cutout": 32},
        "tiny-imagenet": {
            "batch_size": 5000,
            "sub_batch": 1000,
            "cells": 1000,
            "backbone_rate": 1e-5,
            "views.cutout": 32,
        },
    },
)


@dataclass(frozen=True)
class CDC:
    epochs: int = 100
    batch_size: int = 1000  # images are selected and mini-clusters formed within a batch, so this is part of the method
    sub_batch: int = 500  # images of one optimiser step
    cells: int = 500  # K, mini-clusters in a batch; the images of one share a calibration target
    hidden: int = 512  # H, width of both heads
    entropy_weight: float = 1.0  # w_en, keeps the calibration head from answering with a single group
    backbone_rate: float = 5e-5  # Adam
    head_rate: float = 1e-4
    restarts: int = 1  # of the K-means in every batch; the authors take 10
    cell_norm: Literal["l1", "l2", "none"] = "l1"  # of the features that mini-clusters are formed on
    init: Literal["prototypes", "kmeans", "random"] = "prototypes"
    layout: Literal["dual", "single", "single-both"] = (
        "dual"  # single: no calibration head; -both: it trains by Eq. 3 too
    )
    stop_gradient: bool = True  # Eq. 3 does not reach the backbone
    threshold: float | None = None  # select above a fixed confidence, in place of Eq. 4
    match_label: bool = False  # select an image for a group only if the group is its label

    card: ClassVar[Card] = CARD

    @property
    def part_size(self) -> int:
        return self.sub_batch

    def check(self, facts: Facts) -> None:
        if not 2 <= self.cells <= self.batch_size and self.layout != "single":
            raise InputError(f"cdc.cells is {self.cells}: it must lie between 2 and the batch size, {self.batch_size}.")
        if self.batch_size < facts.k:
            raise InputError(
                f"cdc.batch_size is {self.batch_size}: with {facts.k} groups it must be at least {facts.k}."
            )
        if not facts.k <= self.hidden <= facts.n and self.init != "random":
            raise InputError(
                f"cdc.hidden is {self.hidden}: prototypes need a width from {facts.k} (groups) to {facts.n} (items)."
            )

    def heads(self, net: Net, k: int) -> dict[str, nn.Module]:
        heads: dict[str, nn.Module] = {"cluster": mlp_head(net.width, self.hidden, k)}
        if self.layout == "dual":
            heads["calibrate"] = mlp_head(net.width, self.hidden, k)
        return heads

    def start(self, net: Net, features: Features, k: int, generator: torch.Generator) -> None:
        """Both heads begin as prototypes of the features (Eq. 6, spec section 4).

        With `init="kmeans"`, which is not in the paper, they begin as K-means' own groups instead: decorrelation suits
        the features of a deep net, which point in many directions, but tears prototypes in few dimensions off the data
        (2-D points in eight groups: ARI 0.99 by K-means, 0.3 by Eq. 6).
        """
        if self.init == "random":
            return
        z = features()
        heads = [net.get_submodule(name) for name in net.head_names]
        if self.init == "kmeans":
            rows = standardise_rows(z)
            prototypes = kmeans(rows, self.hidden, generator=generator).centres
            groups = kmeans(rows, k, generator=generator, restarts=10).labels
            for head in heads:
                begin_as_groups(head, z, prototypes, groups)
            return
        first, second = prototype_weights(z, self.hidden, k, generator)
        for head in heads:
            write_prototypes(head, first, second)

    def optimiser(self, net: Net) -> torch.optim.Optimizer:
        # The authors' two Adams, as one: the parameters do not overlap, and Adam passes over those without a gradient.
        heads = [p for name in net.head_names for p in net.get_submodule(name).parameters()]
        backbone = [p for p in net.backbone.parameters() if p.requires_grad]
        return torch.optim.Adam(
            [{"params": backbone, "lr": self.backbone_rate}, {"params": heads, "lr": self.head_rate}]
        )

    def rate(self, progress: float) -> float:
        return 1.0

    def step(self, net: Net, batch: Batch) -> Iterator[Losses]:
        """Fix pseudo-labels and calibration targets for the whole batch, then yield each sub-batch's losses."""
        judge = net.cluster if self.layout != "dual" else net.calibrate
        with torch.no_grad():
            # In this order and in training mode: these passes feed the running statistics, too (spec, section 7).
            z = net.backbone(batch.clean)
            clustered = batch.gather(net.cluster(z).softmax(1))
            weak_z = net.backbone(batch.weak)
            if judge is not net.cluster:
                net.cluster(weak_z)  # its answer is not used, but its running statistics see the weak view as well
            weak = batch.gather(judge(weak_z).softmax(1))
            keep, label = self.select(weak)
            if self.layout != "single":
                target = cell_means(
                    batch.gather(z), clustered, self.cells, batch.generator, self.cell_norm, self.restarts
                )
                batch.log(target_confidence=target.max(1).values.mean())
                target = batch.mine(target)
            batch.log(selected=keep.float().mean(), weak_confidence=weak.max(1).values.mean())
            batch.count(clustered.argmax(1), clustered.shape[1])
            keep, label = batch.mine(keep), batch.mine(label)
        for part in batch.parts():
            losses: dict[str, Tensor] = {}
            strong = net.cluster(net.backbone(batch.strong[part]))  # all of them: they shape the batch statistics
            if (chosen := batch.gather(keep[part])).any():
                losses["cluster"] = F.cross_entropy(
                    batch.gather(strong)[chosen], batch.gather(label[part])[chosen]
                )  # Eq. 5
            if self.layout != "single":
                seen = z[part] if self.stop_gradient else net.backbone(batch.clean[part])
                logits = batch.gather(judge(seen))
                losses["calibrate"] = soft_cross_entropy(logits, batch.gather(target[part]))  # Eq. 1
                losses["entropy"] = self.entropy_weight * negative_mean_entropy(logits)  # Eq. 2
            if losses:  # a single head without a selected image has nothing to learn
                yield losses

    def select(self, weak: Float[Tensor, "n k"]) -> tuple[Bool[Tensor, " n"], Int[Tensor, " n"]]:
        """Which images teach, and what: their mask and their labels, from the judging head's weak view."""
        confidence, label = weak.max(1)
        if self.threshold is not None:
            return confidence > self.threshold, label
        return confident_images(weak, match_label=self.match_label), label

    def finish(self, net: Net, features: Features, k: int, generator: torch.Generator) -> None:
        """Nothing to add: the heads are the answer."""

    def predict(self, net: Net, features: Float[Tensor, "n d"]) -> dict[str, Float[Tensor, "n k"]]:
        answer = {"clu": net.cluster(features).softmax(1)}
        return {"cal": net.calibrate(features).softmax(1), **answer} if self.layout == "dual" else answer


def practical(facts: Facts) -> dict[str, Any]:
    """For a CPU or small data: batches that fit, a few epochs at higher rates, mini-clusters of ten images.

    Embeddings begin as K-means' own groups and take about a hundred batches, and small batches of them keep four
    mini-clusters a group, since a mini-cluster of several groups would teach nothing but their mixture.
    """
    batch = min(1000, facts.n, max(facts.n // 4, 20 * facts.k))
    parts = 4 if batch >= 400 else 2 if batch >= 64 else 1
    cells = max(2, round(batch / 10))
    epochs = min(60, max(10, round(10 * (70_000 / facts.n) ** 0.4)))
    if facts.kind == "embeddings":
        cells = max(cells, min(4 * facts.k, batch // 2))
        epochs = max(10, min(30, 100 * batch // facts.n))
    return {
        "epochs": epochs,
        "batch_size": batch,
        "sub_batch": -(-batch // parts),
        "cells": cells,
        "hidden": min(512, max(facts.k, facts.n // 4)),
        "backbone_rate": 1e-4,
        "head_rate": 5e-4,
        "init": "kmeans" if facts.kind == "embeddings" else "prototypes",
    }


# Eq. 4: which images are sure enough to teach


def confident_images(p: Float[Tensor, "n k"], *, match_label: bool = False) -> Bool[Tensor, " n"]:
    """Mark each group's surest images, fewer where it is unsure: of 100 with a mean confidence of 0.83, 83 stay.

    Every group looks at the n/k images that give it the most probability, whatever their label, and keeps
    floor(sum of their top-1 confidences). An image may be marked through a group that is not its label; `match_label`
    leaves those out.
    """
    n, k = p.shape
    quota = n // k
    confidence, label = p.max(1)
    mask = torch.zeros(n, dtype=torch.bool, device=p.device)
    if quota == 0:
        return mask
    top = p.topk(quota, dim=0).indices  # (quota, k), surest first
    # The small term is for sums of float32 ones that come out as 99.9999 (spec, pitfall 14).
    kept = (confidence[top].double().sum(0) + 1e-6).floor()
    marked = torch.arange(quota, device=p.device)[:, None] < kept
    if match_label:
        marked &= label[top] == torch.arange(k, device=p.device)
    mask[top[marked]] = True
    return mask


# Eq. 1: what the calibration head should answer


def cell_means(
    features: Float[Tensor, "n d"],
    p: Float[Tensor, "n k"],
    cells: int,
    generator: torch.Generator,
    norm: str = "l1",
    restarts: int = 1,
) -> Float[Tensor, "n k"]:
    """Give every image the mean prediction of its mini-cluster, which tempers the over-confident ones (Theorem 1)."""
    if norm != "none":
        features = F.normalize(features, p=1 if norm == "l1" else 2, dim=1)
    cell = kmeans(features, cells, generator=generator, restarts=restarts).labels
    return means_by_cell(p, cell, cells)


def means_by_cell(p: Float[Tensor, "n k"], cell: Int[Tensor, " n"], cells: int) -> Float[Tensor, "n k"]:
    sums = torch.zeros(cells, p.shape[1], dtype=p.dtype, device=p.device).index_add_(0, cell, p)
    return (sums / torch.bincount(cell, minlength=cells).clamp(min=1)[:, None])[cell]


# Eq. 6: heads that begin as prototypes


def prototype_weights(
    features: Float[Tensor, "n d"], hidden: int, k: int, generator: torch.Generator
) -> tuple[Float[Tensor, "h d"], Float[Tensor, "k h"]]:
    """Both layers of a head from K-means: `hidden` prototypes of the features, k of their activations; decorrelated.

    K-means sees row-standardised features, the activations are those of the raw features and of the prototypes before
    decorrelation (spec section 4, steps 2-6).
    """
    first = kmeans(standardise_rows(features), hidden, generator=generator).centres
    activations = hidden_activations(features, first)
    second = kmeans(standardise_rows(activations), k, generator=generator, restarts=10).centres
    return decorrelate(first), decorrelate(second)


def hidden_activations(features: Float[Tensor, "n d"], weights: Float[Tensor, "h d"]) -> Float[Tensor, "n h"]:
    """ReLU(BN(features · weightsᵀ)); a fresh batch normalisation in evaluation mode is a factor 1/√(1+1e-5)."""
    return F.relu(features @ weights.T / math.sqrt(1 + 1e-5))


def decorrelate(weights: Float[Tensor, "n d"], steps: int = 2000, scale: float = 5.0) -> Float[Tensor, "n d"]:
    """Push the rows apart in direction ("orthogonalise" in the paper) by a small deterministic optimisation.

    Two copies Z and W of the rows are trained so that each ReLU(Z_i) recognises its own W_i among all W_j by cosine:
    cross-entropy with scale 5, SGD with rate 0.1 falling to 0 along a cosine, momentum 0.9, weight decay 1e-4. The rows
    of W are returned, raw. Raises ValueError on a zero row, whose direction is undefined (spec, pitfall 4).
    """
    if bool((weights.norm(dim=1) < 1e-12).any()):
        raise ValueError("cannot decorrelate a zero row: an empty cluster reached the initialisation")
    with torch.enable_grad():
        z, w = (weights.detach().clone().requires_grad_() for _ in range(2))
        optimiser = torch.optim.SGD([z, w], lr=0.1, momentum=0.9, weight_decay=1e-4)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
        own = torch.arange(len(weights), device=weights.device)
        for _ in range(steps):
            cosine = F.normalize(F.relu(z)) @ F.normalize(w).T
            loss = F.cross_entropy(scale * cosine, own)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return w.detach()


@torch.no_grad()
def write_prototypes(head: nn.Module, first: Float[Tensor, "h d"], second: Float[Tensor, "k h"]) -> None:
    """Copy the prototypes into a head's two linear layers; biases 0, batch normalisation untouched."""
    layers = [m for m in head.modules() if isinstance(m, nn.Linear)]
    for layer, weight in zip(layers, (first, second), strict=True):
        layer.weight.copy_(weight)
        layer.bias.zero_()
