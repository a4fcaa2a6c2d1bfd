"""CDC: one head clusters, a second gives calibrated confidences, and its surest images train the first.

Jia, Cheng, Liu and Hou, "Towards Calibrated Deep Clustering Network", ICLR 2025,
https://openreview.net/forum?id=JvH4jDDcG3. Equation numbers are the paper's; defaults are the authors' CIFAR-10
configuration. Where paper and code differ we take the code (docs/methods/cdc.md lists each case), but for these:
K-means is the textbook one (squared distances, empty clusters re-seeded), a sub-batch without a selected image adds no
clustering loss (theirs is NaN), and the last epoch is reported (theirs is the most accurate one, by labels).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from coterie.algorithms.kmeans import kmeans
from coterie.algorithms.schedules import parts_done
from coterie.common.bounds import BatchSize, Count, Epochs, Rate, Restarts, Share, Weight, Width
from coterie.contract import Card, Facts, OnlyIf, logged
from coterie.networks.features import some_rows
from coterie.networks.heads import begin_as_groups, mlp_head, standardise_rows
from coterie.networks.net import Net, trainable
from coterie.objectives.information import negative_mean_entropy, soft_cross_entropy
from coterie.objectives.mini_clusters import cell_means, practical_cells
from coterie.objectives.prototypes import prototype_weights, write_prototypes
from coterie.objectives.regularisers import focal_loss, l1_penalised_cross_entropy, smoothed_cross_entropy
from coterie.objectives.selection_strategies import (
    Fixed,
    FlexMatch,
    FreeMatch,
    GradientFilter,
    ProximityFilter,
    Quota,
    WeakAnswers,
)
from coterie.types import Batch, Features, InputError, Losses

STARTED_ON = 100_000  # items
PER_PROTOTYPE = 32  # items per hidden unit that K-means sees; all items would take longer than the training

CARD = Card(
    title="CDC",
    paper="Jia, Cheng, Liu, Hou: Towards Calibrated Deep Clustering Network",
    year=2025,
    family="pseudo-label",
    url="https://openreview.net/forum?id=JvH4jDDcG3",
    views={"clean": "clean", "weak": "weak", "strong": "strong"},
    starts_from="moco",
    answers=("cluster", "calibrate"),
    balance="entropy_weight",
    only_if=(
        OnlyIf(
            "layout",
            lambda layout: layout != "single",
            ("entropy_weight", "cells", "cell_norm", "restarts", "stop_gradient"),
        ),
        OnlyIf("calibration_loss", lambda loss: loss == "region", ("cells", "cell_norm", "restarts")),
        OnlyIf("selection", lambda rule: rule in ("cdc", "gsf", "ppf"), ("match_label",)),
        OnlyIf("threshold", lambda least: least is None, ("match_label",)),
        OnlyIf("selection", lambda rule: rule in ("gsf", "ppf"), ("joins_above",)),
        OnlyIf("selection", lambda rule: rule == "freematch", ("threshold_decay",)),
    ),
    presets={
        "cifar10": {},
        "cifar20": {"cells": 40, "backbone_rate": 1e-5},
        "stl10": {"cells": 150, "views.cutout": 32, "image_size": 96},
        "imagenet10": {"batch_size": 500, "sub_batch": 125, "cells": 150, "views.cutout": 32, "image_size": 224},
        "imagenet-dogs": {"batch_size": 500, "sub_batch": 125, "cells": 40, "views.cutout": 32, "image_size": 224},
        "tiny-imagenet": {
            "batch_size": 5000,
            "sub_batch": 1000,
            "cells": 1000,
            "backbone_rate": 1e-5,
            "views.cutout": 32,
            "image_size": 64,
        },
    },
    logs={
        "selected": logged.SELECTED,
        "groups_taught": ("groups taught", "groups that a selected item is of"),
        "joined": ("share that joins", "items that teach by the second rule"),
        "least_proximity": ("least proximity", "to its group's prototype, of an item that joins"),
        "threshold_low": ("lowest threshold", "confidence that teaches, of the easiest group"),
        "threshold_high": ("highest threshold", "confidence that teaches, of the hardest group"),
        "remembered": ("ever sure", "share of the items"),
        "weak_confidence": ("mean confidence", "of the head that selects, on weak views"),
        "target_confidence": logged.TARGET_CONFIDENCE,
    },
)


@dataclass(frozen=True)
class CDC:
    epochs: Epochs = 100
    # images are selected and mini-clusters formed within a batch, so this is part of the method
    batch_size: BatchSize = 1000
    sub_batch: BatchSize = 500  # images of one optimiser step
    cells: Count = 500  # K, mini-clusters in a batch; the images of one share a calibration target
    hidden: Width = 512  # H, width of both heads
    entropy_weight: Weight = 1.0  # w_en, keeps the calibration head from answering with a single group
    backbone_rate: Rate = 5e-5  # Adam
    head_rate: Rate = 1e-4  # of both heads
    restarts: Restarts = 1  # of the K-means in every batch; the authors take 10
    cell_norm: Literal["l1", "l2", "none"] = "l1"  # of the features that mini-clusters are formed on
    init: Literal["prototypes", "kmeans", "random"] = "prototypes"  # how the heads begin; prototypes: Eq. 6
    # single: no calibration head; -both: it trains by Eq. 3 too
    layout: Literal["dual", "single", "single-both"] = "dual"
    stop_gradient: bool = True  # Eq. 3 does not reach the backbone
    selection: Literal["cdc", "fixed", "flexmatch", "freematch", "gsf", "ppf"] = "cdc"  # in place of Eq. 4, or on top
    threshold: Share | None = None  # confidence of fixed and flexmatch, None: 0.95; given alone, it means fixed
    match_label: bool = False  # Eq. 4 selects an image for a group only if the group is its label
    joins_above: Share = 0.75  # least confidence of an image that gsf or ppf adds to those of Eq. 4
    threshold_decay: Share = 0.999  # of freematch's running means, for each batch
    calibration_loss: Literal["region", "smoothing", "focal", "l1"] = "region"  # in place of Eq. 1, with hard targets
    calibration_strength: Weight | None = None  # None: smoothing by 0.05, focal exponent 2, l1 weight 0.01

    card: ClassVar[Card] = CARD

    @property
    def part_size(self) -> int:
        return self.sub_batch

    def calibrated(self) -> bool:
        return self.layout == "dual"  # the others answer with the clustering head

    def limits(self, facts: Facts) -> dict[str, tuple[int, int | None]]:
        """Groups are told apart within a batch, which holds at least one item for each."""
        batch = max(self.batch_size, facts.k)
        return {
            "batch_size": (facts.k, None),
            "sub_batch": (2, batch),
            "cells": (1, batch),
            "hidden": (facts.k, facts.n),
        }

    def check(self, facts: Facts) -> None:
        """Raise InputError for settings that cannot work on such data."""
        if self.batch_size < facts.k:
            raise InputError(
                f"cdc.batch_size is {self.batch_size}: with {facts.k} groups it must be at least {facts.k}."
            )
        if not 1 <= self.cells <= self.batch_size and self.layout != "single":
            raise InputError(f"cdc.cells is {self.cells}: it must lie between 1 and the batch size, {self.batch_size}.")
        if not facts.k <= self.hidden <= facts.n and self.init != "random":
            raise InputError(
                f"cdc.hidden is {self.hidden}: prototypes need a width from {facts.k} (groups) to {facts.n} (items)."
            )
        if self.threshold is not None and self.selection in ("freematch", "gsf", "ppf"):
            raise InputError(f"cdc.threshold does not go with cdc.selection={self.selection}: leave one of them out.")
        if self.layout == "single" and self.calibration_loss != "region":
            raise InputError("cdc.calibration_loss needs a calibration loss: cdc.layout=single has none.")
        strength = self.calibration_strength
        if strength is not None and self.calibration_loss == "region":
            raise InputError("cdc.calibration_strength needs cdc.calibration_loss smoothing, focal or l1.")
        if strength is not None and strength > 1 and self.calibration_loss == "smoothing":
            raise InputError(f"cdc.calibration_strength is {strength}: smoothing takes at most 1.")

    def heads(self, net: Net, k: int) -> dict[str, nn.Module]:
        heads: dict[str, nn.Module] = {"cluster": mlp_head(net.width, self.hidden, k)}
        if self.layout == "dual":
            heads["calibrate"] = mlp_head(net.width, self.hidden, k)
        return {**heads, "selection": self.selector(net.width, k)}

    def selector(self, width: int, k: int) -> nn.Module:
        """The strategy that selects the images to learn from, with its state."""
        threshold = 0.95 if self.threshold is None else self.threshold
        if self.selection == "fixed" or (self.selection == "cdc" and self.threshold is not None):
            return Fixed(threshold)
        if self.selection == "flexmatch":
            return FlexMatch(k, threshold)
        if self.selection == "freematch":
            return FreeMatch(k, self.threshold_decay)
        if self.selection == "gsf":
            return GradientFilter(k, self.hidden, self.joins_above, match_label=self.match_label)
        if self.selection == "ppf":
            return ProximityFilter(k, width, self.joins_above, match_label=self.match_label)
        return Quota(match_label=self.match_label)

    def start(self, net: Net, features: Features, k: int, generator: torch.Generator) -> None:
        """Set both heads to prototypes of the features (Eq. 6, spec section 4).

        With `init="kmeans"`, which is not in the paper, they begin as K-means' own groups instead: decorrelation suits
        the features of a deep net, which point in many directions, but tears prototypes in few dimensions off the data
        (2-D points in eight groups: ARI 0.99 by K-means, 0.3 by Eq. 6). At most 100,000 items are looked at, since the
        hidden layer of a million takes gigabytes.
        """
        if self.init == "random" and self.selection != "flexmatch":
            return
        if isinstance(net.selection, FlexMatch):
            net.selection.begin(len(features()))
        if self.init == "random":
            return
        z = features(most=STARTED_ON)
        heads = [net.cluster] if self.layout != "dual" else [net.cluster, net.calibrate]
        if self.init == "kmeans":
            rows = standardise_rows(z)
            some = some_rows(len(rows), PER_PROTOTYPE * self.hidden)
            prototypes = kmeans(rows if some is None else rows[some], self.hidden, generator=generator).centres
            groups = kmeans(rows, k, generator=generator, restarts=10).labels
            for head in heads:
                begin_as_groups(head, z, prototypes, groups)
            return
        first, second = prototype_weights(z, self.hidden, k, generator)
        for head in heads:
            write_prototypes(head, first, second)

    def optimiser(self, net: Net) -> torch.optim.Optimizer:
        # The authors' two Adams in one: the parameters do not overlap, and Adam skips those without a gradient.
        heads = [p for name in net.head_names for p in net.get_submodule(name).parameters()]
        backbone = trainable(net.backbone)
        return torch.optim.Adam(
            [{"params": backbone, "lr": self.backbone_rate}, {"params": heads, "lr": self.head_rate}], fused=True
        )

    def step(self, net: Net, batch: Batch) -> Iterator[Losses]:
        """Fix pseudo-labels and calibration targets for the whole batch, then yield each sub-batch's losses."""
        judge = net.cluster if self.layout != "dual" else net.calibrate
        with torch.no_grad():
            # In this order and in training mode: these passes feed the running statistics, too (spec, section 7).
            z = net.backbone(batch.clean)
            clustered = batch.gather(net.cluster(z).softmax(1))
            weak_z = net.backbone(batch.weak)
            if judge is not net.cluster:
                net.cluster(weak_z)  # the answer is not used, but the running statistics must see the weak view as well
            weak = batch.gather(judge(weak_z).softmax(1))
            label = weak.argmax(1)
            index, last_layer = batch.gather(batch.index.to(weak.device)), judge[-1].weight.detach()
            epoch = parts_done(batch.progress, self.epochs)
            keep, numbers = net.selection(WeakAnswers(weak, index, batch.gather(weak_z), last_layer, epoch))
            taught = (label[keep].bincount(minlength=weak.shape[1]) > 0).sum().float()
            batch.log(selected=keep.float().mean(), groups_taught=taught, **numbers)
            batch.log(weak_confidence=weak.amax(1).mean())
            batch.count(clustered.argmax(1), clustered.shape[1])
            if self.layout != "single" and self.calibration_loss == "region":
                target = cell_means(
                    batch.gather(z), clustered, self.cells, batch.generator, self.cell_norm, self.restarts
                )
                batch.log(target_confidence=target.amax(1).mean())
            else:
                target = clustered.argmax(1)
            target = batch.mine(target)
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
                losses["calibrate"] = self.calibration(logits, batch.gather(target[part]))  # Eq. 1
                losses["entropy"] = self.entropy_weight * negative_mean_entropy(logits)  # Eq. 2
            if losses:  # a single head without a selected image has nothing to learn
                yield losses

    def calibration(
        self, logits: Float[Tensor, "b k"], target: Float[Tensor, "b k"] | Int[Tensor, " b"]
    ) -> Float[Tensor, ""]:
        """Eq. 1, or one of the losses that the paper compares it with, on the clustering head's own hard labels."""
        if self.calibration_loss == "region":
            return soft_cross_entropy(logits, target)
        losses = {"smoothing": smoothed_cross_entropy, "focal": focal_loss, "l1": l1_penalised_cross_entropy}
        strength = () if self.calibration_strength is None else (self.calibration_strength,)
        return losses[self.calibration_loss](logits, target, *strength)

    def logits(self, net: Net, features: Float[Tensor, "n d"]) -> dict[str, Float[Tensor, "n k"]]:
        answer = {"clu": net.cluster(features)}
        return {"cal": net.calibrate(features), **answer} if self.layout == "dual" else answer


def practical(facts: Facts) -> dict[str, Any]:
    """For a CPU or small data: batches that fit, a few epochs at higher rates, four mini-clusters a group.

    On embeddings the heads begin as K-means' groups and train for a hundred batches, within ten to thirty epochs.
    """
    batch = min(1000, facts.n, max(facts.n // 4, 20 * facts.k))
    parts = 4 if batch >= 400 else 2 if batch >= 64 else 1
    epochs = min(60, max(10, round(10 * (70_000 / facts.n) ** 0.4)))
    if facts.kind == "embeddings":
        epochs = max(10, min(30, 100 * batch // facts.n))
    return {
        "epochs": epochs,
        "batch_size": batch,
        "sub_batch": -(-batch // parts),
        "cells": practical_cells(batch, facts.k),
        "hidden": min(512, max(facts.k, facts.n // 4)),
        "backbone_rate": 1e-4,
        "head_rate": 5e-4,
        "init": "kmeans" if facts.kind == "embeddings" else "prototypes",
    }
