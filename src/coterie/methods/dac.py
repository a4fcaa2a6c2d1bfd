"""DAC: the network learns from pairs that are surely of one group or surely not; the thresholds move as it learns.

Chang, Wang, Meng, Xiang and Pan, "Deep Adaptive Image Clustering", ICCV 2017. One stage from random weights. An answer
of unit length is an image's label feature, and the cosine of two says how surely they are of one group. Defaults are
the authors' code for CIFAR-10: targets of a large batch by a single threshold, and many steps on distorted copies,
which should also answer as the plain image did. The preset `text` is the paper: two thresholds, targets by the pair's
own cosine, nothing else (docs/methods/dac.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from coterie.common.bounds import BatchSize, Copies, Epochs, PositiveRate, Share, Weight
from coterie.contract import Card, Facts, Reading, View, logged
from coterie.networks.heads import SteadyLinear
from coterie.networks.net import Net, trainable
from coterie.objectives.pairs import (
    MOVED,
    binary_cross_entropy,
    cosines,
    identity_layer,
    mean_where,
    moved_parts,
    moved_views,
    pair_cross_entropy,
)
from coterie.types import Batch, InputError, ItemSpec, Losses

TWO = {"upper": (0.99, 0.895), "lower": (0.80, 0.895), "consistency": 1.0}


def backbone(spec: ItemSpec, device: str, as_published: bool) -> str:
    """The paper's nets, if images are large enough for them."""
    side = min(spec.height, spec.width)
    if (as_published or not device.startswith("cpu")) and side >= 16:
        return "dac-large" if side >= 64 else "dac"
    return "small-16" if max(spec.height, spec.width) <= 32 else "small-32"


CARD = Card(
    title="DAC",
    paper="Chang, Wang, Meng, Xiang, Pan: Deep Adaptive Image Clustering",
    year=2017,
    family="pairs",
    url="https://openaccess.thecvf.com/content_ICCV_2017/papers/Chang_Deep_Adaptive_Image_ICCV_2017_paper.pdf",
    views={"clean": "clean", "moved1": MOVED},
    accepts=("images",),
    answers=("cluster",),
    presets={
        "cifar10": {},
        "cifar10-two": TWO,
        "cifar20": {},
        "stl10": {"epochs": 75, "upper": (0.99, 0.5), "lower": (0.99, 0.5), "image_size": 96},
        "imagenet10": {"image_size": 96},
        "imagenet-dogs": {"image_size": 96},
        "mnist": {
            "epochs": 20,
            "upper": (0.9, 0.5),
            "lower": (0.9, 0.5),
            "consistency": 0.0,
            "pair_loss": "square",
        },
    },
    text=Reading(
        settings={
            "epochs": 46,
            "upper": (0.95, 0.5),
            "lower": (0.455, 0.5),
            "consistency": 0.0,
            "targets": "own",
            "repeats": 1,
        }
    ),
    backbone=backbone,
    logs={
        "linked": ("linked pairs", "share of the pairs; 1/k where groups are sure and equal"),
        "selected": ("selected pairs", "share of the pairs outside of both thresholds"),
        "confidence": logged.CONFIDENCE,
    },
)


@dataclass(frozen=True)
class DAC:
    epochs: Epochs = 50
    batch_size: BatchSize = 1000  # images whose pairs get targets together
    part: BatchSize = 32  # distorted images of one optimiser step
    repeats: Copies = 20  # steps on each image of a batch; the authors' 10 passes take each step twice
    upper: tuple[Share, Share] = (0.99, 0.75)  # cosine above which a pair is of one group: at first, and in the end
    lower: tuple[Share, Share] = (0.99, 0.75)  # cosine below which it is not; pairs in between are left out
    targets: Literal["batch", "own"] = "batch"  # by the plain images before all steps; own: by the step's own cosines
    pair_loss: Literal["entropy", "square"] = "entropy"  # square: (cosine - target)^2, as for MNIST
    consistency: Weight = 10.0  # of the term for equal answers on the distorted and the plain image
    learning_rate: PositiveRate = 1e-3  # RMSprop, smoothing 0.9, constant

    card: ClassVar[Card] = CARD

    @property
    def part_size(self) -> int:
        return self.part

    def limits(self, facts: Facts) -> dict[str, tuple[int, int | None]]:
        return {"part": (2, self.batch_size)}

    def check(self, facts: Facts) -> None:
        """Raise InputError for settings that cannot work on such data."""
        if self.part > self.batch_size:
            raise InputError(f"dac.part is {self.part}: a batch has only {self.batch_size} images.")
        for when, below, above in zip(("first", "last"), self.lower, self.upper, strict=True):
            if below > above:
                raise InputError(
                    f"dac.lower is {self.lower} and dac.upper {self.upper}: the {when} of lower must not be above the "
                    f"{when} of upper."
                )

    def views(self) -> dict[str, View]:
        return moved_views(self.repeats)

    def heads(self, net: Net, k: int) -> dict[str, nn.Module]:
        """Three layers as wide as there are groups, the last two the identity at first, each with normalisation."""
        first = SteadyLinear(net.width, k)
        nn.init.kaiming_normal_(first.weight)
        nn.init.zeros_(first.bias)
        cluster = nn.Sequential(
            first,
            nn.BatchNorm1d(k),
            nn.ReLU(inplace=True),
            identity_layer(k, k),
            nn.BatchNorm1d(k),
            nn.ReLU(inplace=True),
            identity_layer(k, k),
            nn.BatchNorm1d(k),
        )
        return {"cluster": cluster}

    def optimiser(self, net: Net) -> torch.optim.Optimizer:
        return torch.optim.RMSprop(trainable(net), self.learning_rate, alpha=0.9)

    def thresholds(self, batch: Batch) -> tuple[float, float]:
        """Upper and lower one of this epoch, along straight lines; after the first epoch they have moved one step."""
        done = min(1.0, batch.number // batch.per_epoch / self.epochs)
        upper, lower = (first + (last - first) * done for first, last in (self.upper, self.lower))
        return upper, lower

    def step(self, net: Net, batch: Batch) -> Iterator[Losses]:
        """Fix the plain images' answers, then take `repeats` steps on distorted copies of each."""
        with torch.no_grad():
            said = net.cluster(net.backbone(batch.clean)).softmax(1)
        upper, lower = self.thresholds(batch)
        self._record(batch, said, upper, lower)
        for images, rows in moved_parts(batch, self.repeats):
            logits = net.cluster(net.backbone(images))
            yield self.losses(batch.gather(logits).softmax(1), batch.gather(said[rows]), upper, lower)

    def losses(self, p: Float[Tensor, "n k"], said: Float[Tensor, "n k"], upper: float, lower: float) -> Losses:
        """The losses of a sub-batch's answers, against those on the plain images."""
        linked, chosen = relation(cosines(p.detach() if self.targets == "own" else said), upper, lower)
        each = (cosines(p) - linked.to(p)).square() if self.pair_loss == "square" else pair_cross_entropy(p, linked)
        losses = {"pairs": mean_where(each, chosen)}
        if self.consistency:
            # The code's target is the answer of unit length, not of sum 1.
            losses["consistency"] = self.consistency * binary_cross_entropy(p, F.normalize(said, dim=1)).mean()
        return losses

    def _record(self, batch: Batch, said: Float[Tensor, "n k"], upper: float, lower: float) -> None:
        everyone = batch.gather(said)
        linked, chosen = relation(cosines(everyone), upper, lower)
        n = len(everyone)
        batch.log(
            linked=(linked & chosen).sum() / (n * (n - 1)),
            selected=chosen.sum() / (n * (n - 1)),
        )
        batch.record_answers(everyone)

    def logits(self, net: Net, features: Float[Tensor, "n d"]) -> dict[str, Float[Tensor, "n k"]]:
        return {"cluster": net.cluster(features)}


def practical(facts: Facts) -> dict[str, Any]:
    """For a CPU or small data: smaller batches and fewer steps on each."""
    batch = min(facts.n, max(32, min(256, facts.n // 6)))
    return {
        "epochs": min(60, max(5, round(20 * (70_000 / facts.n) ** 0.2))),
        "batch_size": batch,
        "part": min(64, batch),
        "repeats": 4,
    }


def relation(
    similarity: Float[Tensor, "n n"], upper: float, lower: float
) -> tuple[Bool[Tensor, "n n"], Bool[Tensor, "n n"]]:
    """Which pairs are of one group (above `upper`), and which count at all: these, and those of at most `lower`.

    If both are equal every pair counts; an item is no pair with itself.
    """
    linked = similarity > upper
    others = ~torch.eye(len(similarity), dtype=torch.bool, device=similarity.device)
    return linked, (linked | (similarity <= lower)) & others
