"""Post-hoc calibration: CDC's calibration head on frozen features, taught by what any clustering says. No labels.

Jia, Cheng, Liu and Hou, "Towards Calibrated Deep Clustering Network", ICLR 2025, Eq. (1) to (3): the items of a
mini-cluster share one target, the mean of what the clustering says about them, so that the head is less sure where
neighbours are put into different groups. In the paper the head is trained beside the clustering; here the clustering
is finished and its probabilities are constants, so it may come from anywhere. It is a stage like any other to the
engine, with the features as its items.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from coterie.calibration.constraints import CONSTRAINED, Constraints, constraint_loss, judged_targets
from coterie.calibration.head import calibration_head
from coterie.calibration.settings import Calibration
from coterie.contract import Card, Facts, logged
from coterie.networks.net import Net
from coterie.objectives.information import negative_mean_entropy, soft_cross_entropy
from coterie.objectives.mini_clusters import cell_means
from coterie.objectives.regularisers import (
    FOCAL_WARM_UP,
    focal_loss,
    l1_penalised_cross_entropy,
    mix_rows,
    mixed_cross_entropy,
    smoothed_cross_entropy,
)
from coterie.types import Batch, Features, ItemSpec, Losses

MEASURED = 100_000  # items whose features say where the head begins
CARD = Card(
    title="Post-hoc calibration",
    paper="Jia, Cheng, Liu, Hou: Towards Calibrated Deep Clustering Network",
    year=2025,
    family="calibration",
    stage="calibrate",
    url="https://openreview.net/forum?id=JvH4jDDcG3",
    views={"clean": "clean"},
    accepts=("embeddings",),
    logs={
        "target_confidence": logged.TARGET_CONFIDENCE,
    },
)


@dataclass(frozen=True)
class PostHoc:
    """What the engine trains: the settings, and what the clustering says about every item."""

    settings: Calibration
    said: Float[Tensor, "n k"]
    # What people said about single items, and the features of all: given with `fit --judged` alone.
    given: Constraints | None = None
    features: Float[Tensor, "n d"] | None = None

    card: ClassVar[Card] = CARD

    @property
    def epochs(self) -> int:
        return self.settings.epochs

    @property
    def batch_size(self) -> int:
        return self.settings.batch_size

    @property
    def part_size(self) -> int:
        return self.settings.sub_batch

    def check(self, facts: Facts) -> None:
        self.settings.check(facts)

    def heads(self, net: Net, k: int) -> dict[str, nn.Module]:
        return {"post_hoc": calibration_head(net.width, self.settings.hidden, k)}

    def start(self, net: Net, features: Features, k: int, generator: torch.Generator) -> None:
        """Standardise the features. The head stays random: on fixed targets that does as well as CDC's prototypes."""
        standardise, first, norm, *_ = net.post_hoc
        z = features(most=MEASURED)  # its hidden layer for a million items would take gigabytes
        standardise.place(z)
        with torch.no_grad():
            hidden = first(standardise(z))
        norm.running_mean.copy_(hidden.mean(0))
        norm.running_var.copy_(hidden.var(0))

    def optimiser(self, net: Net) -> torch.optim.Optimizer:
        return torch.optim.Adam(net.post_hoc.parameters(), lr=self.settings.head_rate, fused=True)

    def rate(self, progress: float) -> float:
        return 0.5 * (1 + math.cos(math.pi * progress))

    def step(self, net: Net, batch: Batch) -> Iterator[Losses]:
        """Fix the targets of the whole batch, then yield each sub-batch's losses (Eq. 3)."""
        settings, x = self.settings, batch.clean
        said = self.said[batch.index.cpu()].to(x.device)
        label = other = said.argmax(1)
        share = 1.0
        if settings.loss == "region":
            target = self.region_targets(batch, batch.gather(x), batch.gather(said))
            batch.log(target_confidence=target.max(1).values.mean())
            target = batch.mine(target)
        elif settings.loss == "mixup":
            mixed, partner, share = mix_rows(batch.gather(x), batch.generator)
            x, other = batch.mine(mixed), batch.mine(batch.gather(label)[partner])
        for part in batch.parts():
            own, judged = self.with_judged(net, x[part], batch.generator)
            logits = batch.gather(own)
            if settings.loss == "region":
                loss = soft_cross_entropy(logits, batch.gather(target[part]))  # Eq. 1
            elif settings.loss == "mixup":
                loss = mixed_cross_entropy(logits, batch.gather(label[part]), batch.gather(other[part]), share)
            else:
                loss = self.hard_loss(logits, batch.gather(label[part]), batch.progress)
            losses = {"calibrate": loss} if judged is None else {"calibrate": loss, "judged": judged}
            if settings.entropy_weight > 0:
                losses["entropy"] = settings.entropy_weight * negative_mean_entropy(logits)  # Eq. 2
            yield losses

    def region_targets(
        self, batch: Batch, features: Float[Tensor, "n d"], said: Float[Tensor, "n k"]
    ) -> Float[Tensor, "n k"]:
        """The targets of Eq. 1; with judgements, a fixed item has more weight, and its group as the target."""
        settings, how = self.settings, (batch.generator, self.settings.cell_norm, self.settings.restarts)
        if self.given is None:
            return cell_means(features, said, settings.cells, *how)
        fixed = torch.full((len(self.said),), -1, dtype=torch.int64)
        fixed[self.given.rows] = self.given.groups
        mine = fixed[batch.index.cpu()].to(features.device)
        return judged_targets(features, said, batch.gather(mine), settings.cells, *how)

    def with_judged(
        self, net: Net, x: Float[Tensor, "b d"], generator: torch.Generator
    ) -> tuple[Float[Tensor, "b k"], Float[Tensor, ""] | None]:
        """The head's logits, and the loss of some judged items, which are in the same pass for its batch norm."""
        if self.given is None or self.features is None:
            return net.post_hoc(x), None
        some = self.given.some(CONSTRAINED, generator)
        beside = self.features[some.all_rows()].to(x.device)
        logits = net.post_hoc(torch.cat([x, beside]))
        return logits[: len(x)], constraint_loss(logits[len(x) :], some.to(x.device))

    def hard_loss(self, logits: Float[Tensor, "b k"], label: Int[Tensor, " b"], progress: float) -> Float[Tensor, ""]:
        """The losses for comparison, which take an item's group for its label."""
        if self.settings.loss == "smoothing":
            return smoothed_cross_entropy(logits, label)
        if self.settings.loss == "l1":
            return l1_penalised_cross_entropy(logits, label)
        return focal_loss(logits, label, 0.0 if progress < FOCAL_WARM_UP else 2.0)

    def predict(self, net: Net, features: Float[Tensor, "n d"]) -> dict[str, Float[Tensor, "n k"]]:
        return {"cal": net.post_hoc(features).softmax(1)}


class GivenFeatures(nn.Identity):
    """The backbone of a net whose items are features already: the identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.num_features = width


def calibration_net(method: PostHoc, mean: Float[Tensor, " d"], std: Float[Tensor, " d"], seed: int) -> Net:
    """A net with a fresh calibration head on features that it normalises by `mean` and `std`."""
    width = len(mean)
    net = Net(GivenFeatures(width), ItemSpec("embeddings", dim=width), mean, std, half=False)
    torch.manual_seed(seed)
    net.add(method.heads(net, method.said.shape[1]))
    return net
