"""DCCM: pairs that agree, sure labels, and the mutual information of an image's early map and its group.

Wu, Long, Wang, Qian, Li, Lin and Zha, "Deep Comprehensive Correlation Mining for Image Clustering", ICCV 2019. One
stage from random weights. The answers on a large batch of plain images give the pairs of one group (the
pseudo-graph) and the sure labels; then small batches of distorted copies are trained on both, and on the mutual
information between an early map of the backbone and the answer, whose pairs come from the graph. Defaults are the
authors' CIFAR-10 configuration. docs/methods/dccm.md lists where we differ: partners are drawn at random (their choice
has mistakes), and the last epoch is reported.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from coterie.common.bounds import BatchSize, Copies, Epochs, PositiveRate, Share, Weight, Width
from coterie.contract import Card, Facts, OnlyIf, View, logged
from coterie.networks.early import early_channels, early_maps
from coterie.networks.net import Net, trainable
from coterie.objectives.pairs import (
    MOVED,
    binary_cross_entropy,
    cosines,
    identity_layer,
    moved_parts,
    moved_views,
    pair_cross_entropy,
)
from coterie.types import Batch, InputError, ItemSpec, Losses

MAP_SIDE = 14  # pixels of the early map that are compared: all of them for images of 32
NEGATIVES = 2  # maps of other groups for each image


def backbone(spec: ItemSpec, device: str, as_published: bool) -> str:
    """The paper's net, where images are large enough for it."""
    if (as_published or not device.startswith("cpu")) and min(spec.height, spec.width) >= 20:
        return "dccm"
    return "small-16" if max(spec.height, spec.width) <= 32 else "small-32"


CARD = Card(
    title="DCCM",
    paper="Wu, Long, Wang, Qian, Li, Lin, Zha: Deep Comprehensive Correlation Mining for Image Clustering",
    year=2019,
    family="pairs",
    url="https://arxiv.org/abs/1904.06925",
    views={"clean": "clean", "moved1": MOVED},
    accepts=("images",),
    answers=("cluster",),
    only_if=(
        OnlyIf("label_weight", lambda weight: weight > 0, ("sure_above",)),
        OnlyIf("map_weight", lambda weight: weight > 0, ("judge",)),
    ),
    presets={
        "cifar10": {},
        "cifar20": {"learning_rate": 1e-3},
        "stl10": {"image_size": 96},
        "imagenet10": {"image_size": 96},
        "imagenet-dogs": {"image_size": 96},
        "tiny-imagenet": {"image_size": 64},
    },
    backbone=backbone,
    logs={
        "linked": ("linked pairs", "share of the pairs; 1/k where groups are sure and equal"),
        "sure": ("sure share", "items whose label teaches, beside the pairs"),
        "confidence": logged.CONFIDENCE,
    },
)


@dataclass(frozen=True)
class DCCM:
    epochs: Epochs = 200
    batch_size: BatchSize = 1000  # images whose graph and labels are made together
    part: BatchSize = 32  # distorted images of one optimiser step
    repeats: Copies = 20  # steps on each image of a batch; the authors' 10 passes take each step twice
    linked_above: Share = 0.95  # cosine of two answers from which their images are of one group
    sure_above: Share = 0.9  # probability from which a label is learned
    label_weight: Weight = 5.0  # of the labels' loss; the graph's is 1
    map_weight: Weight = 0.05  # of the maps' loss
    hidden: Width = 64  # of the head
    judge: Width = 512  # width of the net that tells an image's map from others'
    learning_rate: PositiveRate = 1e-4  # RMSprop, smoothing 0.9, constant

    card: ClassVar[Card] = CARD

    @property
    def part_size(self) -> int:
        return self.part

    def limits(self, facts: Facts) -> dict[str, tuple[int, int | None]]:
        return {"part": (2, self.batch_size)}

    def check(self, facts: Facts) -> None:
        """Raise InputError for settings that cannot work on such data."""
        if self.part > self.batch_size:
            raise InputError(f"dccm.part is {self.part}: a batch has only {self.batch_size} images.")

    def views(self) -> dict[str, View]:
        return moved_views(self.repeats)

    def heads(self, net: Net, k: int) -> dict[str, nn.Module]:
        """Both linear layers begin as the identity; batch normalisation after the last spreads the first answers."""
        cluster = nn.Sequential(
            identity_layer(net.width, self.hidden),
            nn.BatchNorm1d(self.hidden),
            nn.ReLU(inplace=True),
            identity_layer(self.hidden, k),
            nn.BatchNorm1d(k),
        )
        return {"cluster": cluster, "judge": Judge(early_channels(net), k, self.judge)}

    def optimiser(self, net: Net) -> torch.optim.Optimizer:
        return torch.optim.RMSprop(trainable(net), self.learning_rate, alpha=0.9)

    def step(self, net: Net, batch: Batch) -> Iterator[Losses]:
        """Fix graph and labels by the plain images, then take `repeats` steps on distorted copies of each."""
        with torch.no_grad():
            said = net.cluster(net.backbone(batch.clean)).softmax(1)
        self._record(batch, said)
        for images, rows in moved_parts(batch, self.repeats):
            yield self.losses(net, batch, images, said[rows])

    def losses(self, net: Net, batch: Batch, views: Tensor, said: Float[Tensor, "s k"]) -> Losses:
        """Those of one sub-batch of distorted images, over all processes, by the graph and labels of the plain ones."""
        with early_maps(net) as kept:
            features = net.backbone(views)
        before_last = net.cluster[:-1](features)
        p = batch.gather(net.cluster[-1](before_last)).softmax(1)
        said = batch.gather(said)
        linked = cosines(said) >= self.linked_above
        h, w = kept[0].shape[2:]
        maps = batch.gather(F.adaptive_avg_pool2d(kept[0], (min(MAP_SIDE, h), min(MAP_SIDE, w))))
        chance = torch.rand(linked.shape, generator=batch.generator).to(linked.device)
        return {
            "graph": graph_loss(p, linked),
            "label": self.label_weight * label_loss(p, said, self.sure_above),
            "map": self.map_weight * map_loss(net.judge, batch.gather(before_last), maps, linked, chance),
        }

    def _record(self, batch: Batch, said: Float[Tensor, "n k"]) -> None:
        everyone = batch.gather(said)
        confidence, label = everyone.max(1)
        linked = (cosines(everyone) >= self.linked_above).float()
        n = len(linked)
        batch.log(
            linked=(linked.sum() - linked.diagonal().sum()) / (n * (n - 1)),
            sure=(confidence >= self.sure_above).float().mean(),
            confidence=confidence.mean(),
        )
        batch.count(label, everyone.shape[1])
        batch.count_confidences(confidence)

    def logits(self, net: Net, features: Float[Tensor, "n d"]) -> dict[str, Float[Tensor, "n k"]]:
        return {"cluster": net.cluster(features)}


def practical(facts: Facts) -> dict[str, Any]:
    """For a CPU or small data: smaller graphs, fewer steps on each at a higher rate, a slim judge."""
    batch = min(facts.n, max(32, min(256, facts.n // 6)))
    return {
        "epochs": min(60, max(5, round(20 * (70_000 / facts.n) ** 0.2))),
        "batch_size": batch,
        "part": min(64, batch),
        "repeats": 4,
        "judge": 64,
        "learning_rate": 1e-3,
    }


class Judge(nn.Module):
    """Scores each place of a map by whether it belongs to an image with that answer: 1×1 convolutions, no biases."""

    def __init__(self, channels: int, k: int, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels + k, width, 1, bias=False),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 1, bias=False),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, 1, 1, bias=False),
        )

    def forward(self, answers: Float[Tensor, "n k"], maps: Float[Tensor, "n c h w"]) -> Float[Tensor, "n h w"]:
        everywhere = answers[:, :, None, None].expand(-1, -1, *maps.shape[2:])
        return self.layers(torch.cat([maps, everywhere], 1)).squeeze(1)


def graph_loss(p: Float[Tensor, "n k"], linked: Bool[Tensor, "n n"]) -> Float[Tensor, ""]:
    """The mean over all pairs. The authors' cosines are divided by the largest, which is 1: an item's with itself."""
    return pair_cross_entropy(p, linked).mean()


def label_loss(p: Float[Tensor, "n k"], said: Float[Tensor, "n k"], sure_above: float) -> Float[Tensor, ""]:
    """Binary cross-entropy with the plain image's label, where that is sure; the mean over all images."""
    confidence, label = said.max(1)
    each = binary_cross_entropy(p, F.one_hot(label, p.shape[1]).to(p)).mean(1)
    return (each * (confidence >= sure_above)).mean()


def map_loss(
    judge: nn.Module,
    answers: Float[Tensor, "n k"],
    maps: Float[Tensor, "n c h w"],
    linked: Bool[Tensor, "n n"],
    chance: Float[Tensor, "n n"],
) -> Float[Tensor, ""]:
    """Minus a bound of the mutual information of answers and maps (Jensen-Shannon): the image's own map and that of one
    linked image, against two of others, drawn by `chance`. An image without partners adds nothing."""
    n = len(answers)
    others = linked & ~torch.eye(n, dtype=torch.bool, device=linked.device)
    partner = (chance * others).argmax(1)
    has = others.any(1)
    positive = torch.cat([judge(answers, maps), judge(answers[has], maps[partner[has]])])
    strength, strangers = (chance * ~linked).topk(min(NEGATIVES, n), dim=1)
    row, column = (strength > 0).nonzero(as_tuple=True)
    loss = F.softplus(-positive).mean()
    if len(row):
        loss = loss + F.softplus(judge(answers[row], maps[strangers[row, column]])).mean()
    return loss
